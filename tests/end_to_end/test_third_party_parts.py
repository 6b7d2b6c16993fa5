"""A format and its engine from a scratch package, found by entry points alone."""

from __future__ import annotations

import json
import os
import subprocess
import textwrap
from pathlib import Path

import pytest

from command_line import FASTSERVE

FORMAT = '''
"""A format that hides an ONNX model behind eight bytes of its own."""

from dataclasses import replace

from fastserve_converters.formats import onnx
from fastserve_converters.precisions import FP32
from fastserve_runtime.bundle.manifest import Graph, Requirement

NAME = "scratch"
TOOLS = onnx.TOOLS
MODULES = onnx.MODULES
PRECISIONS = {"fp32": FP32}


def export(job):
    artifact = onnx.export(job)
    content = (job.out / "model.onnx").read_bytes()
    (job.out / "model.onnx").unlink()
    (job.out / "model.scratch").write_bytes(b"SCRATCH0" + content)
    graphs = {"main": Graph("model.scratch", "main", job.part.signature)}
    requires = Requirement("scratch-engine", "1.0", (), ())
    return replace(artifact, files=("model.scratch",), graphs=graphs, requires=requires)
'''

ENGINE = '''
"""Runs it."""

from pathlib import Path

from fastserve_runtime.engines import onnxruntime

NAME = "scratch-engine"
FORMAT = "scratch"
FAMILY = "scratch-engine"
INSTALL = "pip install scratch"


def version():
    return "1.0"


def lacking(variant):
    return []


def import_library():
    return onnxruntime.import_library()


def open_session(model, graphs, *, threads):
    content = model.read_bytes() if isinstance(model, Path) else bytes(model)
    assert content[:8] == b"SCRATCH0"
    return onnxruntime.open_session(memoryview(content[8:]), graphs, threads=threads)
'''


@pytest.mark.slow  # parts of all kinds are in `test_extensions`; here the engine is missing afterwards
def test_format_of_another_package_is_exported_measured_and_run(tiny_bert: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    package = site / "scratch_parts"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "format.py").write_text(FORMAT)
    (package / "engine.py").write_text(ENGINE)
    metadata = site / "scratch_parts-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: scratch-parts\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        textwrap.dedent("""\
            [fastserve.formats]
            scratch = scratch_parts.format
            [fastserve_runtime.engines]
            scratch-engine = scratch_parts.engine
        """)
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*FASTSERVE, *words], capture_output=True, text=True, check=False, env=environment)

    bundle = tmp_path / "x.fsb"
    words = ["--format", "scratch", "--seq-len", "16", "--cache-dir", str(tmp_path / "cache"), "--json"]
    done = command("export", str(tiny_bert), "-o", str(bundle), *words)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["chosen"] == "scratch-fp32"
    assert answer["variants"][0]["measurement"]["engine"] == "scratch-engine"
    run = command("run", str(bundle), "one", "two", "--json")
    assert len(json.loads(run.stdout)[0]["output"]) == 32
    assert command("verify", str(bundle)).returncode == 0
    without = subprocess.run([*FASTSERVE, "verify", str(bundle)], capture_output=True, text=True, check=False)
    assert without.returncode == 1
    assert "No engine is known for the format 'scratch'" in without.stderr
