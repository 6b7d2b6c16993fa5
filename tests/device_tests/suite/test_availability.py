"""What a target lacks on a machine."""

from __future__ import annotations

import pytest

import fastserve_runtime.engines.onnxruntime as engine
from fastserve_device_tests.needs import Needs
from fastserve_device_tests.suite.availability import missing_of
from fastserve_device_tests.targets import load_target

ONNX = load_target("onnx:cpu")


def test_a_target_whose_engine_is_there_lacks_nothing() -> None:
    assert missing_of(ONNX) == {}


def test_an_engine_that_is_not_there_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "version", lambda: None)
    assert missing_of(ONNX) == {"an engine for onnx": "pip install onnxruntime"}


def test_what_the_target_itself_needs_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ONNX, "needs", lambda: Needs(files=((None, "the driver", "apt-get install driver"),)))
    assert missing_of(ONNX) == {"the driver": "apt-get install driver"}
