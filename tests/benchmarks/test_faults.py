"""What the suite finds of faults that the benchmark injects, on a small model in two engines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import fastserve
from checkpoints import texts
from fastserve.bisecting import Bisector
from fastserve_device_tests.targets import load_target
from fastserve_runtime.bundle.reader import open_bundle
from injecting.bundles import single_variants
from injecting.fault import LADDER, Case, NotHere
from injecting.honest import MIX, TARGETS, check_run, planned
from injecting.judging import INTEGRITY, NOT_PASSED, HeldOut, failed_checks, metric_of, task_metric, without_executor
from injecting.kinds import FAULTS, find_fault
from injecting.locating import block_of, locate, place_of
from injecting.network_faults import open_network, struck
from injecting.search import first_that, has_changed, search
from injecting.subjects import held_out_texts
from injecting.tables import bound, cell, honest_sentence, missed, overview, strength, table

VARIANTS = ("onnx-fp32", pytest.param("tflite-fp32", marks=pytest.mark.slow))
LENGTH = 32


@pytest.fixture(scope="module")
def single(tiny_bert: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the bundle of one variant; exports it when it is first asked for."""
    folder = tmp_path_factory.mktemp("faults")
    data = folder / "texts.txt"
    data.write_text("\n".join(text.replace("\n", " ") for text in texts()[:60]))

    @cache
    def exported(variant: str) -> Path:
        format_name, _, precision = variant.partition("-")
        fastserve.export(
            tiny_bert,
            folder / f"{format_name}.fsb",
            formats=[format_name],
            precisions=[precision],
            sequence_length=LENGTH,
            keep="all",
            data=[data],
            cache_dir=cache_dir,
        )
        return single_variants(folder / f"{format_name}.fsb", folder / "singles")[variant]

    return exported


@pytest.fixture
def case_of(single: Callable[[str], Path], tiny_bert: Path, tmp_path: Path) -> Callable[[str], Case]:
    def make(variant: str) -> Case:
        format_name, _, precision = variant.partition("-")
        return Case(single(variant), variant, precision, load_target(TARGETS[format_name]), tiny_bert, tmp_path)

    return make


@pytest.fixture(scope="module")
def held_out(single: Callable[[str], Path], tiny_bert: Path) -> HeldOut:
    return held_out_texts(single("onnx-fp32"), tiny_bert, maximum=40)


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_is_found_without_a_fault(case_of: Callable[[str], Case], variant: str, held_out: HeldOut) -> None:
    case = case_of(variant)
    assert failed_checks(case, "texts") == failed_checks(case, "network") == ()
    assert task_metric(case, held_out) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    ("kind", "check"),
    [
        ("transposed weight", "quality"),
        ("residual dropped", "quality"),
        ("softmax over the wrong axis", "quality"),
        ("stale buffer of the last call", "quality"),
        ("samples of a batch mixed", "quality"),
        ("silent CPU fallback", "placement"),
        ("an NPU that is absent", NOT_PASSED),
        ("a changed tokenizer: ids exchanged", "preprocessing"),
        ("altered weights", INTEGRITY),
    ],
)
def test_a_strong_fault_is_found(case_of: Callable[[str], Case], variant: str, kind: str, check: str) -> None:
    fault, case = find_fault(kind), case_of(variant)
    before = (case.bundle / "manifest.json").read_bytes()
    assert check in failed_checks(fault.inject(case, 1.0), fault.room)
    with open_bundle(case.bundle) as opened:
        opened.check_integrity()
    assert (case.bundle / "manifest.json").read_bytes() == before


def test_noise_far_below_what_the_policies_allow_is_found(case_of: Callable[[str], Case]) -> None:
    fault = find_fault("noise")
    assert failed_checks(fault.inject(case_of("onnx-fp32"), 1e-6), fault.room) == ("determinism",)


