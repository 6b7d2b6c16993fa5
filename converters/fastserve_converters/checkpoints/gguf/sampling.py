"""How a GGUF file advises to generate: `general.sampling.*`, as llama.cpp reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PREFIX = "general.sampling."
_NAMES: Mapping[str, str] = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "penalty_repeat": "repetition_penalty",
}
_SWITCHES: Mapping[str, tuple[str, float]] = {
    "xtc_probability": ("xtc_probability", 0),
    "xtc_threshold": ("xtc_probability", 0),
    "mirostat": ("mirostat", 0),
    "mirostat_tau": ("mirostat", 0),
    "mirostat_eta": ("mirostat", 0),
    "penalty_last_n": ("penalty_repeat", 1),
}
"""Of other keys: which key turns on what they belong to, and the value by which it is off, as it is when missing."""
_SUPPRESSED = "tokenizer.ggml.suppress_tokens"


def advised_generation(metadata: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return what a `generation_config.json` would say, and notes on advice that is not followed.

    Numbers that cannot be meant (a temperature below 0) are advice that is not followed.
    """
    given = {k.removeprefix(_PREFIX): v for k, v in metadata.items() if k.startswith(_PREFIX)}
    found: dict[str, Any] = {}
    ignored: dict[str, Any] = {}
    for key, value in given.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if key in _NAMES and is_number and _is_sound(key, value):
            # Numbers in a file are float32; as written they were decimal.
            found[_NAMES[key]] = value if isinstance(value, int) else float(f"{value:.6g}")
        elif not _is_without_effect(key, given):
            ignored[key] = value
    if found.get("temperature") == 0:
        found = {name: value for name, value in found.items() if name == "repetition_penalty"}
    elif found.keys() - {"repetition_penalty"}:
        found["do_sample"] = True
        found.setdefault("top_k", 0)  # not what Transformers takes where a config has none
    suppressed = metadata.get(_SUPPRESSED)
    if suppressed:
        found["suppress_tokens"] = list(suppressed)
    if not ignored:
        return found, []
    named = ", ".join(f"{_PREFIX}{key} ({value})" for key, value in sorted(ignored.items()))
    return found, [f"The file advises to sample by what is not supported, and is left out: {named}."]


def _is_sound(key: str, value: float) -> bool:
    return {
        "temp": value >= 0,
        "top_k": isinstance(value, int) and value >= 0,
        "top_p": 0 <= value <= 1,
        "min_p": 0 <= value <= 1,
        "penalty_repeat": value > 0,
    }[key]


def _is_without_effect(key: str, given: Mapping[str, Any]) -> bool:
    if key not in _SWITCHES:
        return False
    switch, off = _SWITCHES[key]
    return bool(given.get(switch, off) == off)
