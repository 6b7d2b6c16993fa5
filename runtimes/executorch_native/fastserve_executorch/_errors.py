"""The exceptions of this package."""


class ExecutorchError(RuntimeError):
    """ExecuTorch refused something.

    Attributes:
        code: ExecuTorch's error code.
        name: The code's name, such as ``InvalidProgram``.
    """

    def __init__(self, message: str, code: int = 1, name: str = "Internal") -> None:
        super().__init__(message, code, name)
        self.code = code
        self.name = name

    def __str__(self) -> str:
        return str(self.args[0])


class BusyError(RuntimeError):
    """Something is in use by another thread, or by loaded programs, and cannot be used or changed now."""
