"""`cache list` and `cache prune` as a user sees them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fastserve.cache.cache import Cache
from fastserve.cli import app

pytestmark = pytest.mark.usefixtures("untouched_warnings_and_logging")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Cache(tmp_path / "cache") as cache:
        for number in range(3):
            cache.make(
                "artifact",
                {"job": {"format": "onnx", "precision": "int4"}, "number": number},
                lambda out: (out / "model").write_bytes(bytes(10_000)),
            )
    (cache.root / "artifact" / "notes.txt").write_text("mine")
    return cache.root


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["cache", *map(str, words)], env={"COLUMNS": "200"})


def test_list_shows_each_step_and_the_sum(folder: Path) -> None:
    result = call("list", "--cache-dir", folder)
    assert result.exit_code == 0
    assert result.stdout.count("onnx int4") == 3
    assert "3 finished steps, 3" in result.stdout


def test_list_as_json(folder: Path) -> None:
    document = json.loads(call("list", "--cache-dir", folder, "--json").stdout)
    assert document["folder"] == str(folder)
    assert len(document["entries"]) == 3
    assert document["bytes"] == sum(e["bytes"] for e in document["entries"]) > 30_000


def test_an_empty_cache_is_no_error(tmp_path: Path) -> None:
    result = call("list", "--cache-dir", tmp_path)
    assert (result.exit_code, "0 finished steps, 0 B" in result.stdout) == (0, True)
    result = call("prune", "--max-size", "1kB", "--cache-dir", tmp_path)
    assert (result.exit_code, "Removed 0 steps, 0 B; 0 B stay." in result.stdout) == (0, True)


def test_prune_removes_until_the_rest_fits_and_nothing_else(folder: Path) -> None:
    tried = json.loads(call("prune", "--max-size", "15kB", "--dry-run", "--json", "--cache-dir", folder).stdout)
    assert (tried["dry_run"], len(tried["removed"])) == (True, 2)
    assert len(json.loads(call("list", "--cache-dir", folder, "--json").stdout)["entries"]) == 3
    done = call("prune", "--max-size", "15kB", "--cache-dir", folder)
    assert done.exit_code == 0
    assert "Removed 2 steps, 2" in done.stdout
    assert len(json.loads(call("list", "--cache-dir", folder, "--json").stdout)["entries"]) == 1
    assert (folder / "artifact" / "notes.txt").read_text() == "mine"


def test_prune_names_what_is_in_use(folder: Path) -> None:
    with Cache(folder) as running:
        assert running.find("artifact", {"job": {"format": "onnx", "precision": "int4"}, "number": 1}) is not None
        document = json.loads(call("prune", "--max-size", "0", "--json", "--cache-dir", folder).stdout)
        assert (len(document["removed"]), len(document["in_use"])) == (2, 1)
        text = " ".join(call("prune", "--max-size", "0", "--cache-dir", folder).stdout.split())
        assert "1 more, 1" in text
        assert "in use by a running export" in text
    assert len(json.loads(call("prune", "--max-size", "0", "--json", "--cache-dir", folder).stdout)["removed"]) == 1


@pytest.mark.parametrize("age", ["1h", "2w"])
def test_what_was_used_since_stays(folder: Path, age: str) -> None:
    document = json.loads(call("prune", "--older-than", age, "--json", "--cache-dir", folder).stdout)
    assert document["removed"] == []


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["prune"], "Nothing says what may stay."),
        (["prune", "--max-size", "much"], "'much' is not a size."),
        (["prune", "--max-size", "0.1B"], "less than a byte"),
        (["prune", "--older-than", "30"], "'30' is not a time."),
        (["list", "--cache-dir", "/nowhere/at/all"], "There is no folder '/nowhere/at/all'."),
        (["prune", "--max-size", "1GB", "--cache-dir", "/nowhere/at/all"], "There is no folder"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: list[str], problem: str, folder: Path) -> None:
    result = call(*words)
    assert result.exit_code == 2
    assert problem in result.stderr
