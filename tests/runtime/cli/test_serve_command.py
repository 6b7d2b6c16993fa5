"""The server as its own process: how it starts, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import httpx
import openai
import pytest

from fastserve_runtime.cli import main
from fastserve_runtime.errors import EXIT_ENVIRONMENT, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE
from manifests import text_bundle, write_directory

TOKEN = "correct-horse-battery"


@contextmanager
def serving(*words: object, program: str = "fastserve_runtime", environment: dict[str, str] | None = None):
    """A server's process and the document that it told when it was ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", program, "serve", *map(str, words), "--port", "0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    try:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield process, json.loads(line)
    finally:
        process.kill()
        process.communicate()


def ended(process, number) -> tuple[int, str, str]:
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    return process.returncode, out, err


def test_ctrl_c_ends_it_with_130(tmp_path, generation_bundle) -> None:
    text = generation_bundle("text.fsb")
    vectors = write_directory(tmp_path / "vectors.fsb", *text_bundle())
    with serving(text, vectors) as (process, ready):
        assert ready["models"] == ["text", "vectors"]
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", ready["url"])
        with openai.OpenAI(base_url=f"{ready['url']}/v1", api_key="none", max_retries=0) as client:
            assert len(client.embeddings.create(model="vectors", input="a b").data[0].embedding) == 4
            stream = client.completions.create(model="text", prompt="Once", max_tokens=40, stream=True)
            assert next(iter(stream)).object == "text_completion"
            code, out, err = ended(process, signal.SIGINT)
    assert (code, out) == (EXIT_INTERRUPTED, "")
    assert err == f"Serving text, vectors at {ready['url']}; Ctrl-C ends it.\nError: Interrupted.\n"


def test_sigterm_ends_it_with_0(tmp_path) -> None:
    bundle = write_directory(tmp_path / "vectors.fsb", *text_bundle())
    with serving(bundle, "--host", "0.0.0.0", environment={"FASTSERVE_TOKEN": TOKEN}) as (process, ready):
        url = ready["url"].replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{url}/v1/models").status_code == 401
        code, out, err = ended(process, signal.SIGTERM)
    assert (code, out) == (EXIT_OK, "")
    assert err.splitlines() == [f"Serving vectors at {ready['url']}; Ctrl-C ends it."]


def test_requests_are_logged_with_debug_only(tmp_path) -> None:
    bundle = write_directory(tmp_path / "vectors.fsb", *text_bundle())
    with serving(bundle, "--debug") as (process, ready):
        httpx.get(f"{ready['url']}/health")
        _, _, err = ended(process, signal.SIGTERM)
    assert '"GET /health HTTP/1.1" 200' in err


@pytest.fixture
def command(capsys):
    """Run the command until it fails, in this process."""

    def command(*words: object):
        return main([str(word) for word in words]), capsys.readouterr().err

    return command


def test_a_port_in_use_is_told(tmp_path, command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, err = command("serve", tmp_path / "nowhere.fsb", "--port", port)
    assert (code, f"Port {port} of 127.0.0.1 is in use." in err) == (EXIT_ENVIRONMENT, True)


def test_other_machines_are_served_only_with_a_token(embeddings, command, monkeypatch) -> None:
    monkeypatch.delenv("FASTSERVE_TOKEN", raising=False)
    code, err = command("serve", embeddings, "--host", "0.0.0.0")
    assert code == EXIT_USAGE
    assert "no token" in err
    assert "--token-file" in err


def test_what_cannot_be_served_is_told(command, tmp_path) -> None:
    hidden = write_directory(tmp_path / "hidden.fsb", *text_bundle("last_hidden_state"))
    code, err = command("serve", hidden, "--port", 0)
    assert (code, "not one embedding of a text" in err) == (EXIT_USAGE, True)
    assert command("serve", tmp_path / "nowhere.fsb", "--port", 0)[0] == EXIT_USAGE


def test_missing_libraries_are_named(embeddings, command, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, err = command("serve", embeddings, "--port", 0)
    assert (code, "pip install 'starlette>=" in err) == (EXIT_ENVIRONMENT, True)


@pytest.mark.slow
def test_the_sdks_command_is_the_same(tmp_path) -> None:
    bundle = write_directory(tmp_path / "vectors.fsb", *text_bundle())
    with serving(bundle, program="fastserve") as (process, ready):
        assert httpx.get(f"{ready['url']}/v1/models").json()["data"][0]["id"] == "vectors"
        code, out, err = ended(process, signal.SIGINT)
    assert (code, out) == (EXIT_INTERRUPTED, "")
    assert "Interrupted" in err
