"""Telling how far the work is."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from fastserve.progress import PlannedStep, SilentReporter, TerminalReporter, terminal_reporter

STEPS = [PlannedStep("Reference outputs", 15), PlannedStep("Export onnx fp32", 5)]


@pytest.fixture
def progress() -> Progress:
    return Progress(console=Console(file=io.StringIO()), disable=True)


def test_where_there_is_no_terminal_each_step_is_a_line() -> None:
    console = Console(file=io.StringIO(), force_terminal=False)
    with terminal_reporter(console) as reporter:
        reporter.plan(STEPS)
        for step in STEPS:
            reporter.start(step.name)
            reporter.finish(step.name)
    assert console.file.getvalue() == "Reference outputs\nExport onnx fp32\n"


def test_a_terminal_gets_a_bar_that_goes_away() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, legacy_windows=False)
    with terminal_reporter(console) as reporter:
        reporter.plan(STEPS)
        reporter.start("Reference outputs")
    text = console.file.getvalue()
    assert "Reference outputs" in text
    # Cursor up and erase: the bar's line is taken away again.
    assert text.rstrip().endswith("\x1b[2K")


def test_a_finished_step_advances_by_its_weight(progress: Progress) -> None:
    reporter = TerminalReporter(Console(file=io.StringIO()), progress)
    reporter.plan(STEPS)
    (task,) = progress.tasks
    assert task.total == 20
    reporter.start("Reference outputs")
    assert task.description == "Reference outputs"
    assert task.completed == 0
    reporter.finish("Reference outputs")
    assert task.completed == 15
    reporter.finish("Export onnx fp32")
    assert task.finished


def test_a_step_that_was_not_planned_does_not_advance(progress: Progress) -> None:
    reporter = TerminalReporter(Console(file=io.StringIO()), progress)
    reporter.plan(STEPS)
    reporter.start("Something else")
    reporter.finish("Something else")
    assert progress.tasks[0].completed == 0


def test_a_failure_inside_ends_the_bar() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with pytest.raises(ValueError, match="no"), terminal_reporter(console):
        raise ValueError("no")
    assert "\x1b[?25h" in console.file.getvalue(), "the cursor is shown again"


def test_the_silent_one_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    reporter = SilentReporter()
    reporter.plan(STEPS)
    reporter.start("Reference outputs")
    reporter.finish("Reference outputs")
    assert capfd.readouterr() == ("", "")
