"""What an export found, as a table and as a document."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fastserve import ExportResult
from fastserve.cli.report import export_document, print_export
from fastserve.pipeline.runner import StepTime
from fastserve.search.budget import Budget, budget_from_flags
from fastserve.search.candidate import Candidate
from fastserve.search.choice_reason import choice_reason
from fastserve.search.ranking import choose, judge, rank
from fastserve_runtime.conformance.quality import reference_name
from fastserve_runtime.measurement.machine import Machine

Make = Callable[..., Candidate]
MACHINE = Machine("Test CPU", 2, "x86_64", ("avx2", "fma"), 8 * 2**30, "Linux")


def result_of(candidates: list[Candidate], budget: Budget | None = None, **fields: Any) -> ExportResult:
    budget = budget or Budget()
    judged = judge(candidates, budget)
    ranked = rank(judged)
    result = ExportResult(
        bundle=Path("out/model.fsb") if ranked else None,
        digest="abc" if ranked else None,
        chosen=ranked[0] if ranked else None,
        chosen_because=choice_reason(choose(ranked), len(ranked)) if ranked else None,
        candidates=tuple(judged),
        shipped=tuple(c.id for c in ranked[:2]),
        budget=budget,
        task="feature-extraction",
        model="tiny",
        machine=MACHINE,
        threads=1,
        length=64,
        generates=False,
        notes=(),
        stages=(StepTime("Reference outputs", 1.5, cached=True),),
        reference=Path("reference"),
        seconds=2.5,
    )
    return replace(result, **fields)


def printed(result: ExportResult) -> str:
    console = Console(file=StringIO(), width=200)
    print_export(result, console)
    return console.file.getvalue()


def row_of(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.lstrip("│ ").startswith(start))


@pytest.fixture
def several(make_candidate: Make) -> list[Candidate]:
    return [
        make_candidate("onnx-fp32", quality=1.0, spread=0, size=90_000_000, p90=0.02),
        make_candidate("onnx-int8", quality=0.98, spread=0.01, size=23_000_000, p90=0.005),
        make_candidate("tflite-fp32", quality=0.97, size=91_000_000, p90=0.03),
        make_candidate("tflite-int8", failure="export failed: it has no [operator]"),
    ]


def test_the_table_shows_each_candidate_with_its_verdict(several: list[Candidate]) -> None:
    text = printed(result_of(several))
    assert "tiny, feature-extraction, 64 tokens" in text
    assert "measured on Test CPU, 2 cores, 8 GiB, Linux x86_64, avx2; 1 thread " in text
    best = row_of(text, "onnx-fp32")
    for cell in ("1.0000 (1.0000)", "90.0 MB", "50.0 MB", "20.0 ms", "4.2 ms", "●", "chosen"):
        assert cell in best
    assert "fits, shipped" in row_of(text, "onnx-int8")
    assert row_of(text, "tflite-fp32").rstrip("│ ").endswith("fits")
    assert "●" not in row_of(text, "tflite-fp32")
    assert "export failed: it has no [operator]" in row_of(text, "tflite-int8")
    assert "quality: agreement (lower end of its 95 % interval); p90: at full length; typical:" in text
    assert "out/model.fsb: onnx-fp32, onnx-int8; chosen: onnx-fp32" in text


def test_both_figures_of_a_ratio_stand_beside_it(make_candidate: Make) -> None:
    plain = make_candidate("tflite-fp32", quality=1.0)
    assert plain.quality is not None
    beside = {"accuracy": 0.9125, reference_name("accuracy"): 0.8996, "top-1 agreement": 0.97}
    better = replace(
        make_candidate("onnx-int8", quality=1.0), quality=replace(plain.quality, value=1.0144, beside=beside)
    )
    text = printed(result_of([better, plain]))
    assert "accuracy (reference)" in text
    assert "0.9125 (0.8996)" in row_of(text, "onnx-int8")
    assert "top-1 agreement" not in text
    assert "accuracy (reference)" not in printed(result_of([plain]))


def test_a_broken_limit_is_named_where_its_figure_stands_in_the_row(several: list[Candidate]) -> None:
    text = printed(result_of(several, budget_from_flags(max_size="50MB")))
    assert "breaks size ≤ 50.0 MB" in row_of(text, "onnx-fp32")
    assert "chosen" in row_of(text, "onnx-int8")


def test_a_limit_broken_by_a_figure_in_warning_says_why(make_candidate: Make) -> None:
    untrusted = make_candidate("onnx-fp32", p90=None, maximum=0.5)
    text = printed(result_of([untrusted], budget_from_flags(max_latency="30ms")))
    row = row_of(text, "onnx-fp32")
    assert "not trustworthy" in row
    assert "breaks latency ≤ 30.0 ms: latency 500.0 ms (not trustworthy: the process was interrupted)" in row
    assert "Note: latency of onnx-fp32: the process was interrupted." in text


def test_what_was_not_measured_is_a_dash_or_unknown(make_candidate: Make) -> None:
    unknown = make_candidate("onnx-fp32", peak=None, quality=None, size=None)
    text = printed(result_of([unknown], budget_from_flags(max_memory="1GB")))
    row = row_of(text, "onnx-fp32")
    assert "unknown" in row
    assert row.count(" - ") == 2
    assert "breaks memory ≤ 1.0 GB: memory was not measured" in row
    assert "quality: not measured" in text


def test_memory_that_is_not_judged_is_starred_and_explained(make_candidate: Make) -> None:
    text = printed(result_of([make_candidate("executorch-fp32", brings_pytorch=True)]))
    assert "50.0 MB *" in text
    assert "its memory is not judged" in text


def test_where_nothing_fits_the_binding_limit_and_the_nearest_are_told(several: list[Candidate]) -> None:
    text = printed(result_of(several, budget_from_flags(max_size="20MB")))
    assert "Nothing fits the budget, so nothing was written." in text
    assert "The limit that binds: size ≤ 20.0 MB." in text
    assert "nearest: onnx-int8, over by 15%: size 23.0 MB breaks size ≤ 20.0 MB" in text
    assert "chosen" not in text


def test_where_no_limit_binds_alone_that_is_told(several: list[Candidate]) -> None:
    text = printed(result_of(several, budget_from_flags(max_size="20MB", max_latency="1ms")))
    assert "No limit binds alone: every variant breaks several." in text


def test_what_looks_like_markup_is_shown_as_it_is(several: list[Candidate]) -> None:
    result = result_of(
        several,
        model="odd [/b] model [red]",
        machine=replace(MACHINE, processor="CPU [/i] [v2]"),
        notes=("install it with pip install '.[onnx]' [/b]",),
        bundle=Path("out [/b] [red].fsb"),
    )
    text = printed(result)
    assert "odd [/b] model [red], feature-extraction" in text
    assert "CPU [/i] [v2]" in text
    assert "Note: install it with pip install '.[onnx]' [/b]" in text
    assert "out [/b] [red].fsb: onnx-fp32" in text


@pytest.mark.parametrize(("threads", "expected"), [(1, "; 1 thread"), (4, "; 4 threads")])
def test_the_number_of_threads_is_told(several: list[Candidate], threads: int, expected: str) -> None:
    title = printed(result_of(several, threads=threads)).splitlines()[1]
    assert title.rstrip().endswith(expected)


def test_the_document_says_the_same_as_json(several: list[Candidate]) -> None:
    result = result_of(several, budget_from_flags(max_size="50MB"), notes=("a note",))
    document = json.loads(json.dumps(export_document(result)))
    assert document["bundle"] == "out/model.fsb"
    assert document["chosen"] == "onnx-int8"
    assert document["machine"]["fingerprint"] == MACHINE.fingerprint
    assert document["machine"]["instruction_sets"] == ["avx2", "fma"]
    assert document["budget"] == [{"metric": "size", "comparison": "<=", "value": 50_000_000, "unit": "B"}]
    assert document["notes"] == ["a note"]
    assert document["stages"] == [{"stage": "Reference outputs", "seconds": 1.5, "cached": True}]
    assert "binding_limits" not in document
    fp32, int8, _, failed = document["variants"]
    assert fp32["breaches"] == [{"limit": "size ≤ 50.0 MB", "figure": 90_000_000, "reason": "size 90.0 MB"}]
    assert [v["fits"] for v in document["variants"]] == [False, True, False, False]
    assert [v["chosen"] for v in document["variants"]] == [False, True, False, False]
    assert int8["shipped"]
    assert int8["quality"] == {
        "name": "agreement",
        "value": 0.98,
        "low": 0.97,
        "high": 0.98,
        "samples": 200,
        "beside": {},
    }
    assert int8["measurement"]["status"] == "measured"
    assert failed["failure"] == "export failed: it has no [operator]"
    assert failed["measurement"] is None
    assert failed["quality"] is None


def test_the_document_says_what_binds_where_nothing_fits(several: list[Candidate]) -> None:
    document = export_document(result_of(several, budget_from_flags(max_size="20MB")))
    assert document["bundle"] is None
    assert document["chosen"] is None
    assert document["binding_limits"] == ["size ≤ 20.0 MB"]
    assert document["nearest_misses"][0] == {"id": "onnx-int8", "excess": pytest.approx(0.15)}


def test_generators_are_shown_by_the_time_to_the_first_token_and_of_each_further_one(make_candidate: Make) -> None:
    candidates = [
        make_candidate("onnx-fp32", p90=0.02, ttft=0.3),
        make_candidate("onnx-int8", quality=0.98, p90=0.005, ttft=None),
        make_candidate("onnx-int4", failure="it crashed"),
    ]
    budget = budget_from_flags(max_ttft="100ms")
    result = result_of(candidates, budget, task="text-generation", generates=True, length=1024)
    text = printed(result)
    assert "tiny, text-generation, 1024 tokens" in text
    headings = row_of(text, "┃ variant")
    assert headings.index("TTFT") < headings.index("TPOT")
    assert "typical" not in headings
    assert "p90 of the time to the first token behind a prompt" in " ".join(text.split())
    row = row_of(text, "onnx-fp32")
    assert row.index("300.0 ms") < row.index("20.0 ms") < row.index("breaks ttft ≤ 100.0 ms")
    untrusted = row_of(text, "onnx-int8")
    assert untrusted.index("not trustworthy") < untrusted.index("5.0 ms")
    assert "Note: ttft of onnx-int8: the process was interrupted." in text
    assert row_of(text, "onnx-int4").count(" - ") == 4
    document = export_document(result)
    assert document["context"] == 1024
    assert "sequence_length" not in document


def test_what_was_made_for_a_target_stands_in_the_table_without_measurements(make_candidate: Make) -> None:
    portable = make_candidate("onnx-fp32")
    compilation = {"compiler": {"x": "1"}, "seconds": 2.0, "outputs_of": "onnx-fp32", "report": {"bytes": 9}}
    own = replace(
        make_candidate("onnx-x-fp32", size=20_000_000), target="onnx:x", measurement=None, compilation=compilation
    )
    result = result_of([portable, own], shipped=("onnx-fp32", "onnx-x-fp32"))
    row = row_of(printed(result), "onnx-x-fp32")
    assert row.rstrip("│ ").endswith("fits, shipped for onnx:x")
    assert "20.0 MB" in row
    assert row.count(" - ") == 3, "peak memory and two times"
    first, second = export_document(result)["variants"]
    assert (first["target"], first["compilation"]) == (None, None)
    assert (second["target"], second["compilation"], second["measurement"]) == ("onnx:x", compilation, None)


def test_the_output_says_why_the_chosen_one_was_chosen(make_candidate: Callable[..., Candidate]) -> None:
    made = [
        make_candidate("onnx-fp32", quality=1.0, spread=0.02, p90=0.0102, p50=0.0095, size=4_700_000),
        make_candidate("onnx-int8", quality=0.999, p90=0.0104, p50=0.0096, size=1_900_000),
        make_candidate("onnx-int4", quality=0.5, p90=None),
    ]
    result = result_of(made)
    document = export_document(result)
    assert document["chosen_because"] == (
        "onnx-int8 was chosen: its quality 0.9990 may be as good as the highest, 1.0000 of onnx-fp32: its interval "
        "reaches 0.9800; of these it is as fast as the fastest within the measured spread (9.6 ms to 10.4 ms; "
        "onnx-fp32 9.5 ms to 10.2 ms); of these it is the smallest (1.9 MB)."
    )
    assert " ".join(printed(result).split()).count("onnx-int8 was chosen: its quality") == 1
    assert [v["warnings"] for v in document["variants"]] == [{}, {}, {"latency": "the process was interrupted"}]
    assert [v["latency_spread"] for v in document["variants"]] == [[0.0095, 0.0102], [0.0096, 0.0104], None]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"quality": 0.9}, "its quality 1.0000 is the highest, and no other one's interval reaches 0.9900"),
        ({"p90": 0.5}, "and onnx-int8 may be as good (interval from 0.9900); of these it is the fastest"),
        (
            {"p90": None},
            "of these whose latency can be trusted it is the fastest (9.5 ms to 10.0 ms); that of onnx-int8",
        ),
        ({"size": 20_000_000}, "of these it is the smallest (10.0 MB)"),
        ({}, "all of these are of one size, so the first by name was taken"),
    ],
)
def test_the_reason_names_what_decided(make_candidate: Callable[..., Candidate], changes: dict, words: str) -> None:
    result = result_of([make_candidate("onnx-fp32"), make_candidate("onnx-int8", **changes)])
    assert result.chosen.id == "onnx-fp32"
    assert words in result.chosen_because


def test_where_one_variant_fits_that_is_the_reason(make_candidate: Callable[..., Candidate]) -> None:
    assert result_of([make_candidate()]).chosen_because == "onnx-fp32 was chosen: no other variant fits."
