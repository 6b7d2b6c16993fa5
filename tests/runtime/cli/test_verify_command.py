from pathlib import Path

import pytest

from fastserve_runtime.engines import ENGINES
from manifests import MODEL, file_entries, text_bundle, text_model, write_directory


def test_each_check_has_its_verdict_and_figures(command, embeddings: Path):
    ended = command("verify", embeddings)
    assert (ended.code, ended.err) == (0, "")
    rows = [line.split(maxsplit=4) for line in ended.out.splitlines()[2:]]
    assert [row[:4] for row in rows] == [
        ["first", "onnx", "preprocessing", "PASS"],
        ["first", "onnxruntime", "quality", "PASS"],
        ["first", "onnxruntime", "executor", "PASS"],
    ]
    assert "sqnr db" in rows[1][4]


def test_json_has_the_bundle_its_id_and_the_verdicts(command, embeddings: Path):
    document = command("verify", embeddings, "--json", "--variant", "first", "--engine", "onnxruntime").document
    assert list(document) == ["bundle", "digest", "verdicts"]
    assert document["bundle"] == str(embeddings)
    assert {v["outcome"] for v in document["verdicts"]} == {"PASS"}


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    """A bundle whose model fails for some of the golden texts."""
    document, contents = text_bundle()
    contents[MODEL] = text_model(rows=6)
    return write_directory(tmp_path / "wrong.fsb", document | {"files": file_entries(contents)}, contents)


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_wrong_model_ends_with_4(command, wrong: Path, as_json):
    ended = command("verify", wrong, *as_json)
    assert ended.code == 4
    assert "RUN_FAILED" in ended.out


def test_a_bundle_that_cannot_be_run_ends_with_1_and_the_reason(command, embeddings: Path, monkeypatch):
    monkeypatch.setattr(ENGINES.load("onnxruntime"), "version", lambda: None)
    ended = command("verify", embeddings)
    assert ended.code == 1
    assert "NOT_RUN" in ended.out
    assert ended.err.startswith("Error: All files are whole, but no variant could be run here.\n")
    assert "pip install onnxruntime" in ended.err
    as_json = command("verify", embeddings, "--json")
    assert (as_json.code, as_json.err) == (1, "")
    assert [v["outcome"] for v in as_json.document["verdicts"]] == ["NOT_RUN"]


def test_a_damaged_bundle_ends_with_5(command, embeddings: Path):
    (embeddings / MODEL).write_bytes(b"")
    ended = command("verify", embeddings, "--json")
    assert ended.code == 5
    assert ended.document["error"]["exit_code"] == 5
    assert MODEL in ended.err


def test_a_variant_that_is_not_there_ends_with_2(command, embeddings: Path):
    ended = command("verify", embeddings, "--variant", "second")
    assert ended.code == 2
    assert "It has: first." in ended.err
