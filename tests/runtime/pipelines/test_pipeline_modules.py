"""What the runtime knows of a task stands in its pipeline's module, which looking at a bundle imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fastserve_runtime.plugins import PIPELINES


@pytest.mark.parametrize("task", PIPELINES.built_in())
def test_a_module_brings_nothing_but_the_standard_library(task: str) -> None:
    code = (
        "import sys\n"
        "from fastserve_runtime.plugins import PIPELINES\n"
        f"module = PIPELINES.load({task!r})\n"
        "names = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(names & {'numpy', 'tokenizers', 'onnxruntime', 'jinja2'}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("task", PIPELINES.built_in())
def test_a_module_tells_all_of_its_task(task: str) -> None:
    module = PIPELINES.load(task)
    for name in ("open_pipeline", "check_manifest", "quality"):
        assert callable(getattr(module, name))
    assert isinstance(module.OUTPUT_KINDS, dict)
