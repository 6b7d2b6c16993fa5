"""A program of `torch.export` as a model: what it gives for samples, and its one traced part."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastserve_converters.inputs import DataFiles, GivenData, tensors
from fastserve_converters.inputs.tensors import Tensors
from fastserve_converters.models.calibration import MIN_SAMPLES, check_activations
from fastserve_converters.models.model import Model
from fastserve_converters.models.reference import INPUTS, OUTPUTS, write_reference
from fastserve_converters.models.samples import Samples, count, single_samples
from fastserve_converters.models.traced_part import TracedPart
from fastserve_converters.programs.archive import read_archive
from fastserve_converters.programs.layers import LayeredProgram, layered_program
from fastserve_converters.programs.loading import load_program
from fastserve_converters.programs.program_signature import signature_of_program
from fastserve_converters.quantized_weight import QuantizedWeight
from fastserve_runtime.bundle.tensor_specs import Signature
from fastserve_runtime.conformance.metrics import largest_error
from fastserve_runtime.errors import EnvironmentFailure, UsageError, one_line
from fastserve_runtime.sessions.sample_axes import as_call, as_samples

_TOLERANCE = 1e-6
_PROOF_SAMPLES = 16


class ProgramSource:
    """A program of `torch.export`; see `ModelSource`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def reference(self, request: Mapping[str, Any], out: Path) -> dict[str, Any]:
        """Run the program as it is on evaluation and golden samples; see `ModelSource`."""
        started = time.perf_counter()
        _ = self._program
        load_seconds = time.perf_counter() - started
        given = GivenData(DataFiles(tuple(Path(file) for file in request["data"])))
        samples = tensors.read(given, Tensors(self._signature))
        loaded = Tensors(self._signature, {} if samples else self._example_samples())
        divided = tensors.divide(samples, loaded, request["seed"])
        prepared = tensors.prepare(divided, loaded, out)
        outputs = self._run({name: value[:-1] for name, value in prepared.joined.items()}, divided.rows)
        zeros = self._of_zeros({name: value[-1:] for name, value in prepared.joined.items()})
        if zeros is None:
            prepared = prepared.without_last_golden()
        else:
            outputs = {name: np.concatenate([value, zeros[name]]) for name, value in outputs.items()}
        description = write_reference(out, replace(prepared, notes=(*self._notes(), *prepared.notes)), outputs, {})
        return {**description, "load_seconds": load_seconds}

    def model(self) -> Model:
        """Return the program with its layers as a model; see `ModelSource`."""
        return Model({self._part.name: self._part})

    def prove(self, reference: Path) -> float:
        """Compare the layered program with the outputs of the one that was given; see `ModelSource`."""
        with np.load(reference / INPUTS) as inputs, np.load(reference / OUTPUTS) as outputs:
            given, expected = ({n: a[n][:_PROOF_SAMPLES] for n in a.files} for a in (inputs, outputs))
        found = self._part.evaluate(given)
        largest = 0.0
        for name, values in expected.items():
            error = largest_error(np.asarray(values, np.float64), np.asarray(found[name], np.float64))
            largest = max(largest, error / max(1.0, float(np.abs(np.asarray(values, np.float64)).max(initial=0))))
        if not largest <= _TOLERANCE:
            raise EnvironmentFailure(
                f"The program whose layers were made again differs from the one that was given by {largest:.2g}.",
                "Please report it with the module.",
            )
        return largest

    def calibration(self, file: Path) -> Samples:
        """Return the samples that were kept for calibration; see `ModelSource`."""
        with np.load(file, allow_pickle=False) as arrays:
            samples = {name: arrays[name] for name in arrays.files}
        if count(samples) < MIN_SAMPLES:
            raise UsageError(
                f"There are {count(samples)} calibration samples; at least {MIN_SAMPLES} are needed.",
                "Give more samples: four of ten are used to calibrate.",
            )
        check_activations(self._part, samples)
        return samples

    def stored_weights(self) -> Mapping[str, QuantizedWeight]:
        """Refuse: a program has floats; see `ModelSource`."""
        from fastserve_converters.models.decoder.own_quantized_weights import no_quantized_weights

        raise no_quantized_weights()

    @cached_property
    def _archive(self) -> Any:
        return read_archive(self._path)

    @cached_property
    def _signature(self) -> Signature:
        return signature_of_program(self._archive)

    @cached_property
    def _program(self) -> torch.export.ExportedProgram:
        return load_program(self._archive)

    @cached_property
    def _layered(self) -> LayeredProgram:
        return layered_program(self._program, self._signature)

    @cached_property
    def _part(self) -> TracedPart:
        return TracedPart(
            module=self._layered, example=self._example(), signature=self._signature, keeps_axes=True, batch=1
        )

    def _example(self) -> dict[str, torch.Tensor]:
        """Return the inputs that the program was exported with.

        Raises:
            UsageError: it does not hold any.
        """
        leaves = torch.utils._pytree.tree_leaves(self._program.example_inputs or ())
        if len(leaves) != len(self._signature.inputs) or not all(isinstance(v, torch.Tensor) for v in leaves):
            raise UsageError("The program holds no example of its inputs.", "Export it again with torch.export.export.")
        return {spec.name: value.detach().cpu() for spec, value in zip(self._signature.inputs, leaves, strict=True)}

    def _example_samples(self) -> dict[str, NDArray[np.generic]]:
        specs = Signature((), self._signature.inputs)
        return as_samples({name: value.numpy() for name, value in self._example().items()}, specs)

    def _run(self, samples: Samples, rows: Sequence[int]) -> dict[str, NDArray[np.generic]]:
        """Run the program that was given on evaluation samples, followed by some of them again.

        Args:
            samples: one behind the other.
            rows: where each of the first ones stands in the user's data.

        Raises:
            UsageError: the program fails on a sample, or an output has values that are not finite; with its number.
        """
        found = []
        for number, sample in enumerate(single_samples(samples)):
            row = rows[number % len(rows)]
            try:
                outputs = self._outputs_of(sample)
            except (IndexError, RuntimeError) as error:  # such as an id that an embedding has no row for
                raise UsageError(
                    f"The model fails on sample {row}: {one_line(error)[:200]}.",
                    "Check that its values are ones that the model was trained on.",
                ) from error
            name = tensors.not_finite(outputs)
            if name is not None:
                raise UsageError(
                    f"The model's output '{name}' has values that are not finite on sample {row}.",
                    "Check the weights and what the samples hold.",
                )
            found.append(outputs)
        return {name: np.concatenate([outputs[name] for outputs in found]) for name in found[0]}

    def _of_zeros(self, sample: Samples) -> dict[str, NDArray[np.generic]] | None:
        """Return the outputs for a sample that no user gave; None where the model makes nothing finite of it."""
        try:
            outputs = self._outputs_of(sample)
        except (IndexError, RuntimeError):
            return None
        return None if tensors.not_finite(outputs) is not None else outputs

    def _outputs_of(self, sample: Samples) -> dict[str, NDArray[np.generic]]:
        call = as_call(sample, self._signature)
        leaves = [torch.from_numpy(call[spec.name]) for spec in self._signature.inputs]
        args, kwargs = torch.utils._pytree.tree_unflatten(leaves, self._program.call_spec.in_spec)
        with torch.no_grad():
            values = torch.utils._pytree.tree_leaves(self._original(*args, **kwargs))
        named = {s.name: v.numpy() for s, v in zip(self._signature.outputs, values, strict=True)}
        return as_samples(named, self._signature)

    @cached_property
    def _original(self) -> Any:
        return self._program.module(check_guards=False)

    def _notes(self) -> list[str]:
        notes = []
        version = self._archive.torch_version
        if version.partition("+")[0] != torch.__version__.partition("+")[0]:
            notes.append(f"The program was written by PyTorch {version}; it was read by {torch.__version__}.")
        return notes
