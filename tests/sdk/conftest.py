"""Builders that the SDK's tests share: candidates, manifests and small hand-made bundles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from candidates import build_candidate, build_measurement
from fastserve.bundles.bundle_writer import BundleFile, write_bundle
from fastserve.search.candidate import Candidate
from fastserve_runtime.measurement.measurement import Measurement, measurement_document

# No deadlines, since other work may go on; the same examples in every run, kept nowhere.
settings.register_profile(
    "repeatable", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")

MODEL = b"model " * 50
TOKENIZER = b"{}"


def build_manifest(*variants: str) -> dict[str, Any]:
    names = variants or ("onnx-fp32",)
    return {
        "schema_version": "1.0",
        "task": "feature-extraction",
        "task_settings": {},
        "preprocessing": {
            "kind": "tokenizer",
            "files": ["preprocessing/tokenizer.json"],
            "settings": {"sequence_length": 8, "pad_id": 0, "pad_token": "[PAD]"},
        },
        "variants": [_variant(name) for name in names],
        "chosen": names[0],
        "source": {"name": "tiny", "revision": None, "weights_sha256": "0" * 64, "licence": "mit"},
    }


def _variant(name: str) -> dict[str, Any]:
    file = f"variants/{name}/{name}.bin"
    format_name, _, precision = name.partition("-")
    return {
        "id": name,
        "recipe": {},
        "format": format_name,
        "precision": precision,
        "files": [file],
        "golden": None,
        "graphs": {
            "main": {
                "file": file,
                "entry": "main",
                "inputs": [
                    {"name": "input_ids", "dtype": "int32", "dims": [1, 8]},
                    {"name": "attention_mask", "dtype": "float32", "dims": [1, 8]},
                ],
                "outputs": [{"name": "last_hidden_state", "dtype": "float32", "dims": [1, 8, 3]}],
            }
        },
        "state": [],
        "operators": [
            {"domain": "ai.onnx", "name": "Gather", "version": 13, "count": 2},
            {"domain": "ai.onnx", "name": "MatMul", "version": 13, "count": 7},
        ],
        "expected_placement": {"processor": "cpu", "backend": "XNNPACK", "delegated": 7, "total": 9},
        "requires": {"engine": "onnxruntime", "min_version": "1.22", "backends": [], "platforms": []},
        "target": None,
    }


def build_files(manifest: dict[str, Any]) -> list[BundleFile]:
    models = [BundleFile(file, "model", MODEL) for v in manifest["variants"] for file in v["files"]]
    return [
        *models,
        BundleFile("preprocessing/tokenizer.json", "preprocessing", TOKENIZER),
        BundleFile("licences/LICENSE", "licence", b"Do what you like."),
        BundleFile("licences/README.md", "model-card", b"# A model"),
    ]


@pytest.fixture(scope="session")
def make_measurement() -> Callable[..., Measurement]:
    return build_measurement


@pytest.fixture(scope="session")
def make_candidate() -> Callable[..., Candidate]:
    return build_candidate


@pytest.fixture(scope="session")
def make_manifest() -> Callable[..., dict[str, Any]]:
    return build_manifest


@pytest.fixture(scope="session")
def make_files() -> Callable[..., list[BundleFile]]:
    return build_files


@pytest.fixture
def small_bundle(tmp_path: Path) -> Path:
    """A bundle of two variants whose models are a few bytes; it can be read and packed, not run."""
    manifest = build_manifest("onnx-fp32", "tflite-int8")
    location = tmp_path / "small.fsb"
    measurement = measurement_document(build_measurement())
    measurement |= {"kind": "measurement", "variant": "onnx-fp32", "quality": {"value": 0.97}}
    write_bundle(location, manifest, build_files(manifest), {"measurement-onnx-fp32": measurement}, force=False)
    return location
