"""What goes wrong is told in a sentence, with what to do, and the documented exit code; nothing is lost."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

from command_line import FASTSERVE, fastserve_command
from manifests import text_bundle, write_directory


def assert_told(done: object, code: int, *parts: str) -> None:
    assert done.returncode == code, done.stderr
    assert "Error:" in done.stderr
    assert "Traceback" not in done.stderr
    text = " ".join(done.stderr.split())
    for part in parts:
        assert part in text, text


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.fsb"


def test_missing_path_is_no_hub_name(out: Path) -> None:
    done = fastserve_command("export", "no/such-model", "-o", out)
    assert_told(done, 2, "There is no model at 'no/such-model'", "hf:organisation/name")


def test_pickle_checkpoint_is_refused(tiny_bert: Path, out: Path, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_bert, tmp_path / "pickled")
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    done = fastserve_command("export", model, "-o", out)
    assert_told(done, 2, "'pytorch_model.bin' are a pickle", "--allow-pickle")


WITH_PICKLES = ["--allow-pickle", "--format", "onnx", "--precision", "fp32", "--seq-len", "16"]


def test_code_in_a_pickle_is_not_run_even_where_pickles_are_allowed(
    tiny_bert: Path, tmp_path: Path, cache_dir: Path
) -> None:
    import torch

    model = shutil.copytree(tiny_bert, tmp_path / "pickled")
    (model / "model.safetensors").unlink()
    torch.save(Path("evil"), model / "pytorch_model.bin")
    done = fastserve_command("export", model, "-o", tmp_path / "evil.fsb", *WITH_PICKLES, "--cache-dir", cache_dir)
    assert_told(done, 2, "cannot be loaded")


@pytest.mark.slow
def test_a_pickle_of_weights_is_read_where_pickles_are_allowed(
    tiny_bert: Path, tmp_path: Path, cache_dir: Path
) -> None:
    import torch
    from safetensors.torch import load_file

    model = shutil.copytree(tiny_bert, tmp_path / "pickled")
    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    done = fastserve_command("export", model, "-o", tmp_path / "ok.fsb", *WITH_PICKLES, "--cache-dir", cache_dir)
    assert done.returncode == 0, done.stderr


def test_unsupported_architecture_lists_the_supported(out: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": "mamba"}))
    done = fastserve_command("export", tmp_path / "model", "-o", out)
    assert_told(done, 2, "'mamba' is not supported", "albert, bert", "roberta")


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--max-size", "0"),
        ("--max-size", "0MB"),
        ("--max-size", "25 parsecs"),
        ("--max-size", "-3MB"),
        ("--max-latency", "0ms"),
        ("--max-latency", "30"),
        ("--max-memory", "lots"),
        ("--min-quality", "1.5"),
        ("--min-quality", "0"),
    ],
)
def test_nonsense_in_a_budget_is_named(tiny_bert: Path, out: Path, flag: str, value: str) -> None:
    done = fastserve_command("export", tiny_bert, "-o", out, f"{flag}={value}")
    assert_told(done, 2, f"'{value}'")


def test_sequence_longer_than_positions(tiny_bert: Path, out: Path) -> None:
    done = fastserve_command("export", tiny_bert, "-o", out, "--seq-len", "67")
    assert_told(done, 2, "67", "positions for 66", "--seq-len 66")


def test_more_numbers_than_an_embedding_has(tiny_bert: Path, out: Path) -> None:
    done = fastserve_command("export", tiny_bert, "-o", out, "--truncate-dim", "33")
    assert_told(done, 2, "cut to 33 numbers; they have 32", "--truncate-dim 32 or less")


def test_data_is_refused_before_anything_is_loaded(tiny_bert: Path, out: Path, tmp_path: Path) -> None:
    data, cache = tmp_path / "data.csv", tmp_path / "cache"
    data.write_text("text,source\n" + "a sentence,with,commas\n" * 9)
    done = fastserve_command("export", tiny_bert, "-o", out, "--data", data, "--cache-dir", cache)
    assert_told(done, 2, "'data.csv' has 3 fields in line 2, where its heading has 2: text, source.")
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("name", ["HOME", "XDG_CACHE_HOME", "FASTSERVE_CACHE_DIR"])
def test_a_cache_that_cannot_be_written_is_told_at_once(tiny_bert: Path, out: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    environment = {"FASTSERVE_CACHE_DIR": "", "XDG_CACHE_HOME": "", name: str(tmp_path / "file")}
    done = fastserve_command("export", tiny_bert, "-o", out, environment=environment)
    assert_told(done, 1, "The cache folder", "cannot be written", "--cache-dir")


def test_output_that_exists_is_kept(tiny_bert: Path, out: Path) -> None:
    out.mkdir()
    (out / "precious.txt").write_text("mine")
    assert_told(fastserve_command("export", tiny_bert, "-o", out), 2, "exists already", "--force")
    assert_told(fastserve_command("export", tiny_bert, "-o", out, "--force"), 2, "is not a bundle")
    assert (out / "precious.txt").read_text() == "mine"


def test_precisions_are_chosen_and_unknown_ones_refused(tiny_bert: Path, out: Path, cache_dir: Path) -> None:
    words = ["--format", "onnx", "--seq-len", "32", "--cache-dir", cache_dir]
    done = fastserve_command("export", tiny_bert, "-o", out, *words, "--precision", "int2")
    known = "onnx has fp32, fp16, fp32-fused, int8-dynamic,"
    assert_told(done, 2, "No format to be exported has the precision 'int2'.", known)
    done = fastserve_command("export", tiny_bert, "-o", out, *words, "--precision", "fp16", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [v["id"] for v in document["variants"]] == ["onnx-fp16"]
    # It is made from fp32, which is made and neither measured nor shipped.
    assert "Export onnx fp32" in [s["stage"] for s in document["stages"]]
    assert "Measure onnx fp32" not in [s["stage"] for s in document["stages"]]
    assert [v["id"] for v in document["variants"] if v["shipped"]] == ["onnx-fp16"]


def test_unknown_format_and_task(tiny_bert: Path, out: Path) -> None:
    done = fastserve_command("export", tiny_bert, "-o", out, "--format", "onx")
    assert_told(done, 2, "There is no format 'onx'", "Did you mean 'onnx'?")
    done = fastserve_command("export", tiny_bert, "-o", out, "--task", "translation")
    assert_told(done, 2, "There is no task 'translation'", "feature-extraction", "question-answering")


def test_data_without_the_column(tiny_bert: Path, out: Path, tmp_path: Path, cache_dir: Path) -> None:
    (tmp_path / "data.csv").write_text("sentence,label\none,1\n")
    words = ["--data", tmp_path / "data.csv", "--cache-dir", cache_dir]
    done = fastserve_command("export", tiny_bert, "-o", out, *words)
    assert_told(done, 2, "has no column 'text'", "sentence, label", "--text-column")
    assert not out.exists()


@pytest.mark.parametrize("limit", [pytest.param(20_000, marks=pytest.mark.slow), 200_000])
def test_full_disk(tiny_bert: Path, tmp_path: Path, limit: int) -> None:
    def no_large_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    out, cache = tmp_path / "out.fsb", tmp_path / "cache"
    words = ["--format", "onnx", "--seq-len", "16", "--cache-dir", cache]
    done = fastserve_command("export", tiny_bert, "-o", out, *words, before=no_large_files)
    assert_told(done, 1)
    assert not out.exists()
    assert [p.name for p in tmp_path.iterdir() if "unfinished" in p.name] == []
    assert list((cache / "unfinished").iterdir()) == []


def test_full_disk_while_writing_the_bundle_keeps_the_old_one(
    tiny_bundle: Path, tiny_bert: Path, tmp_path: Path, cache_dir: Path
) -> None:
    out = shutil.copytree(tiny_bundle, tmp_path / "out.fsb")
    before = (out / "manifest.json").read_bytes()

    def no_large_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    words = ["--format", "onnx", "--seq-len", "32", "--keep", "all", "--force", "--cache-dir", cache_dir]
    done = fastserve_command("export", tiny_bert, "-o", out, *words, before=no_large_files)
    assert_told(done, 1, "disk is full, or a file grew too large")
    assert (out / "manifest.json").read_bytes() == before
    assert fastserve_command("verify", out).returncode == 0
    assert [p.name for p in tmp_path.iterdir()] == ["out.fsb"]


def test_truncated_and_altered_bundles(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "x.fsb")
    model = bundle / "variants" / "onnx-fp32" / "model.onnx"
    content = model.read_bytes()
    model.write_bytes(content[:-1])
    for command in (["verify", bundle], ["run", bundle, "text", "--variant", "onnx-fp32"], ["conform", bundle]):
        assert_told(fastserve_command(*command), 5, "onnx-fp32/model.onnx", "bytes")
    model.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    for command in (["verify", bundle], ["run", bundle, "text", "--variant", "onnx-fp32"]):
        assert_told(fastserve_command(*command), 5, "altered or damaged")


def test_manifest_of_a_later_major_version(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "x.fsb")
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(manifest | {"schema_version": "2.0"}))
    assert_told(fastserve_command("inspect", bundle), 5, "schema version 2.0", "Update fastserve-runtime")


def test_what_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    assert_told(fastserve_command("inspect", tmp_path / "nothing.fsb"), 2, "There is no bundle at")
    assert_told(fastserve_command("inspect", tmp_path / "notes.txt"), 5, "not a readable bundle")
    assert_told(fastserve_command("verify", tmp_path), 5, "has no manifest.json")


def test_errors_are_a_document_with_json(tmp_path: Path, out: Path) -> None:
    done = fastserve_command("export", tmp_path / "nothing", "-o", out, "--json")
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert error["exit_code"] == 2
    assert "There is no model" in error["problem"]


def test_wrong_executor_output_is_found(tiny_bundle: Path, tmp_path: Path) -> None:
    """A model whose outputs changed, with a manifest to match: integrity is fine, the goldens are not."""
    import hashlib

    import onnx

    bundle = shutil.copytree(tiny_bundle, tmp_path / "x.fsb")
    path = "variants/onnx-int8-dynamic/model.onnx"
    model = onnx.load(bundle / path)
    vector = next(i for i in model.graph.initializer if list(i.dims) == [32] and i.data_type == onnx.TensorProto.FLOAT)
    values = onnx.numpy_helper.to_array(vector).copy()
    values[3] += 0.5
    vector.CopyFrom(onnx.numpy_helper.from_array(values, vector.name))
    onnx.save(model, bundle / path)
    content = (bundle / path).read_bytes()
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"][path] |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    done = fastserve_command("verify", bundle, "--json")
    assert done.returncode == 4
    outcomes = {(v["variant"], v["check"]): v["outcome"] for v in json.loads(done.stdout)["verdicts"]}
    assert outcomes["onnx-int8-dynamic", "executor"] == "OUTPUT_MISMATCH"
    assert outcomes["onnx-fp32", "executor"] == "PASS"
    assert fastserve_command("conform", bundle).returncode == 4


@pytest.mark.parametrize("words", [["--help"], ["targets"], ["inspect"], ["inspect", "--json"]])
def test_an_output_of_ascii_alone_ends_no_command(words: list[str], tmp_path: Path) -> None:
    document, contents = text_bundle()
    document["source"]["name"] = "größtes Modell"
    bundle = write_directory(tmp_path / "größer.fsb", document, contents)
    places = [bundle] if words[0] == "inspect" else []
    environment = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    done = fastserve_command(words[0], *places, *words[1:], environment=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no device that is always full")
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_standard_output_that_is_full_is_told(more: list[str], tmp_path: Path) -> None:
    bundle = write_directory(tmp_path / "a.fsb", *text_bundle())
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*FASTSERVE, "inspect", str(bundle), *more], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert_told(done, 1, "The disk is full", "Free some space.")
