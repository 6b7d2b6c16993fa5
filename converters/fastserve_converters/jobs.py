"""The jobs that a converter process does, as JSON in and JSON out. Loaded models are kept between jobs."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_converters.checkpoint import Checkpoint, read_checkpoint
from fastserve_converters.data import read_samples, split_samples
from fastserve_converters.formats import ExportJob, check_installed, check_precision
from fastserve_runtime.manifest import Signature, TensorSpec, signature_document

if TYPE_CHECKING:
    import torch

    from fastserve_converters.edge_form import EdgeForm

PROGRAM = "program.pt2"
ARTIFACT = "artifact.json"
SIGNATURE = "signature.json"
_PROOF_SAMPLES = 16


class Jobs:
    """Does jobs on one model after another.

    A job is an object with `job` (`reference`, `program` or `artifact`), `source` (how to load the model) and `out`
    (an empty folder); its answer is the stage's result, which is also written to that folder.
    """

    def __init__(self) -> None:
        self._source: Mapping[str, Any] | None = None
        self._model: torch.nn.Module | None = None
        self._edge_form: EdgeForm | None = None
        self._program: torch.export.ExportedProgram | None = None

    def run(self, request: Mapping[str, Any]) -> Any:
        """Do one job.

        Raises:
            FastServeError: what the model or the machine does not allow.
        """
        handlers = {"reference": self._reference, "program": self._export_program, "artifact": self._artifact}
        if request["source"] != self._source:
            self._source, self._model, self._edge_form, self._program = request["source"], None, None, None
        out = Path(request["out"])
        out.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return handlers[request["job"]](request, out)

    def _reference(self, request: Mapping[str, Any], out: Path) -> Any:
        from fastserve_converters.reference import build_reference

        source = request["source"]
        checkpoint = self._checkpoint(source)
        started = time.perf_counter()
        model = self._loaded(source)
        load_seconds = time.perf_counter() - started
        samples = read_samples(
            [Path(f) for f in request["data"]],
            text_column=request["text_column"],
            label_column=request["label_column"],
            labels=checkpoint.labels,
        )
        split = split_samples(samples, request["seed"])
        description = build_reference(out, checkpoint, model, split, source["sequence_length"])
        return {**description, "load_seconds": load_seconds}

    def _export_program(self, request: Mapping[str, Any], out: Path) -> Any:
        """Export the edge form, after proving it equal to the original on the reference's own inputs."""
        import numpy as np
        import torch

        from fastserve_converters.edge_form import prove_equal
        from fastserve_converters.reference import INPUTS, OUTPUTS

        source = request["source"]
        edge_form = self._edge(source)
        folder = Path(request["reference"])
        with np.load(folder / INPUTS) as inputs, np.load(folder / OUTPUTS) as outputs:
            # Spread over the evaluation texts, and the goldens at the end with their extremes.
            count = len(inputs["input_ids"])
            rows = sorted({int(i) for i in np.linspace(0, count - 1, _PROOF_SAMPLES)} | set(range(count - 4, count)))
            tensors = {name: torch.from_numpy(inputs[name][rows]) for name in inputs.files}
            expected = torch.from_numpy(outputs[edge_form.output][rows])
        difference = prove_equal(edge_form, tensors, expected)
        program = self._exported(source)
        torch.export.save(program, out / PROGRAM)
        signature = signature_of(edge_form, source["sequence_length"])
        document = {
            **signature_document(signature),
            "largest_difference": difference,
            "modules": [[name, type(module).__name__] for name, module in edge_form.named_modules()],
        }
        (out / SIGNATURE).write_text(json.dumps(document))
        return document

    def _artifact(self, request: Mapping[str, Any], out: Path) -> Any:
        exporter = check_installed(request["format"])
        check_precision(exporter, request["precision"])
        source = request["source"]
        example = example_inputs(source["sequence_length"])
        edge_form = self._edge(source)
        job = ExportJob(
            module=edge_form,
            program=self._exported(source),
            signature=signature_of(edge_form, source["sequence_length"]),
            example=example,
            precision=request["precision"],
            base=Path(request["base"]) if request.get("base") else None,
            out=out,
        )
        document = exporter.export(job).as_document()
        (out / ARTIFACT).write_text(json.dumps(document))
        return document

    def _checkpoint(self, source: Mapping[str, Any]) -> Checkpoint:
        checkpoint = read_checkpoint(
            Path(source["path"]),
            task=source["task"],
            allow_pickle=source["allow_pickle"],
            trust_remote_code=source["trust_remote_code"],
        )
        checkpoint.check_length(source["sequence_length"])
        return checkpoint

    def _loaded(self, source: Mapping[str, Any]) -> torch.nn.Module:
        """Return the untouched model. Making the edge form uses it up."""
        from fastserve_converters.model_loading import load_model

        if self._model is None:
            self._model = load_model(self._checkpoint(source), trust_remote_code=source["trust_remote_code"])
        return self._model

    def _edge(self, source: Mapping[str, Any]) -> EdgeForm:
        from fastserve_converters.edge_form import build_edge_form

        if self._edge_form is None:
            model, self._model = self._loaded(source), None
            self._edge_form = build_edge_form(model, self._checkpoint(source), source["sequence_length"])
        return self._edge_form

    def _exported(self, source: Mapping[str, Any]) -> torch.export.ExportedProgram:
        import torch

        if self._program is None:
            example = example_inputs(source["sequence_length"])
            self._program = torch.export.export(self._edge(source), (), example)
        return self._program


def example_inputs(length: int) -> dict[str, torch.Tensor]:
    """Return inputs of the exported shape: half text, half padding, so that no export folds the mask away."""
    import torch

    mask = torch.ones(1, length, dtype=torch.float32)
    mask[:, (length + 1) // 2 :] = 0.0
    return {"input_ids": torch.ones(1, length, dtype=torch.int32), "attention_mask": mask}


def signature_of(edge_form: EdgeForm, length: int) -> Signature:
    """Return the named inputs and outputs of an encoder in edge form."""
    import torch

    with torch.no_grad():
        dims = tuple(edge_form(**example_inputs(length))[edge_form.output].shape)
    inputs = (
        TensorSpec("input_ids", "int32", (1, length)),
        TensorSpec("attention_mask", "float32", (1, length)),
    )
    return Signature(inputs, (TensorSpec(edge_form.output, "float32", dims),))
