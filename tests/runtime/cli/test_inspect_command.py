from pathlib import Path

from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.cli.inspection import inspection
from manifests import text_bundle, write_directory, write_zip

HOSTILE = "odd \x1b[31mname"


def test_a_bundle_is_shown(command, embeddings: Path):
    ended = command("inspect", embeddings)
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0] == f"{embeddings}  feature-extraction, schema 1.0"
    assert "source    maker/model at abc, licence apache-2.0" in lines
    assert "no measurements" in lines
    assert any(line.startswith("first (chosen)") and "onnxruntime ≥ 1.18" in line for line in lines)
    assert "  operators: Gather 1" in lines


def test_a_zip_file_is_shown_too(command, tmp_path: Path):
    location = write_zip(tmp_path / "text.fsb.zip", *text_bundle())
    assert command("inspect", location).out.startswith(f"{location}  feature-extraction")


def test_json_is_the_inspection(command, embeddings: Path):
    ended = command("inspect", embeddings, "--json")
    assert (ended.code, ended.err) == (0, "")
    with open_bundle(embeddings) as bundle:
        assert ended.document == inspection(bundle)


def test_names_in_a_bundle_cannot_steer_the_terminal(command, tmp_path: Path):
    document, contents = text_bundle()
    document["variants"][0]["id"] = document["chosen"] = HOSTILE
    document["source"]["name"] = document["preprocessing"]["kind"] = HOSTILE
    document["variants"][0]["operators"][0]["name"] = HOSTILE
    ended = command("inspect", write_directory(tmp_path / "odd.fsb", document, contents))
    assert ended.code == 0
    assert "\x1b" not in ended.out
    assert ended.out.count("odd \\x1b[31mname") >= 5
