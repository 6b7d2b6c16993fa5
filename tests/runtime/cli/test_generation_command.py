"""`run` with a bundle that generates text."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fastserve.cli import app
from fastserve_runtime.generation.shared_cache import SharedCacheDecoder
from fastserve_runtime.pipelines.text_generation.pipeline import TextGeneration
from generation_bundles import ids, text_of
from interrupts import press_ctrl_c

COMMAND = [sys.executable, "-m", "fastserve_runtime", "run"]
TIMES = ("first_token_seconds", "tokens_per_second")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def bundle(generation_bundle) -> Path:
    return generation_bundle()


@pytest.fixture
def continuation(greedy):
    """What the model says behind a text."""

    def continuation(text: str, count: int) -> str:
        return text_of(greedy(ids(text), count))

    return continuation


@pytest.fixture
def typed(monkeypatch):
    def typed(text: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    return typed


def test_a_prompt_is_a_message_of_the_user(command, bundle, continuation, prompts):
    ended = command("run", bundle, "Hi", "--max-new-tokens", "9")
    assert ended == (0, continuation("uHi;a", 9) + "\n", "")
    assert prompts == ["uHi;a"]


def test_raw_continues_the_text_as_it_is(command, bundle, continuation):
    assert command("run", bundle, "Hi", "--raw", "--max-new-tokens", "9").out == continuation("Hi", 9) + "\n"


def test_a_model_without_template_continues_texts(command, generation_bundle, continuation):
    bundle = generation_bundle(chat_template=None)
    assert command("run", bundle, "--max-new-tokens", "9", "Hi").out == continuation("Hi", 9) + "\n"
    for words in (["--system", "Be kind", "Hi"], ["--chat"]):
        ended = command("run", bundle, *words)
        assert (ended.code, ended.out) == (2, "")
        assert f"no chat template, so that {words[0]}" in ended.err


def test_the_system_message_stands_before_each_prompt(command, bundle, continuation, prompts):
    ended = command("run", bundle, "A", "B", "--system", "S", "--max-new-tokens", "4")
    assert ended.out == continuation("sS;uA;a", 4) + "\n\n" + continuation("sS;uB;a", 4) + "\n"
    assert prompts == ["sS;uA;a", "sS;uB;a"]


def test_json_tells_how_it_came_about(command, bundle, continuation):
    document = command("run", bundle, "Hi", "--json", "--max-new-tokens", "9").document
    assert document.pop("first_token_seconds") > 0
    assert document.pop("tokens_per_second") > 0
    assert document == {
        "prompt": "Hi",
        "text": continuation("uHi;a", 9),
        "tokens": 9,
        "finish_reason": "length",
        "prompt_tokens": 5,
        "reused_tokens": 0,
    }


def test_several_prompts_and_standard_input_are_a_list(command, bundle, typed):
    few = ("--json", "--max-new-tokens", "2")
    assert [d["prompt"] for d in command("run", bundle, "A", "B", *few).document] == ["A", "B"]
    typed("one\ntwo\n")
    assert [d["prompt"] for d in command("run", bundle, "-", *few).document] == ["one", "two"]
    typed("one\n")
    assert [d["prompt"] for d in command("run", bundle, "-", *few).document] == ["one"]


def test_figures_are_told_where_they_are_asked_for_or_somebody_looks(command, bundle, monkeypatch):
    assert command("run", bundle, "Hi", "--max-new-tokens", "3").err == ""
    told = command("run", bundle, "Hi", "--max-new-tokens", "3", "--verbose").err
    assert told.startswith("prompt 5 tokens; first token after ")
    assert "; 3 new tokens at " in told
    assert told.endswith("ended by --max-new-tokens\n")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    command("run", bundle, "Hi", "--max-new-tokens", "1")
    assert "; 1 new tokens; " in terminal.getvalue()


def test_a_stop_string_over_several_tokens_ends_the_text(command, bundle, continuation):
    whole = continuation("uHi;a", 20)
    stop = whole[6:9]
    document = command("run", bundle, "Hi", "--stop", "none such", "--stop", stop, "--json").document
    assert document["text"] == whole[: whole.index(stop)]
    assert document["finish_reason"] == "stop"


def test_sampling_is_passed_on(command, bundle):
    def text(*flags):
        words = ("--max-new-tokens", "12", "--temperature", "60", "--json", *flags)
        return command("run", bundle, "Hi", *words).document["text"]

    assert text("--seed", "1") == text("--seed", "1") != text("--seed", "2")
    assert text("--top-k", "1") == text("--temperature", "0")
    assert text("--top-p", "1e-9") == text("--temperature", "0")
    assert text("--temperature", "0", "--repetition-penalty", "1000") != text("--temperature", "0")


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["Hi", "--temperature", "-1"], "temperature"),
        (["Hi", "--max-new-tokens", "0"], "0 new tokens"),
        (["x" * 70, "--max-new-tokens", "0", "--overflow", "window"], "0 new tokens"),
        (["Hi", "--stop", ""], "stop string"),
        (["x" * 70], "context takes 64"),
        (["", "--raw"], "prompt is empty"),
        ([], "No text was given"),
        (["Hi", "--chat"], "takes no texts"),
        (["--chat", "--json"], "--chat and --json"),
        (["--chat", "--raw"], "--chat and --raw"),
        (["Hi", "--raw", "--system", "S"], "--raw and --system"),
        (["Hi", "--long-text", "split"], "--long-text cannot be used with a bundle of the task 'text-generation'"),
    ],
)
def test_what_is_asked_for_wrongly_ends_with_2(command, bundle, words, match):
    ended = command("run", bundle, *words)
    assert ended.code == 2
    assert match in ended.err


def test_options_of_generation_are_refused_for_other_tasks(command, embeddings):
    ended = command("run", embeddings, "a", "--temperature", "1", "--stop", "x", "--chat")
    assert ended.code == 2
    assert "--temperature, --stop, --chat cannot be used with a bundle of the task 'feature-extraction'" in ended.err
    assert CliRunner().invoke(app, ["run", str(embeddings), "a", "--seed", "1"]).exit_code == 2


def test_a_window_keeps_the_end_of_a_long_prompt(command, bundle, prompts):
    words = ("--overflow", "window", "--max-new-tokens", "4", "--json")
    document = command("run", bundle, "y" * 20 + "x" * 60, "--raw", *words).document
    assert document["prompt_tokens"] == 60
    command("run", bundle, "y" * 20 + "x" * 60, *words)
    assert prompts == ["x" * 60, "x" * 58 + ";a"]


def test_a_window_that_has_room_drops_nothing(command, bundle, prompts):
    command("run", bundle, "x" * 50, "--overflow", "window", "--max-new-tokens", "30")
    assert prompts == [f"u{'x' * 50};a"]


@pytest.mark.parametrize(
    ("template", "code", "match"),
    [
        ("{% for %}", 5, "has an error in line 1"),
        ("{% for i in range(10**9) %}x{% endfor %}", 5, "The chat template"),
        ("{{ raise_exception('Be polite') }}", 2, "refuses the conversation: Be polite"),
        ("{{ nothing.at.all }}", 5, "fails (line 1)"),
    ],
)
def test_templates_that_fail_have_their_exit_codes(command, generation_bundle, template, code, match):
    ended = command("run", generation_bundle(chat_template=template), "Hi")
    assert (ended.code, ended.out) == (code, "")
    assert match in ended.err


def test_without_jinja_a_chat_model_ends_with_1(command, bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    ended = command("run", bundle, "Hi")
    assert ended.code == 1
    assert "pip install 'tokenizers>=" in ended.err


def test_a_session_goes_on_with_the_conversation(command, bundle, tmp_path, continuation, prompts):
    words = ("--max-new-tokens", "5", "--session", tmp_path / "s")
    first = command("run", bundle, "A", *words).out.removesuffix("\n")
    document = command("run", bundle, "B", *words, "--json").document
    assert document["text"] == continuation(f"uA;a{first};uB;a", 5)
    assert document["reused_tokens"] == 4 + 4  # the last token of an answer is never fed
    both = command("run", bundle, "A", "B", "--max-new-tokens", "5", "--session", tmp_path / "t", "--json").document
    assert [d["text"] for d in both] == [first, document["text"]]
    assert prompts == ["uA;a", f"uA;a{first};uB;a"] * 2


def test_a_session_of_another_bundle_ends_with_2(command, bundle, generation_bundle, tmp_path):
    command("run", bundle, "A", "--session", tmp_path / "s", "--max-new-tokens", "2")
    ended = command("run", generation_bundle("b.fsb", context=32), "A", "--session", tmp_path / "s")
    assert ended.code == 2
    assert "context of 64 tokens" in ended.err
    (tmp_path / "s").write_bytes(b"damaged")
    ended = command("run", bundle, "A", "--session", tmp_path / "s")
    assert (ended.code, ended.out) == (2, "")
    assert "is no saved session" in ended.err
    assert (tmp_path / "s").read_bytes() == b"damaged"


def test_a_session_that_could_not_be_saved_is_refused_before_anything_is_generated(command, bundle, tmp_path):
    ended = command("run", bundle, "A", "--session", tmp_path / "nowhere" / "s")
    assert (ended.code, ended.out) == (2, "")
    assert "There is no folder" in ended.err


def without_times(documents):
    listed = documents if isinstance(documents, list) else [documents]
    return [{name: value for name, value in d.items() if name not in TIMES} for d in listed]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["Hi", "--max-new-tokens", "9"], 0),
        (["Hi", "Ho", "--raw", "--max-new-tokens", "3", "--temperature", "9", "--seed", "4", "--stop", "x"], 0),
        (["x" * 60, "--overflow", "window", "--max-new-tokens", "8", "--top-k", "3", "--top-p", "0.1"], 0),
        (["Hi", "--system", "S", "--repetition-penalty", "2", "--max-new-tokens", "3"], 0),
        (["x" * 70], 2),
        (["Hi", "--overflow", "window", "--top-p", "7"], 2),
        (["--chat"], 2),
    ],
)
def test_the_document_is_that_of_the_sdk(command, bundle, words, code):
    words = ["run", str(bundle), *words, "--json"]
    ours, theirs = command(*words), CliRunner().invoke(app, words)
    assert (ours.code, theirs.exit_code) == (code, code)
    if code:
        assert ours.document == json.loads(theirs.stdout)
    else:
        assert without_times(ours.document) == without_times(json.loads(theirs.stdout))


def test_the_sdk_shows_the_same_text(command, bundle):
    words = ["run", str(bundle), "Hi", "--max-new-tokens", "9"]
    assert CliRunner().invoke(app, words).stdout == command(*words).out


@pytest.fixture
def odd_bundle(tmp_path, decoder_file, greedy, monkeypatch):
    """A bundle whose model says `<ESC>[2J`, a smiling face and a word written from right to left to `Hi`."""
    import generation_bundles

    said = "\x1b[2J\x9b🙂שלום\u202e\n"
    tokens = greedy(ids("Hi"), 40)
    letters = list(generation_bundles.LETTERS)
    wanted = list(dict.fromkeys(t for t in tokens if t not in ids("Hi")))[: len(said)]
    for token, letter in zip(wanted, said, strict=False):
        other = letters.index(letter)
        letters[token], letters[other] = letters[other], letters[token]
    monkeypatch.setattr(generation_bundles, "LETTERS", letters)
    bundle = generation_bundles.write_generation_bundle(tmp_path / "odd.fsb", decoder_file)
    return bundle, "".join(letters[t] for t in tokens)


def test_what_steers_a_terminal_is_shown_there_and_kept_elsewhere(command, odd_bundle, monkeypatch):
    bundle, said = odd_bundle
    words = ("run", bundle, "Hi", "--raw", "--max-new-tokens", "40")
    assert "\x1b" in said
    assert command(*words).out == said + "\n"
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    command(*words)
    shown = terminal.getvalue()
    assert "\\x1b" in shown
    assert not {"\x1b", "\x9b", "\u202e"} & set(shown)


def test_any_text_is_written_in_a_plain_locale(odd_bundle):
    bundle, said = odd_bundle
    done = subprocess.run(
        [*COMMAND, bundle, "Hi", "--raw", "--max-new-tokens", "40"],
        capture_output=True,
        check=True,
        env={**os.environ, "LC_ALL": "C"},
    )
    assert done.stdout.decode() == said + "\n"
    assert done.stderr == b""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
def test_a_reader_that_stops_early_ends_it(bundle):
    producer = subprocess.Popen([*COMMAND, bundle, "Hi", "Ho"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    producer.stdout.close()
    assert producer.stderr.read() == b""
    producer.stderr.close()
    assert producer.wait(60) == 0


def test_generation_ends_when_nobody_reads(command, bundle, monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    stream, results = TextGeneration.stream, []

    def recording(self, *arguments, **options):
        results.append(stream(self, *arguments, **options))
        return results[-1]

    monkeypatch.setattr(TextGeneration, "stream", recording)
    monkeypatch.setattr(sys, "stdout", Gone())
    assert command("run", bundle, "Hi", "Ho").code == 0
    assert [r.result.finish_reason for r in results] == ["cancelled"]


def test_ctrl_c_ends_it_with_130_and_what_was_said_is_there(command, bundle, continuation, monkeypatch):
    feed, calls = SharedCacheDecoder.feed, iter(range(100))

    def pressed(self, tokens):
        if next(calls) == 4:
            press_ctrl_c()
        return feed(self, tokens)

    monkeypatch.setattr(SharedCacheDecoder, "feed", pressed)
    ended = command("run", bundle, "Hi")
    assert (ended.code, ended.out, ended.err) == (130, continuation("uHi;a", 4), "Error: Interrupted.\n")


@pytest.mark.parametrize(("words", "code"), [(["Hi", "--max-new-tokens", "2"], 0), (["x" * 70], 2), (["--chat"], 0)])
def test_the_model_is_let_go_of_however_it_ends(command, bundle, typed, monkeypatch, words, code):
    typed("")
    close, closed = TextGeneration.close, []

    def closing(self):
        closed.append(self)
        close(self)

    monkeypatch.setattr(TextGeneration, "close", closing)
    assert command("run", bundle, *words).code == code
    assert len(closed) == 1


def test_the_disk_being_full_ends_with_1(bundle):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*COMMAND, bundle, "Hi"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "The disk is full" in done.stderr
    assert "Traceback" not in done.stderr
