"""The suite as pytest runs it, in a process of its own: by the plugin's options and the package's tests."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fastserve_runtime.bundle.golden import read_golden, write_golden
from manifests import CHECKS, GOLDEN, file_entries, text_bundle, variant, write_directory, write_zip

# Loaded by name, as it is where the package was installed before it had a plugin; and not a second time where not.
PLUGIN = ["-p", "no:fastserve", "-p", "fastserve_device_tests.pytest_plugin"]
SUITE = ["--pyargs", "fastserve_device_tests"]


def run_pytest(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *PLUGIN, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, timeout=300)


def test_every_verdict_of_a_variant_is_a_subtest(tmp_path: Path) -> None:
    write_directory(tmp_path / "text.fsb", *text_bundle())
    options = ["--fastserve-bundle", "text.fsb"]  # and on what this machine's own processor executes
    done = run_pytest(tmp_path, *SUITE, "-v", "-rs", "--junit-xml", tmp_path / "junit.xml", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_variant_on_target[first-onnx:cpu] PASSED" in done.stdout
    for check in CHECKS:
        assert f"[{check}]" in done.stdout
    assert "the bundle has no variant for tflite" in done.stdout
    names = {p.get("name") for p in ElementTree.parse(tmp_path / "junit.xml").iter("property")}
    assert {"quality: sqnr_db", "executor: largest_error"} <= names


def test_a_failure_fails_with_its_outcome_and_figures_and_without_a_traceback(tmp_path: Path) -> None:
    document, contents = text_bundle()
    golden = read_golden(contents[GOLDEN])
    other = {name: -values for name, values in golden.artifact.items()}
    contents[GOLDEN] = write_golden(replace(golden, reference=other))
    document["files"] = file_entries(contents)
    location = write_zip(tmp_path / "text.fsb.zip", document, contents)
    done = run_pytest(tmp_path, *SUITE, "--fastserve-bundle", location, "--fastserve-target", "onnx:cpu")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "OUTPUT_MISMATCH: sentence_embedding: SQNR" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert "check_pairing" not in done.stdout


def test_what_cannot_be_checked_is_skipped_with_the_reason(tmp_path: Path) -> None:
    document, contents = text_bundle()
    requires = {"engine": "onnxruntime", "min_version": "999.0", "backends": [], "platforms": []}
    document["variants"].append(variant("second", requires=requires))
    write_directory(tmp_path / "text.fsb", document, contents)
    done = run_pytest(tmp_path, *SUITE, "-rs", "--fastserve-bundle", "text.fsb", "--fastserve-target", "onnx:cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 skipped" in done.stdout
    assert "needs onnxruntime 999.0 or later" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fastserve-bundle", "nowhere.fsb"], "There is no bundle at"),
        (["--fastserve-bundle", "text.fsb", "--fastserve-target", "onnx:gpu"], "There is no target 'onnx:gpu'."),
    ],
)
def test_what_is_wrong_with_the_options_is_a_sentence(tmp_path: Path, options: list[str], message: str) -> None:
    write_directory(tmp_path / "text.fsb", *text_bundle())
    done = run_pytest(tmp_path, *SUITE, *options)
    assert done.returncode == 2
    assert message in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_without_a_bundle_the_suite_is_skipped(tmp_path: Path) -> None:
    done = run_pytest(tmp_path, *SUITE, "-rs")
    assert done.returncode == 0
    assert "no --fastserve-bundle was given" in done.stdout


def test_other_runs_of_pytest_get_two_options_and_import_nothing_of_fastserve(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\n"
        "def test_imports():\n"
        "    ours = {name for name in sys.modules if name.startswith('fastserve')}\n"
        "    assert ours == {'fastserve_device_tests', 'fastserve_device_tests.pytest_plugin'}\n"
    )
    done = run_pytest(tmp_path, tmp_path)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
    shown = run_pytest(tmp_path, "--help").stdout
    assert "--fastserve-bundle=BUNDLE" in shown
    assert "--fastserve-target=TARGET" in shown
