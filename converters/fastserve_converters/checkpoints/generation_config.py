"""How a checkpoint advises to generate: every key of its `generation_config.json` is carried, named, or without effect.

Keys and defaults are those of Transformers' `GenerationConfig`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastserve_runtime.errors import UsageError
from fastserve_runtime.generation.processor_settings import NAMES, ProcessorSettings
from fastserve_runtime.generation.sampling import Sampling

_TOP_K = 50
"""What Transformers takes where a config samples and has none."""
_DRAWN_BY = ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
"""What matters only where tokens are drawn."""
_ALWAYS = ("repetition_penalty", "do_sample", "eos_token_id", "bos_token_id", "pad_token_id")

_ONE_TEXT = "one text is followed, token by token"
_NOT_APPLIED: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "num_beams": ((1,), _ONE_TEXT),
    "num_beam_groups": ((1,), _ONE_TEXT),
    "diversity_penalty": ((0,), _ONE_TEXT),
    "constraints": ((), _ONE_TEXT),
    "force_words_ids": ((), _ONE_TEXT),
    "penalty_alpha": ((0,), "contrastive search is not supported"),
    "dola_layers": ((), "contrasting layers is not supported"),
    "guidance_scale": ((1,), "guidance without the prompt is not supported"),
    "watermarking_config": ((), "watermarks are not supported"),
    "token_healing": ((False,), "prompts are taken as they are"),
    "stop_strings": (([],), "give them as stop strings where texts are generated"),
    "max_time": ((), "a generation has no limit of time"),
    "top_h": ((), "truncation by entropy is not supported"),
    "max_length": ((), "how long a text may be is the caller's choice"),
    "max_new_tokens": ((), "how long a text may be is the caller's choice"),
}
"""What would change a text and is not done here, with the values that change nothing, and why."""
_FOR_BEAMS = ("length_penalty", "early_stopping")
"""Without effect where a text is made token by token."""
_ABOUT_THE_CALL = frozenset(
    [
        "use_cache",
        "cache_implementation",
        "cache_config",
        "max_cache_len",
        "return_legacy_cache",
        "num_return_sequences",
        "output_attentions",
        "output_hidden_states",
        "output_scores",
        "output_logits",
        "return_dict_in_generate",
        "renormalize_logits",
        "decoder_start_token_id",
        "is_assistant",
        "num_assistant_tokens",
        "num_assistant_tokens_schedule",
        "assistant_confidence_threshold",
        "prompt_lookup_num_tokens",
        "max_matching_ngram_size",
        "assistant_early_exit",
        "assistant_lookbehind",
        "target_lookbehind",
        "assistant_ensemble_weight",
        "speculation_type",
        "compile_config",
        "disable_compile",
        "continuous_batching_config",
        "low_memory",
        "prefill_chunk_size",
        "use_mtp",
        "_from_model_config",
        "transformers_version",
        "trust_remote_code",
    ]
)
"""How Transformers goes about it, or what it returns; the greedy text is the same."""
KNOWN = frozenset({*NAMES, *_DRAWN_BY, *_ALWAYS, *_NOT_APPLIED, *_FOR_BEAMS, *_ABOUT_THE_CALL})
OF_MODELS = frozenset({*NAMES, *_DRAWN_BY, *_NOT_APPLIED, "repetition_penalty", "do_sample", "eos_token_id"})
"""What Transformers takes from a model's own config where there is no `generation_config.json`."""


@dataclass(frozen=True)
class GenerationAdvice:
    """What a checkpoint advises.

    Attributes:
        ends: ids that end a text, of those that the model has.
        sampling: how tokens are chosen.
        processors: what changes their scores before.
        notes: what is not done as it says, in sentences.
    """

    ends: tuple[int, ...]
    sampling: Sampling
    processors: ProcessorSettings
    notes: tuple[str, ...]


def read_advice(given: Mapping[str, Any], vocabulary: int) -> GenerationAdvice:
    """Read a `generation_config.json`, or what of it is known.

    Args:
        given: its content.
        vocabulary: the model's ids are those below this.

    Raises:
        UsageError: a value is of another type, out of its range, or an id that the model does not have.
    """
    try:
        processors = ProcessorSettings.of(given)
        sampling = advised_sampling(given)
        named = _ends(given.get("eos_token_id"))
    except UsageError as error:
        raise UsageError(f"The checkpoint's generation_config.json: {error.problem}", error.remedy) from error
    beyond = sorted(token for token in processors.token_ids() if token >= vocabulary)
    if beyond:
        raise UsageError(
            f"The checkpoint's generation_config.json names the token {beyond[0]}; the model has the ids 0 to "
            f"{vocabulary - 1}.",
            "Correct its bad_words_ids, sequence_bias or forced tokens.",
        )
    ends = tuple(token for token in named if 0 <= token < vocabulary)
    strange = [token for token in named if token not in ends]
    return GenerationAdvice(ends, sampling, processors, (*_notes(given), *_strange_ends(strange, vocabulary)))


def _ends(value: Any) -> tuple[int, ...]:
    """Read ids that end a text: one, a list, or none.

    Raises:
        UsageError: it is something else.
    """
    listed = value if isinstance(value, list) else [value]
    ids = [token for token in listed if token is not None]
    if any(isinstance(token, bool) or not isinstance(token, int) for token in ids):
        raise UsageError(f"'eos_token_id' cannot be {value!r:.80}.", "Give the id of a token, or a list of ids.")
    return tuple(dict.fromkeys(ids))


def _strange_ends(ids: Sequence[int], vocabulary: int) -> Iterator[str]:
    if ids:
        yield (
            f"generation_config.json has the eos_token_id {', '.join(map(str, ids[:5]))}; the model has the ids 0 to "
            f"{vocabulary - 1}, so that no text ends there."
        )


def advised_sampling(given: Mapping[str, Any]) -> Sampling:
    """Return how a `generation_config.json` advises to sample: greedily unless it says otherwise.

    Raises:
        UsageError: a value is of another type or out of its range.
    """
    names = ("repetition_penalty", *(_DRAWN_BY if given.get("do_sample") else ()))
    found = {name: given[name] for name in names if given.get(name) is not None}
    if given.get("do_sample"):
        found = {"temperature": 1.0, "top_k": _TOP_K, **found}
    if found.get("top_k", 0) <= 0:
        found.pop("top_k", None)
    return Sampling(**found)


def sampling_document(sampling: Sampling) -> dict[str, Any]:
    """Return how tokens are chosen as a manifest has it: what came later only where it has an effect."""
    plain = Sampling()
    first = ("temperature", "top_k", "top_p", "repetition_penalty", "seed")
    later = [name for name in _DRAWN_BY if name not in first and getattr(sampling, name) != getattr(plain, name)]
    return {name: getattr(sampling, name) for name in (*first, *later)}


def _notes(given: Mapping[str, Any]) -> Iterator[str]:
    set_values = {name: value for name, value in given.items() if value is not None}
    for name, (harmless, reason) in _NOT_APPLIED.items():
        if name in set_values and set_values[name] not in harmless:
            yield f"generation_config.json has {name} {_short(set_values[name])}, which is not applied: {reason}."
    unknown = sorted(set_values.keys() - KNOWN)
    if unknown:
        yield (
            f"generation_config.json has {', '.join(unknown[:5])}{' and more' if len(unknown) > 5 else ''}, which "
            "nothing here knows: it has no effect."
        )


def _short(value: Any) -> str:
    return f"{value!r:.60}"
