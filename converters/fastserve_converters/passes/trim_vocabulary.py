"""Pass `trim-vocabulary`: the pieces that the user's texts need stay, and with them their rows of the embedding.

Texts that it has seen are cut into the same tokens as before, so the model gives the same for them. Other texts may
become more tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.task import TASKS, Task
from fastserve_converters.passes import PassJob, PassReport
from fastserve_runtime.errors import EnvironmentFailure, UsageError

if TYPE_CHECKING:
    import torch

    from fastserve_converters.data import Sample
    from fastserve_converters.trimming.tokenizer_file import Trimmed

TOOLS = ("tokenizers",)
READS_SAMPLES = True
_IDS = ("pad", "bos", "eos", "cls", "sep", "mask", "unk")
_REMEDY = "Leave the pass out."
_UNSEEN_EVERY = 5
_MUCH_GROWTH = 0.05
"""Beyond this, texts are no longer nearly what the model was trained to read."""


@dataclass(frozen=True)
class TrimVocabulary:
    """Keeps the pieces that texts need.

    Attributes:
        characters: which pieces of one character stay: `all`, so that other texts become more tokens, but not unknown
            ones, or those that are `used`.
    """

    characters: Literal["all", "used"] = "all"

    def check(self, checkpoint: Checkpoint) -> None:
        """Refuse models that give values for each token, and those whose head scores tokens; see `Pass.check`."""
        task: Task = TASKS.load(checkpoint.task)
        by_token = [output.name for output in task.outputs(checkpoint) if output.by_token]
        if by_token:
            raise UsageError(
                "The pass 'trim-vocabulary' cuts texts that it has not seen into other tokens, and the model's output "
                f"'{by_token[0]}' has values for each token, which could not be compared with the original's.",
                _REMEDY,
            )

    def apply(self, job: PassJob) -> PassReport:
        """Trim the tokenizer, cut the embedding, write both, and prove that texts keep their tokens."""
        from tokenizers import Tokenizer

        from fastserve_converters.checkpoints.model_loading import load_model
        from fastserve_converters.checkpoints.tokenizer_loading import TOKENIZER_FILE, load_tokenizer
        from fastserve_converters.checkpoints.writing import write_checkpoint
        from fastserve_converters.trimming.tokenizer_file import kind_of, trimmed

        tokenizer = load_tokenizer(job.checkpoint)
        document = json.loads(tokenizer.backend_tokenizer.to_str())
        kind_of(document)
        model = load_model(job.checkpoint)
        texts = list(dict.fromkeys(_texts(job.samples, job.checkpoint.texts.prompts.values())))
        before = _tokens(Tokenizer.from_str(json.dumps(document)), texts)
        result = trimmed(
            document,
            {number for ids in before for number in ids},
            _ids_to_keep(job.checkpoint),
            all_characters=self.characters == "all",
        )
        rows = _cut_embedding(model, result.old_ids)
        files = {TOKENIZER_FILE: json.dumps(result.document, ensure_ascii=False), **_settings(job.checkpoint, result)}
        changes = {"vocab_size": rows, **_new_config_ids(job.checkpoint, result)}
        write_checkpoint(job.out, job.checkpoint, model, changes, files)
        inner = job.out / job.checkpoint.path.relative_to(job.checkpoint.root)
        written = load_tokenizer(replace(job.checkpoint, path=inner, root=job.out))
        _prove_same(_tokens(written.backend_tokenizer, texts), before, result.old_ids, texts)
        known = len(tokenizer.get_vocab())
        growth = self._growth(job.checkpoint, document, texts, before)
        stay = "all single characters" if self.characters == "all" else "special tokens"
        note = (
            f"trim-vocabulary kept {len(result.old_ids)} of {known} tokens: those of {len(texts)} texts, and {stay}. "
            f"Other texts will have about {growth:.0%} more tokens than before: so many more has a fifth of these "
            "with what the others need."
        )
        if growth > _MUCH_GROWTH:
            note += " That costs quality and time: give it more text like that which the model will read."
        figures = {"tokens": known, "kept": len(result.old_ids), "texts": len(texts), "growth": growth}
        return PassReport((note,), figures)

    def _growth(
        self, checkpoint: Checkpoint, document: Mapping[str, Any], texts: Sequence[str], tokens: Sequence[Sequence[int]]
    ) -> float:
        """Return by which part of them texts become more tokens that were not seen: every fifth, by what others need.

        Args:
            checkpoint: the model's.
            document: of its tokenizer.
            texts: all.
            tokens: their ids before anything is trimmed.
        """
        from tokenizers import Tokenizer

        from fastserve_converters.trimming.tokenizer_file import trimmed

        seen = {number for place, ids in enumerate(tokens) if place % _UNSEEN_EVERY for number in ids}
        smaller = trimmed(document, seen, _ids_to_keep(checkpoint), all_characters=self.characters == "all")
        after = _tokens(Tokenizer.from_str(json.dumps(smaller.document)), texts[::_UNSEEN_EVERY])
        grown = sum(map(len, after)) / max(1, sum(map(len, tokens[::_UNSEEN_EVERY]))) - 1
        return max(0.0, grown)  # unknown tokens can be fewer


PASS = TrimVocabulary


def _texts(samples: Sequence[Sample], prompts: Any) -> Iterator[str]:
    """Give texts, with each prompt alone and before a text, where words may join."""
    for sample in samples:
        for text in (sample.text, sample.pair):
            if text is not None:
                yield text
                yield from (prompt + text for prompt in prompts if prompt)
    yield from (prompt for prompt in prompts if prompt)


def _tokens(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the ids of whole texts, with what stands around them."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]


def _config_ids(checkpoint: Checkpoint) -> dict[str, int]:
    """Return the ids that the config names, by key."""
    found = {f"{name}_token_id": checkpoint.config.get(f"{name}_token_id") for name in _IDS}
    return {key: value for key, value in found.items() if isinstance(value, int)}


def _ids_to_keep(checkpoint: Checkpoint) -> set[int]:
    """Return the ids that the config names; all below one that positions are counted by, which must not change."""
    positions = checkpoint.family.padding_in_positions(checkpoint.config)
    return {*_config_ids(checkpoint).values(), *(range(positions + 1) if positions is not None else ())}


def _new_config_ids(checkpoint: Checkpoint, result: Trimmed) -> dict[str, int]:
    return {key: result.new_ids[value] for key, value in _config_ids(checkpoint).items()}


def _cut_embedding(model: torch.nn.Module, ids: Sequence[int]) -> int:
    """Leave the rows of some ids, in their order, and return how many there are.

    Raises:
        UsageError: the model scores tokens.
    """
    import torch

    holder: Any = model
    if holder.get_output_embeddings() is not None:
        raise UsageError(
            f"The head of a {type(model).__name__} scores the tokens of the vocabulary, and is not trimmed.", _REMEDY
        )
    old = holder.get_input_embeddings()
    # Added tokens without a row have the highest ids; they still have none.
    rows = [number for number in ids if number < old.num_embeddings]
    new = torch.nn.Embedding(len(rows), old.embedding_dim, _weight=old.weight.detach()[rows].clone())
    holder.set_input_embeddings(new)
    return len(rows)


def _settings(checkpoint: Checkpoint, result: Trimmed) -> dict[str, str]:
    """Return the tokenizer's other files, with new ids."""
    files = {}
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        file: Path = checkpoint.path / name
        if file.is_file():
            files[name] = file.read_text(encoding="utf-8")
    if "tokenizer_config.json" in files:
        config: dict[str, Any] = json.loads(files["tokenizer_config.json"])
        decoder: Mapping[str, Any] | None = config.get("added_tokens_decoder")
        if decoder is not None:
            numbers = result.new_ids
            # What it lists beyond the tokenizer's own tokens, no text can become.
            known = {int(number): token for number, token in decoder.items() if int(number) in numbers}
            config["added_tokens_decoder"] = {str(numbers[number]): token for number, token in known.items()}
        files["tokenizer_config.json"] = json.dumps(config, indent=2, ensure_ascii=False)
    return files


def _prove_same(
    after: Sequence[Sequence[int]], before: Sequence[Sequence[int]], old_ids: Sequence[int], texts: Sequence[str]
) -> None:
    """Compare texts' tokens of now with those of before.

    Raises:
        EnvironmentFailure: a text has others.
    """
    for text, new, old in zip(texts, after, before, strict=True):
        if [old_ids[number] for number in new] != list(old):
            raise EnvironmentFailure(
                f"With the vocabulary trimmed, {text!r:.60} would be cut into other tokens.",
                "This tokenizer is not handled right; please report it with the checkpoint's tokenizer files.",
            )
