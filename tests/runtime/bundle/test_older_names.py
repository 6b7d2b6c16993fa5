"""Evidence that an earlier release wrote is read under today's names."""

from __future__ import annotations

import json
from pathlib import Path

from fastserve_runtime.bundle.evidence_files import read_evidence
from fastserve_runtime.bundle.older_names import OLDER_NAMES, with_current_names


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
