"""Arm's compiler for the Ethos-U NPUs of microcontrollers, Vela (https://gitlab.arm.com/artificial-intelligence/ethos-u).

It takes the operators that compute on integers out of a TFLite file, puts commands for the NPU in their place (the
custom operator `ethos-u`), and leaves all others to the microcontroller's CPU. Its figures are estimates of the NPU's
part alone, for a system of clocks and memories that is named with them: nothing is executed.
"""

from __future__ import annotations

import csv
import importlib
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fastserve_device_tests.compilers.compiled import ESTIMATES, Compiled, graphs_in
from fastserve_device_tests.compilers.tflite_shapes import with_fixed_shapes
from fastserve_device_tests.needs import Needs
from fastserve_runtime.bundle.manifest import ExpectedPlacement, Graph, OperatorCount, Requirement, Variant
from fastserve_runtime.bundle.tensor_specs import Dim, Signature
from fastserve_runtime.errors import BundleError, EnvironmentFailure

INSTALL = "pip install --no-deps ethos-u-vela==5.2.0 flatbuffers"
BACKEND = "Ethos-U"
PRECISIONS = {"int8-static": "int8-static", "a16w8": "a16w8"}
COMPILED_BY = ("ethos-u-vela", "ai-edge-litert")
_CUSTOM = "ethos-u"
_CONFIG = "Arm/vela.ini"
_MODEL = "model.tflite"
_KIBIBYTE = 1024
_MEMORIES = ("sram", "dram", "on_chip_flash", "off_chip_flash")
_logger = logging.getLogger(__name__)


def needs() -> Needs:
    """Return the compiler, and LiteRT, which tells the shapes; see `Target.needs`."""
    return Needs(modules={"ethosu": INSTALL, "ai_edge_litert": "pip install ai-edge-litert==2.3.0"})


@dataclass(frozen=True)
class EthosU:
    """One NPU in one system.

    Attributes:
        accelerator: the NPU and its number of multipliers, as Vela calls it.
        system: clocks and bandwidths, a section of Vela's own settings.
        memory: where weights and activations lie, likewise.
    """

    accelerator: str
    system: str
    memory: str

    def compile_model(self, model: Path, variant: Variant, out: Path) -> Compiled:
        """Compile a TFLite model of full length; see `CompilingTarget.compile_model`."""
        graphs = {name: _of_full_length(graph) for name, graph in variant.graphs.items()}
        main = next(iter(graphs.values()))
        shapes = {tensor.name: tuple(map(_size, tensor.dims)) for tensor in main.signature.inputs}
        fixed = out / _MODEL
        fixed.write_bytes(with_fixed_shapes(model, main.entry, shapes))
        before = operators_of(fixed)
        summary = self._compiled(fixed, out)
        after = operators_of(fixed)
        commands = sum(count for (domain, _, _), count in after.items() if domain == _CUSTOM)
        left = {key: count for key, count in after.items() if key[0] != _CUSTOM}
        total = sum(before.values())
        taken = total - sum(left.values())
        return Compiled(
            format=variant.format,
            files=(_MODEL,),
            graphs=graphs_in(_MODEL, graphs),
            operators=tuple(OperatorCount(*key, count) for key, count in sorted(after.items())),
            expected_placement=ExpectedPlacement("npu", BACKEND, taken, total),
            requires=Requirement("tflite-micro", "0", (self.accelerator,), ()),
            report={
                "chip": self.accelerator,
                "system": self.system,
                "memory": self.memory,
                "estimates_of": "the operators on the NPU alone",
                "operators": {"npu": taken, "cpu": _by_name(left)},
                "commands": commands,
                "bytes": fixed.stat().st_size,
                "portable_bytes": model.stat().st_size,
                ESTIMATES: estimates(summary),
            },
        )

    def _compiled(self, model: Path, out: Path) -> Mapping[str, str]:
        """Compile a file in its place, and return Vela's summary: name → value."""
        own = out / "vela"
        command = [
            *(sys.executable, "-m", "ethosu.vela", str(model), "--output-dir", str(own)),
            *("--accelerator-config", self.accelerator, "--config", _CONFIG),
            *("--system-config", self.system, "--memory-mode", self.memory),
        ]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        for line in (done.stdout + done.stderr).decode(errors="replace").splitlines():
            _logger.debug("%s", line)
        written, summaries = list(own.glob("*_vela.tflite")), list(own.glob("*_summary_*.csv"))
        if done.returncode or len(written) != 1 or len(summaries) != 1:
            raise BundleError(
                f"Vela cannot compile the model for {self.accelerator}: {_complaint(done)}.",
                "Give it a model whose layers compute in integers, such as int8-static.",
            )
        written[0].replace(model)
        with summaries[0].open(newline="") as file:
            (row,) = csv.DictReader(file)
        summaries[0].unlink()
        for file_left in own.iterdir():
            file_left.unlink()
        own.rmdir()
        return row


def estimates(summary: Mapping[str, str]) -> dict[str, float]:
    """Return what Vela reckons, from its summary: bytes in use of each memory, cycles, multiplications, and speed.

    Raises:
        EnvironmentFailure: a figure is missing, as in another version of Vela.
    """
    try:
        found: dict[str, float] = {
            f"{name}_bytes": round(float(summary[f"{name}_memory_used"]) * _KIBIBYTE) for name in _MEMORIES
        }
        found |= {"npu_cycles": round(float(summary["cycles_npu"])), "cycles": round(float(summary["cycles_total"]))}
        found["macs"] = round(float(summary["nn_macs"]))
        found["npu_inferences_per_second"] = float(summary["inferences_per_second"])
    except (KeyError, ValueError) as error:
        raise EnvironmentFailure(
            f"Vela's summary cannot be read: {error}.", f"Install the known one: {INSTALL}."
        ) from error
    return found


def operators_of(file: Path) -> dict[tuple[str, str, int], int]:
    """Return the operators of a TFLite file: (domain, name, version) → count. Custom ones are a domain of their own."""
    schema = importlib.import_module("ai_edge_litert.schema_py_generated")
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    model = schema.ModelT.InitFromPackedBuf(file.read_bytes(), 0)
    found: Counter[tuple[str, str, int]] = Counter()
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
            custom = (code.customCode or b"").decode()
            found[(custom or "tflite", custom or name, max(code.version, 1))] += 1
    return dict(found)


def _by_name(operators: Mapping[tuple[str, str, int], int]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for (_, name, _), count in operators.items():
        counts[name] += count
    return dict(sorted(counts.items()))


def _of_full_length(graph: Graph) -> Graph:
    """Return a graph with every open dimension at its most."""
    inputs, outputs = (
        tuple(replace(t, dims=tuple(map(_size, t.dims))) for t in tensors)
        for tensors in (graph.signature.inputs, graph.signature.outputs)
    )
    return Graph(graph.file, graph.entry, Signature(inputs, outputs))


def _size(dim: Dim) -> int:
    return dim if isinstance(dim, int) else dim.max


def _complaint(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return the last line that Vela printed."""
    lines = [x.strip() for x in (done.stdout + done.stderr).decode(errors="replace").splitlines() if x.strip()]
    return lines[-1].rstrip(".") if lines else f"it ended with exit code {done.returncode}"
