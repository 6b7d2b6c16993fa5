"""A folder of sentence-transformers: which modules it has, and what its settings are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from fastserve_converters.checkpoints.sentence_transformers import module_kinds
from fastserve_converters.checkpoints.sentence_transformers.config_file import read_json
from fastserve_converters.checkpoints.sentence_transformers.head import SentenceHead, checked_width
from fastserve_converters.checkpoints.sentence_transformers.settings import (
    CROSS_ENCODER,
    EMBEDDER,
    SentenceSettings,
    read_sentence_settings,
)
from fastserve_converters.checkpoints.sentence_transformers.transformer import (
    CLASSIFICATION,
    EXTRACTION,
    TransformerSettings,
    read_transformer_settings,
)
from fastserve_runtime.errors import UsageError

LISTING = "modules.json"
_FIRST = "Transformer"
_ENTRY = ("idx", "name", "path", "type")
_TEXTS = ("name", "path", "type")
_NAMESPACE = "sentence_transformers."


@dataclass(frozen=True)
class Module:
    """An entry of `modules.json`.

    Attributes:
        kind: the class of sentence-transformers, without its package.
        folder: where its files are, relative to the checkpoint.
        others: keys of the entry that change no embedding.
    """

    kind: str
    folder: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class TextSettings:
    """What becomes of a text before the model.

    Attributes:
        prompts: texts that may be put before it, by name.
        default_prompt: the name of the one that is, if nothing else is said, or None.
        includes_prompt: whether a prompt's tokens are pooled with the text's.
        lower_case: whether the tokenizer makes it lower case first.
        max_seq_length: it is cut at so many tokens, or None: where the model's positions end.
        max_seq_length_from: the file that gives it.
    """

    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    includes_prompt: bool = True
    lower_case: bool = False
    max_seq_length: int | None = None
    max_seq_length_from: str = ""


@dataclass(frozen=True)
class SentenceFolder:
    """What a folder of sentence-transformers says, its weights apart.

    Attributes:
        root: the folder.
        modules: in order, the Transformer first.
        settings: of the whole.
        transformer: of the Transformer module.
    """

    root: Path
    modules: tuple[Module, ...]
    settings: SentenceSettings
    transformer: TransformerSettings

    @property
    def transformer_folder(self) -> str:
        """Where the Transformers model is, relative to the root."""
        return self.modules[0].folder

    @property
    def is_cross_encoder(self) -> bool:
        """Whether it scores texts or pairs of them, with a classifier of Transformers and no module behind it."""
        return self.settings.model_type == CROSS_ENCODER or (
            self.transformer.task == CLASSIFICATION and len(self.modules) == 1
        )

    def texts(self, *, includes_prompt: bool = True) -> TextSettings:
        """Return what becomes of a text before the model.

        Args:
            includes_prompt: as the head says.
        """
        return TextSettings(
            self.settings.prompts,
            self.settings.default_prompt,
            includes_prompt,
            self.transformer.lower_case,
            self.transformer.max_seq_length,
            self.transformer.max_seq_length_from,
        )

    def notes(self) -> tuple[str, ...]:
        """Return what the user should know of what is not carried, the modules behind the Transformer apart."""
        own = (
            f"{LISTING} has '{key}' for the {module.kind}, which changes no result and is not carried."
            for module in self.modules
            for key in module.others
        )
        return (*own, *self.settings.notes(), *self.transformer.notes)

    def head(
        self, config: Mapping[str, Any], *, truncate_dim: int | None = None, allow_pickle: bool = False
    ) -> tuple[SentenceHead, tuple[str, ...]]:
        """Return what follows the Transformer, and notes on what is not carried.

        Args:
            config: the Transformer's `config.json`.
            truncate_dim: so many numbers are kept of an embedding, whatever the files say.
            allow_pickle: accept weights of modules that are pickles.

        Raises:
            UsageError: a module, key or value is not supported, or the folder is of another kind of model.
        """
        kind = self.settings.model_type
        if kind != EMBEDDER or self.transformer.task != EXTRACTION:
            what = f"a {kind}" if kind != EMBEDDER else f"for {self.transformer.task}"
            raise UsageError(
                f"The checkpoint's sentence-transformers model is {what}, which gives no sentence embeddings.",
                f"Supported are models of the kind {EMBEDDER}.",
            )
        asked = self.transformer.hidden_states
        has_layers = bool(config.get("output_hidden_states")) if asked is None else asked
        modules, notes = module_kinds.read_modules(
            self.root, [(m.kind, m.folder) for m in self.modules[1:]], has_layers=has_layers, allow_pickle=allow_pickle
        )
        head = SentenceHead(modules, None, self.settings.similarity)
        kept = _kept(checked_width(head, config), truncate_dim, self.settings.truncate_dim)
        return replace(head, truncate_dim=kept), (*self.notes(), *notes)


def _kept(width: int | None, wanted: int | None, usual: int | None) -> int | None:
    """Return how many numbers are kept of an embedding; None: all of them."""
    if wanted is not None and width is not None and wanted > width:
        raise UsageError(
            f"Embeddings were to be cut to {wanted} numbers; they have {width}.", f"Say --truncate-dim {width} or less."
        )
    if wanted is not None:
        return wanted
    return None if usual is None or (width is not None and usual >= width) else usual


def read_sentence_folder(root: Path) -> SentenceFolder | None:
    """Read a checkpoint's sentence-transformers files; None where it has none.

    Raises:
        UsageError: they are damaged, or begin with something else than a Transformer.
    """
    if not (root / LISTING).is_file():
        return None
    entries = read_json(root / LISTING)
    if not isinstance(entries, list) or not all(isinstance(m, dict) for m in entries):
        raise UsageError(f"The checkpoint's '{LISTING}' is not a list of JSON objects.")
    modules = tuple(_module(entry) for entry in entries)
    _check_names(entries)
    kinds = [m.kind for m in modules]
    if not kinds or kinds[0] != _FIRST or kinds.count(_FIRST) != 1:
        if kinds and kinds[0] != _FIRST:
            module_kinds.check_supported(kinds[0])
        raise UsageError(
            f"The checkpoint's {LISTING} has the order {', '.join(kinds) or 'of no modules'}, which is not supported.",
            f"Supported is one {_FIRST}, and then what works on its vectors.",
        )
    transformer = read_transformer_settings(root, modules[0].folder)
    return SentenceFolder(root, modules, read_sentence_settings(root), transformer)


def _check_names(entries: Sequence[Mapping[str, Any]]) -> None:
    """Refuse two modules of one name, of which sentence-transformers keeps the second alone."""
    names = [entry["name"] for entry in entries if "name" in entry]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UsageError(
            f"The checkpoint's {LISTING} has {names.count(twice[0])} modules with the name '{twice[0]}', of which "
            "sentence-transformers keeps one.",
            "Give every module a name of its own.",
        )


def _module(entry: Mapping[str, Any]) -> Module:
    for key in _TEXTS:
        if not isinstance(entry.get(key, ""), str):
            raise UsageError(
                f"The checkpoint's {LISTING} has a module whose '{key}' is {entry[key]!r:.40}; a text is wanted.",
                "Save the model again with sentence-transformers.",
            )
    name, folder = entry.get("type", ""), entry.get("path", "")
    kind = name.rpartition(".")[2]
    if not name.startswith(_NAMESPACE):
        raise UsageError(
            f"The checkpoint's {LISTING} names the module '{name}', which is code of its own and not supported.",
            f"Supported are modules of sentence-transformers: {', '.join((_FIRST, *module_kinds.KINDS))}.",
        )
    path = PurePosixPath(folder.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise UsageError(f"The checkpoint's {LISTING} names the folder '{folder}', which is outside the checkpoint.")
    # `kwargs` names what a caller may pass on to a module; the pipeline passes on nothing.
    others = tuple(key for key in entry if key not in _ENTRY and not (key == "kwargs" and not entry[key]))
    return Module(kind, "" if path == PurePosixPath() else str(path), others)
