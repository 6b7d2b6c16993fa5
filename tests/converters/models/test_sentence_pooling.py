"""What follows the Transformer, in the form that is exported, is what sentence-transformers computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fastserve_converters.checkpoints.sentence_transformers import SentenceHead
from fastserve_converters.checkpoints.sentence_transformers.modules.dense import ACTIVATIONS, Dense
from fastserve_converters.checkpoints.sentence_transformers.modules.layer_norm import LayerNorm
from fastserve_converters.checkpoints.sentence_transformers.modules.normalize import Normalize
from fastserve_converters.checkpoints.sentence_transformers.modules.pooling import MODES, Pooling
from fastserve_converters.checkpoints.sentence_transformers.modules.weighted_layer_pooling import WeightedLayerPooling
from fastserve_converters.models.sentence_layers import load_layers
from fastserve_converters.models.sentence_pooling import SentencePooling
from fastserve_converters.models.sentence_reference import sentence_embeddings
from fastserve_runtime.errors import UsageError

HIDDEN = np.random.default_rng(1).normal(size=(3, 5, 4)).astype(np.float32)
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 1, 0, 0]], np.float32)
"""Of the last text, a prompt of two tokens is left out."""
LAYERS = tuple(torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(i)) for i in range(4))
PROJECTION = torch.arange(8.0).reshape(2, 4)


def by_hand(mode: str, rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    return {
        "cls": rows[0],
        "lasttoken": rows[-1],
        "mean": rows.mean(0),
        "max": rows.max(0),
        "mean_sqrt_len_tokens": rows.sum(0) / np.sqrt(len(rows)),
        "weightedmean": (rows * places[:, None]).sum(0) / places.sum(),
    }[mode]


def both(head: SentenceHead, layers: list[torch.nn.Module] | None = None) -> np.ndarray:
    """Return what the exportable model gives, which the reference gives too."""
    hidden, mask = torch.from_numpy(HIDDEN), torch.from_numpy(MASK)
    with torch.no_grad():
        exportable = SentencePooling(head, layers or [], 5)(hidden, mask, LAYERS).numpy()
        reference = sentence_embeddings(head, layers or [], hidden, mask.long(), LAYERS).numpy()
    np.testing.assert_allclose(exportable, reference, rtol=1e-5, atol=1e-6)
    return exportable


@pytest.mark.parametrize("modes", [*((mode,) for mode in MODES), ("mean", "max"), ("cls", "lasttoken", "weightedmean")])
def test_tokens_that_count_are_pooled_alone(modes: tuple[str, ...]) -> None:
    expected = [
        np.concatenate([by_hand(mode, rows[mask > 0], np.arange(1, 6)[mask > 0]) for mode in modes])
        for rows, mask in zip(HIDDEN, MASK, strict=True)
    ]
    found = both(SentenceHead((Pooling(modes, includes_prompt=False),)))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_normalized_vectors_have_a_length_of_one() -> None:
    plain, normalized = both(SentenceHead((Pooling(("mean",)),))), both(SentenceHead((Pooling(("mean",)), Normalize())))
    np.testing.assert_allclose(normalized, plain / np.linalg.norm(plain, axis=1, keepdims=True), rtol=1e-5)


def test_a_vector_of_zeros_stays_one_of_zeros() -> None:
    pooling = SentencePooling(SentenceHead((Pooling(("mean",)), Normalize())), [], 2)
    assert pooling(torch.zeros(1, 2, 4), torch.ones(1, 2)).tolist() == [[0, 0, 0, 0]]


def test_vectors_are_cut_after_everything_else() -> None:
    whole = SentenceHead((Pooling(("mean",)), Normalize()))
    cut = SentenceHead(whole.modules, truncate_dim=3)
    np.testing.assert_array_equal(both(cut), both(whole)[:, :3])


def test_vectors_of_tokens_may_be_normalized_before_they_are_pooled() -> None:
    tokens = Normalize("token_embeddings", "token_embeddings")
    unit = HIDDEN[0] / np.linalg.norm(HIDDEN[0], axis=1, keepdims=True)
    found = both(SentenceHead((tokens, Pooling(("mean",)))))
    np.testing.assert_allclose(found[0], unit.mean(0), rtol=1e-5)


def saved(root: Path, folder: str, **weights: torch.Tensor) -> None:
    (root / folder).mkdir()
    save_file({name.replace("__", "."): value for name, value in weights.items()}, root / folder / "model.safetensors")


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("prefix", ["linear__", ""])
def test_dense_layers_are_loaded_with_their_activation(tmp_path: Path, activation: str, prefix: str) -> None:
    bias = torch.tensor([0.5, -2.0])
    saved(tmp_path, "2_Dense", **{f"{prefix}weight": PROJECTION, f"{prefix}bias": bias})
    head = SentenceHead((Pooling(("mean",)), Dense("2_Dense", 4, 2, bias=True, activation=activation)))
    mean = torch.from_numpy(both(SentenceHead((Pooling(("mean",)),))))
    expected = getattr(torch.nn, activation)()(mean @ PROJECTION.T + bias)
    np.testing.assert_allclose(both(head, load_layers(tmp_path, head)), expected, rtol=1e-4, atol=1e-5)


def test_a_residual_layer_adds_its_input(tmp_path: Path) -> None:
    square = torch.eye(4) * 2
    saved(tmp_path, "2_Dense", linear__weight=square)
    dense = Dense("2_Dense", 4, 4, bias=False, activation="Tanh", residual=True)
    head = SentenceHead((Pooling(("mean",)), dense))
    mean = both(SentenceHead((Pooling(("mean",)),)))
    np.testing.assert_allclose(both(head, load_layers(tmp_path, head)), np.tanh(2 * mean) + mean, rtol=1e-5)


def test_a_residual_layer_of_another_width_adds_a_projection(tmp_path: Path) -> None:
    saved(tmp_path, "2_Dense", linear__weight=PROJECTION, residual__weight=-PROJECTION)
    dense = Dense("2_Dense", 4, 2, bias=False, activation="Identity", residual=True)
    head = SentenceHead((Pooling(("mean",)), dense))
    np.testing.assert_allclose(both(head, load_layers(tmp_path, head)), np.zeros((3, 2)), atol=1e-5)


def test_layer_norms_and_dense_layers_are_applied_in_their_order(tmp_path: Path) -> None:
    weight, bias = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.full((4,), 0.5)
    saved(tmp_path, "2_LayerNorm", norm__weight=weight, norm__bias=bias)
    saved(tmp_path, "3_Dense", linear__weight=PROJECTION)
    saved(tmp_path, "4_Dense", linear__weight=torch.ones(1, 2))
    dense = [Dense("3_Dense", 4, 2, False, "Identity"), Dense("4_Dense", 2, 1, False, "ReLU")]
    head = SentenceHead((Pooling(("mean",)), LayerNorm("2_LayerNorm", 4), *dense))
    mean = torch.from_numpy(both(SentenceHead((Pooling(("mean",)),))))
    normed = torch.nn.functional.layer_norm(mean, (4,), weight, bias)
    expected = torch.relu((normed @ PROJECTION.T).sum(1, keepdim=True))
    np.testing.assert_allclose(both(head, load_layers(tmp_path, head)), expected, rtol=1e-4)


def test_layers_of_the_model_are_averaged_by_their_weights(tmp_path: Path) -> None:
    saved(tmp_path, "1_Weighted", layer_weights=torch.tensor([1.0, 3.0]))
    head = SentenceHead((WeightedLayerPooling("1_Weighted", 2, 3), Pooling(("cls",))))
    expected = (LAYERS[2] + 3 * LAYERS[3])[:, 0] / 4
    # The reference finds the first token by the mask, the last text's is the third.
    hidden, mask = torch.from_numpy(HIDDEN), torch.ones(3, 5)
    layers = load_layers(tmp_path, head)
    for found in (
        SentencePooling(head, layers, 5)(hidden, mask, LAYERS),
        sentence_embeddings(head, layers, hidden, mask.long(), LAYERS),
    ):
        torch.testing.assert_close(found, expected)


def test_weights_for_another_number_of_layers_are_refused(tmp_path: Path) -> None:
    saved(tmp_path, "1_Weighted", layer_weights=torch.ones(4))
    head = SentenceHead((WeightedLayerPooling("1_Weighted", 2, 5), Pooling(("cls",))))
    with pytest.raises(UsageError, match="has weights for 4 layers; the model has 2 from layer 2 on"):
        both(head, load_layers(tmp_path, head))


def test_a_pickle_is_read_for_its_tensors_alone(tmp_path: Path) -> None:
    (tmp_path / "2_Dense").mkdir()
    torch.save({"linear.weight": PROJECTION}, tmp_path / "2_Dense" / "pytorch_model.bin")
    head = SentenceHead((Pooling(("mean",)), Dense("2_Dense", 4, 2, bias=False, activation="Identity")))
    assert both(head, load_layers(tmp_path, head)).shape == (3, 2)
    torch.save({"linear.weight": Path("x")}, tmp_path / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"'2_Dense/pytorch_model\.bin' cannot be read"):
        load_layers(tmp_path, head)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"linear__weight": PROJECTION.T.contiguous()}, "size mismatch"),
        ({"linear__weight": PROJECTION, "linear__bias": torch.ones(2)}, "bias"),
        ({"linear__weight": PROJECTION, "residual__weight": PROJECTION + 1}, "residual.weight"),
        ({"linear__weight": PROJECTION * float("nan")}, "not finite"),
    ],
)
def test_weights_that_are_not_the_configs_are_refused(tmp_path: Path, weights: dict, said: str) -> None:
    saved(tmp_path, "2_Dense", **weights)
    head = SentenceHead((Pooling(("mean",)), Dense("2_Dense", 4, 2, bias=False, activation="Identity")))
    with pytest.raises(UsageError, match=said):
        load_layers(tmp_path, head)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_exported_for_any_number_of_tokens(mode: str) -> None:
    pooling = SentencePooling(SentenceHead((Pooling((mode,), includes_prompt=False),)), [], 8)
    length = torch.export.Dim("length", min=2, max=8)
    example = (torch.randn(1, 8, 4), torch.ones(1, 8), None)
    program = torch.export.export(pooling, example, dynamic_shapes=({1: length}, {1: length}, None))
    short = (torch.randn(1, 2, 4), torch.ones(1, 2), None)
    torch.testing.assert_close(program.module()(*short), pooling(*short))
