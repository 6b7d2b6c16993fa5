"""Copies of bundles whose model files were changed, with manifests that know the changed files."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastserve_runtime.bundle.canonical_json import canonical_json

Change = Callable[[bytes], bytes]


def faulty_copy(bundle: Path, location: Path, variant: str, change: Change) -> Path:
    """Copy a bundle, which is a directory, and change the model file of a variant."""
    shutil.copytree(bundle, location)
    document = json.loads((location / "manifest.json").read_bytes())
    (file,) = next(v for v in document["variants"] if v["id"] == variant)["files"]
    content = change((location / file).read_bytes())
    (location / file).write_bytes(content)
    document["files"][file] |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (location / "manifest.json").write_bytes(canonical_json(document))
    return location


def in_onnx(change: Callable[[Any], None]) -> Change:
    """Return what changes an ONNX file as a `ModelProto`."""
    import onnx

    def changed(content: bytes) -> bytes:
        model = onnx.load_model_from_string(content)
        change(model)
        return bytes(model.SerializeToString())

    return changed


def onnx_node(model: Any, name: str) -> Any:
    """The node of a name, or the one that gives a tensor of it."""
    return next(n for n in model.graph.node if n.name == name or name in n.output)


def change_constant(model: Any, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Replace a constant's values."""
    from onnx import numpy_helper

    constant = next(c for c in model.graph.initializer if c.name == name)
    values = np.array(numpy_helper.to_array(constant))
    constant.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(change(values)).astype(values.dtype), name))


def in_tflite(change: Callable[[Any], None]) -> Change:
    """Return what changes a TFLite file as a `ModelT`."""
    from ai_edge_litert.tools import flatbuffer_utils

    def changed(content: bytes) -> bytes:
        model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
        change(model)
        return bytes(flatbuffer_utils.convert_object_to_bytearray(model))

    return changed


def tflite_operator(model: Any, output: str) -> Any:
    """The operator that gives a tensor."""
    (graph,) = model.subgraphs
    return next(o for o in graph.operators if graph.tensors[o.outputs[0]].name == output.encode())


def in_place(old: np.ndarray, new: np.ndarray) -> Change:
    """Return what replaces an array's bytes, which are there once."""
    old_bytes, new_bytes = (np.ascontiguousarray(a).tobytes() for a in (old, new))

    def changed(content: bytes) -> bytes:
        assert content.count(old_bytes) == 1
        return content.replace(old_bytes, new_bytes)

    return changed
