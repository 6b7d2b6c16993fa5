"""A decoder over whole sequences as one torch program, without a cache: the reference of what files compute inside."""

from __future__ import annotations

import torch

from fastserve_converters.models.decoder.form import DecoderForm, WholeSequence
from fastserve_converters.models.dynamic_shapes import MIN_TOKENS

INPUT_IDS, LOGITS = "input_ids", "logits"


class NextToken(DecoderForm):
    """A form that scores what follows the last token alone, as artifacts do; its modules are those of another form."""

    def __init__(self, form: DecoderForm) -> None:
        torch.nn.Module.__init__(self)
        self.__dict__.update(form.__dict__)

    def forward(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]  # nothing is padded
        """Return `logits` of the next token, shape [1, 1, vocabulary].

        Args:
            input_ids: of a sequence from its first token on, shape [1, tokens].
        """
        states = self.hidden(input_ids, torch.arange(input_ids.shape[1]), WholeSequence(self))
        return {LOGITS: self.logits(states[:, -1:])}


def whole_program(form: DecoderForm) -> torch.export.ExportedProgram:
    """Return a form as `torch.export` traces it over sequences of any length up to its context."""
    example = {INPUT_IDS: torch.zeros(1, min(2 * MIN_TOKENS, form.context), dtype=torch.int64)}
    tokens = torch.export.Dim("tokens", min=MIN_TOKENS, max=form.context)
    return torch.export.export(NextToken(form), (), example, dynamic_shapes={INPUT_IDS: {1: tokens}})
