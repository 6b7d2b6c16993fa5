"""Bundles of decoders are verified and measured on traces."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastserve_runtime.bundle.golden import Golden, write_golden
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.conformance.verification import verify
from fastserve_runtime.errors import BundleError
from fastserve_runtime.generation.shared_cache import SharedCacheDecoder
from fastserve_runtime.generation.traces import run_traces, scored_positions
from fastserve_runtime.loading import open_model
from fastserve_runtime.measurement.benchmark import benchmark_document, benchmarked
from generation_bundles import CONTEXT, ids, write_generation_bundle
from manifests import GOLDEN, file_entries

TEXTS = ["Hello", "a b c d", "x"]
NEW = 6


@pytest.fixture(scope="module")
def golden(decoder_file: Path, greedy) -> Golden:
    rows = [ids(text) + greedy(ids(text), NEW) for text in TEXTS]
    positions = max(map(len, rows))
    inputs = {
        "tokens": np.array([row + [0] * (positions - len(row)) for row in rows], np.int32),
        "length": np.array([len(row) for row in rows], np.int32),
        "prompt": np.array([len(text) for text in TEXTS], np.int32),
        "candidates": np.tile(np.arange(9, dtype=np.int32), (3, positions, 1)),
    }
    inputs["scored"] = scored_positions(inputs)
    with open_model(decoder_file) as session:
        outputs = run_traces(SharedCacheDecoder(session, context=CONTEXT), inputs)
    realistic = np.array([True, True, False])
    return Golden(np.array(TEXTS), np.array(["short"] * 3), realistic, inputs, outputs, outputs)


@pytest.fixture
def bundle_of(decoder_file: Path, tmp_path: Path):
    """Write a bundle with that golden after changes to it."""

    def make(golden: Golden):
        location = write_generation_bundle(tmp_path / "tiny.fsb", decoder_file)
        document = json.loads((location / "manifest.json").read_text())
        document["variants"][0]["golden"] = GOLDEN
        (location / GOLDEN).parent.mkdir(exist_ok=True)
        (location / GOLDEN).write_bytes(write_golden(golden))
        names = [*document["files"], GOLDEN]
        document["files"] = file_entries({name: (location / name).read_bytes() for name in names})
        (location / "manifest.json").write_text(json.dumps(document))
        return open_bundle(location)

    return make


def outcomes(bundle) -> list[tuple[str, str]]:
    return [(v.check, v.outcome.value) for v in verify(bundle).verdicts]


def changed(golden: Golden, part: str, name: str, index, value) -> Golden:
    arrays = {n: a.copy() for n, a in getattr(golden, part).items()}
    arrays[name][index] = value
    return Golden(**{**golden.__dict__, part: arrays})


def test_a_sound_bundle_passes_on_both_outputs(bundle_of, golden: Golden) -> None:
    assert outcomes(bundle_of(golden)) == [
        ("preprocessing", "PASS"),
        *[("quality", "PASS"), ("executor", "PASS")] * 2,
    ]


def test_a_prompt_of_other_tokens_is_a_mismatch(bundle_of, golden: Golden) -> None:
    found = outcomes(bundle_of(changed(golden, "inputs", "tokens", (1, 0), 3)))
    assert found[0] == ("preprocessing", "OUTPUT_MISMATCH")


def test_log_probabilities_unlike_the_references_are_a_mismatch_where_they_are_scored(
    bundle_of, golden: Golden
) -> None:
    scored = np.argwhere(golden.inputs["scored"])[2]
    spoilt = changed(golden, "reference", "next_token", (*scored, 0), -50)
    assert ("quality", "OUTPUT_MISMATCH") in outcomes(bundle_of(spoilt))


def test_what_is_not_scored_does_not_count(bundle_of, golden: Golden) -> None:
    elsewhere = np.argwhere(~golden.inputs["scored"])[0]
    spoilt = changed(golden, "artifact", "log_probabilities", tuple(elsewhere), -50)
    assert {outcome for _, outcome in outcomes(bundle_of(spoilt))} == {"PASS"}


@pytest.mark.parametrize(("part", "name"), [("inputs", "candidates"), ("artifact", "next_token")])
def test_a_golden_without_what_traces_have_is_refused(bundle_of, golden: Golden, part: str, name: str) -> None:
    arrays = {n: a for n, a in getattr(golden, part).items() if n != name}
    with pytest.raises(BundleError, match=f"golden of variant 'first' has no '{part}/{name}'"):
        verify(bundle_of(Golden(**{**golden.__dict__, part: arrays})))


def test_a_decoder_is_measured_on_its_realistic_traces(bundle_of, golden: Golden) -> None:
    bundle = bundle_of(golden)
    with benchmarked(bundle, min_seconds=0.0, max_seconds=0.2) as benchmark:
        document = benchmark_document(bundle, benchmark, None)
    assert document["inputs"]["samples"] == 2
    measurement = json.loads(json.dumps(document, allow_nan=False))["measurement"]
    assert measurement["prompt_tokens"] == CONTEXT // 2
    assert measurement["time_to_first_token"]["mean"] > 0
    assert measurement["latency"]["queries"] >= 1
