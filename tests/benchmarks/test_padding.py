"""What padding costs is measured on the same samples, padded and not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from fastserve_runtime.bundle.evaluation import evaluation_of
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.engines import engines_for
from fastserve_runtime.variants import open_variant
from padding import HEAD, measured


def test_padding_costs_a_float_variant_no_quality(tiny_bundle: Path) -> None:
    with open_bundle(tiny_bundle) as bundle:
        variant = bundle.manifest.variant("onnx-fp32")
        evaluation = evaluation_of(bundle)
        assert evaluation is not None
        with open_variant(bundle, variant, next(iter(engines_for("onnx"))), threads=1) as session:
            found = measured(variant.id, session, evaluation.first(20))
    assert found.own_quality == pytest.approx(1, abs=1e-6)
    assert found.padded_quality == pytest.approx(1, abs=1e-6)
    assert found.own_seconds > 0
    assert found.padded_seconds > 0
    assert found.row().count("|") == HEAD.splitlines()[0].count("|")
