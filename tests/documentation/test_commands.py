"""Every command that the README and the documentation show is run, in the order of the page, on a small model."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from checkpoints import save_checkpoint, texts
from decoder_checkpoints import save_decoder_checkpoint
from fastserve_converters.programs.saving import save_program
from torch_modules import TOWERS_EXAMPLE, TwoTowers, tower_samples

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MAKE_TARGETS = re.compile(r"^([a-z-]+):", re.MULTILINE)
# Setting up, installing and removing are tried in a fresh clone, not here.
NOT_RUN = {"pip", "git", "cd", "rm", "python"}
GROUPS = {"cache"}
MODULES = {"fastserve": "fastserve", "fastserve-runtime": "fastserve_runtime"}


def blocks(page: Path, language: str) -> list[str]:
    return [body for kind, body in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]


def commands(page: Path) -> list[list[str]]:
    lines = [line for body in blocks(page, "sh") for line in body.replace("\\\n", " ").splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path) -> Path:
    """A folder with what the pages assume: a model and data. All pages share one cache."""
    folder = tmp_path_factory.mktemp("workshop")
    save_checkpoint(folder / "my-model", sentence=True, layers=1)
    save_checkpoint(folder / "my-retriever", sentence=True, layers=1)
    prompts = {"prompts": {"query": "query: ", "passage": "passage: "}, "default_prompt_name": "passage"}
    (folder / "my-retriever" / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    save_checkpoint(folder / "my-classifier", classify=True, layers=1)
    save_checkpoint(folder / "my-nli", classify=True, layers=1)
    save_checkpoint(folder / "my-reranker", classify=True, layers=1, labels=["LABEL_0"])
    save_checkpoint(folder / "my-reader", answer=True, layers=1)
    (folder / "elbe.txt").write_text("The Elbe rises in the Giant Mountains. It is 1094 km long.")
    asked = [{"question": f"{text.split()[0]}?", "context": text} for text in texts()]
    (folder / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked[:3]))
    answered = [{**row, "answers": [row["context"].split()[0]]} for row in asked]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answered))
    save_decoder_checkpoint(folder / "my-llm", layers=1, positions=512)
    save_program(TwoTowers(), TOWERS_EXAMPLE, folder / "program.pt2")
    np.savez(folder / "samples.npz", **tower_samples(40))
    lines = [text.replace("\n", " ").replace('"', "'") for text in texts()]
    (folder / "reviews.csv").write_text("text\n" + "\n".join(f'"{line}"' for line in lines), encoding="utf-8")
    pairs = "".join(f'"{one}","{other}"\n' for one, other in pairwise(lines))
    (folder / "pairs.csv").write_text("sentence1,sentence2\n" + pairs, encoding="utf-8")
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_make_targets_exist(page: Path) -> None:
    targets = set(MAKE_TARGETS.findall((ROOT / "Makefile").read_text()))
    text = page.read_text(encoding="utf-8")
    used = [words[1] for words in commands(page) if words[0] == "make"] + re.findall(r"`make ([a-z-]+)`", text)
    assert set(used) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_are_known(page: Path) -> None:
    """What is not run must at least be a command with flags that exist."""
    for words in commands(page):
        program = Path(words[0]).name
        assert program in NOT_RUN | {"make"} | set(MODULES), words
        if program in MODULES:
            help_text = help_of(program, *words[1 : 3 if words[1] in GROUPS else 2])
            for word in words[2:]:
                if word.startswith("--"):
                    assert word.partition("=")[0] in help_text, words


@cache
def help_of(program: str, *command: str) -> str:
    if program == "fastserve":
        from typer.testing import CliRunner

        from fastserve.cli import app

        return CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"}).output
    from fastserve_runtime.cli import main

    with redirect_stdout(StringIO()) as shown:
        assert main([*command, "--help"]) == 0, command
    return shown.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_and_snippets_run(page: Path, workshop: Path, cache_dir: Path, tmp_path: Path) -> None:
    run_page(page, workshop, cache_dir, tmp_path)


def run_page(page: Path, workshop: Path, cache_dir: Path, folder: Path) -> None:
    """Run the page's blocks one after the other in a folder with the model and the data."""
    shutil.copytree(workshop, folder, dirs_exist_ok=True)
    environment = {**os.environ, "FASTSERVE_CACHE_DIR": str(cache_dir)}
    for kind, body in BLOCK.findall(page.read_text(encoding="utf-8")):
        if kind == "python":
            calls = [[sys.executable, "-c", body]]
        else:
            lines = [shlex.split(line, comments=True) for line in body.replace("\\\n", " ").splitlines()]
            ours = [words for words in lines if words and Path(words[0]).name in MODULES]
            calls = [
                [sys.executable, "-m", MODULES[Path(words[0]).name], *words[1:]]
                for words in ours
                if "hf:" not in " ".join(words)
            ]
        for call in calls:
            done = subprocess.run(call, capture_output=True, text=True, check=False, cwd=folder, env=environment)
            # A page may show a budget that nothing meets.
            assert done.returncode in {0, 3}, f"{page.name}: {' '.join(call)}\n{done.stdout}\n{done.stderr}"