@pytest.mark.slow
def test_padding_that_counts_is_found_though_no_sample_has_any(case_of: Callable[[str], Case]) -> None:
    """This variant takes any number of tokens, so that golden samples come without padding."""
    fault = find_fault("pooling counts padding")
    assert failed_checks(fault.inject(case_of("tflite-fp32"), 1.0), fault.room) == ("padding invariance",)


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_network_fault_of_no_strength_is_found(case_of: Callable[[str], Case], variant: str) -> None:
    """The way in which faults are injected changes nothing itself."""
    for kind in ("residual dropped", "head order permuted", "another GELU (sigmoid)", "normalisation dropped"):
        assert failed_checks(find_fault(kind).inject(case_of(variant), 0.0), "network") == ()


def test_a_fault_of_scales_is_not_in_a_file_of_floats(case_of: Callable[[str], Case]) -> None:
    with pytest.raises(NotHere, match="no integers with scales"):
        find_fault("wrong scale").inject(case_of("onnx-fp32"), 1.0)


def test_the_smallest_strength_is_found_and_the_metric_changes_above_it(
    case_of: Callable[[str], Case], held_out: HeldOut
) -> None:
    case = case_of("onnx-fp32")
    fault = replace(find_fault("transposed weight"), strengths=(1e-7, 1e-2, 1.0))
    found = search(fault, case, held_out, task_metric(case, held_out))
    assert (found.caught, found.harmful) == (1e-2, 1.0)
    assert found.by
    assert not found.is_missed
    assert not case.copies.exists() or not any(case.copies.iterdir())


@pytest.mark.slow
def test_a_fault_inside_the_network_is_located(case_of: Callable[[str], Case], tiny_bert: Path) -> None:
    case = case_of("onnx-fp32")
    layers = open_network(case)[0].layers
    with Bisector(str(tiny_bert)) as bisector:
        found = locate(bisector, find_fault("transposed weight"), case, 1.0, layers)
    assert found["place"] == "exact", found


@pytest.mark.slow
def test_an_honest_run_gives_no_alarm(tmp_path: Path) -> None:
    run = next(r for r in map(planned, range(50_000, 50_030)) if (r.format, r.precision) == ("onnx", "fp32"))
    verdicts = check_run(run, tmp_path / "run")
    assert verdicts
    assert [v for v in verdicts if v.outcome.is_failure] == []


def test_runs_come_from_their_seed() -> None:
    assert planned(50_007) == planned(50_007)
    runs = [planned(seed) for seed in range(50_000, 50_030)]
    counted = {(r.format, r.precision) for r in runs}
    assert counted == {(format_name, precision) for format_name, precision, _ in MIX}
    assert len({(r.family, r.kind, r.layers, r.length) for r in runs}) > 10


def test_there_are_enough_kinds_each_with_a_name_of_its_own() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names) >= 25
    assert all(fault.strengths == tuple(sorted(fault.strengths)) for fault in FAULTS)
    assert all(fault.modules for fault in FAULTS if fault.room == "network")


@given(st.integers(0, len(LADDER)))
def test_the_first_strength_is_found_by_halving(threshold: int) -> None:
    looked: list[float] = []

    def holds(value: float) -> bool:
        looked.append(value)
        return LADDER.index(value) >= threshold

    assert first_that(holds, LADDER) == (None if threshold == len(LADDER) else LADDER[threshold])
    assert len(looked) <= 5


@given(st.floats(0, 1), st.floats(0, 1))
def test_what_is_struck_at_a_strength_is_struck_at_all_larger_ones(one: float, other: float) -> None:
    weak, strong = (struck((7, 5), s) for s in sorted((one, other)))
    assert weak.any()
    assert (strong | ~weak).all()


@pytest.mark.parametrize(
    ("found", "wanted", "place"),
    [
        ("model.encoder.layer.1.output.dense", ("layer.1.output.dense",), "exact"),
        ("model.encoder.layer.1.output.LayerNorm", ("layer.1.output.dense",), "block"),
        ("model.encoder.layer.11.output.dense", ("layer.1.output.dense",), "elsewhere"),
        ("model.embeddings.LayerNorm", ("embeddings.word_embeddings",), "block"),
        ("head", ("", "layer.0.attention.self"), "elsewhere"),
        ("", ("", "layer.0.attention.self"), "exact"),
        (None, ("head",), "nowhere"),
    ],
)
def test_a_place_is_exact_or_in_the_block_or_elsewhere(found: str | None, wanted: tuple[str, ...], place: str) -> None:
    assert place_of(found, wanted) == place


