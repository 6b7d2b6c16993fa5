"""What targets of other packages are written with.

These names stay; modules behind them may move. Each comes with its module when it is first used (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastserve_runtime.faces import face

if TYPE_CHECKING:
    from fastserve_device_tests.compilers.compiled import ESTIMATES, Compiled, graphs_in
    from fastserve_device_tests.executors.not_opened import nothing_executes
    from fastserve_device_tests.needs import Needs, separate_environment
    from fastserve_device_tests.processes.native_words import native_words
    from fastserve_device_tests.targets import CompilingTarget, Target

__all__ = [
    "ESTIMATES",
    "Compiled",
    "CompilingTarget",
    "Needs",
    "Target",
    "graphs_in",
    "native_words",
    "nothing_executes",
    "separate_environment",
]

__getattr__, __dir__ = face(
    __name__,
    "fastserve_device_tests",
    {
        "compilers.compiled": "Compiled ESTIMATES graphs_in",
        "executors.not_opened": "nothing_executes",
        "needs": "Needs separate_environment",
        "processes.native_words": "native_words",
        "targets": "CompilingTarget Target",
    },
)
