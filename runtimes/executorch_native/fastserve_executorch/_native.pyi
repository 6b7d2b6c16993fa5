import os
from collections.abc import Sequence
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fastserve_executorch._types import Intermediate, MethodInfo, ProfileEvent

__version__: str
__executorch_version__: str

_Array: TypeAlias = npt.NDArray[Any]
_Input: TypeAlias = _Array | np.generic | float | bool | None

class Program:
    """An ExecuTorch program (.pte file), verified when opened.

    One thread at a time may use a program; a second one gets ``BusyError``. The GIL is released while methods load and
    run. Mutable buffers keep their contents from call to call. If a method fails at one of ExecuTorch's internal
    checks, its state is lost: the next run loads it anew.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes | bytearray | memoryview,
        *,
        threads: int | None = None,
        trace: bool = False,
        intermediates: bool = False,
    ) -> None:
        """Opens and verifies a program; methods are loaded when they first run.

        Args:
            source: A file, which is mapped into memory and must not be changed while the program is open, or its
                contents. Read-only contents are used in place; writable ones are copied.
            threads: None: those of the shared pool. 1: only the calling thread. More: the shared pool is changed to
                this size.
            trace: Whether to keep what `profile` tells.
            intermediates: Whether to keep what `intermediates` tells, too; slow.

        Raises:
            ExecutorchError: The program is damaged, or not one.
            OSError: The file cannot be read.
            BusyError: Loaded programs use the pool at another size.
        """
    @property
    def methods(self) -> dict[str, MethodInfo]:
        """The methods by name: inputs, outputs, backends and operators, without loading them."""
    @property
    def threads(self) -> int | None:
        """What the program was opened with."""
    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
    def load(self, method: str | None = None) -> None:
        """Loads a method, or all of them, ahead of its first run.

        Raises:
            ExecutorchError: For instance because a backend or operators are missing; the message names them, and for
                a backend what to do.
        """
    def run(self, method: str, inputs: Sequence[_Input], outputs: Sequence[_Array] | None = None) -> list[_Array]:
        """Runs a method and returns its outputs.

        Args:
            method: The method's name.
            inputs: Arrays of the method's types and shapes; numbers and None where the method takes these. Dense,
                aligned arrays are used in place.
            outputs: Arrays to write the outputs to, of the shapes that this run gives.

        Returns:
            The outputs: the given arrays, or new ones that belong to the caller. Outputs that are numbers come as
            arrays of no dimensions.

        Raises:
            ValueError: The method, or the number, type or shape of the arrays is wrong.
            ExecutorchError: ExecuTorch failed; the message has what it logged.
        """
    def reset(self, method: str | None = None) -> None:
        """Loads a method, or all loaded ones, anew: mutable buffers start afresh."""
    def close(self) -> None:
        """Frees all memory; the program cannot run any more."""
    def profile(self) -> list[ProfileEvent]:
        """What the last run did, for how long; needs ``trace=True``."""
    def intermediates(self) -> list[Intermediate]:
        """The tensors that the instructions of the last run wrote, in order; needs ``intermediates=True``.

        For a call to a delegate, which does not tell inputs from outputs, all its tensors are given.
        """
    def __enter__(self) -> Program: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

def available_backends() -> list[str]:
    """The delegates that can be used, by name: those that are built in, and those that were loaded."""

def available_operators() -> list[str]:
    """The operators that have kernels, by name."""

def get_threads() -> int:
    """The size of the pool of threads that all programs share."""

def set_threads(count: int) -> None:
    """Changes the size of the pool.

    Raises:
        BusyError: A program has methods loaded.
    """
