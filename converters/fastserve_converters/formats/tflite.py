"""TFLite by litert-torch, and dynamic int8 by ai-edge-quantizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from fastserve_converters.artifact import Artifact, count_operators
from fastserve_converters.formats import ExportJob
from fastserve_converters.layer_map import ModulePaths, group_by_module, write_layer_map
from fastserve_runtime.manifest import ExpectedPlacement, Graph, Requirement

NAME = "tflite"
ENGINE = "litert"
TOOLS = (
    "torch",
    "transformers",
    "litert-torch",
    "litert-converter",
    "ai-edge-quantizer",
    "ai-edge-litert",
    "numpy",
)
MODULES = ("torch", "transformers", "litert_torch", "ai_edge_quantizer", "ai_edge_litert")
PRECISIONS: Mapping[str, str | None] = {"fp32": None, "int8-dynamic": "fp32"}

MODEL = "model.tflite"
SIGNATURE = "serving_default"
_LEAST_RUNTIME = "1.0"
"""The oldest release of ai-edge-litert; it ran both precisions of MiniLM right."""


def export(job: ExportJob) -> Artifact:
    """Write `model.tflite`; see `Format.export`."""
    if job.precision == "fp32":
        import litert_torch

        # Keyword arguments and a dictionary of outputs give the signature its names.
        litert_torch.convert(job.module, sample_kwargs=dict(job.example)).export(str(job.out / MODEL))
    else:
        _quantize_dynamic(job)
    return _describe(job)


def _quantize_dynamic(job: ExportJob) -> None:
    """Weights int8 per channel, activations int8 by what each call brings; embedding tables too."""
    from ai_edge_quantizer import quantizer, recipe

    assert job.base is not None
    tool = quantizer.Quantizer(str(job.base / MODEL))
    tool.load_quantization_recipe(recipe.dynamic_wi8_afp32())
    tool.quantize().export_model(str(job.out / MODEL), overwrite=True)


def _describe(job: ExportJob) -> Artifact:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    from fastserve_runtime.engines.litert import placed_operators

    content = (job.out / MODEL).read_bytes()
    counts = _operators(content)
    # Without delegates the tensors keep their names; with them the plan says what XNNPACK takes.
    plain = Interpreter(
        model_path=str(job.out / MODEL),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    paths = ModulePaths((name, type(m).__name__) for name, m in job.module.named_modules())
    names = [str(t["name"]) for t in plain.get_tensor_details()]
    write_layer_map(job.out, group_by_module((paths.find(name), name) for name in names))
    delegated = Interpreter(model_path=str(job.out / MODEL), num_threads=1)
    delegated.allocate_tensors()
    placed = placed_operators(delegated._get_ops_details())
    return Artifact(
        files=(MODEL,),
        graphs={"main": Graph(MODEL, SIGNATURE, job.signature)},
        operators=count_operators(counts),
        expected_placement=ExpectedPlacement("cpu", "XNNPACK", placed["XNNPACK"], sum(placed.values())),
        requires=Requirement(ENGINE, _LEAST_RUNTIME, ("XNNPACK",), ()),
    )


def _operators(content: bytes) -> Counter[tuple[str, str, int]]:
    """Count the operators of all subgraphs from the flatbuffer (schema.fbs), with their versions."""
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    model: Any = schema.Model.GetRootAs(content, 0)
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    counts: Counter[tuple[str, str, int]] = Counter()
    for g in range(model.SubgraphsLength()):
        graph = model.Subgraphs(g)
        for i in range(graph.OperatorsLength()):
            code = codes[graph.Operators(i).OpcodeIndex()]
            # Files for old runtimes keep small codes in the deprecated byte.
            value = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            custom = code.CustomCode()
            key = ("custom", custom.decode(), code.Version()) if custom else ("tflite", names[value], code.Version())
            counts[key] += 1
    return counts
