"""Torch modules that are no checkpoint become bundles, from Python and from a program on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import fastserve
import fastserve_runtime
from command_line import fastserve_command
from fastserve_converters.programs.saving import save_program
from fastserve_runtime.bundle.tensor_specs import SymbolicDim
from fastserve_runtime.errors import UsageError
from torch_modules import TOWERS_EXAMPLE, Convolutional, Recurrent, TwoTowers, tower_samples

ALL = ("onnx", "tflite", "executorch")


def expected(module: torch.nn.Module, samples: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with torch.no_grad():
        return {n: v.numpy() for n, v in module.eval()(**{n: torch.from_numpy(v) for n, v in samples.items()}).items()}


def test_a_module_with_inputs_of_every_kind(tmp_path: Path, cache_dir: Path) -> None:
    torch.manual_seed(0)
    module, samples = TwoTowers().train(), tower_samples(48)
    bundle = tmp_path / "towers.fsb"
    result = fastserve.export(
        module,
        bundle,
        example=TOWERS_EXAMPLE,
        samples=samples,
        formats=["onnx"],
        precisions=["fp32", "int8-static"],
        keep="all",
        cache_dir=cache_dir,
    )
    assert module.training
    assert {c.id: c.failure for c in result.candidates} == {"onnx-fp32": None, "onnx-int8-static": None}
    by_id = {c.id: c.quality for c in result.candidates}
    assert by_id["onnx-fp32"].value == pytest.approx(1)
    assert 0.9 < by_id["onnx-int8-static"].value < 1
    with fastserve_runtime.load(bundle, variant="onnx-fp32") as pipeline:
        found = pipeline(samples)
        assert pipeline.task == "tensor-to-tensor"
    for name, values in expected(module, samples).items():
        np.testing.assert_allclose(found[name], values, atol=1e-5)
    assert found["is_match"].dtype == bool
    assert [v.detail for v in fastserve.verify(bundle).failures] == []


def test_a_program_on_the_command_line(tmp_path: Path, cache_dir: Path) -> None:
    axes = {"image": ("batch", "channels", "height", "width")}
    shapes = {"image": {2: 2 * torch.export.Dim("height", min=1, max=8)}}
    program, data, bundle = tmp_path / "halve.pt2", tmp_path / "images.npz", tmp_path / "halve.fsb"
    save_program(Convolutional(), {"image": torch.zeros(1, 3, 8, 8)}, program, dynamic_shapes=shapes, axes=axes)
    np.savez(data, image=np.random.default_rng(0).normal(size=(6, 3, 12, 8)).astype(np.float32))
    words = ["export", str(program), "-o", str(bundle), "--data", str(data), "--format", "onnx", "--json"]
    done = fastserve_command(*words, "--precision", "fp32,int8-dynamic", "--cache-dir", cache_dir)
    document = json.loads(done.stdout)
    assert (document["task"], document["model"], document["sequence_length"]) == ("tensor-to-tensor", "halve", None)
    float32, int8 = document["variants"]
    assert float32["failure"] is None
    assert "int8-dynamic would quantize nothing" in int8["failure"]
    manifest = fastserve.open_bundle(bundle).manifest
    (image,) = manifest.variants[0].graphs["main"].signature.inputs
    assert (image.axes, image.dims) == (axes["image"], (1, 3, SymbolicDim("height", 4, 16, 2), 8))
    shown = fastserve_command("run", bundle, data, "--output", tmp_path / "out.npz")
    assert "[6, 2, 12, 8]" in shown.stdout
    with np.load(tmp_path / "out.npz") as outputs:
        assert outputs["output"].shape == (6, 2, 12, 8)
    np.savez(data, image=np.zeros((1, 3, 11, 8), np.float32))
    refused = fastserve_command("run", bundle, data)
    assert "the model takes [1, 3, height 4..16 in steps of 2, 8]" in refused.stderr


def test_what_does_not_fit_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    for options, message in (
        ({"samples": {"image": np.zeros((2, 3, 9, 8))}}, "The samples do not fit the model's inputs. Sample 0"),
        ({"samples": {"picture": np.zeros((2, 3, 8, 8))}}, "Add: image"),
        ({"samples": {"image": np.array([{}])}}, "The samples of 'image' are object"),
        ({"sequence_length": 9}, "--seq-len was given, and a program takes tensors"),
        ({"task": "text-classification"}, "text-classification was asked for"),
        ({"targets": ["onnx:qnn-htp"]}, "--target was given"),
    ):
        with pytest.raises(UsageError, match=message):
            fastserve.export(Convolutional(), tmp_path / "a.fsb", example=torch.zeros(1, 3, 8, 8), **options)
    with pytest.raises(UsageError, match="example was given for a model in a file"):
        fastserve.export(tmp_path / "m.pt2", tmp_path / "a.fsb", example=torch.zeros(1))


@pytest.mark.slow
@pytest.mark.parametrize("module", [TwoTowers, Convolutional, Recurrent])
def test_every_format_takes_it(module: type[torch.nn.Module], tmp_path: Path, cache_dir: Path) -> None:
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    example, samples, axes = {
        TwoTowers: (TOWERS_EXAMPLE, tower_samples(48), None),
        Convolutional: (
            {"image": torch.zeros(1, 3, 8, 8)}, {"image": random.normal(size=(48, 3, 8, 8)).astype(np.float32)}, None,
        ),
        Recurrent: (
            {"series": torch.zeros(4, 1, 3)},
            {"series": random.normal(size=(48, 4, 3)).astype(np.float32)},
            {"series": ("time", "batch", "channels"), "output_1": ("layers", "batch", "channels")},
        ),
    }[module]  # fmt: skip
    result = fastserve.export(
        module(),
        tmp_path / "m.fsb",
        example=example,
        samples=samples,
        axes=axes,
        formats=ALL,
        precisions=["fp32"],
        keep="all",
        cache_dir=cache_dir,
    )
    assert {c.id: c.failure for c in result.candidates} == {f"{name}-fp32": None for name in ALL}
    assert all(c.quality.value == pytest.approx(1) for c in result.candidates)
    assert [v.detail for v in fastserve.verify(result.bundle).failures] == []