def test_blocks() -> None:
    assert [block_of(m) for m in ("encoder.layer.3.output", "model.embeddings", "head", "x")] == [
        "layer.3",
        "embeddings",
        "head",
        "",
    ]


def test_no_alarm_in_300_runs_bounds_the_rate_at_one_percent() -> None:
    assert bound(0, 300) == pytest.approx(0.00994, abs=1e-4)
    assert bound(1, 300) > 0.015
    assert bound(3, 3) == 1.0


def test_metrics_of_classes_are_accuracy_or_agreement() -> None:
    import numpy as np

    reference = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    turned = reference.copy()
    turned[0] = turned[0, ::-1]
    plain = HeldOut(("a", "b", "c", "d"), reference, "text-classification")
    assert metric_of(turned, plain) == 0.75
    # The reference is right in the second and third, the other one in the first too.
    assert metric_of(turned, replace(plain, labels=np.array([1, 1, 0, 0]))) == 1.5
    assert has_changed(0.98, 1.0)
    assert not has_changed(0.995, 1.0)


@pytest.mark.parametrize("task", ["text-classification", "feature-extraction"])
def test_a_text_without_a_finite_answer_is_wrong_and_the_others_count(task: str) -> None:
    import numpy as np

    reference = np.random.default_rng(0).normal(size=(20, 4))
    one = reference.copy()
    one[3, 1] = np.nan
    held_out = HeldOut(tuple(map(str, range(20))), reference, task)
    assert metric_of(reference, held_out) == pytest.approx(1)
    assert 0.9 < metric_of(one, held_out) < 0.98
    assert metric_of(np.full_like(reference, np.nan), held_out) == 0


def test_a_fault_from_the_beginning_is_not_found_by_what_the_file_gave_before() -> None:
    assert without_executor(("quality", "executor")) == ("quality",)


def results() -> Iterator[tuple[str, dict[str, object]]]:
    located = {"place": "exact", "module": "m"}
    yield "found", {"caught": 1e-4, "by": ["executor"], "harmful": 0.1, "is_missed": False, "located": located}
    yield "missed", {"caught": 1.0, "by": ["quality"], "harmful": 0.1, "is_missed": True}
    yield "harmless", {"caught": None, "by": [], "harmful": None, "is_missed": False}
    yield "not here", {"absent": "it has no scales"}


def test_the_table_shows_what_is_missed() -> None:
    document = {
        "model": "M",
        "length": 8,
        "held_out": 3,
        "changed": 0.01,
        "machine": "here",
        "command": "faults",
        "variants": {"onnx-fp32": {"faults": dict(results())}},
        "honest": {"runs": 300, "alarms": 0, "bound": bound(0, 300)},
    }
    shown = table(json.loads(json.dumps(document)))
    assert "| found | 1e-4 / 0.1 | executor | 1 of 1 |" in shown
    assert "| missed | **1 / 0.1** | quality |  |" in shown
    assert "| harmless | – / – |" in shown
    assert "2 change the task's metric by 1% at some strength: 1 of these are caught" in shown
    assert "300 honest runs with other seeds: 0 false alarms, so that the rate is below 1.0%" in honest_sentence(
        document
    )
    assert not honest_sentence({})
    assert missed(document) == [("onnx-fp32", "missed")]
    told = overview({**document, "models": {"m": document}})
    assert "2 of them change the task's metric by 1% at some strength; 1 of these are caught" in told
    assert "Missed: missed (ONNX Runtime fp32)." in told
    assert "|" not in told
    assert (strength(None), strength(1.0), strength(0.1), strength(3.2e-5)) == ("–", "1", "0.1", "3e-5")
    assert cell(None) == ""
