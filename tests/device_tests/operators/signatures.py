"""Which operators a model file has, with the types, the quantization and the settings that choose a kernel."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastserve_converters.formats.tflite.file import operators, read_model, type_name

_SETTINGS = {
    "fusedActivationFunction": "fused",
    "asymmetricQuantizeInputs": "asymmetric inputs",
    "adjX": "left transposed",
    "adjY": "right transposed",
    "approximate": "approximate",
}
"""Settings of TFLite operators by which kernels differ; those of shapes do not."""


def tflite_signatures(path: Path) -> set[str]:
    """Return a line for each kind of operator of a TFLite file."""
    model = read_model(path)
    return {_tflite_signature(model, graph, operator, name) for graph, operator, name in operators(model)}


def _tflite_signature(model: Any, graph: Any, operator: Any, name: str) -> str:
    inputs = ", ".join("none" if i < 0 else _tflite_tensor(model, graph.tensors[i]) for i in operator.inputs)
    outputs = ", ".join(_tflite_tensor(model, graph.tensors[i]) for i in operator.outputs)
    options = vars(operator.builtinOptions) if operator.builtinOptions is not None else {}
    settings = [f"{word} {options[field]}" for field, word in _SETTINGS.items() if options.get(field)]
    return f"{name}({inputs}) -> {outputs}" + "".join(f"; {setting}" for setting in settings)


def _tflite_tensor(model: Any, tensor: Any) -> str:
    quantization = tensor.quantization
    kind = type_name(tensor).lower()
    if quantization is not None and quantization.details is not None:
        kind += f" blocks of {quantization.details.blockSize}"
    elif quantization is not None and quantization.scale is not None and len(quantization.scale):
        kind += " by channel" if len(quantization.scale) > 1 else " by tensor"
    data = model.buffers[tensor.buffer]
    is_constant = (data.data is not None and len(data.data) > 0) or bool(data.offset)
    return f"constant {kind}" if is_constant else kind


def executorch_signatures(path: Path) -> set[str]:
    """Return a line for each kind of kernel call of an ExecuTorch program, and of each operator in its delegates."""
    from executorch.exir._serialize._program import deserialize_pte_binary

    program = deserialize_pte_binary(path.read_bytes()).program
    found = set()
    for plan in program.execution_plan:
        for chain in plan.chains:
            for instruction in chain.instructions:
                call = instruction.instr_args
                if type(call).__name__ == "KernelCall":
                    found.add(_kernel_signature(plan, call))
        for delegate in plan.delegates:
            data = program.backend_delegate_data[delegate.processed.index].data
            found |= set(xnnpack_signatures(bytes(data)))
    return found


def _kernel_signature(plan: Any, call: Any) -> str:
    operator = plan.operators[call.op_index]
    name = f"{operator.name}.{operator.overload}" if operator.overload else operator.name
    values = [plan.values[index].val for index in call.args]
    # Only tensors choose a kernel's code; the last of them is the one that is written.
    tensors = [value.scalar_type.name.lower() for value in values if type(value).__name__ == "Tensor"]
    return f"{name}({', '.join(tensors)})"


def xnnpack_signatures(blob: bytes) -> Iterator[str]:
    """Yield a line for each operator of a serialized XNNPACK graph."""
    graph = _xnnpack_graph(blob)
    values: dict[int, Mapping[str, Any]] = {}
    for entry in graph["xvalues"]:
        value = entry["xvalue_union"]
        tensor = value.get("tensor_value", value)
        values[tensor["id_out"]] = {**tensor, "quantization": value.get("quant_params_type")}
    for node in graph["xnodes"]:
        fields = node["xnode_union"]
        inputs = [values.get(fields[key]) for key in fields if key.endswith("_id") and key != "output_id"]
        given = ", ".join("none" if value is None else _xnnpack_value(value) for value in inputs)
        clamped = "; clamped" if node.get("output_min_max") else ""
        name = node["xnode_union_type"].removeprefix("XNN").lstrip("_")
        yield f"xnnpack {name}({given}) -> {_xnnpack_value(values[fields['output_id']])}{clamped}"


def _xnnpack_value(value: Mapping[str, Any]) -> str:
    kind = str(value["datatype"]).removeprefix("xnn_datatype_")
    return f"constant {kind}" if value.get("constant_buffer_idx") else kind


def _xnnpack_graph(blob: bytes) -> Any:
    from importlib.resources import files

    import executorch.backends.xnnpack.serialization as package
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader
    from executorch.exir._serialize._flatbuffer import _flatc_decompile

    header = XNNHeader.from_bytes(blob[: XNNHeader.EXPECTED_LENGTH])
    flatbuffer = blob[header.flatbuffer_offset : header.flatbuffer_offset + header.flatbuffer_size]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "graph.bin").write_bytes(flatbuffer)
        for schema in ("schema.fbs", "runtime_schema.fbs"):
            (place / schema).write_bytes(files(package).joinpath(schema).read_bytes())
        _flatc_decompile(folder, str(place / "schema.fbs"), str(place / "graph.bin"), ["--raw-binary"])
        text = (place / "graph.json").read_text()
    return json.loads(re.sub(r"(?<=[\s\[,])([+-]?)(inf|nan)(?=[\s\],])", "null", text))


SIGNATURES = {"tflite": tflite_signatures, "executorch": executorch_signatures}
