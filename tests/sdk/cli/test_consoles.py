"""What is shown steers no terminal, and a reader that has gone ends no command."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from rich.table import Table

from command_line import FASTSERVE
from fastserve.cli.consoles import error_console, output_console, plain
from manifests import small_bundle, write_directory

STEERING = "a\x1b[31mred\x9b0m\u202e[bold]b"


def test_what_steers_a_terminal_is_shown_as_an_escape(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("heading", title=STEERING)
    table.add_row(STEERING)
    output_console().print(table, STEERING, highlight=False)
    shown = capsys.readouterr().out
    assert not set(shown) & set("\x1b\x9b\u202e")
    assert "a\\x1b[31mred\\x9b0m\\u202e" in shown


def test_plain_text_is_one_line_without_markup(capsys: pytest.CaptureFixture[str]) -> None:
    error_console().print(plain(f"{STEERING}\nNote: whole"), highlight=False, soft_wrap=True)
    assert capsys.readouterr().err == "a\\x1b[31mred\\x9b0m\\u202e[bold]b\\nNote: whole\n"


def test_styles_of_our_own_stay_where_somebody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    console = output_console()
    with console.capture() as captured:
        console.print(f"[bold]{plain(STEERING)}[/]", highlight=False)
    assert captured.get().startswith("\x1b[1ma\\x1b[31mred")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="wants Linux's /dev/full")
@pytest.mark.parametrize("words", [["inspect"], ["inspect", "--json"], ["--help"]])
def test_results_that_cannot_be_written_are_told_and_messages_are_not_missed(words: list[str], tmp_path: Path) -> None:
    bundle = write_directory(tmp_path / "small.fsb", *small_bundle())
    place = [] if words == ["--help"] else [str(bundle)]
    with Path("/dev/full").open("w") as full:
        command = [*FASTSERVE, words[0], *place, *words[1:]]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        told = subprocess.run([*FASTSERVE, "inspect", "nowhere.fsb"], stdout=full, stderr=full, check=False)
    assert (done.returncode, told.returncode) == (1, 2)
    assert done.stderr.startswith("Error: The disk is full")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["inspect"], ["inspect", "--json"]])
def test_a_reader_that_has_gone_is_no_error(words: list[str], tmp_path: Path) -> None:
    bundle = write_directory(tmp_path / "small.fsb", *small_bundle())
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*FASTSERVE, words[0], str(bundle), *words[1:]], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_messages_that_nobody_reads_end_no_command(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*FASTSERVE, "inspect", str(tmp_path / "none.fsb")], stderr=write, check=False)
    os.close(write)
    assert done.returncode == 2
