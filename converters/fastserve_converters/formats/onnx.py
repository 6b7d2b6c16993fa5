"""ONNX by PyTorch's exporter, and dynamic int8 by ONNX Runtime's quantization tool.

The graph has operators of the standard domain alone, so that NPU and GPU targets can take it.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_converters.artifact import Artifact, count_operators
from fastserve_converters.formats import ExportJob
from fastserve_converters.layer_map import group_by_module, innermost_module, write_layer_map
from fastserve_runtime.manifest import ExpectedPlacement, Graph, Requirement

if TYPE_CHECKING:
    import onnx

NAME = "onnx"
ENGINE = "onnxruntime"
TOOLS = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "numpy")
MODULES = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")
PRECISIONS: Mapping[str, str | None] = {"fp32": None, "int8-dynamic": "fp32"}

MODEL = "model.onnx"
OPSET = 20
_SCOPES = "pkg.torch.onnx.name_scopes"
# First release that reads the IR version: https://onnxruntime.ai/docs/reference/compatibility.html
_LEAST_RUNTIME = {8: "1.14", 9: "1.17", 10: "1.18", 11: "1.22"}


def export(job: ExportJob) -> Artifact:
    """Write `model.onnx`; see `Format.export`."""
    if job.precision == "fp32":
        _export_fp32(job)
    else:
        _quantize_dynamic(job)
    return _describe(job)


def _export_fp32(job: ExportJob) -> None:
    import torch

    program = torch.onnx.export(
        job.program,
        (),
        kwargs=dict(job.example),
        dynamo=True,
        external_data=False,
        verbose=False,
        opset_version=OPSET,
        input_names=[t.name for t in job.signature.inputs],
        output_names=[t.name for t in job.signature.outputs],
    )
    assert program is not None
    model = program.model_proto
    modules = [name for name, _ in job.module.named_modules()]
    write_layer_map(job.out, group_by_module(_tensors_of_modules(model, modules)))
    # The exporter's notes hold stack traces with this machine's paths; the layer map has what is of use in them.
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
        value.doc_string = ""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    _save(model, job.out / MODEL)


def _quantize_dynamic(job: ExportJob) -> None:
    """Weights int8 per channel, activations int8 by what each call brings; embedding tables too."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    assert job.base is not None
    quantize_dynamic(str(job.base / MODEL), str(job.out / MODEL), per_channel=True, weight_type=QuantType.QInt8)
    source = (job.base / "layer_map.json").read_text()
    (job.out / "layer_map.json").write_text(source)


def _save(model: onnx.ModelProto, path: Path) -> None:
    path.write_bytes(model.SerializeToString(deterministic=True))


def _tensors_of_modules(model: onnx.ModelProto, modules: list[str]) -> list[tuple[str | None, str]]:
    pairs: list[tuple[str | None, str]] = []
    for node in model.graph.node:
        notes = {p.key: p.value for p in node.metadata_props}
        scopes = ast.literal_eval(notes[_SCOPES]) if _SCOPES in notes else []
        module = innermost_module((s for s in scopes if s), modules)
        pairs.extend((module, output) for output in node.output)
    pairs.extend((innermost_module([i.name.rpartition(".")[0]], modules), i.name) for i in model.graph.initializer)
    return pairs


def _describe(job: ExportJob) -> Artifact:
    import onnx

    model: Any = onnx.load(str(job.out / MODEL), load_external_data=False)
    opsets = {o.domain: o.version for o in model.opset_import}
    counts = Counter((n.domain or "ai.onnx", n.op_type, opsets[n.domain]) for n in model.graph.node)
    total = len(model.graph.node)
    return Artifact(
        files=(MODEL,),
        graphs={"main": Graph(MODEL, "main", job.signature)},
        operators=count_operators(counts),
        expected_placement=ExpectedPlacement("cpu", "CPUExecutionProvider", total, total),
        requires=Requirement(ENGINE, _LEAST_RUNTIME.get(model.ir_version, "1.22"), (), ()),
    )
