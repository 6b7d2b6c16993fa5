"""Torch modules that are no checkpoint become bundles, from Python and from a program on the command line."""

from __future__ import annotations

import json
import zipfile
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
from torch_modules import (
    TOWERS_EXAMPLE,
    Convolutional,
    Counting,
    Deciding,
    Elementwise,
    Finding,
    Logarithm,
    Recurrent,
    TwoTowers,
    tower_samples,
)

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
    ):
        with pytest.raises(UsageError, match=message):
            fastserve.export(Convolutional(), tmp_path / "a.fsb", example=torch.zeros(1, 3, 8, 8), **options)
    with pytest.raises(UsageError, match="example was given for a model in a file"):
        fastserve.export(tmp_path / "m.pt2", tmp_path / "a.fsb", example=torch.zeros(1))


EXAMPLE = torch.ones(1, 4)


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (Deciding(), {}, r"decides by the values of its inputs at torch_modules\.py:\d+ in forward: if x\.sum\(\) > 0"),
        (Counting(), {}, r"decides by the values of its inputs at torch_modules\.py:\d+ in forward: return x\["),
        (Finding(), {}, "The output 'output' has a size that depends on the values of the inputs"),
        (
            torch.nn.Linear(4, 2),
            {"dynamic_shapes": {"input": {0: torch.export.Dim("rows", max=8)}}},
            "The axis 'rows' was to stay open, and tracing fixed it at 1",
        ),
        (
            torch.nn.Linear(4, 2),
            {"dynamic_shapes": {"input": {0: torch.export.Dim("rows")}}, "example": torch.ones(2, 4)},
            "The axis 'batch' of the input 'input' is open without an upper bound",
        ),
        (torch.nn.Linear(4, 2), {"samples": {"input": [[1, 2], [3]]}}, "The samples of 'input' are no array"),
        (torch.nn.Linear(4, 2), {"samples": np.zeros((3, 4))}, "The samples were given as ndarray"),
        (torch.nn.Linear(4, 2), {"samples": "nowhere.npz"}, "There is no file of samples 'nowhere.npz'"),
        (torch.nn.Linear(4, 2), {"samples": {"input": np.full((3, 4), np.nan)}}, "values that are not finite"),
    ],
)
def test_a_module_that_cannot_be_traced_or_fed_is_refused(module, options, message, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        fastserve.export(module, tmp_path / "a.fsb", **{"example": EXAMPLE, **options})


def test_what_fails_on_a_sample_is_refused_with_its_number(tmp_path: Path, cache_dir: Path) -> None:
    samples, ids = np.ones((6, 4), np.float32), tower_samples(6)
    samples[2, 1] = -1  # one by which quality would be judged
    ids["user"][2] = 50
    options = {"formats": ["onnx"], "precisions": ["fp32"], "cache_dir": cache_dir}
    with pytest.raises(UsageError, match="output 'logarithm' has values that are not finite on sample 2"):
        fastserve.export(Logarithm(), tmp_path / "a.fsb", example=EXAMPLE, samples={"x": samples}, **options)
    with pytest.raises(UsageError, match="The model fails on sample 2: index out of range"):
        fastserve.export(TwoTowers(), tmp_path / "b.fsb", example=TOWERS_EXAMPLE, samples=ids, **options)


def test_a_program_of_another_release_of_pytorch(tmp_path: Path, cache_dir: Path) -> None:
    path, options = tmp_path / "m.pt2", {"formats": ["onnx"], "precisions": ["fp32"], "cache_dir": cache_dir}
    save_program(torch.nn.Linear(4, 2), EXAMPLE, path)
    rewrite(path, torch_version="2.9.0")
    result = fastserve.export(path, tmp_path / "a.fsb", **options)
    assert f"The program was written by PyTorch 2.9.0; it was read by {torch.__version__}." in result.notes
    rewrite(path, torch_version="9.1.0", schema_version={"major": 9, "minor": 0})
    with pytest.raises(UsageError, match=r"PyTorch 9\.1\.0 with the schema version 9 .* this release reads 8"):
        fastserve.export(path, tmp_path / "b.fsb", **options)


def rewrite(path: Path, **fields: object) -> None:
    """Change fields of a program's document."""
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: archive.read(member) for member in archive.infolist()}
    (name,) = (name for name in members if name.endswith("models/model.json"))
    members[name] = json.dumps(json.loads(members[name]) | fields).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)


