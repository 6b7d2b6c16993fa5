"""Whether a tokenizer and a model belong together, and how the tokenizer's own settings are carried to a device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.sentence_transformers import read_json
from fastserve_converters.checkpoints.tokenizer_loading import TOKENIZER_CONFIG, TOKENIZER_FILE
from fastserve_runtime.errors import UsageError, one_line
from fastserve_runtime.preprocessors.text import TokenizerSettings
from fastserve_runtime.preprocessors.text_encoding import Side

if TYPE_CHECKING:
    import torch

_SHOWN = 3
_UNKNOWN = "unk_token_id"
_ROLES = ("cls_token_id", "sep_token_id", _UNKNOWN, "bos_token_id", "eos_token_id")
_FILLERS = ("pad_token_id", _UNKNOWN, "eos_token_id", "sep_token_id", "bos_token_id", "cls_token_id")
_STRANGE = "\u4e00 \u0905 \U0001f525 \u00df q9"
"""Signs of many kinds, so that any tokenizer has some that it does not know."""


@dataclass(frozen=True)
class Padding:
    """What fills short texts: a token of the model, which the attention mask hides."""

    token: str
    id: int


def text_settings(
    checkpoint: Checkpoint, tokenizer: Any, rows: int, length: int
) -> tuple[TokenizerSettings, list[str]]:
    """Return how single texts are made into tensors, and what the user should know of it, in sentences.

    Args:
        checkpoint: the model's description.
        tokenizer: of Transformers, in its fast form.
        rows: of the model's embedding.
        length: tokens that the model is exported for.

    Raises:
        UsageError: the tokenizer and the model do not belong together.
    """
    vocabulary_note = check_vocabulary(tokenizer, rows)
    check_takes_any_text(tokenizer)
    padding, padding_note = padding_of(tokenizer, rows)
    settings = TokenizerSettings(
        sequence_length=length,
        pad_id=padding.id,
        pad_token=padding.token,
        vocabulary_size=rows,
        truncation_side=truncation_side(tokenizer),
        reserved_id=checkpoint.family.padding_in_positions(checkpoint.config),
        # Not in a tokenizer.json: every library is told at run time.
        split_special_tokens=bool(getattr(tokenizer, "split_special_tokens", False)) or None,
    )
    check_positions_padding(tokenizer, settings.reserved_id)
    notes = [vocabulary_note, padding_note, *setting_notes(tokenizer, length)]
    return settings, [note for note in notes if note]


def embedding_rows(model: torch.nn.Module) -> int:
    """Return how many ids a model of Transformers knows."""
    table: Any = model.get_input_embeddings()  # type: ignore[operator]
    return int(table.weight.shape[0])


def check_vocabulary(tokenizer: Any, rows: int) -> str:
    """Compare a tokenizer's ids with the rows of the model's embedding.

    Args:
        tokenizer: of Transformers, in its fast form.
        rows: of the table.

    Returns:
        A note on added tokens without a row, which texts may do without; empty where there are none.

    Raises:
        UsageError: the vocabulary itself, or a token that every text may need, goes beyond the table.
    """
    ids: Mapping[str, int] = tokenizer.get_vocab()
    beyond = sorted((number, token) for token, number in ids.items() if number >= rows)
    if not beyond:
        return ""
    added = set(tokenizer.added_tokens_decoder)
    roles = [role for role in _ROLES if role != _UNKNOWN or _has_unknown(tokenizer)]
    needed = {getattr(tokenizer, role, None) for role in roles}
    own = [(number, token) for number, token in beyond if number not in added or number in needed]
    if own:
        raise UsageError(
            f"The tokenizer's vocabulary has ids up to {beyond[-1][0]}, and the model's embedding has {rows} "
            f"rows: the token '{own[0][1]}' has the id {own[0][0]}.",
            "Save the tokenizer that the model was trained with beside it.",
        )
    shown = ", ".join(f"'{token}' ({number})" for number, token in beyond[:_SHOWN])
    more = f" and {len(beyond) - _SHOWN} more" if len(beyond) > _SHOWN else ""
    return (
        f"The tokenizer has {len(beyond)} added tokens without a row in the model's embedding of {rows} rows: "
        f"{shown}{more}. A text with one of them is refused when it is run; "
        "model.resize_token_embeddings() and training would give them rows."
    )


def _has_unknown(tokenizer: Any) -> bool:
    """Whether some text becomes the unknown token, as none does where bytes are tokens."""
    return getattr(tokenizer.backend_tokenizer.model, "unk_token", "") is not None  # Unigram does not tell


def check_takes_any_text(tokenizer: Any) -> None:
    """Refuse a tokenizer that fails for words that it does not know.

    Raises:
        UsageError: with what the tokenizer says.
    """
    try:
        tokenizer.backend_tokenizer.encode(_STRANGE)
    except Exception as error:  # the binding raises plain Exception
        raise UsageError(
            f"The tokenizer cannot take text that it does not know: {one_line(error)}.",
            "Give its model an unknown token ('unk_token') that is in its vocabulary, and save it again.",
        ) from error


def check_positions_padding(tokenizer: Any, number: int | None) -> None:
    """Refuse a model that takes a token of every text for padding, as it counts positions.

    Args:
        tokenizer: of Transformers.
        number: the id that the model does not count; None where it counts all.

    Raises:
        UsageError: naming the token.
    """
    if number is not None and number in tokenizer("")["input_ids"]:
        raise UsageError(
            f"The config's 'pad_token_id' is {number}, by which the model counts positions; the tokenizer puts that "
            f"token, '{tokenizer.convert_ids_to_tokens(number)}', into every text.",
            "Write the id of the padding token that the model was trained with, mostly 1, into config.json.",
        )


def padding_of(tokenizer: Any, rows: int) -> tuple[Padding, str]:
    """Return what fills short texts, and a note where the tokenizer has no padding token of its own.

    Any token of the model will do, since it is hidden by the attention mask.
    """
    for role in _FILLERS:
        number = getattr(tokenizer, role, None)
        if number is not None and 0 <= number < rows:
            token = str(tokenizer.convert_ids_to_tokens(number))
            return Padding(token, int(number)), "" if role == _FILLERS[0] else _padding_note(tokenizer, token, rows)
    token = str(tokenizer.convert_ids_to_tokens(0))
    return Padding(token, 0), _padding_note(tokenizer, token, rows)


def _padding_note(tokenizer: Any, token: str, rows: int) -> str:
    own = tokenizer.pad_token
    lacks = "no padding token" if own is None else f"a padding token '{own}' beyond the model's {rows} rows"
    return f"The tokenizer has {lacks}: '{token}' fills short texts, where the attention mask hides it."


def truncation_side(tokenizer: Any) -> Side | None:
    """Return where Transformers cuts off texts that are too long; None at the end, as usual.

    Raises:
        UsageError: it is neither side.
    """
    side = tokenizer.truncation_side
    if side not in ("left", "right"):
        raise UsageError(f"The tokenizer's 'truncation_side' is {side!r}; 'left' or 'right' is wanted.")
    return "left" if side == "left" else None


def setting_notes(tokenizer: Any, length: int) -> Iterator[str]:
    """Return sentences on what the tokenizer's settings say beside what is carried over.

    Args:
        tokenizer: of Transformers.
        length: tokens that the model is exported for.
    """
    if tokenizer.padding_side == "left":
        yield (
            "The tokenizer pads on the left; short texts are filled at their end here, so that each gives what the "
            "model gives for it alone."
        )
    maximum = tokenizer.model_max_length
    if isinstance(maximum, int) and 0 < maximum < length:
        yield (
            f"The tokenizer's 'model_max_length' is {maximum}, and the model is exported for {length} tokens: "
            f"longer texts than it was meant for are not cut. --seq-len {maximum} cuts them."
        )
    if tokenizer.truncation_side == "left":
        yield "The tokenizer cuts texts at their beginning where they are too long, and so does the bundle."


def code_note(checkpoint: Checkpoint, tokenizer: Any) -> list[str]:
    """Return a note where `tokenizer_config.json` names code of its own, which Transformers then does without.

    Args:
        checkpoint: the model's description.
        tokenizer: as Transformers made it.
    """
    file = checkpoint.path / TOKENIZER_CONFIG
    config = read_json(file) if checkpoint.gguf is None and file.is_file() else {}
    if not isinstance(config, dict) or not config.get("auto_map"):
        return []
    note = (
        f"'{TOKENIZER_CONFIG}' names code of its own ('auto_map'), which is not run: Transformers' "
        f"{type(tokenizer).__name__} reads the tokenizer's files."
    )
    return [note]


def file_note(checkpoint: Checkpoint, tokenizer: Any, texts: Sequence[str]) -> list[str]:
    """Compare Transformers' tokenizer with the one in `tokenizer.json`, and say in a sentence where they differ.

    Args:
        checkpoint: the model's description.
        tokenizer: as Transformers made it, which is what ships.
        texts: real ones.
    """
    from tokenizers import Tokenizer

    file = checkpoint.path / TOKENIZER_FILE
    if checkpoint.gguf is not None or checkpoint.texts.lower_case or not file.is_file():
        return []  # nothing to compare with, or changed on purpose
    stored = Tokenizer.from_file(str(file))
    stored.no_truncation()
    stored.no_padding()
    stored.encode_special_tokens = bool(getattr(tokenizer, "split_special_tokens", False))
    ours = tokenizer(list(texts))["input_ids"]
    theirs = stored.encode_batch(list(texts))
    differing = [text for text, a, b in zip(texts, ours, theirs, strict=True) if list(a) != list(b.ids)]
    if not differing:
        return []
    note = (
        f"'{TOKENIZER_FILE}' alone and Transformers' {type(tokenizer).__name__}, which ships, give different tokens "
        f"for {len(differing)} of {len(texts)} texts, such as {differing[0]!r:.60}. "
        "Check that 'tokenizer_config.json' belongs to the model."
    )
    return [note]
