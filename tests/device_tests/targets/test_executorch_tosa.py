"""TOSA's reference model executes what the file holds, and gives what the same quantized program gives in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import fastserve
from fastserve_converters.formats import missing_modules
from fastserve_converters.lowerings import load_lowering
from fastserve_device_tests.executors.executorch_program import read_program
from fastserve_device_tests.needs import Needs
from fastserve_device_tests.suite.suite import APPLICABLE, run_suite
from fastserve_device_tests.suite.target_process import LOAD, RUN, check_in_process
from fastserve_device_tests.targets import load_target
from fastserve_runtime.conformance.verdict import Outcome, Verdict
from lowered_bundles import altered, lowered, lowered_bundle, with_negated_embedding
from manifests import CHECKS, small_bundle, variant, write_directory

TARGET = load_target("executorch:tosa")

runs_here = pytest.mark.skipif(
    bool(TARGET.needs().missing() or missing_modules(load_lowering(TARGET.NAME))),
    reason="TOSA's reference model or ExecuTorch (make targets) is not installed",
)


def by_check(verdicts: list[Verdict]) -> dict[str, Verdict]:
    return {verdict.check: verdict for verdict in verdicts}


def without_graph(content: bytes) -> bytes:
    """Clear the beginning of what the backend is given."""
    graph = read_program(content)["forward"].delegates[0].content
    assert content.count(graph) == 1
    return content.replace(graph, bytes(64) + graph[64:])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Gives the bundle of a model in a precision; each is made once."""
    folder = tmp_path_factory.mktemp("tosa")

    def make(kind: str, precision: str) -> Path:
        location = folder / f"{kind}-{precision}.fsb"
        if not location.exists():
            job, made = lowered(kind, TARGET.NAME, precision, folder / f"{kind}-{precision}")
            lowered_bundle(location, job, made, TARGET.NAME)
        return location

    return make


@runs_here
@pytest.mark.parametrize(
    ("kind", "precision", "min_sqnr"),
    [("cnn", "int8-static", 40), ("encoder", "fp32", 110), ("encoder", "int8-static", 60)],
)
def test_a_model_runs_there_as_a_whole_and_right(
    bundle: Callable[[str, str], Path], kind: str, precision: str, min_sqnr: float
) -> None:
    found = by_check(check_in_process(bundle(kind, precision), "own", TARGET))
    checks = CHECKS if kind == "encoder" else [c for c in CHECKS if c != "padding invariance"]
    assert {check: (v.outcome, v.message) for check, v in found.items()} == dict.fromkeys(checks, (Outcome.PASS, ""))
    assert found["executor"].figures["sqnr_db"] > min_sqnr
    assert found["placement"].figures == {"expected": 1, "found": 1}


@runs_here
@pytest.mark.slow
def test_a_trained_encoder_runs_there_as_a_whole(minilm: Path, cache_dir: Path, tmp_path: Path) -> None:
    """Its int8 is far from the reference, and single steps of rounding grow through six layers of that."""
    location = tmp_path / "minilm.fsb"
    fastserve.export(
        minilm,
        location,
        formats=["onnx"],
        precisions=["int8-static"],
        targets=[TARGET.NAME],
        sequence_length=32,
        keep="all",
        cache_dir=cache_dir,
    )
    found = by_check(check_in_process(location, "executorch-tosa-int8-static", TARGET))
    right = ("determinism", "repeated calls", "placement")
    assert {check: found[check].outcome for check in right} == dict.fromkeys(right, Outcome.PASS)
    assert found["executor"].figures["sqnr_db"] > 10


@runs_here
def test_other_weights_are_a_mismatch(bundle: Callable[[str, str], Path], tmp_path: Path) -> None:
    spoilt = altered(bundle("encoder", "fp32"), tmp_path / "b.fsb", with_negated_embedding)
    found = by_check(check_in_process(spoilt, "own", TARGET))
    assert {found[check].outcome for check in ("quality", "executor")} == {Outcome.OUTPUT_MISMATCH}
    assert found["determinism"].outcome is Outcome.PASS


@runs_here
@pytest.mark.parametrize(
    ("change", "check", "outcome", "words"),
    [
        (lambda content: b"no program", LOAD, Outcome.LOAD_FAILED, "is not an ExecuTorch program"),
        (lambda content: content[:700], LOAD, Outcome.LOAD_FAILED, "damaged"),
        (lambda content: content.replace(b"TOSABackend", b"AnyoBackend"), LOAD, Outcome.LOAD_FAILED, "AnyoBackend"),
        (without_graph, RUN, Outcome.RUN_FAILED, "failed while running: Invalid TOSA graph."),
    ],
    ids=["not a program", "cut", "another backend", "damaged graph"],
)
def test_a_broken_program_is_a_verdict(
    bundle: Callable[[str, str], Path],
    tmp_path: Path,
    change: Callable[[bytes], bytes],
    check: str,
    outcome: Outcome,
    words: str,
) -> None:
    spoilt = altered(bundle("cnn", "int8-static"), tmp_path / "b.fsb", change)
    (verdict,) = check_in_process(spoilt, "own", TARGET)
    assert (verdict.check, verdict.outcome) == (check, outcome), verdict.message
    assert words in verdict.message


@pytest.mark.parametrize("name", ["executorch:tosa", "executorch:qnn-htp", "executorch:vgf", "executorch:vulkan"])
def test_a_program_for_xnnpack_is_not_for_it(tmp_path: Path, name: str) -> None:
    placed = {"processor": "cpu", "backend": "XNNPACK", "delegated": 3, "total": 5}
    document, contents = small_bundle()
    document["variants"] = [variant(format="executorch", expected_placement=placed)]
    (verdict,) = run_suite(write_directory(tmp_path / "b.fsb", document, contents), [name])
    assert (verdict.check, verdict.outcome) == (APPLICABLE, Outcome.NOT_RUN)
    assert verdict.message == f"it is made for XNNPACK; export with --target {name}"


def test_without_the_package_nothing_is_run_and_the_command_that_installs_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = Needs(modules={"a_module_that_nobody_made": TARGET.needs().modules["tosa_reference_model"]})
    monkeypatch.setattr(TARGET, "needs", lambda: lacking)
    (verdict,) = check_in_process(tmp_path, "own", TARGET)
    assert (verdict.check, verdict.outcome) == (LOAD, Outcome.NOT_RUN)
    assert verdict.message.endswith("is missing: pip install --no-deps tosa-tools==2026.8.0")
