"""What engines, pipelines, kinds of preprocessing and targets of other packages are written with.

These names stay; modules behind them may move. Each comes with its module when it is first used (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastserve_runtime.faces import face

if TYPE_CHECKING:
    from fastserve_runtime.bundle.golden import Golden
    from fastserve_runtime.bundle.manifest import (
        ExpectedPlacement,
        Graph,
        Manifest,
        OperatorCount,
        Preprocessing,
        Requirement,
        Variant,
        parse_graphs,
    )
    from fastserve_runtime.bundle.task_checks import check_encoder, not_of_task
    from fastserve_runtime.bundle.tensor_specs import Signature, SymbolicDim, TensorSpec
    from fastserve_runtime.conformance.comparison import Comparison
    from fastserve_runtime.conformance.quality import Quality
    from fastserve_runtime.errors import BundleError, EnvironmentFailure, FastServeError, InputError, UsageError
    from fastserve_runtime.measurement.machine import Machine, this_machine
    from fastserve_runtime.measurement.measurement import Measurement, measurement_document, parse_measurement
    from fastserve_runtime.measurement.measuring import MeasuredModel, measured_model
    from fastserve_runtime.pipelines import Pipeline, PipelineModule
    from fastserve_runtime.pipelines._text_pipeline import TextPipeline
    from fastserve_runtime.pipelines._text_run import add_text_flags, given_samples, text_options
    from fastserve_runtime.preprocessors.kinds import Preprocessor, PreprocessorKind
    from fastserve_runtime.preprocessors.text import TextPreprocessor
    from fastserve_runtime.results import Results, Table, result_documents, result_table
    from fastserve_runtime.sessions.named_session import NamedSession
    from fastserve_runtime.sessions.session import Engine, ModelSource, Placement, Session
    from fastserve_runtime.sessions.workload import FirstTokenCall, OpenWorkload, Workload
    from fastserve_runtime.variants import usable_engine

__all__ = [
    "BundleError",
    "Comparison",
    "Engine",
    "EnvironmentFailure",
    "ExpectedPlacement",
    "FastServeError",
    "FirstTokenCall",
    "Golden",
    "Graph",
    "InputError",
    "Machine",
    "Manifest",
    "MeasuredModel",
    "Measurement",
    "ModelSource",
    "NamedSession",
    "OpenWorkload",
    "OperatorCount",
    "Pipeline",
    "PipelineModule",
    "Placement",
    "Preprocessing",
    "Preprocessor",
    "PreprocessorKind",
    "Quality",
    "Requirement",
    "Results",
    "Session",
    "Signature",
    "SymbolicDim",
    "Table",
    "TensorSpec",
    "TextPipeline",
    "TextPreprocessor",
    "UsageError",
    "Variant",
    "Workload",
    "add_text_flags",
    "check_encoder",
    "given_samples",
    "measured_model",
    "measurement_document",
    "not_of_task",
    "parse_graphs",
    "parse_measurement",
    "result_documents",
    "result_table",
    "text_options",
    "this_machine",
    "usable_engine",
]

__getattr__, __dir__ = face(
    __name__,
    "fastserve_runtime",
    {
        "bundle.golden": "Golden",
        "bundle.manifest": (
            "ExpectedPlacement Graph Manifest OperatorCount Preprocessing Requirement Variant parse_graphs"
        ),
        "bundle.tensor_specs": "Signature SymbolicDim TensorSpec",
        "bundle.task_checks": "check_encoder not_of_task",
        "conformance.comparison": "Comparison",
        "conformance.quality": "Quality",
        "errors": "BundleError EnvironmentFailure FastServeError InputError UsageError",
        "measurement.machine": "Machine this_machine",
        "measurement.measurement": "Measurement measurement_document parse_measurement",
        "measurement.measuring": "MeasuredModel measured_model",
        "pipelines": "Pipeline PipelineModule",
        "pipelines._text_pipeline": "TextPipeline",
        "pipelines._text_run": "add_text_flags given_samples text_options",
        "preprocessors.kinds": "Preprocessor PreprocessorKind",
        "preprocessors.text": "TextPreprocessor",
        "results": "Results Table result_documents result_table",
        "sessions.named_session": "NamedSession",
        "sessions.session": "Engine ModelSource Placement Session",
        "sessions.workload": "FirstTokenCall OpenWorkload Workload",
        "variants": "usable_engine",
    },
)
