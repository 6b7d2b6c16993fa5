"""A checkpoint is loaded whole or refused: nothing missing, nothing invented."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fastserve_converters.checkpoints.model_loading import load_model
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_runtime.errors import UsageError

Weights = dict[str, torch.Tensor]
QUERY = "encoder.layer.0.attention.self.query.weight"


def change(folder: Path, spoil: Callable[[Weights], None]) -> Path:
    file = folder / "model.safetensors"
    weights = load_file(file)
    spoil(weights)
    save_file(weights, file, metadata={"format": "pt"})
    return folder


def test_a_whole_model_is_loaded_in_fp32_for_inference(tiny) -> None:
    folder = tiny("bert")
    model = load_model(read_checkpoint(folder))
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    saved = load_file(folder / "model.safetensors")
    torch.testing.assert_close(model.state_dict()[QUERY], saved[QUERY], rtol=0, atol=0)


def test_half_precision_weights_become_fp32(tiny_copy) -> None:
    folder = change(tiny_copy("bert"), lambda w: w.update({k: v.half() for k, v in w.items() if v.is_floating_point()}))
    assert {p.dtype for p in load_model(read_checkpoint(folder)).parameters()} == {torch.float32}


def test_missing_weights_are_counted_and_one_is_named(tiny_copy) -> None:
    folder = change(tiny_copy("bert"), lambda w: [w.pop(k) for k in (QUERY, QUERY.replace("query", "key"))])
    with pytest.raises(UsageError, match=r"lacks 2 weights, such as 'encoder\.layer\.0\.attention\.self\.key\.weight'"):
        load_model(read_checkpoint(folder))


def drop_pooler(weights: Weights) -> None:
    for name in [n for n in weights if "pooler" in n]:
        del weights[name]


def test_a_pooler_may_be_missing_where_it_is_not_used(tiny_copy) -> None:
    load_model(read_checkpoint(change(tiny_copy("bert"), drop_pooler)))


def test_a_pooler_may_not_be_missing_in_a_classifier(tiny_copy) -> None:
    folder = change(tiny_copy("bert", classify=True), drop_pooler)
    with pytest.raises(UsageError, match=r"lacks 2 weights, such as 'bert\.pooler\.dense\.bias'"):
        load_model(read_checkpoint(folder))


def test_a_head_that_was_never_trained_is_refused(tiny_copy) -> None:
    folder = tiny_copy("bert")
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["BertForSequenceClassification"]}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"lacks 2 weights, such as 'classifier\.bias'"):
        load_model(read_checkpoint(folder))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_not_finite_are_named(tiny_copy, value: float) -> None:
    def spoil(weights: Weights) -> None:
        weights[QUERY][3, 3] = value

    with pytest.raises(UsageError, match=f"'{QUERY}' has values that are not finite"):
        load_model(read_checkpoint(change(tiny_copy("bert"), spoil)))


def test_weights_of_another_shape_are_refused(tiny_copy) -> None:
    def spoil(weights: Weights) -> None:
        weights[QUERY] = weights[QUERY][:16].contiguous()

    folder = change(tiny_copy("bert"), spoil)
    with pytest.raises(UsageError) as failure:
        load_model(read_checkpoint(folder))
    assert "\n" not in failure.value.problem


@pytest.mark.parametrize("prefix", ["model.", "module.", "_orig_mod.", "encoder."])
def test_names_with_something_before_them_are_told_from_missing_weights(tiny_copy, prefix: str) -> None:
    def spoil(weights: Weights) -> None:
        for name in list(weights):
            weights[prefix + name] = weights.pop(name)

    with pytest.raises(UsageError, match=f"weights have '{prefix}' before their names") as failure:
        load_model(read_checkpoint(change(tiny_copy("bert"), spoil)))
    assert "DistributedDataParallel" in failure.value.remedy


def test_layers_within_an_adapter_are_named(tiny_copy) -> None:
    def spoil(weights: Weights) -> None:
        weights[QUERY.replace(".weight", ".base_layer.weight")] = weights.pop(QUERY)

    with pytest.raises(UsageError, match="with an adapter around its layers"):
        load_model(read_checkpoint(change(tiny_copy("bert"), spoil)))


@pytest.mark.parametrize(("dtype", "name"), [(torch.int8, "I8"), (torch.complex64, "C64")])
def test_weights_that_are_no_fractions_need_a_word_on_what_they_mean(tiny_copy, dtype: torch.dtype, name: str) -> None:
    def spoil(weights: Weights) -> None:
        weights[QUERY] = weights[QUERY].to(dtype)
        weights["embeddings.position_ids"] = torch.arange(66)[None]

    with pytest.raises(UsageError, match=f"'{QUERY}' is stored as {name}"):
        load_model(read_checkpoint(change(tiny_copy("bert"), spoil)))


def test_a_pooler_that_is_not_used_may_hold_anything(tiny_copy) -> None:
    load_model(read_checkpoint(change(tiny_copy("bert"), lambda w: w["pooler.dense.bias"].fill_(torch.nan))))


def test_an_attention_that_the_config_asks_for_is_not_looked_for(tiny_copy) -> None:
    folder = tiny_copy("bert")
    config = json.loads((folder / "config.json").read_text()) | {"_attn_implementation": "flash_attention_2"}
    (folder / "config.json").write_text(json.dumps(config))
    load_model(read_checkpoint(folder))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_act": "foo"}, "names 'foo'"),
        ({"intermediate_size": "32"}, "'intermediate_size' expected int, got str"),
        ({"num_attention_heads": 0}, "cannot be loaded"),
        ({"pad_token_id": 9999}, "cannot be loaded"),
    ],
)
def test_a_config_that_transformers_does_not_take_is_an_error_in_a_line(tiny_copy, changes: dict, said: str) -> None:
    folder = tiny_copy("bert")
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=said) as failure:
        load_model(read_checkpoint(folder))
    assert "\n" not in failure.value.problem


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"\xff" * 100])
def test_weights_that_cannot_be_read_are_refused(tiny_copy, content: bytes) -> None:
    folder = tiny_copy("bert")
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(UsageError, match=r"'model\.safetensors' cannot be loaded") as failure:
        load_model(read_checkpoint(folder))
    assert "\n" not in failure.value.problem


def test_weights_that_are_cut_off_are_refused(tiny_copy) -> None:
    file = tiny_copy("bert") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(UsageError, match=r"'model\.safetensors' cannot be loaded"):
        load_model(read_checkpoint(file.parent))


def test_pickled_weights_that_were_allowed_are_loaded(tiny_copy) -> None:
    folder = tiny_copy("bert")
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    model = load_model(read_checkpoint(folder, allow_pickle=True))
    torch.testing.assert_close(model.state_dict()[QUERY], weights[QUERY], rtol=0, atol=0)


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.file,)


def test_a_pickle_never_runs_code_even_where_it_was_allowed(tiny_copy, tmp_path: Path) -> None:
    folder = tiny_copy("bert")
    (folder / "model.safetensors").unlink()
    torch.save({QUERY: Trap(tmp_path / "trapped")}, folder / "pytorch_model.bin")
    with pytest.raises(UsageError, match="The checkpoint cannot be loaded"):
        load_model(read_checkpoint(folder, allow_pickle=True))
    assert not (tmp_path / "trapped").exists()
