"""The form of an encoder that every exporter, fused kernel and NPU takes well.

Inputs are `input_ids` (int32) and `attention_mask` (float32), both [1, tokens], where the number of tokens is fixed or
open up to a length; outputs are named. A model for pairs of texts that has token types takes `token_type_ids` (int32)
too. Inside there is no boolean, integer or gather arithmetic on masks: the mask is made additive with a finite
constant, and the position and, for single texts, token-type embeddings, which are the same for every input, become
constants. The rewrite works on modules by what they are called in all encoder families of Transformers, not on one
model class, and is proven equal to the original before anything is exported.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch

from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.task import TASKS, Task
from fastserve_converters.checkpoints.tokenizer_checks import embedding_rows
from fastserve_converters.models.encoder_inputs import sample_inputs
from fastserve_converters.models.proof import Tensors, are_within, different, largest_differences
from fastserve_converters.models.sentence_pooling import SentencePooling, build_sentence_pooling, first_columns
from fastserve_runtime.bundle.raw_inputs import TOKEN_TYPES
from fastserve_runtime.errors import UsageError

MASK_PENALTIES = (-100.0, -1000.0, -10000.0)
"""One of them is added to the attention scores of padding: the first that hides it. exp(-100) vanishes beside any score
that usual attention gives, and unlike -inf or -3.4e38 it survives fp16 and leaves an int8 scale something for the real
scores. The others are for models whose scores reach hundreds or thousands; fp16 holds them too."""

TOLERANCE = 1e-5
"""Largest difference from the original, relative to the largest output where that is above 1."""


class ConstantRows(torch.nn.Module):
    """Stands for an embedding whose indices are always the same: gives its first rows, whatever the indices."""

    def __init__(self, rows: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows)
        self.rows: torch.Tensor

    def forward(self, indices: torch.Tensor) -> torch.Tensor:
        """Return the rows, shape [1, tokens or 1, width], for indices of shape [1, tokens]."""
        return self.rows if self.rows.shape[1] == 1 else first_columns(self.rows, indices.shape[1])


class TokenTypeRows(torch.nn.Module):
    """Stands for a token-type embedding of which pairs of texts use two rows: chooses between them by a product.

    So there is no gather for a table of two rows, and no precision rounds them.
    """

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("first", table[:1].detach().clone()[None])
        self.register_buffer("difference", (table[1:2] - table[:1]).detach().clone()[None])
        self.first: torch.Tensor
        self.difference: torch.Tensor

    def forward(self, types: torch.Tensor) -> torch.Tensor:
        """Return each token's row, shape [n, tokens, width], for types of 0 and 1, shape [n, tokens]."""
        return self.first + types.to(torch.float32).unsqueeze(-1) * self.difference


