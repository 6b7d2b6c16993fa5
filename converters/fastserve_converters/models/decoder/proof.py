"""Proof that the common form of a decoder computes what the original does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from fastserve_converters.models.decoder.form import DecoderForm, whole_logits
from fastserve_converters.models.proof import Tensors, different, largest_differences

TOLERANCE = 1e-4
"""Largest difference of a logit, relative to the largest one: the two sum in other orders, layer upon layer."""
_REMEDY = (
    "Its layers do something that no rule knows: Llama-, Qwen-, Gemma- and GPT-2-class models are supported, without "
    "changes of their own."
)


def prove_equal(form: DecoderForm, model: Any, sequences: Iterable[torch.Tensor]) -> float:
    """Return the largest difference of logits on some sequences, relative to the largest logit of each.

    Args:
        form: the common form.
        model: the original, in eval mode.
        sequences: token ids, each of shape [1, tokens], not longer than the form's context.

    Raises:
        EnvironmentFailure: it is above `TOLERANCE`, or not a number.
    """

    def pairs() -> Iterator[tuple[Tensors, Tensors]]:
        for tokens in sequences:
            expected = model(input_ids=tokens, use_cache=False).logits[0]
            largest = expected.abs().max()
            yield {"logits": expected / largest}, {"logits": whole_logits(form, tokens) / largest}

    differences = largest_differences(pairs())
    worst = max(differences.values(), default=0.0)
    if not worst <= TOLERANCE:
        raise different(worst, TOLERANCE, _REMEDY)
    return worst
