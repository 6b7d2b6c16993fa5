"""The NPU of Rockchip's RK3588 by the RKNN toolkit: its compiler, and its simulator for x86.

Floats are computed in fp16 there. The toolkit is Rockchip's and comes as binaries; it lives in an environment of its
own (`scripts/setup_rknn.sh`).

The simulator computes the whole model; where the chip would compute its layers is what the compiler tells. It leaves
the lookup of token ids to the chip's CPU, so a text model's placement is FELL_BACK. The toolkit can be told to put that
on the NPU, but then says NPU of any operator, also of those that it has only for the CPU.

Only `fp32` is taken: the toolkit makes its own fp16 of it, and version 2.5.0 ends with errors inside itself on files
whose floats are fp16 already and on those with QuantizeLinear and DequantizeLinear (`int8-static`); `a16w8` needs an
operator set that it does not read. It quantizes models itself, but then they are no longer the bundle's variants.

Its own artifact is an `.rknn` file, which the chip's runtime opens. The simulator executes none, only what the toolkit
has just compiled, so the portable file that it was made from is what is executed here.
"""

from __future__ import annotations

from pathlib import Path

from fastserve_device_tests.compilers.compiled import Compiled, graphs_in
from fastserve_device_tests.executors import rknn_simulator
from fastserve_device_tests.needs import Needs, separate_environment, set_up_folder
from fastserve_runtime.bundle.manifest import ExpectedPlacement, OperatorCount, Requirement, Variant
from fastserve_runtime.conformance.widths import HALF_ARITHMETIC

NAME = "onnx:rk3588"
PROCESSOR = "npu"
EXECUTED_BY = "simulator"
FORMAT = "onnx"
BACKEND = rknn_simulator.NPU
PRECISIONS = {"fp32": HALF_ARITHMETIC}
COMPILED_BY = ("rknn-toolkit2",)

_MODEL = "model.rknn"

HOME = "FASTSERVE_RKNN_HOME"
_ENGINE = rknn_simulator.RknnSimulator("rk3588")


def needs() -> Needs:
    """Return the toolkit's environment, in which this repository's packages are found too."""
    home = set_up_folder(HOME, "rknn")
    python = home / "bin" / "python"
    packages = home / "lib" / "python3.11" / "site-packages"
    return Needs(
        files=(
            (python, "the environment of Rockchip's RKNN toolkit", _ENGINE.INSTALL),
            (packages / "rknn", "Rockchip's RKNN toolkit", _ENGINE.INSTALL),
        ),
        environment=separate_environment(packages),
        interpreter=python,
    )


def engine(variant: Variant) -> rknn_simulator.RknnSimulator:  # noqa: ARG001 -- the same for every one
    """Return the toolkit, told which chip."""
    return _ENGINE


def compile_model(model: Path, variant: Variant, out: Path) -> Compiled:
    """Write an `.rknn` file; see `CompilingTarget.compile_model`."""
    placed = _ENGINE.write_compiled(model, out / _MODEL)
    taken = placed.get(BACKEND, 0)
    left = {name: count for name, count in placed.items() if name != BACKEND}
    sizes = {"bytes": (out / _MODEL).stat().st_size, "portable_bytes": model.stat().st_size}
    return Compiled(
        format=rknn_simulator.OWN_FORMAT,
        files=(_MODEL,),
        graphs=graphs_in(_MODEL, variant.graphs),
        operators=tuple(OperatorCount(_ENGINE.platform, name, 1, count) for name, count in sorted(placed.items())),
        expected_placement=ExpectedPlacement(PROCESSOR, BACKEND, taken, sum(placed.values())),
        requires=Requirement(_ENGINE.FAMILY, _ENGINE.version() or "", (), ()),
        report={"chip": _ENGINE.platform, "operators": {"npu": taken, "cpu": left}, **sizes},
    )