class ExportableModel(torch.nn.Module):
    """An encoder, with its head, for sequences up to a length and batches of one."""

    def __init__(
        self, model: torch.nn.Module, checkpoint: Checkpoint, length: int, head: SentencePooling | None
    ) -> None:
        super().__init__()
        self.model = model
        self.head = head
        task: Task = TASKS.load(checkpoint.task)
        self.outputs = task.outputs(checkpoint)
        self._more_outputs = {"output_hidden_states": True} if head is not None and head.needs_all_layers else {}
        self.more_inputs = checkpoint.more_inputs
        fold_embeddings(model, checkpoint, length)
        for name in task.UNUSED:
            if getattr(model, name, None) is not None:
                setattr(model, name, None)
        accepted = inspect.signature(model.forward).parameters
        # Given only so that the model does not work them out from the ids; the folded embeddings ignore them.
        folded = [n for n in ("position_ids", TOKEN_TYPES) if n not in self.more_inputs]
        self._unused_indices = tuple(n for n in folded if n in accepted)
        self.register_buffer("zeros", torch.zeros(1, length, dtype=torch.int32), persistent=False)
        self.zeros: torch.Tensor
        self.mask_penalty = MASK_PENALTIES[0]

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
        pooling_mask: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return the named outputs.

        Args:
            input_ids: int32, shape [1, tokens], at most the length.
            attention_mask: float32, 1 for tokens and 0 for padding, shape [1, tokens].
            token_type_ids: int32, 1 for tokens of a pair's second text, else 0, shape [1, tokens]; where the model
                takes it.
            pooling_mask: float32, the attention mask without the tokens of a prompt, shape [1, tokens]; where the model
                does not pool those.
        """
        additive = ((1.0 - attention_mask) * self.mask_penalty)[:, None, None, :]
        indices = dict.fromkeys(self._unused_indices, first_columns(self.zeros, input_ids.shape[1]))
        if token_type_ids is not None:
            indices[TOKEN_TYPES] = token_type_ids
        result = self.model(input_ids=input_ids, attention_mask=additive, **indices, **self._more_outputs)
        values: dict[str, torch.Tensor] = {output.name: getattr(result, output.field) for output in self.outputs}
        if self.head is not None:
            pooled = attention_mask if pooling_mask is None else pooling_mask
            states = result.hidden_states if self._more_outputs else None
            values = {name: self.head(value, pooled, states) for name, value in values.items()}
        return values


def build_exportable_model(model: torch.nn.Module, checkpoint: Checkpoint, length: int) -> ExportableModel:
    """Rewrite a loaded model in place. Take the reference's outputs before.

    Args:
        model: as `load_model` gives it.
        checkpoint: its description.
        length: tokens a sequence.
    """
    head = checkpoint.sentence_head
    pooling = build_sentence_pooling(checkpoint.root, head, length) if head else None
    exportable_model = ExportableModel(model, checkpoint, length, pooling).eval()
    exportable_model.mask_penalty = sufficient_penalty(exportable_model, embedding_rows(model), length)
    return exportable_model


def sufficient_penalty(exportable_model: ExportableModel, vocabulary: int, length: int) -> float:
    """Return the first of `MASK_PENALTIES` with which padding changes nothing; the last where none is enough.

    Seen on made-up texts, always the same, so that every job makes the same form; real texts prove it.

    Args:
        exportable_model: the rewritten model.
        vocabulary: how many ids it knows.
        length: tokens a sequence, at most.
    """
    generator = np.random.default_rng(0)
    samples = [sample_inputs(length, max(1, length // part), exportable_model.more_inputs) for part in (2, 4)]
    inputs = {name: torch.from_numpy(np.concatenate([s[name] for s in samples])) for name in samples[0]}
    ids = generator.integers(0, vocabulary, inputs["input_ids"].shape, dtype=np.int32)
    inputs["input_ids"] = torch.from_numpy(ids)
    for penalty in MASK_PENALTIES:
        exportable_model.mask_penalty = penalty
        if _shown_padding(exportable_model, inputs) <= TOLERANCE:
            return penalty
    return MASK_PENALTIES[-1]


def _shown_padding(exportable_model: ExportableModel, inputs: Mapping[str, torch.Tensor]) -> float:
    """Return the largest difference that padding makes, relative to the largest output where that is above 1."""
    largest = 0.0
    with torch.no_grad():
        for row, mask in enumerate(inputs["attention_mask"]):
            counted = int(mask.sum())
            one = {name: value[row : row + 1] for name, value in inputs.items()}
            alone = exportable_model(**{name: value[:, :counted] for name, value in one.items()})
            padded = exportable_model(**one)
            for output in exportable_model.outputs:
                wanted, found = alone[output.name][0], padded[output.name][0]
                found = found[:counted] if output.by_token else found
                difference = float((found - wanted).abs().max()) / max(1.0, float(wanted.abs().max()))
                largest = max(largest, math.inf if math.isnan(difference) else difference)
    return largest


def fold_embeddings(model: torch.nn.Module, checkpoint: Checkpoint, length: int) -> None:
    """Replace position and token-type embeddings, wherever they are, by the rows that a sequence uses.

    A model for pairs that has token types keeps its choice between two of them.
    """
    first = checkpoint.family.first_position(checkpoint.config)
    for module in list(model.modules()):
        positions = getattr(module, "position_embeddings", None)
        if isinstance(positions, torch.nn.Embedding):
            rows = positions.weight[first : first + length].detach().clone()
            module.position_embeddings = ConstantRows(rows[None])
        types = getattr(module, "token_type_embeddings", None)
        if isinstance(types, torch.nn.Embedding):
            if checkpoint.has_token_types:
                module.token_type_embeddings = TokenTypeRows(types.weight)
            else:
                module.token_type_embeddings = ConstantRows(types.weight[:1].detach().clone()[None])


def prove_equal(exportable_model: ExportableModel, inputs: Tensors, reference: Tensors) -> float:
    """Compare the exportable model with the original's outputs on real inputs and return the largest difference.

    Hidden states of padding are not compared: the families differ in what they compute there, and nobody reads it.

    Args:
        exportable_model: the rewritten model.
        inputs: by name, shape [n, length].
        reference: the original's outputs by name, shape [n, ...].

    Raises:
        EnvironmentFailure: they differ by more than `TOLERANCE`.
        UsageError: they do so only with padding, which attention scores as large as the model's outweigh.
    """
    scales = {name: max(1.0, float(values.abs().max())) for name, values in reference.items()}
    differences = _differences(exportable_model, inputs, reference)
    largest = max(differences.values(), default=0.0)
    if not are_within(differences, scales, TOLERANCE):
        if are_within(_differences(exportable_model, inputs, reference, cut_padding=True), scales, TOLERANCE):
            raise UsageError(
                f"The model's attention scores are so large that padding, masked by "
                f"{exportable_model.mask_penalty:g}, is not hidden beside them: outputs with and without padding "
                f"differ by {largest:.2g}.",
                "Such weights are rare in trained models; check them, or train with a limit on their size.",
            )
        remedy = "This architecture is not handled right; please report it with the checkpoint's config."
        raise different(largest, TOLERANCE, remedy)
    return largest


def _differences(
    exportable_model: ExportableModel, inputs: Tensors, reference: Tensors, *, cut_padding: bool = False
) -> dict[str, float]:
    return largest_differences(_pairs(exportable_model, inputs, reference, cut_padding=cut_padding))


def _pairs(
    exportable_model: ExportableModel, inputs: Tensors, reference: Tensors, *, cut_padding: bool
) -> Iterator[tuple[Tensors, Tensors]]:
    """Give the outputs of each text beside the original's, those by token without their padding."""
    for row in range(len(inputs["attention_mask"])):
        mask = inputs["attention_mask"][row : row + 1]
        if not bool(mask.any()):  # an empty text, to which the tokenizer adds nothing: nobody can say what it gives
            continue
        counted = int(mask.sum()) if cut_padding else mask.shape[1]
        actual = exportable_model(**{name: value[row : row + 1, :counted] for name, value in inputs.items()})
        expected = {name: values[row] for name, values in reference.items()}
        own = {o.name: actual[o.name][0] for o in exportable_model.outputs}
        for name in (o.name for o in exportable_model.outputs if o.by_token):
            expected[name], own[name] = expected[name][mask[0] > 0], own[name][mask[0, :counted] > 0]
        yield expected, own
