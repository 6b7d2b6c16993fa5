"""For how many tokens a model is exported, and what the user should know of it."""

from __future__ import annotations

from collections.abc import Iterator

from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.task import TASKS, Task, usual_length
from fastserve_runtime.errors import UsageError

MIN_SEQUENCE_LENGTH = 4
DEFAULT_CONTEXT = 1024
MIN_CONTEXT = 32


def check_asked_length(sequence_length: int | None, context: int | None) -> None:
    """Refuse lengths that no model is exported for.

    Raises:
        UsageError: one of them is too small.
    """
    if sequence_length is not None and sequence_length < MIN_SEQUENCE_LENGTH:
        raise UsageError(
            f"A sequence length of {sequence_length} was asked for.",
            f"Ask for at least {MIN_SEQUENCE_LENGTH} tokens.",
        )
    if context is not None and context < MIN_CONTEXT:
        raise UsageError(f"A context of {context} tokens was asked for.", f"Ask for at least {MIN_CONTEXT}.")


def export_length(checkpoint: Checkpoint, sequence_length: int | None, context: int | None) -> int:
    """Return for how many tokens a model is exported.

    Args:
        checkpoint: the model.
        sequence_length: what was asked for, of a text; None: the usual, or less where the model has fewer positions or
            sentence-transformers cuts texts sooner.
        context: what was asked for, of prompt and new text together; None: the usual.

    Raises:
        UsageError: the model takes no such length.
    """
    if checkpoint.family.generates:
        if sequence_length is not None:
            raise UsageError(
                f"--seq-len was given, and {checkpoint.task} has no texts of fixed length.", "Say --context instead."
            )
        length = min(DEFAULT_CONTEXT, checkpoint.usual_tokens) if context is None else context
    else:
        if context is not None:
            raise UsageError(f"--context was given, and {checkpoint.task} generates no text.", "Say --seq-len instead.")
        length = _usual_length(checkpoint) if sequence_length is None else sequence_length
    checkpoint.check_length(length)
    return length


def length_notes(checkpoint: Checkpoint, length: int, *, was_asked: bool) -> Iterator[str]:
    """Give what the user should know where texts are cut elsewhere than sentence-transformers cuts them.

    Args:
        checkpoint: the model.
        length: tokens that it is exported for.
        was_asked: whether the user has named that length.
    """
    maximum = checkpoint.texts.max_seq_length
    if maximum is None or maximum == length:
        return
    maximum = min(maximum, checkpoint.max_tokens)
    says = f"({_setting(checkpoint)} in {checkpoint.texts.max_seq_length_from})"
    if length > maximum:
        yield (
            f"Texts are cut at {length} tokens, as you asked for; sentence-transformers cuts them at {maximum} {says}, "
            "and the model may not have learnt from longer ones."
        )
    elif length < maximum and not was_asked:
        yield (
            f"Texts are cut at {length} tokens; sentence-transformers cuts them at {maximum} {says}: "
            f"so does --seq-len {maximum}, which takes longer."
        )


def _usual_length(checkpoint: Checkpoint) -> int:
    task: Task = TASKS.load(checkpoint.task)
    usual = min(usual_length(task), checkpoint.usual_tokens)
    maximum = checkpoint.texts.max_seq_length
    if maximum is None:
        return usual
    if maximum < MIN_SEQUENCE_LENGTH:
        raise UsageError(
            f"The checkpoint's {_setting(checkpoint)} in {checkpoint.texts.max_seq_length_from} is {maximum}.",
            f"Models are exported for at least {MIN_SEQUENCE_LENGTH} tokens; say --seq-len.",
        )
    return min(usual, maximum)


def _setting(checkpoint: Checkpoint) -> str:
    is_tokenizers = checkpoint.texts.max_seq_length_from.endswith("tokenizer_config.json")
    return "model_max_length" if is_tokenizers else "max_seq_length"
