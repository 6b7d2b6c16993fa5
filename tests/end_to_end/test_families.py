"""Every family in every format, with small random models of the real architectures.

They are exported in this process, without measuring, and run by the runtime's sessions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from checkpoints import save_checkpoint
from fastserve_converters.formats import FORMATS
from fastserve_converters.layer_map import read_modules
from fastserve_converters.worker.jobs import Jobs
from fastserve_runtime import open_model
from fastserve_runtime.conformance.metrics import row_cosines
from fastserve_runtime.sessions.batching import run_samples

CASES = [
    pytest.param("bert", True, id="bert-head", marks=pytest.mark.slow),
    pytest.param("roberta", False, id="roberta-encoder", marks=pytest.mark.slow),
    pytest.param("roberta", True, id="roberta-head", marks=pytest.mark.slow),
    pytest.param("albert", False, id="albert-encoder", marks=pytest.mark.slow),
    pytest.param("distilbert", True, id="distilbert-head"),
]


@pytest.mark.parametrize(("family", "classify"), CASES)
def test_family_runs_in_every_format_as_the_original(family: str, classify: bool, tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path / "model", family, classify=classify, layers=1)
    source = {
        "path": str(checkpoint),
        "task": "text-classification" if classify else "feature-extraction",
        "length": 24,
        "allow_pickle": False,
        "trust_remote_code": False,
    }
    jobs = Jobs()
    columns = {"data": [], "text_column": "text", "label_column": "label", "seed": 0}
    jobs.run({"job": "reference", "source": source, "out": str(tmp_path / "reference"), **columns})
    request = {"job": "program", "source": source, "out": str(tmp_path / "program")}
    proof = jobs.run({**request, "reference": str(tmp_path / "reference")})
    assert proof["largest_difference"] < 1e-4
    with np.load(tmp_path / "reference" / "inputs.npz") as inputs:
        samples = {name: inputs[name][:20] for name in inputs.files}
    name = "logits" if classify else "last_hidden_state"
    with np.load(tmp_path / "reference" / "reference.npz") as outputs:
        expected = outputs[name][:20]
    counted = samples["attention_mask"] > 0 if not classify else np.ones(20, bool)
    for format_name in FORMATS.built_in():
        for precision in ("fp32", "int8-dynamic"):
            out = tmp_path / f"{format_name}-{precision}"
            base = FORMATS.load(format_name).PRECISIONS[precision].base
            answer = jobs.run(
                {
                    "job": "artifact",
                    "source": source,
                    "format": format_name,
                    "precision": precision,
                    "base": None if base is None else str(tmp_path / f"{format_name}-{base}"),
                    "reference": str(tmp_path / "reference"),
                    "assignment": None,
                    "range_method": "min-max",
                    "out": str(out),
                }
            )
            assert read_modules(out)
            with open_model(out / answer["files"][0]) as session:
                outputs = run_samples(session, _named_as_session(session, samples))
            actual = next(iter(outputs.values()))
            if precision == "fp32":
                np.testing.assert_allclose(actual[counted], expected[counted], atol=2e-4)
            else:
                assert row_cosines(expected[counted], actual[counted]).mean() > 0.97


def _named_as_session(session: object, samples: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Bare ExecuTorch programs name inputs by position."""
    graph = next(iter(session.graphs.values()))
    names = [t.name for t in graph.inputs]
    if set(names) == set(samples):
        return samples
    return dict(zip(names, (samples["input_ids"], samples["attention_mask"]), strict=True))
