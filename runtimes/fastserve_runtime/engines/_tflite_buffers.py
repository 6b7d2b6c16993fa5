"""The tensors of a TFLite interpreter as arrays, written and read in place."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastserve_runtime.errors import UsageError

if TYPE_CHECKING:
    from fastserve_runtime.sessions.named_session import NamedSession
    from fastserve_runtime.sessions.session import Tensor, Tensors


class BorrowedTensors:
    """An interpreter's inputs and outputs of certain shapes, until they are given back; see `Session.borrow`.

    TFLite plans the memory of all tensors by their shapes, so that other shapes are other places.
    """

    def __init__(
        self,
        session: NamedSession,
        graph: str,
        interpreter: Any,
        inputs: Mapping[str, int],
        outputs: Mapping[str, int],
        shapes: Mapping[str, tuple[int, ...]],
        give_back: Callable[[], None],
    ) -> None:
        """Give the inputs these shapes; the session must be in use, and nothing else hold on to the interpreter.

        Args:
            session: whose turn a run takes.
            graph: which of its graphs.
            interpreter: the library's.
            inputs: name → index of the tensor.
            outputs: likewise.
            shapes: of inputs; others stay as they are.
            give_back: called at the end.
        """
        for name, shape in shapes.items():
            interpreter.resize_tensor_input(inputs[name], shape)
        interpreter.allocate_tensors()
        self.inputs: Tensors = {name: _array(interpreter, index) for name, index in inputs.items()}
        self.outputs: Tensors = {name: _array(interpreter, index) for name, index in outputs.items()}
        self._session = session
        self._graph = graph
        self._interpreter = interpreter
        self._give_back: Callable[[], None] | None = give_back

    def run(self) -> Tensors:
        """Run on what is in `inputs` and return `outputs`; see `Binding.run`."""
        self._session.check_values(self._graph, self.inputs)
        with self._session._in_use():
            if self._give_back is None:
                raise UsageError("The session was used for something else since.", "Borrow buffers again.")
            self._interpreter.invoke()
        return self.outputs

    def replace(self, inputs: Tensors) -> None:  # noqa: ARG002 -- the seam's
        """Refuse: the engine's own buffers are what was borrowed."""
        raise UsageError("Borrowed buffers cannot be replaced by others.", "Borrow some of the wanted shapes.")

    def end(self) -> None:
        """Tell that the arrays go."""
        if self._give_back is not None:
            give_back, self._give_back = self._give_back, None
            give_back()
            self._interpreter = None


def _array(interpreter: Any, index: int) -> Tensor:
    """Return a tensor's memory as an array, which keeps the interpreter alive.

    An array of the interpreter's own would make it refuse to run as long as that is there.
    """
    own = interpreter.tensor(index)()
    memory = (ctypes.c_char * own.nbytes).from_address(own.ctypes.data)
    memory._owner = interpreter
    return np.frombuffer(memory, own.dtype).reshape(own.shape)
