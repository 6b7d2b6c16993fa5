"""Proof that the common form of a decoder computes what the original does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from fastserve_converters.models.decoder.form import DecoderForm, whole_logits
from fastserve_runtime.errors import EnvironmentFailure

TOLERANCE = 1e-4
"""Largest difference of a logit, relative to the largest one: the two sum in other orders, layer upon layer."""


def prove_equal(form: DecoderForm, model: Any, sequences: Iterable[torch.Tensor]) -> float:
    """Return the largest difference of logits on some sequences, relative to the largest logit.

    Args:
        form: the common form.
        model: the original, in eval mode.
        sequences: token ids, each of shape [1, tokens], not longer than the form's context.

    Raises:
        EnvironmentFailure: it is above `TOLERANCE`, or not a number.
    """
    worst = 0.0
    with torch.no_grad():
        for tokens in sequences:
            expected = model(input_ids=tokens, use_cache=False).logits[0]
            difference = (whole_logits(form, tokens) - expected).abs().max() / expected.abs().max()
            worst = max(worst, float(difference)) if torch.isfinite(difference) else float("nan")
            if not worst <= TOLERANCE:
                raise EnvironmentFailure(
                    f"The model's layers do something that no rule knows: logits differ by {worst:.1e} of the largest.",
                    "Llama-, Qwen-, Gemma- and GPT-2-class models are supported.",
                )
    return worst
