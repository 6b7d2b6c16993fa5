"""Remedies name what package indexes have: none of FastServe's own distributions is on one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomllib

import fastserve_runtime
from fastserve_runtime.engines import ENGINES
from fastserve_runtime.installation import NATIVE_EXECUTORCH, REQUIREMENTS, install_command, update_command

ROOT = Path(fastserve_runtime.__file__).parents[2]


def test_extras_are_those_of_the_distribution() -> None:
    extras = tomllib.loads((ROOT / "runtimes" / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {name: tuple(extras[name]) for name in REQUIREMENTS} == REQUIREMENTS
    assert install_command("text").startswith("pip install 'tokenizers>=")


@pytest.mark.parametrize(
    ("install", "command"),
    [
        ("pip install onnxruntime", "pip install 'onnxruntime>=1.20'"),
        ("pip install executorch torch", "pip install executorch torch, of version 1.20 or later"),
        (NATIVE_EXECUTORCH, f"{NATIVE_EXECUTORCH}, of version 1.20 or later"),
    ],
)
def test_an_update_names_the_version(install: str, command: str) -> None:
    assert update_command(install, "1.20") == command


def test_no_message_installs_a_name_of_ours_from_an_index() -> None:
    ours = re.compile(r"pip install[^\n]*?['\" ]fastserve-(sdk|runtime|executorch)")
    folders = ("sdk/fastserve", "converters/fastserve_converters", "device_tests/fastserve_device_tests")
    for folder in (*folders, "runtimes/fastserve_runtime", "docs"):
        for file in (ROOT / folder).rglob("*.*"):
            if file.suffix in {".py", ".md"}:
                assert not ours.search(file.read_text(encoding="utf-8")), file
    for name in ENGINES.built_in():
        assert not ours.search(ENGINES.load(name).INSTALL)
