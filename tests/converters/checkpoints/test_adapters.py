"""An adapter is merged as PEFT computes it, or refused with what to do; it is never passed over."""

from __future__ import annotations

import importlib.util
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fastserve_converters.checkpoints import adapters
from fastserve_converters.checkpoints.model_loading import load_with_notes
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_runtime.errors import UsageError

needs_peft = pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="the package peft is not installed")
CONFIG = {"peft_type": "LORA", "base_model_name_or_path": "organisation/base"}
IDS = torch.tensor([[2, 40, 41, 42, 3]])


def spoilt(folder: Path, **changes: Any) -> Path:
    """Put an adapter's files beside a checkpoint, which only look like ones."""
    (folder / adapters.CONFIG).write_text(json.dumps(CONFIG | changes))
    (folder / adapters.WEIGHTS[0]).write_text("weights")
    return folder


def test_a_folder_with_an_adapter_alone_names_its_base(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is an adapter alone \(LORA, trained on 'organisation/base'\)") as failure:
        read_checkpoint(spoilt(tmp_path))
    assert "merge_and_unload" in failure.value.remedy


def test_the_same_within_sentence_transformers_files(tmp_path: Path) -> None:
    folder = spoilt(tmp_path, base_model_name_or_path=None)
    modules = [
        {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    with pytest.raises(UsageError, match=r"an adapter alone \(LORA, trained on a model that it does not name\)"):
        read_checkpoint(folder)


def test_an_adapter_beside_a_config_without_weights_is_alone_too(folder) -> None:
    with pytest.raises(UsageError, match="is an adapter alone"):
        read_checkpoint(spoilt(folder(weights=None)))


def test_the_weights_of_an_adapter_without_its_config_are_refused(folder) -> None:
    root = spoilt(folder())
    (root / adapters.CONFIG).unlink()
    with pytest.raises(UsageError, match=f"'{adapters.WEIGHTS[0]}' without '{adapters.CONFIG}'"):
        read_checkpoint(root)


def test_adapters_in_folders_of_their_own_are_named(folder) -> None:
    root = folder()
    (root / "german").mkdir()
    spoilt(root / "german")
    assert "adapters in folders of their own, which were not read: german" in " ".join(read_checkpoint(root).notes)


@pytest.mark.parametrize("kind", ["PROMPT_TUNING", "PREFIX_TUNING", "XLORA"])
def test_an_adapter_that_is_more_than_weights_is_refused(folder, kind: str) -> None:
    with pytest.raises(UsageError, match=f"of the kind {kind}, which cannot be merged"):
        read_checkpoint(spoilt(folder(), peft_type=kind))


def test_an_adapter_of_another_library_is_refused(folder) -> None:
    with pytest.raises(UsageError, match="names no 'peft_type'"):
        read_checkpoint(spoilt(folder(), peft_type=None))


def test_an_adapter_without_weights_is_refused(folder) -> None:
    root = spoilt(folder())
    (root / adapters.WEIGHTS[0]).unlink()
    with pytest.raises(UsageError, match=r"without 'adapter_model\.safetensors'"):
        read_checkpoint(root)


def test_a_pickled_adapter_is_refused_unless_allowed(folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "find_spec", lambda _: object())
    root = spoilt(folder())
    (root / adapters.WEIGHTS[0]).rename(root / adapters.WEIGHTS[1])
    with pytest.raises(UsageError, match=r"'adapter_model\.bin' are a pickle"):
        read_checkpoint(root)
    assert read_checkpoint(root, allow_pickle=True).adapter is not None


def test_without_peft_it_is_said_what_to_do(folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match="the package peft, which would merge it, is not installed") as failure:
        read_checkpoint(spoilt(folder()))
    assert "merge_and_unload" in failure.value.remedy


@pytest.fixture
def adapted(tiny: Callable[..., Path], tmp_path: Path) -> Callable[..., tuple[Path, Any]]:
    """Makes a checkpoint with an adapter beside it; gives its folder and the model as PEFT runs it."""
    import peft
    import transformers

    def make(config: Any, *, classify: bool = False, family: str = "bert") -> tuple[Path, Any]:
        folder = shutil.copytree(tiny(family, classify=classify), tmp_path / "adapted")
        auto = transformers.AutoModelForSequenceClassification if classify else transformers.AutoModel
        model = auto.from_pretrained(str(folder), attn_implementation="eager")
        torch.manual_seed(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wrapped = peft.get_peft_model(model, config)
        with torch.no_grad():
            for name, parameter in wrapped.named_parameters():
                if any(part in name for part in ("lora_", "ia3_", "modules_to_save")):
                    parameter.normal_(0, 0.3)
        wrapped.eval().save_pretrained(tmp_path / "adapter")
        for name in (adapters.CONFIG, adapters.WEIGHTS[0]):
            shutil.copy(tmp_path / "adapter" / name, folder / name)
        return folder, wrapped

    return make


def lora(**settings: Any) -> Any:
    import peft

    return peft.LoraConfig(r=4, target_modules=["query", "value"], **settings)


@needs_peft
@pytest.mark.parametrize("settings", [{}, {"use_dora": True}, {"use_rslora": True, "lora_alpha": 3, "bias": "all"}])
def test_a_merged_adapter_computes_what_peft_does(adapted, tiny, settings: dict) -> None:
    folder, wrapped = adapted(lora(**settings))
    checkpoint = read_checkpoint(folder)
    loaded = load_with_notes(checkpoint)
    assert not any("lora" in name for name, _ in loaded.model.named_parameters())
    with torch.no_grad():
        expected = wrapped(input_ids=IDS).last_hidden_state
        torch.testing.assert_close(loaded.model(input_ids=IDS).last_hidden_state, expected, rtol=0, atol=1e-5)
        plain = load_with_notes(read_checkpoint(tiny("bert"))).model(input_ids=IDS).last_hidden_state
    assert float((plain - expected).abs().max()) > 0.1, "the adapter must change something"
    assert "was merged into them" in loaded.notes[0]
    assert checkpoint.weights_sha256() != read_checkpoint(tiny("bert")).weights_sha256()


@needs_peft
def test_ia3_is_merged_too(adapted) -> None:
    import peft

    folder, wrapped = adapted(peft.IA3Config(target_modules=["key", "value"], feedforward_modules=[]))
    with torch.no_grad():
        merged = load_with_notes(read_checkpoint(folder)).model(input_ids=IDS).last_hidden_state
        torch.testing.assert_close(merged, wrapped(input_ids=IDS).last_hidden_state, rtol=0, atol=1e-5)


@needs_peft
def test_a_head_that_the_adapter_brings_is_taken(adapted) -> None:
    folder, wrapped = adapted(lora(task_type="SEQ_CLS"), classify=True)
    with torch.no_grad():
        merged = load_with_notes(read_checkpoint(folder)).model(input_ids=IDS).logits
        torch.testing.assert_close(merged, wrapped(input_ids=IDS).logits, rtol=0, atol=1e-5)


@needs_peft
def test_a_base_without_the_head_that_the_adapter_brings(adapted, tiny_copy) -> None:
    folder, wrapped = adapted(lora(task_type="SEQ_CLS"), classify=True)
    file = folder / "model.safetensors"
    save_file({n: w for n, w in load_file(file).items() if "classifier" not in n}, file, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["BertForMaskedLM"]}
    (folder / "config.json").write_text(json.dumps(config))
    checkpoint = read_checkpoint(folder)
    assert checkpoint.task == "text-classification"
    with torch.no_grad():
        merged = load_with_notes(checkpoint).model(input_ids=IDS).logits
        torch.testing.assert_close(merged, wrapped(input_ids=IDS).logits, rtol=0, atol=1e-5)


@needs_peft
def test_an_adapter_of_another_model_is_refused(adapted) -> None:
    folder, _ = adapted(lora())
    file = folder / adapters.WEIGHTS[0]
    weights = {name.replace("layer.0", "layer.9"): w for name, w in load_file(file).items()}
    save_file(weights, file)
    with pytest.raises(UsageError, match=r"4 of the adapter's 8 weights have no place in the model"):
        load_with_notes(read_checkpoint(folder))


@needs_peft
def test_an_adapter_of_another_shape_is_refused(adapted) -> None:
    folder, _ = adapted(lora())
    file = folder / adapters.WEIGHTS[0]
    save_file({name: w[..., :3].contiguous() for name, w in load_file(file).items()}, file)
    with pytest.raises(UsageError, match=r"adapter \(LORA\) cannot be merged") as failure:
        load_with_notes(read_checkpoint(folder))
    assert "\n" not in failure.value.problem


@needs_peft
def test_an_adapter_that_lacks_weights_is_refused(adapted) -> None:
    folder, _ = adapted(lora())
    file = folder / adapters.WEIGHTS[0]
    save_file({name: w for name, w in load_file(file).items() if "query" not in name}, file)
    with pytest.raises(UsageError, match="lacks 4 weights that its config speaks of"):
        load_with_notes(read_checkpoint(folder))
