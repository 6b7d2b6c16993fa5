"""An ONNX Runtime without CUDA, or one that finds no device, never passes as CUDA."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest

from fastserve_device_tests.executors import onnx_cuda
from fastserve_runtime.errors import BundleError, EnvironmentFailure, UsageError

CPU = "CPUExecutionProvider"


class Session:
    """One that ONNX Runtime opened, with the providers that it could set up."""

    def __init__(self, providers: list[str]) -> None:
        self._providers = providers

    def get_providers(self) -> list[str]:
        return self._providers

    def end_profiling(self) -> str:
        return ""


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stands for ONNX Runtime on a machine with CUDA; `open` is what opening a model does."""
    asked: dict[str, Any] = {}

    def session(_source: bytes, _options: object, *, providers: list[Any], enable_fallback: int) -> Session:
        asked.update(providers=providers, enable_fallback=enable_fallback)
        return found.open()

    found = SimpleNamespace(
        SessionOptions=SimpleNamespace,
        InferenceSession=session,
        asked=asked,
        open=lambda: Session([onnx_cuda.PROVIDER, CPU]),
    )
    monkeypatch.setattr(onnx_cuda, "import_library", lambda: found)
    return found


def opened() -> Any:
    graphs: Mapping[str, Any] = {}
    return onnx_cuda.open_session(memoryview(b"model"), graphs, threads=1)


def test_floats_are_not_shortened_and_another_provider_is_no_way_out(library: Any) -> None:
    opened().close()
    (name, options), *_ = library.asked["providers"]
    assert (name, options["use_tf32"]) == ("CUDAExecutionProvider", "0")
    assert library.asked["enable_fallback"] == 0


def test_a_session_that_fell_back_to_the_cpu_is_no_cuda(library: Any) -> None:
    def without() -> Session:
        import os

        os.write(2, b"[E:onnxruntime] Failed to load library libcublasLt.so.13.\n")
        return Session([CPU])

    library.open = without
    with pytest.raises(EnvironmentFailure, match=r"cannot use CUDA: .*Failed to load library libcublasLt\.so\.13\. "):
        opened()


def test_a_driver_without_device_is_told_in_its_own_words(library: Any) -> None:
    def failing() -> Session:
        raise RuntimeError("/src/cuda_call.cc:129 CUDA failure 100: no CUDA-capable device is detected ; GPU=-1 ; host")

    library.open = failing
    with pytest.raises(EnvironmentFailure) as failure:
        opened()
    assert failure.value.problem == (
        "ONNX Runtime on CUDA cannot use CUDA: CUDA failure 100: no CUDA-capable device is detected."
    )


def test_a_model_that_is_refused_is_the_bundles_fault(library: Any) -> None:
    def refusing() -> Session:
        raise ValueError("protobuf parsing failed.")

    library.open = refusing
    with pytest.raises(BundleError, match=r"cannot load the model: protobuf parsing failed\."):
        opened()


def test_a_bare_file_is_refused() -> None:
    with pytest.raises(UsageError, match="does not open bare files"):
        onnx_cuda.open_session(memoryview(b"model"), None, threads=1)


@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="ONNX Runtime is not installed")
def test_an_onnx_runtime_without_cuda_names_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    with pytest.raises(EnvironmentFailure, match="This ONNX Runtime has no CUDA") as failure:
        onnx_cuda.import_library()
    assert onnx_cuda.INSTALL in failure.value.remedy
