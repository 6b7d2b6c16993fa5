"""How the modules' own config files are read, in their old and new spelling."""

from __future__ import annotations

import pytest

from fastserve_converters.checkpoints.sentence_transformers.config_file import ConfigFile
from fastserve_converters.checkpoints.sentence_transformers.modules import dense, layer_norm, normalize, pooling
from fastserve_converters.checkpoints.sentence_transformers.modules.dense import ACTIVATIONS, Dense
from fastserve_converters.checkpoints.sentence_transformers.modules.normalize import Normalize
from fastserve_runtime.errors import UsageError

SIZES = {"in_features": 32, "out_features": 8}


def config(**content) -> ConfigFile:
    return ConfigFile("1_Module/config.json", content)


@pytest.mark.parametrize(
    ("content", "modes"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, ("cls",)),
        ({"pooling_mode_max_tokens": True}, ("max",)),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, ("mean_sqrt_len_tokens",)),
        ({"pooling_mode_lasttoken": True}, ("lasttoken",)),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, ("cls", "mean")),
        (
            {"pooling_mode_weightedmean_tokens": True, "pooling_mode_mean_tokens": True},
            ("mean", "weightedmean"),
        ),
        ({"pooling_mode": "mean"}, ("mean",)),
        ({"pooling_mode": ["mean", "max"]}, ("mean", "max")),
        ({"pooling_mode": ["lasttoken"]}, ("lasttoken",)),
        ({"pooling_mode": "cls", "pooling_mode_mean_tokens": True}, ("cls",)),
        # None given: sentence-transformers takes the mean.
        ({"pooling_mode_mean_tokens": False}, ("mean",)),
        ({"word_embedding_dimension": 32}, ("mean",)),
        ({}, ("mean",)),
    ],
)
def test_pooling_modes_are_read_in_both_spellings(content: dict, modes: tuple[str, ...]) -> None:
    assert pooling.read(config(**content)).modes == modes


@pytest.mark.parametrize(
    ("mode", "named"),
    [
        (["mean", "median"], "median"),
        ("mean_sqrt_len", "mean_sqrt_len"),
        ([], "none"),
        (None, "None"),
        (3, "3"),
    ],
)
def test_a_pooling_mode_that_is_not_supported_is_named(mode, named: str) -> None:
    with pytest.raises(UsageError, match=f"pooling mode '{named}' is not supported") as failure:
        pooling.read(config(pooling_mode=mode))
    assert "cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken" in failure.value.remedy


def test_pooling_may_leave_the_prompt_out() -> None:
    assert pooling.read(config()).includes_prompt
    assert not pooling.read(config(include_prompt=False)).includes_prompt
    with pytest.raises(UsageError, match="has \"no\" as 'include_prompt'"):
        pooling.read(config(include_prompt="no"))


@pytest.mark.parametrize("read", [pooling.read, lambda c: layer_norm.read(c, "x")])
def test_a_key_that_is_not_understood_is_refused(read) -> None:
    with pytest.raises(UsageError, match=r"'1_Module/config\.json' has the key 'gate', which is not understood"):
        read(config(gate=True))


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("module", ["torch.nn.modules.activation", "torch.nn", "torch.nn.modules.linear"])
def test_dense_layers_are_read_with_their_activation(name: str, module: str) -> None:
    layer, notes = dense.read(config(**SIZES, activation_function=f"{module}.{name}"), "2_Dense")
    assert layer == Dense("2_Dense", 32, 8, bias=True, activation=name)
    assert notes == ()


def test_a_dense_layer_without_activation_has_tanh() -> None:
    assert dense.read(config(**SIZES), "2_Dense")[0].activation == "Tanh"


def test_all_settings_of_a_dense_layer_are_read() -> None:
    layer, _ = dense.read(
        config(**SIZES, bias=False, use_residual=True, module_input_name="a", module_output_name="b"), "x"
    )
    assert layer == Dense("x", 32, 8, bias=False, activation="Tanh", residual=True, source="a", target="b")
    assert dense.read(config(**SIZES, module_input_name="a", module_output_name=None), "x")[0].target == "a"


@pytest.mark.parametrize(
    "name",
    ["torch.nn.modules.activation.Softmax", "transformers.activations.GELUActivation", "torch.tanh", "Tanh", "os.Tanh"],
)
def test_an_activation_that_is_not_supported_is_named(name: str) -> None:
    with pytest.raises(UsageError, match=f"activation '{name}', which is not supported"):
        dense.read(config(**SIZES, activation_function=name), "2_Dense")


@pytest.mark.parametrize("field", ["in_features", "out_features"])
def test_a_dense_layer_must_give_its_sizes(field: str) -> None:
    with pytest.raises(UsageError, match=rf"'1_Module/config\.json' does not give '{field}'"):
        dense.read(config(**{k: v for k, v in SIZES.items() if k != field}), "2_Dense")


def test_keys_that_sentence_transformers_passes_over_are_noted() -> None:
    assert "has 'gate', which sentence-transformers passes over" in dense.read(config(**SIZES, gate=1), "x")[1][0]
    module, notes = normalize.read(config(p=1))
    assert module == Normalize()
    assert "has 'p', which sentence-transformers passes over" in notes[0]


def test_normalize_may_read_and_write_what_it_is_told() -> None:
    assert normalize.read(config(module_input_name="token_embeddings"))[0] == Normalize(
        "token_embeddings", "token_embeddings"
    )
