"""The server gives a page its files and orders, and tells when the page fails; here a client stands for the page."""

from __future__ import annotations

import http.client
import io
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

import fastserve_device_tests.executors.page_server as page_server
from fastserve_device_tests.executors.page_server import PageServer
from fastserve_runtime.errors import EnvironmentFailure
from fastserve_runtime.processes.framing import read_message, write_message


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PageServer]:
    (tmp_path / "index.html").write_text("<p>the page")
    (tmp_path / "lib.wasm").write_bytes(b"\0asm")
    found = PageServer({"": tmp_path / "index.html", "ort/lib.wasm": tmp_path / "lib.wasm"})
    yield found
    found.close()


def request(server: PageServer, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes, dict[str, str]]:
    """Ask for a path below the page's address, or for a whole one."""
    place = urlsplit(server.address)
    connection = http.client.HTTPConnection(place.netloc, timeout=30)
    connection.request(method, path if path.startswith("/") else place.path + path, body)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content, dict(response.getheaders())


def alive() -> None:
    return None


def asked_in_background(
    server: PageServer, order: dict[str, object], **arrays: np.ndarray
) -> tuple[list[Any], threading.Thread]:
    """Ask in a thread, whose answer or error then stands in the list."""
    found: list[Any] = []

    def ask() -> None:
        try:
            found.append(server.ask(order, arrays, alive))
        except EnvironmentFailure as error:
            found.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    return found, thread


def test_an_order_reaches_the_page_and_its_answer_comes_back(server: PageServer) -> None:
    found, thread = asked_in_background(server, {"order": "run"}, ids=np.arange(6, dtype=np.int64).reshape(2, 3))
    status, content, _ = request(server, "GET", "next")
    header, arrays = read_message(io.BytesIO(content))
    assert (status, header) == (200, {"order": "run"})
    answer = io.BytesIO()
    write_message(answer, {"words": ["a"]}, {"out": arrays["ids"].astype(np.float16) / 2})
    assert request(server, "POST", "answer", answer.getvalue())[0] == 204
    thread.join()
    ((fields, outputs),) = found
    assert fields == {"words": ["a"]}
    assert outputs["out"].dtype == np.float16
    assert outputs["out"].tolist() == [[0, 0.5, 1], [1.5, 2, 2.5]]


def test_the_page_and_its_files_are_isolated_from_other_origins(server: PageServer) -> None:
    status, content, headers = request(server, "GET", "")
    assert (status, content, headers["Content-Type"]) == (200, b"<p>the page", "text/html")
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    _, content, headers = request(server, "GET", "ort/lib.wasm")
    assert (content, headers["Content-Type"]) == (b"\0asm", "application/wasm")


@pytest.mark.parametrize("path", ["/", "/next", "/answer", "other", "ort/../index.html", "ort/", "/wrong-token/next"])
def test_nothing_else_is_given_and_nobody_without_the_token_is_answered(server: PageServer, path: str) -> None:
    assert request(server, "GET", path)[0] == 404
    assert request(server, "POST", path, b"x")[0] == 404
    assert server.answers.empty()


def test_it_listens_to_this_machine_alone(server: PageServer) -> None:
    assert urlsplit(server.address).hostname == "127.0.0.1"


def test_a_failure_of_the_page_ends_what_waits_and_all_that_follows(server: PageServer) -> None:
    found, thread = asked_in_background(server, {"order": "run"})
    request(server, "POST", "failure", b"RangeError: out of memory")
    thread.join()
    assert str(found[0]) == "The page failed: RangeError: out of memory. Use another target."
    with pytest.raises(EnvironmentFailure, match="out of memory"):
        server.ask({}, {}, alive)


@pytest.mark.parametrize("body", [b"", b"rubbish", b"\2\0\0\0{}", b"\4\0\0\0null"])
def test_an_answer_that_is_no_message_is_told(server: PageServer, body: bytes) -> None:
    found, thread = asked_in_background(server, {"order": "run"})
    request(server, "POST", "answer", body)
    thread.join()
    assert "The page's answer is no message" in str(found[0])


def test_a_page_whose_connection_ends_is_gone(server: PageServer) -> None:
    place = urlsplit(server.address)
    with socket.create_connection((place.hostname or "", place.port or 0)) as connection:
        connection.sendall(f"GET {place.path}presence HTTP/1.1\r\nHost: page\r\n\r\n".encode())
        found, thread = asked_in_background(server, {"order": "run"})
        assert request(server, "GET", "next")[0] == 200
        assert not found
    thread.join()
    assert "The page is gone" in str(found[0])


def test_an_obstacle_ends_the_wait(server: PageServer) -> None:
    with pytest.raises(EnvironmentFailure, match=r"^The browser ended with exit code 1\. Use another target\.$"):
        server.ask({}, {}, lambda: "The browser ended with exit code 1")


def test_a_page_that_asks_in_vain_asks_again(server: PageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_server, "_POLL_SECONDS", 0.05)
    assert request(server, "GET", "next")[0] == 204
    server.orders.put(json.dumps({}).encode())
    assert request(server, "GET", "next")[:2] == (200, b"{}")
