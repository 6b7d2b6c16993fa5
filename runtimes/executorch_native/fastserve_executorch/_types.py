"""What programs tell about themselves and about their runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    import numpy as np
    import numpy.typing as npt


class ValueInfo(NamedTuple):
    """One input or output of a method."""

    position: int
    kind: str
    """``tensor``, ``int``, ``float``, ``bool``, ``string``, ``none`` or ``other``."""
    dtype: str | None
    """Numpy's name of a tensor's type, or ExecuTorch's (``bfloat16``) where numpy has none."""
    shape: tuple[int, ...]
    """A tensor's sizes; where they are dynamic, the upper bounds."""
    dynamism: str
    """``static``, ``bounded`` (each size may be smaller) or ``unbounded``. Which dimensions of a bounded tensor may
    really change is not recorded in the file: the operators find out."""
    dim_order: tuple[int, ...]
    """The dimensions as they lie in memory, outermost first. Other layouts are copied."""
    planned: bool
    """Whether the program has memory of its own for it, so that ExecuTorch copies it in or out."""
    name: str
    """The tensor's name in the model, mostly empty."""

    @property
    def dynamic(self) -> bool:
        """Whether the shape may differ from run to run."""
        return self.dynamism != "static"


class MethodInfo(NamedTuple):
    """What a method takes, gives and needs."""

    name: str
    inputs: tuple[ValueInfo, ...]
    outputs: tuple[ValueInfo, ...]
    backends: tuple[str, ...]
    """The delegates that the method calls."""
    operators: tuple[str, ...]
    """The operators that the method calls outside delegates."""
    calls: Mapping[str, int]
    """How many of the method's instructions call each delegate and each operator."""
    instructions: int
    planned_bytes: int
    """The memory that ExecuTorch sets aside for the method's tensors, without what delegates take."""


class ProfileEvent(NamedTuple):
    """Something that took time during a run. Events contain each other."""

    name: str
    """ExecuTorch's name, such as ``Method::execute``, ``DELEGATE_CALL`` or ``native_call_add.out``."""
    operator: str
    """The operator that the instruction called, or nothing."""
    backend: str
    """The delegate that the instruction called, or nothing."""
    chain: int
    instruction: int
    """The instruction's place in the method, or -1."""
    in_delegate: bool
    """Whether a delegate reported the event about its own work."""
    delegate_index: int
    """The delegate's number for it, or -1."""
    start: float
    """Microseconds since the run began."""
    microseconds: float


class Intermediate(NamedTuple):
    """A tensor that an operator wrote during a run."""

    name: str
    """The delegate's name for it, or nothing."""
    operator: str
    backend: str
    chain: int
    instruction: int
    in_delegate: bool
    delegate_index: int
    value: npt.NDArray[np.generic[Any]]
