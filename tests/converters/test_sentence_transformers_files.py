"""How sentence-transformers' files, in their old and new spelling, say how sentences are embedded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastserve_converters.sentence_transformers_files import Dense, SentenceHead, read_json, read_sentence_head
from fastserve_runtime.errors import UsageError

OLD, NEW = "sentence_transformers.models.", "sentence_transformers.sentence_transformer.modules."
DENSE = {"in_features": 32, "out_features": 8, "bias": False, "activation_function": "torch.nn.modules.activation.Tanh"}


def write(root: Path, *modules: tuple[str, str, Any], prefix: str = OLD) -> Path:
    """Write modules of (kind, folder, config)."""
    listed = [{"idx": i, "name": str(i), "path": f, "type": prefix + k} for i, (k, f, _) in enumerate(modules)]
    (root / "modules.json").write_text(json.dumps(listed))
    for _, folder, config in modules:
        if config is not None:
            (root / folder).mkdir(exist_ok=True)
            (root / folder / "config.json").write_text(json.dumps(config))
    return root


def pooling(config: Any) -> tuple[str, str, Any]:
    return ("Pooling", "1_Pooling", config)


TRANSFORMER = ("Transformer", "", None)
MEAN = pooling({"pooling_mode_mean_tokens": True})


def test_a_checkpoint_without_modules_has_no_head(tmp_path: Path) -> None:
    assert read_sentence_head(tmp_path) is None


@pytest.mark.parametrize("prefix", [OLD, NEW])
def test_transformer_pooling_dense_and_normalize_are_read(tmp_path: Path, prefix: str) -> None:
    dense, normalize = ("Dense", "2_Dense", DENSE), ("Normalize", "3_Normalize", None)
    write(tmp_path, ("Transformer", "0_Transformer", None), MEAN, dense, normalize, prefix=prefix)
    assert read_sentence_head(tmp_path) == SentenceHead(
        ("mean",), (Dense("2_Dense", 32, 8, bias=False, activation="Tanh"),), normalize=True,
        transformer_folder="0_Transformer",
    )  # fmt: skip


def test_pooling_alone_does_not_normalize(tmp_path: Path) -> None:
    assert read_sentence_head(write(tmp_path, TRANSFORMER, MEAN)) == SentenceHead(("mean",), (), normalize=False)


@pytest.mark.parametrize(
    ("config", "modes"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, ("cls",)),
        ({"pooling_mode_max_tokens": True}, ("max",)),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, ("mean_sqrt_len",)),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, ("cls", "mean")),
        ({"pooling_mode": "mean"}, ("mean",)),
        ({"pooling_mode": ["mean", "max"]}, ("mean", "max")),
        ({"pooling_mode": "cls", "pooling_mode_mean_tokens": True}, ("cls",)),
    ],
)
def test_pooling_modes_are_read_in_both_spellings(tmp_path: Path, config: dict, modes: tuple[str, ...]) -> None:
    head = read_sentence_head(write(tmp_path, TRANSFORMER, pooling(config)))
    assert head is not None
    assert head.pooling == modes


@pytest.mark.parametrize(
    ("config", "mode"),
    [
        ({"pooling_mode_lasttoken": True}, "lasttoken"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_weightedmean_tokens": True}, "weightedmean"),
        ({"pooling_mode": "lasttoken"}, "lasttoken"),
        ({"pooling_mode": ["mean", "median"]}, "median"),
        ({"pooling_mode": []}, "none"),
        ({"pooling_mode_mean_tokens": False}, "none"),
        ({}, "none"),
    ],
)
def test_a_pooling_mode_that_is_not_supported_is_named(tmp_path: Path, config: dict, mode: str) -> None:
    with pytest.raises(UsageError, match=f"pooling mode '{mode}' is not supported") as failure:
        read_sentence_head(write(tmp_path, TRANSFORMER, pooling(config)))
    assert "cls, mean, max, mean_sqrt_len" in failure.value.remedy


@pytest.mark.parametrize(
    ("name", "activation"),
    [
        ("torch.nn.modules.activation.ReLU", "ReLU"),
        ("torch.nn.modules.activation.GELU", "GELU"),
        ("torch.nn.modules.linear.Identity", "Identity"),
        (None, "Identity"),
    ],
)
def test_dense_layers_are_read_with_their_activation(tmp_path: Path, name: str | None, activation: str) -> None:
    config = {"in_features": 32, "out_features": 8} | ({} if name is None else {"activation_function": name})
    head = read_sentence_head(write(tmp_path, TRANSFORMER, MEAN, ("Dense", "2_Dense", config)))
    assert head is not None
    assert head.dense == (Dense("2_Dense", 32, 8, bias=True, activation=activation),)


def test_several_dense_layers_keep_their_order(tmp_path: Path) -> None:
    layers = [("Dense", f"{i}_Dense", DENSE | {"out_features": i}) for i in (2, 3)]
    head = read_sentence_head(write(tmp_path, TRANSFORMER, MEAN, *layers))
    assert head is not None
    assert [d.out_features for d in head.dense] == [2, 3]


def test_an_activation_that_is_not_supported_is_named(tmp_path: Path) -> None:
    config = DENSE | {"activation_function": "torch.nn.modules.activation.Mish"}
    with pytest.raises(UsageError, match="activation 'Mish', which is not supported"):
        read_sentence_head(write(tmp_path, TRANSFORMER, MEAN, ("Dense", "2_Dense", config)))


@pytest.mark.parametrize("field", ["in_features", "out_features"])
def test_a_dense_layer_must_give_its_sizes(tmp_path: Path, field: str) -> None:
    config = {k: v for k, v in DENSE.items() if k != field}
    with pytest.raises(UsageError, match=f"'2_Dense/config.json' does not give '{field}'"):
        read_sentence_head(write(tmp_path, TRANSFORMER, MEAN, ("Dense", "2_Dense", config)))


@pytest.mark.parametrize("kind", ["CNN", "LSTM", "WeightedLayerPooling", ""])
def test_a_module_that_is_not_supported_is_named(tmp_path: Path, kind: str) -> None:
    with pytest.raises(UsageError, match=f"names the module '{kind}', which is not supported"):
        read_sentence_head(write(tmp_path, TRANSFORMER, (kind, "1_X", None), MEAN))


@pytest.mark.parametrize(
    "modules",
    [
        [TRANSFORMER, MEAN, ("Normalize", "2", None), ("Dense", "3_Dense", DENSE)],
        [TRANSFORMER, ("Dense", "1_Dense", DENSE), MEAN],
        [MEAN, TRANSFORMER],
    ],
)
def test_modules_in_an_order_that_would_be_computed_otherwise_are_refused(tmp_path: Path, modules) -> None:
    with pytest.raises(UsageError, match="has the order") as failure:
        read_sentence_head(write(tmp_path, *modules))
    assert "Transformer, Pooling, Dense, Normalize" in failure.value.remedy


@pytest.mark.parametrize("modules", [[], [TRANSFORMER], [TRANSFORMER, ("Normalize", "1", None)]])
def test_modules_without_pooling_are_refused(tmp_path: Path, modules) -> None:
    with pytest.raises(UsageError, match="has no Pooling module"):
        read_sentence_head(write(tmp_path, *modules))


@pytest.mark.parametrize("content", ["{}", '["Transformer"]', "3"])
def test_modules_that_are_no_list_of_objects_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "modules.json").write_text(content)
    with pytest.raises(UsageError, match=r"'modules\.json' is not a list"):
        read_sentence_head(tmp_path)


def test_a_module_whose_config_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'config\.json' cannot be read"):
        read_sentence_head(write(tmp_path, TRANSFORMER, ("Pooling", "1_Pooling", None)))


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe"])
def test_a_file_that_is_no_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"'broken\.json' is not JSON"):
        read_json(tmp_path / "broken.json")


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'gone\.json' cannot be read: No such file"):
        read_json(tmp_path / "gone.json")
