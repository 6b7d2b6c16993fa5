"""Flags of `run` follow from the bundle's task."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

import pytest

from fastserve_runtime.cli.task_flags import add_task_flags, run_task
from fastserve_runtime.plugins import PIPELINES


def flags_of(task: str | None) -> set[str]:
    parser = ArgumentParser(add_help=False, conflict_handler="resolve")
    add_task_flags(parser, task)
    return {flag for action in parser._actions for flag in action.option_strings}


def test_each_task_has_flags_of_its_own() -> None:
    assert flags_of("feature-extraction") == flags_of("text-classification") == {"--long-text", "--pair", "--prompt"}
    assert "--query" in flags_of("text-ranking")
    assert {"--question", "--top-k", "--long-text"} <= flags_of("question-answering")
    assert {"--chat", "--top-k"} <= flags_of("text-generation")
    assert flags_of("tensor-to-tensor") == {"--output"}
    assert flags_of(None) == set().union(*map(flags_of, PIPELINES.built_in()))


def test_help_shows_those_of_a_bundle_or_else_of_all(command, embeddings: Path) -> None:
    own = command("run", embeddings, "--help").out
    assert "--long-text" in own
    assert "--query" not in own
    every = command("run", "--help").out
    assert all(flag in every for flag in flags_of(None))


def test_the_task_is_that_of_the_first_bundle(embeddings: Path, tmp_path: Path) -> None:
    other = tmp_path / "state.json"
    other.write_text("{}")
    assert run_task(["run", "--session", str(other), str(embeddings), "a"]) == "feature-extraction"
    assert run_task(["verify", str(embeddings)]) is None
    assert run_task(["run", str(other)]) is None
    assert run_task([]) is None


@pytest.mark.parametrize("words", [["--query", "a"], ["--shout"], ["b", "--query", "a"]])
def test_a_bundle_that_cannot_be_opened_is_told_before_a_flag(command, words: list[str]) -> None:
    ended = command("run", "missing.fsb", *words)
    assert ended.code == 2
    assert "There is no bundle at 'missing.fsb'" in ended.err


def test_flags_of_no_task_are_wrong_usage(command, embeddings: Path) -> None:
    ended = command("run", embeddings, "a", "--shout")
    assert ended.code == 2
    assert "unrecognized arguments: --shout" in ended.err
    ended = command("run", embeddings, "a", "--top-k=3", "--chat", "--json")
    assert ended.code == 2
    assert "--top-k, --chat cannot be used with a bundle of the task 'feature-extraction'" in ended.out + ended.err
