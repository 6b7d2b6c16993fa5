"""Core ML packages for Apple's CPUs, GPUs and NPUs: Core ML chooses among them on the device.

The converter runs on Linux; what it writes runs on Apple's systems alone. A package is a folder of several files.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastserve_converters.artifact import Artifact, count_operators
from fastserve_converters.formats import ExportJob
from fastserve_converters.layer_map import write_layer_map
from fastserve_converters.lowerings import Lowered
from fastserve_converters.precisions import Precision
from fastserve_runtime.bundle.manifest import ExpectedPlacement, Graph, Requirement

if TYPE_CHECKING:
    from pathlib import Path

    from fastserve_converters.models.model import TracedPart

TARGET = "coreml:all"
FORMAT = "coreml"
TOOLS = ("torch", "transformers", "coremltools", "numpy")
MODULES = ("torch", "transformers", "coremltools")

PRECISIONS: Mapping[str, Precision] = {
    "fp32": Precision(None, None, "float32"),
    "fp16": Precision(None, None, "float16"),
}

PACKAGE = "model.mlpackage"
_MODEL = f"{PACKAGE}/Data/com.apple.CoreML/model.mlmodel"
_MANIFEST = "Manifest.json"
_FUNCTION = "main"
_MIN_SYSTEM = "iOS17"
_NOT_COMPUTING = {"const"}


def lower(job: ExportJob[TracedPart]) -> Lowered:
    """Write `model.mlpackage`; see `Lowering.lower`."""
    import coremltools
    import torch

    from fastserve_converters.lowerings._executorch_backends import TRUSTED_FLOATS, compiling, in_pytorch, positional

    program = positional(job)
    is_half = job.precision_spec.activations == "float16"
    precision = coremltools.precision.FLOAT16 if is_half else coremltools.precision.FLOAT32
    with compiling(), torch.no_grad():
        model = coremltools.convert(
            program.run_decompositions({}),
            convert_to="mlprogram",
            compute_precision=precision,
            minimum_deployment_target=getattr(coremltools.target, _MIN_SYSTEM),
            # Without a type, outputs would be halves too.
            outputs=[
                coremltools.TensorType(spec.name, dtype=np.dtype(spec.dtype)) for spec in job.part.signature.outputs
            ],
            skip_model_load=True,
        )
        model.save(str(job.out / PACKAGE))
    _settle_identifiers(job.out / PACKAGE / _MANIFEST)
    write_layer_map(job.out, {})
    spec = model.get_spec()
    operators = _operators(spec)
    files = _files(job.out)
    total = sum(operators.values())
    return Lowered(
        artifact=Artifact(
            files=files,
            graphs={"main": Graph(_MODEL, _FUNCTION, job.part.signature)},
            operators=count_operators({(FORMAT, name, 1): count for name, count in operators.items()}),
            # Which processor takes what is decided on the device.
            expected_placement=ExpectedPlacement("npu", "Core ML", None, total),
            requires=Requirement(FORMAT, str(spec.specificationVersion), (), ("ios", "macos")),
        ),
        trusted=in_pytorch(program, job.part),
        trusted_executor=TRUSTED_FLOATS,
        report={
            "operators": dict(sorted(operators.items())),
            "specification": spec.specificationVersion,
            "min_system": _MIN_SYSTEM,
            "compute_precision": "float16" if is_half else "float32",
            "bytes": sum((job.out / name).stat().st_size for name in files),
        },
    )


def _settle_identifiers(manifest: Path) -> None:
    """Name a package's items by their paths: by random numbers, as they come, no two exports would be equal."""
    document = json.loads(manifest.read_text())
    items = document["itemInfoEntries"]
    names = {old: str(uuid.uuid5(uuid.NAMESPACE_URL, item["path"])).upper() for old, item in items.items()}
    document["itemInfoEntries"] = {names[old]: item for old, item in items.items()}
    document["rootModelIdentifier"] = names[document["rootModelIdentifier"]]
    manifest.write_text(json.dumps(document, indent=4, sort_keys=True))


def _operators(spec: Any) -> Counter[str]:
    """Count the operators of a package's program; constants are none."""
    counts: Counter[str] = Counter()
    for block in spec.mlProgram.functions[_FUNCTION].block_specializations.values():
        counts.update(operation.type for operation in block.operations if operation.type not in _NOT_COMPUTING)
    return counts


def _files(folder: Path) -> tuple[str, ...]:
    """Return the files of the package, the model first, relative to the folder."""
    data = {path.relative_to(folder).as_posix() for path in (folder / PACKAGE / "Data").rglob("*") if path.is_file()}
    return (_MODEL, f"{PACKAGE}/{_MANIFEST}", *sorted(data - {_MODEL}))
