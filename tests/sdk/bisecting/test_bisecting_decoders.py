"""Finding the wrong layer of a decoder's file: faults that are put into real files, and honest ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastserve
from decoder_checkpoints import save_decoder_checkpoint
from fastserve.bisecting import Bisector
from fastserve_runtime.bundle.canonical_json import canonical_json
from fastserve_runtime.errors import UsageError
from faulty_bundles import change_constant, faulty_copy, in_onnx

BLOCK = "blocks.1"
FP32, INT8 = "onnx-fp32", "onnx-int8"
SAMPLES = 4


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_decoder_checkpoint(tmp_path_factory.mktemp("decoders") / "llama")


@pytest.fixture(scope="module")
def bundle(decoder: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    location = tmp_path_factory.mktemp("bundles") / "llama.fsb"
    fastserve.export(
        decoder,
        location,
        formats=["onnx"],
        precisions=["fp32", "int8"],
        context=64,
        keep="all",
        cache_dir=cache_dir,
    )
    return location


@pytest.fixture(scope="module")
def bisector(decoder: Path, cache_dir: Path) -> Iterator[Bisector]:
    with Bisector(str(decoder), cache_dir=cache_dir) as made:
        yield made


@pytest.mark.parametrize(("variant", "minimum"), [(FP32, 100), (INT8, 30)])
def test_an_honest_decoder_has_no_suspect(bisector: Bisector, bundle: Path, variant: str, minimum: float) -> None:
    found = bisector.bisect(bundle, variant=variant, samples=100)
    assert found.agrees
    assert found.notes == (), "the reference gives what the golden says, and reading changed nothing"
    assert not found.unread
    modules = {layer.module for layer in found.layers}
    assert {"embedding", f"{BLOCK}.attention.qkv", f"{BLOCK}.attention", f"{BLOCK}.feed_forward", "head"} <= modules
    assert min(layer.local_sqnr_db for layer in found.layers) > minimum


def rolled_output(model: Any) -> None:
    change_constant(model, f"{BLOCK}.attention.output.weight", lambda w: np.roll(w, 3, axis=1))


def rotated_by_other_positions(model: Any) -> None:
    change_constant(model, "sine_0", lambda table: np.roll(table, 1, axis=0))


def doubled_scale(model: Any) -> None:
    def change(scale: np.ndarray) -> np.ndarray:
        scale.reshape(-1)[3] *= 2
        return scale

    change_constant(model, f"{BLOCK}.feed_forward.down.scale", change)


FAULTS = [
    pytest.param(FP32, rolled_output, f"{BLOCK}.attention.output", 1, id="a weight"),
    pytest.param(FP32, rotated_by_other_positions, "blocks.0.attention", 2, id="the rotary table of all blocks"),
    pytest.param(INT8, doubled_scale, f"{BLOCK}.feed_forward.down", 1, id="one scale"),
]


@pytest.mark.parametrize(("variant", "fault", "module", "suspects"), FAULTS)
def test_a_fault_in_a_decoder_is_found(
    bisector: Bisector,
    bundle: Path,
    tmp_path: Path,
    variant: str,
    fault: Callable[[Any], None],
    module: str,
    suspects: int,
) -> None:
    faulty = faulty_copy(bundle, tmp_path / "faulty.fsb", variant, in_onnx(fault))
    found = bisector.bisect(faulty, variant=variant, samples=SAMPLES)
    assert [s.module for s in found.suspects][:1] == [module]
    assert len(found.suspects) == suspects
    assert all(suspect.confirmed_alone for suspect in found.suspects)


def test_what_a_decoder_gives_step_by_step_is_judged_as_the_suite_does(
    bisector: Bisector, bundle: Path, tmp_path: Path
) -> None:
    faulty = faulty_copy(bundle, tmp_path / "faulty.fsb", FP32, in_onnx(rolled_output))
    found = bisector.bisect(faulty, variant=FP32, samples=100)
    assert any(reason.startswith("executor: log_probabilities") for reason in found.wrong_outputs)


def test_a_format_that_shows_nothing_of_decoders_is_refused_before_the_model_is_read(
    bundle: Path, tmp_path: Path
) -> None:
    location = faulty_copy(bundle, tmp_path / "other.fsb", FP32, lambda content: content)
    document = json.loads((location / "manifest.json").read_bytes())
    for variant in document["variants"]:
        variant["format"] = "tflite"
    (location / "manifest.json").write_bytes(canonical_json(document))
    with (
        Bisector(str(tmp_path / "no-such-model")) as bisector,
        pytest.raises(
            UsageError, match=f"'{FP32}' shows nothing of what it computes inside: tflite names no"
        ) as refusal,
    ):
        bisector.bisect(location, variant=FP32)
    assert "in onnx" in refusal.value.remedy
