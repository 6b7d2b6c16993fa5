"""Verdicts for a terminal: a matrix where there are several targets."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO

from rich.console import Console

from fastserve.cli.verdict_matrix import verdict_tables
from fastserve_runtime.conformance.verdict import Outcome, Verdict

PASS, MISMATCH, NOT_RUN = Outcome.PASS, Outcome.OUTPUT_MISMATCH, Outcome.NOT_RUN
HOSTILE = "odd [/b] name [red]"


def rendered(verdicts: Sequence[Verdict], width: int = 100) -> list[list[str]]:
    """The lines of each table."""
    tables = []
    for part in verdict_tables(verdicts, width):
        console = Console(file=StringIO(), width=width)
        console.print(part, highlight=False)
        tables.append(console.file.getvalue().splitlines())
    return tables


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("┃", "│").strip("│").split("│")]


def row(table: list[str], start: str) -> list[str]:
    return next(found for line in table if (found := cells(line))[0] == start)


def test_checks_are_rows_below_their_variant_and_targets_are_columns() -> None:
    verdicts = [
        Verdict("v1", "onnx:cpu", "quality", PASS),
        Verdict("v1", "onnx:cpu", "placement", PASS),
        Verdict("v1", "onnx:webgpu", "quality", MISMATCH, "far off", {"sqnr_db": 3.0}),
        Verdict("v1", "onnx:webgpu", "placement", PASS),
        Verdict("v2", "onnx:cpu", "quality", PASS),
    ]
    matrix, rest = rendered(verdicts)
    assert [cells(line) for line in matrix[1:3]] == [["", "onnx:", "onnx:"], ["variant and check", "cpu", "webgpu"]]
    assert row(matrix, "v1") == ["v1", "PASS", "MISMATCH"]
    assert row(matrix, "quality") == ["quality", "PASS", "MISMATCH"]
    assert row(matrix, "placement") == ["placement", "PASS", "PASS"]
    assert row(matrix, "v2") == ["v2", "PASS", "·"]
    assert row(rest, "v1") == ["v1", "onnx:webgpu", "quality", "OUTPUT_MISMATCH", "far off; sqnr db 3"]
    assert len([line for line in rest if "│" in line]) == 1


def test_everything_passed_needs_no_second_table() -> None:
    verdicts = [Verdict("v1", target, "quality", PASS) for target in ("onnx:cpu", "onnx:webgpu")]
    assert len(rendered(verdicts)) == 1


def test_what_is_said_of_a_variant_as_a_whole_stands_in_its_own_row() -> None:
    verdicts = [
        Verdict("v1", "onnx:cpu", "quality", PASS),
        Verdict("v1", "onnx:qnn-htp", "load", Outcome.LOAD_FAILED, "no"),
        Verdict("v2", "onnx:cpu", "applicable", NOT_RUN, "it takes fp32"),
        Verdict("v2", "onnx:qnn-htp", "run", Outcome.RUN_FAILED, "it hung"),
    ]
    matrix, rest = rendered(verdicts)
    assert row(matrix, "v1") == ["v1", "PASS", "LOAD_FAILED"]
    assert row(matrix, "quality") == ["quality", "PASS", "·"]
    assert row(matrix, "v2") == ["v2", "NOT_RUN", "RUN_FAILED"]
    assert not any("load" in line or "applicable" in line for line in matrix)
    assert len([line for line in rest if "│" in line]) == 3


def test_the_worst_of_several_outputs_is_shown() -> None:
    verdicts = [
        Verdict("v1", "onnx:cpu", "quality", MISMATCH),
        Verdict("v1", "onnx:cpu", "quality", PASS),
        Verdict("v1", "onnx:webgpu", "quality", PASS),
        Verdict("v1", "onnx:webgpu", "quality", NOT_RUN),
    ]
    assert row(rendered(verdicts)[0], "quality") == ["quality", "MISMATCH", "NOT_RUN"]


def test_the_same_of_several_variants_is_told_once() -> None:
    verdicts = [Verdict(v, "onnx:cpu", "quality", PASS) for v in ("v1", "v2")]
    verdicts += [Verdict(v, "onnx:webgpu", "load", NOT_RUN, "the driver is missing") for v in ("v1", "v2")]
    rest = rendered(verdicts)[-1]
    assert row(rest, "v1, v2") == ["v1, v2", "onnx:webgpu", "load", "NOT_RUN", "the driver is missing"]


def test_formats_have_a_matrix_each_and_a_target_without_variant_is_told_below() -> None:
    verdicts = [
        Verdict("o1", "onnx:cpu", "quality", PASS),
        Verdict("o1", "onnx:webgpu", "quality", PASS),
        Verdict("t1", "tflite:xnnpack", "quality", PASS),
        Verdict("-", "executorch:xnnpack", "applicable", NOT_RUN, "the bundle has no variant for executorch"),
    ]
    onnx, tflite, rest = rendered(verdicts)
    assert row(onnx, "o1") == ["o1", "PASS", "PASS"]
    assert row(tflite, "t1") == ["t1", "PASS"]
    assert not any("executorch" in line for line in (*onnx, *tflite))
    assert row(rest, "-")[1] == "executorch:xnnpack"


def test_more_targets_than_the_terminal_holds_go_into_further_matrices() -> None:
    targets = [f"onnx:accelerator{i}" for i in range(9)]
    parts = rendered([Verdict("v1", target, "prefill against decoding", Outcome.FELL_BACK) for target in targets])
    *matrices, _ = parts
    assert len(matrices) == 3
    assert all(len(line) <= 100 and "…" not in line for matrix in matrices for line in matrix)
    shown = [cell for matrix in matrices for cell in cells(matrix[2])[1:]]
    assert shown == [target.partition(":")[2] for target in targets]


def test_one_target_has_the_table_with_all_figures() -> None:
    verdicts = [
        Verdict("v1", "onnx:cpu", "quality", PASS, figures={"sqnr_db": 92.0}),
        Verdict("t1", "tflite:xnnpack", "quality", PASS, figures={"sqnr_db": 91.0}),
    ]
    (table,) = rendered(verdicts)
    assert row(table, "v1") == ["v1", "onnx:cpu", "quality", "PASS", "sqnr db 92"]


def test_nothing_is_an_empty_table() -> None:
    assert len(rendered([])) == 1


def test_odd_names_are_shown_as_they_are() -> None:
    verdicts = [Verdict(HOSTILE, target, HOSTILE, MISMATCH, HOSTILE) for target in ("onnx:cpu", "onnx:[/b]")]
    matrix, rest = rendered(verdicts, width=200)
    assert row(matrix, HOSTILE) == [HOSTILE, "MISMATCH", "MISMATCH"]
    assert cells(matrix[2]) == ["variant and check", "cpu", "[/b]"]
    assert row(rest, HOSTILE)[1:] == ["onnx:cpu", HOSTILE, "OUTPUT_MISMATCH", HOSTILE]
