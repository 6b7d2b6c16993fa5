"""A conversation in the terminal, typed by a person or by another program."""

from __future__ import annotations

import io
import os
import select
import signal
import sys
import time
from pathlib import Path

import pytest

from fastserve_runtime.errors import EnvironmentFailure
from fastserve_runtime.generation.shared_cache import SharedCacheDecoder
from generation_bundles import ids, text_of
from interrupts import press_ctrl_c


@pytest.fixture
def bundle(generation_bundle) -> Path:
    return generation_bundle()


@pytest.fixture
def said(greedy):
    """What the model answers to a conversation of this text."""

    def said(text: str, count: int = 4) -> str:
        return text_of(greedy(ids(text), count))

    return said


@pytest.fixture
def chat(command, bundle, monkeypatch):
    """Type lines and return how the command ended."""

    def chat(*lines: str, flags=(), count=4):
        typed = "".join(f"{line}\n" for line in lines)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed.encode())))
        return command("run", bundle, "--chat", "--max-new-tokens", count, *flags)

    return chat


CUT = "(cut off by --max-new-tokens)\n"


def test_answers_follow_from_the_conversation(chat, said, prompts):
    first = said("uA;a")
    second = said(f"uA;a{first};uB;a")
    assert chat("A", "B") == (0, f"{first}\n{second}\n", CUT * 2)
    assert prompts == ["uA;a", f"uA;a{first};uB;a"]


def test_a_line_that_ends_with_a_backslash_goes_on(chat, prompts):
    chat("A\\", "B")
    chat("A\\")
    assert prompts == ["uA\nB;a", "uA;a"]


def test_empty_lines_are_no_messages_and_a_doubled_slash_is_one(chat, prompts):
    chat("", "  ", "//x")
    assert prompts == ["u/x;a"]


def test_exit_ends_it(chat, prompts):
    assert chat("A", "/exit", "B").code == 0
    assert prompts == ["uA;a"]


def test_reset_forgets_all_but_the_system_message(chat, prompts):
    ended = chat("A", "/reset", "B", flags=["--system", "S"])
    assert prompts == ["sS;uA;a", "sS;uB;a"]
    assert "The conversation is forgotten." in ended.err


def test_help_tells_every_command(chat):
    told = chat("/help").err
    for name in ("/exit", "/reset", "/save FILE", "/load FILE", "/help", "Ctrl-C"):
        assert name in told


def test_save_and_load(chat, said, prompts, tmp_path):
    first = said("uA;a")
    saved = chat("A", f"/save {tmp_path / 'my session'}")
    assert saved.code == 0
    assert f"Saved to {tmp_path / 'my session'}." in saved.err
    loaded = chat("Z", f"/load {tmp_path / 'my session'}", "B")
    assert prompts == ["uA;a", "uZ;a", f"uA;a{first};uB;a"]
    assert "2 messages" in loaded.err


def test_what_can_be_mended_is_told_and_it_goes_on(chat, prompts, tmp_path):
    (tmp_path / "notes").write_text("mine")
    ended = chat("/dance", "/save", f"/save {tmp_path}/notes", f"/load {tmp_path}/no\x1bwhere", "A")
    assert ended.code == 0
    assert prompts == ["uA;a"]
    for told in (
        "no command '/dance'",
        "/save needs a file",
        "no saved session",
        "no saved session at",
        "no\\x1bwhere",
    ):
        assert told in ended.err


def test_a_conversation_that_is_too_long_is_told(chat, said, prompts):
    ended = chat("A", "x" * 60, "B", "/reset", "C")
    assert prompts == ["uA;a", f"uA;a{said('uA;a')};uB;a", "uC;a"]
    assert "the context takes 64" in ended.err
    assert "/reset begins a new conversation" in ended.err


def test_a_window_lets_the_oldest_turns_go(chat, said, prompts):
    ended = chat("A" * 20, "B" * 20, "C" * 20, flags=["--overflow", "window"])
    first = said(f"u{'A' * 20};a")
    second = said(f"u{'A' * 20};a{first};u{'B' * 20};a")
    assert prompts == [
        f"u{'A' * 20};a",
        f"u{'A' * 20};a{first};u{'B' * 20};a",
        f"u{'B' * 20};a{second};u{'C' * 20};a",
    ]
    assert "The oldest turn does not fit into the context of 64 tokens" in ended.err


def test_the_end_of_the_context_is_told(chat):
    assert "(cut off by the end of the context" in chat("A" * 50, count=30).err


def test_a_refusal_of_the_template_is_told_and_leaves_no_message(command, generation_bundle, prompts, monkeypatch):
    template = "{% for m in messages %}{% if m.content == 'no' %}{{ raise_exception('Not so') }}{% endif %}"
    template += "{{ m.role[0] }}{{ m.content }};{% endfor %}a"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"no\nA\n")))
    ended = command(
        "run", generation_bundle(chat_template=template), "--chat", "--max-new-tokens", "4", "--system", "S"
    )
    assert (ended.code, prompts) == (0, ["sS;uA;a"])
    assert "refuses the conversation: Not so. Change the messages." in ended.err


