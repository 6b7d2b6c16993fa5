"""Evidence that an earlier release wrote is read under today's names."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

import fastserve_runtime
from fastserve_runtime.bundle.evidence_files import read_evidence
from fastserve_runtime.bundle.manifest import parse_manifest
from fastserve_runtime.bundle.older_names import OLDER_NAMES, with_current_names
from fastserve_runtime.errors import BundleError
from manifests import write_directory
from pair_bundles import PAIRS, pair_bundle


def test_evidence_of_an_earlier_release_is_read_under_todays_names(tmp_path: Path) -> None:
    older = {
        "manifest": "sha256:1",
        "kind": "measurement",
        "latency": {"p90": 0.5, "least": 0.25, "most": 1.0, "doubts": ["busy"], "trustworthy": False},
        "twin": {"sqnr_db": 33.0, "least_cosine": 0.99},
        "layers": [{"restored": ["dense"]}],
    }
    (tmp_path / "measurement.json").write_text(json.dumps(older))
    (document,) = read_evidence(tmp_path, "sha256:1").documents
    assert document["latency"] == {
        "p90": 0.5,
        "minimum": 0.25,
        "maximum": 1.0,
        "warnings": ["busy"],
        "trustworthy": False,
    }
    assert document["fake_quant_reference"] == {"sqnr_db": 33.0, "min_cosine": 0.99}
    assert document["layers"] == [{"kept_in_float": ["dense"]}]


def test_todays_names_stay() -> None:
    document = {new: [{new: 1}] for new in OLDER_NAMES.values()}
    assert with_current_names(document) == document


def test_pairs_of_an_earlier_release_are_of_the_kind_that_they_are_now() -> None:
    document, _ = pair_bundle()
    older = copy.deepcopy(document)
    older["preprocessing"]["kind"] = "tokenizer"
    settings = older["preprocessing"]["settings"]
    settings["pairs"] = {"token_types": settings.pop("token_types")}
    read = parse_manifest(older)
    assert read.preprocessing == parse_manifest(document).preprocessing
    assert read.document == older  # so that the bundle's id stays

    settings["pairs"] = 3
    with pytest.raises(BundleError, match="gives 'pairs' as 3"):
        parse_manifest(older)


def test_a_bundle_of_pairs_of_an_earlier_release_runs(tmp_path: Path) -> None:
    document, contents = pair_bundle("text-classification", labels=["score"], problem_type="regression")
    now = fastserve_runtime.load(write_directory(tmp_path / "now", document, contents))
    settings = document["preprocessing"]["settings"]
    document["preprocessing"]["kind"] = "tokenizer"
    settings["pairs"] = {"token_types": settings.pop("token_types")}
    before = fastserve_runtime.load(write_directory(tmp_path / "older", document, contents))
    assert before(PAIRS) == now(PAIRS)