def test_precisions_that_cannot_be_judged_or_quantize_nothing_are_said(tmp_path: Path, cache_dir: Path) -> None:
    series = np.random.default_rng(0).normal(size=(48, 4, 3)).astype(np.float32)
    axes = {"series": ("time", "batch", "channels"), "output_1": ("layers", "batch", "channels")}
    with pytest.raises(UsageError, match=r"int8-static cannot be judged: .* the axes of 'series' are time, batch, ch"):
        fastserve.export(
            Recurrent(),
            tmp_path / "a.fsb",
            example=torch.zeros(4, 1, 3),
            samples={"series": series},
            axes=axes,
            formats=["onnx"],
            precisions=["fp32", "int8-static"],
        )
    with pytest.raises(UsageError, match=r"What is made for executorch:vulkan is compared sample by sample"):
        fastserve.export(
            Recurrent(),
            tmp_path / "a.fsb",
            example=torch.zeros(4, 1, 3),
            axes=axes,
            formats=["onnx"],
            precisions=["fp32"],
            targets=["executorch:vulkan"],
        )
    result = fastserve.export(
        Elementwise(),
        tmp_path / "b.fsb",
        example=EXAMPLE,
        samples={"x": np.random.default_rng(0).normal(size=(48, 4)).astype(np.float32)},
        formats=["onnx"],
        precisions=["fp32", "int8-static"],
        cache_dir=cache_dir,
    )
    failures = {c.precision: c.failure for c in result.candidates}
    assert failures["fp32"] is None
    assert "int8-static would quantize nothing" in failures["int8-static"]


def test_the_layers_of_a_program_are_compared_with_it(tmp_path: Path, cache_dir: Path) -> None:
    torch.manual_seed(0)
    program, bundle = tmp_path / "towers.pt2", tmp_path / "towers.fsb"
    save_program(TwoTowers(), TOWERS_EXAMPLE, program)
    np.savez(tmp_path / "samples.npz", **tower_samples(48))
    options = {"formats": ["onnx"], "precisions": ["fp32"], "cache_dir": cache_dir}
    fastserve.export(program, bundle, data=[tmp_path / "samples.npz"], **options)
    done = fastserve_command("bisect", bundle, "--reference", program, "--json", "--cache-dir", cache_dir)
    document = json.loads(done.stdout)
    names = {layer["module"] for layer in document["layers"]}
    assert {"program.user.0", "program.item.2"} <= names, document


def test_a_targets_artifact_of_a_program(tmp_path: Path, cache_dir: Path) -> None:
    torch.manual_seed(0)
    images = np.random.default_rng(0).normal(size=(24, 3, 8, 8)).astype(np.float32)
    result = fastserve.export(
        Convolutional(),
        tmp_path / "m.fsb",
        example=torch.zeros(1, 3, 8, 8),
        samples={"image": images},
        formats=["onnx"],
        precisions=["fp32", "fp16"],
        targets=["executorch:vulkan"],
        keep="all",
        cache_dir=cache_dir,
    )
    assert {c.id: c.failure for c in result.candidates} == dict.fromkeys(
        ["onnx-fp32", "onnx-fp16", "executorch-vulkan-fp32", "executorch-vulkan-fp16"]
    )


@pytest.mark.slow
def test_ids_of_64_bits_are_rounded_beside_in_tflite(tmp_path: Path, cache_dir: Path) -> None:
    torch.manual_seed(0)
    result = fastserve.export(
        TwoTowers(),
        tmp_path / "m.fsb",
        example=TOWERS_EXAMPLE,
        samples=tower_samples(48),
        formats=["tflite"],
        precisions=["int8-dynamic", "int8-static"],
        keep="all",
        cache_dir=cache_dir,
    )
    assert [c.failure for c in result.candidates if c.precision != "fp32"] == [None, None]


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
