"""What the tests of targets share: a bundle of the few precisions that they need, and a way to spoil it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

import fastserve
from manifests import file_entries


@pytest.fixture(scope="session")
def onnx_bundle(tiny_bert: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small encoder in ONNX, in fp32 and a16w8. Do not write into it."""
    location = tmp_path_factory.mktemp("targets") / "tiny.fsb"
    result = fastserve.export(
        tiny_bert,
        location,
        formats=["onnx"],
        precisions=["fp32", "a16w8"],
        sequence_length=32,
        keep="all",
        cache_dir=cache_dir,
    )
    assert result.shipped == ("onnx-fp32", "onnx-a16w8")
    return location


@pytest.fixture(scope="session")
def spoil(onnx_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Copies the bundle with one variant's model altered, and its new digest in the manifest."""

    def spoiled(variant: str, *alterations: Callable[[onnx.ModelProto], None]) -> Path:
        location = tmp_path_factory.mktemp("spoiled") / "tiny.fsb"
        shutil.copytree(onnx_bundle, location)
        name = f"variants/{variant}/model.onnx"
        model = onnx.load(str(location / name))
        for alter in alterations:
            alter(model)
        content = model.SerializeToString()
        (location / name).write_bytes(content)
        manifest = json.loads((location / "manifest.json").read_text())
        manifest["files"] |= file_entries({name: content})
        (location / "manifest.json").write_text(json.dumps(manifest))
        return location

    return spoiled


@pytest.fixture(scope="session")
def negate_a_layer() -> Callable[[onnx.ModelProto], None]:
    """Turns the signs of a layer's int8 weights, from 32 inputs to 64 outputs."""

    def negate(model: onnx.ModelProto) -> None:
        weights = next(
            constant
            for constant in model.graph.initializer
            if constant.data_type == onnx.TensorProto.INT8 and list(constant.dims) == [32, 64]
        )
        weights.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weights), weights.name))

    return negate