def test_a_session_file_is_restored_and_saved_at_the_end(chat, said, prompts, tmp_path):
    flags = ["--session", tmp_path / "s"]
    first = said("uA;a")
    assert chat("A", flags=flags).out == first + "\n"
    second = said(f"uA;a{first};uB;a")
    ended = chat("B", flags=[*flags, "--verbose"])
    assert ended.out == second + "\n"
    assert prompts == ["uA;a", f"uA;a{first};uB;a"]
    assert "prompt 13 tokens, 7 of them kept" in ended.err


def test_an_engine_that_fails_ends_it_with_1(chat, monkeypatch):
    def failing(self, tokens):
        raise EnvironmentFailure("The engine failed.")

    monkeypatch.setattr(SharedCacheDecoder, "feed", failing)
    assert chat("A").code == 1


def pressing_ctrl_c(monkeypatch, *, after: int) -> None:
    """Press Ctrl-C once so many tokens were computed, prompts counted as one."""
    feed, calls = SharedCacheDecoder.feed, iter(range(1000))

    def pressed(self, tokens):
        if next(calls) == after:
            press_ctrl_c()
        return feed(self, tokens)

    monkeypatch.setattr(SharedCacheDecoder, "feed", pressed)


def test_ctrl_c_stops_an_answer_and_keeps_the_conversation(chat, said, prompts, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    pressing_ctrl_c(monkeypatch, after=3)
    ended = chat("A", "B", count=9)
    first = said("uA;a", 3)
    assert ended.out == f"{first}\n{said(f'uA;a{first};uB;a', 9)}\n"
    assert prompts == ["uA;a", f"uA;a{first};uB;a"]
    assert ended.err == "(stopped)\n" + CUT
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_before_the_first_token_leaves_nothing(chat, said, prompts, monkeypatch):
    pressing_ctrl_c(monkeypatch, after=0)
    assert chat("A", "B").out == f"\n{said('uB;a')}\n"
    assert prompts == ["uA;a", "uB;a"]


@pytest.mark.parametrize("words", [["/exit"], []])
def test_ctrl_c_twice_ends_it_and_saves(chat, said, prompts, monkeypatch, tmp_path, words):
    chat("A", flags=["--session", tmp_path / "s"])
    written = (tmp_path / "s").stat().st_mtime_ns

    def press_twice(self, tokens):
        press_ctrl_c()
        press_ctrl_c()

    with monkeypatch.context() as patched:
        patched.setattr(SharedCacheDecoder, "feed", press_twice)
        ended = chat("B", *words, flags=["--session", tmp_path / "s"])
    assert (ended.code, ended.out) == (130, "")
    assert (tmp_path / "s").stat().st_mtime_ns > written
    chat("C", flags=["--session", tmp_path / "s"])
    assert prompts[-1] == f"uA;a{said('uA;a')};uC;a"


class Screen:
    """A process at a terminal of its own."""

    def __init__(self, *words):
        import pty

        self.process, self.terminal = pty.fork()
        if not self.process:
            os.execv(sys.executable, [sys.executable, "-m", "fastserve_runtime", *map(str, words)])
        self.content = b""

    @property
    def shown(self):
        return self.content.decode(errors="replace")

    def wait_for(self, text: str) -> None:
        seen, end = len(self.shown), time.monotonic() + 30
        while text not in self.shown[seen:]:
            assert select.select([self.terminal], [], [], end - time.monotonic())[0], self.shown
            self.content += os.read(self.terminal, 4096)

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    def code_after(self, key: str) -> int:
        """Press a key until the process ends: Python's readline misses one that comes just before it waits for keys."""
        for tenth in range(300):
            if tenth % 30 == 0:
                self.type(key)
            time.sleep(0.1)
            ended, status = os.waitpid(self.process, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
        os.kill(self.process, signal.SIGKILL)
        pytest.fail(f"{key!r} did not end it: {self.shown}")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("key", "code"), [("\x04", 0), ("\x03", 130)])
def test_at_a_terminal_there_is_a_prompt_and_keys_end_it(bundle, tmp_path, key, code):
    screen = Screen("run", bundle, "--chat", "--max-new-tokens", "4", "--session", tmp_path / "s")
    screen.wait_for("> ")
    assert "/help shows the commands" in screen.shown
    screen.type("A\\\n")
    screen.wait_for("... ")
    screen.type("B\n")
    screen.wait_for("> ")
    assert "(cut off by --max-new-tokens)" in screen.shown
    assert screen.code_after(key) == code
    assert (tmp_path / "s").exists()
