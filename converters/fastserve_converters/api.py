"""What formats, lowerings, passes and tasks of other packages are written with.

These names stay; modules behind them may move. Each comes with its module when it is first used (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastserve_runtime.faces import face

if TYPE_CHECKING:
    from fastserve_converters.artifact import Artifact, count_operators
    from fastserve_converters.checkpoints.checkpoint import Checkpoint
    from fastserve_converters.checkpoints.model_loading import load_model
    from fastserve_converters.checkpoints.task import ModelOutput, Task
    from fastserve_converters.checkpoints.writing import write_checkpoint
    from fastserve_converters.data import Answers, ClassLabels, LabelSets, Numbers, Sample
    from fastserve_converters.formats import CachedExporter, ExportJob, Format, FormatWithIntermediates
    from fastserve_converters.inputs import GivenData, InputKind, LoadedCheckpoint, PreparedInputs
    from fastserve_converters.layer_map import IntermediateOutput, write_layer_map
    from fastserve_converters.lowerings import Lowered, Lowering
    from fastserve_converters.models.cached_part import CachedPart
    from fastserve_converters.models.traced_part import TracedPart
    from fastserve_converters.passes import Pass, PassJob, PassModule, PassReport
    from fastserve_converters.precisions import FP32, Precision, WeightScheme
    from fastserve_converters.quantization.evidence import record_layer_sqnr
    from fastserve_converters.recipe import Recipe

__all__ = [
    "FP32",
    "Answers",
    "Artifact",
    "CachedExporter",
    "CachedPart",
    "Checkpoint",
    "ClassLabels",
    "ExportJob",
    "Format",
    "FormatWithIntermediates",
    "GivenData",
    "InputKind",
    "IntermediateOutput",
    "LabelSets",
    "LoadedCheckpoint",
    "Lowered",
    "Lowering",
    "ModelOutput",
    "Numbers",
    "Pass",
    "PassJob",
    "PassModule",
    "PassReport",
    "Precision",
    "PreparedInputs",
    "Recipe",
    "Sample",
    "Task",
    "TracedPart",
    "WeightScheme",
    "count_operators",
    "load_model",
    "record_layer_sqnr",
    "write_checkpoint",
    "write_layer_map",
]

__getattr__, __dir__ = face(
    __name__,
    "fastserve_converters",
    {
        "artifact": "Artifact count_operators",
        "checkpoints.checkpoint": "Checkpoint",
        "checkpoints.model_loading": "load_model",
        "checkpoints.task": "ModelOutput Task",
        "checkpoints.writing": "write_checkpoint",
        "data": "Answers ClassLabels LabelSets Numbers Sample",
        "formats": "CachedExporter ExportJob Format FormatWithIntermediates",
        "inputs": "GivenData InputKind LoadedCheckpoint PreparedInputs",
        "layer_map": "IntermediateOutput write_layer_map",
        "lowerings": "Lowered Lowering",
        "models.cached_part": "CachedPart",
        "models.traced_part": "TracedPart",
        "passes": "Pass PassJob PassModule PassReport",
        "precisions": "FP32 Precision WeightScheme",
        "recipe": "Recipe",
        "quantization.evidence": "record_layer_sqnr",
    },
)
