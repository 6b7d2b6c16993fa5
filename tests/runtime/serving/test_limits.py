"""What a server does when it is asked for too much, and when nobody wants the answer any more."""

from __future__ import annotations

import gc
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import openai
import pytest

from fastserve_runtime.errors import EnvironmentFailure

LONG = 1_000
"""So many pieces take 20 seconds and more."""


def request_line(running, document, *, length: int | None = None) -> socket.socket:
    """Send a completion request over a socket of its own, and leave the answer unread."""
    parts = urlsplit(running.url)
    body = json.dumps(document).encode()
    connection = socket.create_connection((parts.hostname, parts.port), timeout=10)
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {length or len(body)}\r\n\r\n".encode() + body)
    return connection


@pytest.fixture
def model(paced):
    return paced()


def test_one_request_is_computed_at_a_time_in_the_order_they_came(start, model) -> None:
    running = start({"model": model})
    with ThreadPoolExecutor(4) as pool:
        answers = []
        for number, prompt in enumerate(("first", "second", "third", "fourth"), start=1):
            answers.append(pool.submit(running.post, "/v1/completions", {"prompt": prompt, "max_tokens": 5}))
            running.wait_until(lambda number=number: running.unfinished + len(model.ended) >= number)
        assert [a.result().json()["choices"][0]["text"] for a in answers] == ["ttttt", "ddddd", "ddddd", "hhhhh"]
    assert model.started == ["first", "second", "third", "fourth"]


def test_a_full_queue_refuses_and_takes_again_once_there_is_room(start, model) -> None:
    running = start({"model": model}, queue=1)
    busy = request_line(running, {"prompt": "a", "max_tokens": LONG})
    running.wait_until(lambda: model.started)
    waiting = request_line(running, {"prompt": "b", "max_tokens": 1})
    running.wait_until(lambda: running.unfinished == 2)
    answer = running.post("/v1/completions", {"prompt": "c", "max_tokens": 1})
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["error"]["type"] == "rate_limit_error"
    with running.client() as client, pytest.raises(openai.RateLimitError):
        client.completions.create(model="model", prompt="c", stream=True)
    busy.close()
    assert b"200 OK" in waiting.recv(1000)
    waiting.close()
    assert running.post("/v1/completions", {"prompt": "c", "max_tokens": 1}).status_code == 200
    assert model.started == ["a", "b", "c"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_ends_its_generation(start, model, stream) -> None:
    running = start({"model": model}, queue=0)
    connection = request_line(running, {"prompt": "a", "max_tokens": LONG, "stream": stream})
    running.wait_until(lambda: model.started)
    if stream:
        assert b"200 OK" in connection.recv(100)
    left = time.monotonic()
    connection.close()
    running.wait_until_idle()
    assert time.monotonic() - left < 0.5
    assert model.ended[0].finish_reason == "cancelled"
    assert running.post("/v1/completions", {"prompt": "b", "max_tokens": 1}).status_code == 200


def test_openais_client_may_leave_a_stream(start, model) -> None:
    running = start({"model": model})
    with running.client() as client:
        stream = client.completions.create(model="model", prompt="a", max_tokens=LONG, stream=True)
        assert next(iter(stream)).choices[0].text == "a"
        stream.close()
        running.wait_until_idle()
    assert len(model.ended[0].tokens) < LONG / 2


def test_a_client_that_goes_while_it_waits_is_never_computed(start, model) -> None:
    running = start({"model": model})
    busy = request_line(running, {"prompt": "a", "max_tokens": LONG})
    running.wait_until(lambda: model.started)
    waiting = request_line(running, {"prompt": "b"})
    running.wait_until(lambda: running.unfinished == 2)
    waiting.close()
    running.wait_until(lambda: running.unfinished == 1)
    busy.close()
    running.wait_until_idle()
    assert model.started == ["a"]


def test_a_request_whose_time_is_over_gives_what_there_is(start, model) -> None:
    running = start({"model": model}, request_seconds=0.4)
    began = time.monotonic()
    answer = running.post("/v1/completions", {"prompt": "a", "max_tokens": LONG}).json()
    assert 0.3 < time.monotonic() - began < 1.5
    text = answer["choices"][0]["text"]
    assert (set(text), answer["choices"][0]["finish_reason"]) == ({"a"}, "length")
    assert answer["usage"]["completion_tokens"] == len(text)
    with running.client() as client:
        chunks = list(client.completions.create(model="model", prompt="a", max_tokens=LONG, stream=True))
    assert chunks[-1].choices[0].finish_reason == "length"


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_whose_time_is_over_before_anything_came_says_so(start, paced, stream) -> None:
    running = start({"model": paced(seconds_before=1.0)}, request_seconds=0.2)
    began = time.monotonic()
    answer = running.post("/v1/completions", {"prompt": "a", "stream": stream})
    assert time.monotonic() - began < 0.8
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "timeout")
    assert answer.headers["x-should-retry"] == "false"
    assert "0.2 seconds" in answer.text
    running.wait_until_idle()


def test_a_request_that_waits_too_long_says_so_and_is_never_computed(start, model) -> None:
    running = start({"model": model}, request_seconds=0.3)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(running.post, "/v1/completions", {"prompt": "a", "max_tokens": LONG})
        running.wait_until(lambda: model.started)
        second = request_line(running, {"prompt": "b"})
        assert first.result().status_code == 200
        assert b" 503 " in second.recv(100) or "b" in model.started
        second.close()


def test_a_request_that_never_comes_whole_is_given_up(start, model) -> None:
    running = start({"model": model}, request_seconds=0.2)
    connection = request_line(running, {"prompt": "a"}, length=500)
    assert b" 408 " in connection.recv(100)
    connection.close()


@pytest.mark.parametrize("is_announced", [True, False])
def test_a_request_that_is_too_large_is_refused(start, model, is_announced) -> None:
    running = start({"model": model}, max_request_bytes=1000)
    content = json.dumps({"prompt": "a" * 3_000_000}).encode()
    body = content if is_announced else (content[i : i + 65536] for i in range(0, len(content), 65536))
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{running.url}/v1/completions", content=body, headers=headers, timeout=20)
    assert answer.status_code == 413
    assert "1000 bytes" in answer.json()["error"]["message"]
    assert model.started == []
    assert running.post("/v1/completions", {"prompt": "a", "max_tokens": 1}).status_code == 200


def test_a_client_that_sends_all_before_it_reads_learns_that_it_is_too_much(start, model) -> None:
    running = start({"model": model}, max_request_bytes=1000)
    connection = request_line(running, {"prompt": "a" * 6_000_000})
    assert b" 413 " in connection.recv(100)
    connection.close()


def test_a_failure_of_the_model_is_told_without_its_details(start, model, caplog) -> None:
    running = start({"model": model})
    answer = running.post("/v1/completions", {"prompt": "fail"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
    assert "broken" not in answer.text
    assert "RuntimeError('broken')" in caplog.text
    with running.client() as client, pytest.raises(openai.APIError, match="did not expect"):
        list(client.completions.create(model="model", prompt="fail", stream=True))
    assert running.post("/v1/completions", {"prompt": "a", "max_tokens": 1}).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_server_that_stops_ends_what_it_computes(start, model, stream) -> None:
    running = start({"model": model})
    with ThreadPoolExecutor(2) as pool:
        document = {"prompt": "a", "max_tokens": LONG, "stream": stream}
        computed = pool.submit(running.post, "/v1/completions", document)
        running.wait_until(lambda: model.started)
        waiting = pool.submit(running.post, "/v1/completions", {"prompt": "b"})
        running.wait_until(lambda: running.unfinished == 2)
        time.sleep(0.05)
        began = time.monotonic()
        running.server.stop()
        assert "shutting_down" in computed.result().text
        assert waiting.result().status_code == 503
    assert time.monotonic() - began < 2
    assert model.started == ["a"]


def test_nothing_leaks(start, paced) -> None:
    running = start({"model": paced()}, queue=2)

    def burden() -> tuple[int, int]:
        gc.collect()
        files = Path("/proc/self/fd")
        return threading.active_count(), len(list(files.iterdir())) if files.is_dir() else 0

    def some_requests(count: int) -> None:
        for number in range(count):
            if number % 3 == 0:
                running.post("/v1/completions", {"prompt": "a", "max_tokens": 1})
            elif number % 3 == 1:
                request_line(running, {"prompt": "b", "max_tokens": LONG, "stream": True}).close()
                running.wait_until_idle()
            else:
                assert running.post("/v1/completions", {"prompt": 3}).status_code == 400
        running.wait_until_idle()

    some_requests(3)
    before = burden()
    some_requests(51)
    limit = time.monotonic() + 3
    while running.server.server_state.tasks and time.monotonic() < limit:
        time.sleep(0.01)
    assert not running.server.server_state.tasks
    assert all(now <= then for now, then in zip(burden(), before, strict=True))


class PacedVectors:
    """A pipeline of embeddings that takes a known time for each text."""

    task = "feature-extraction"

    def __init__(self, real) -> None:
        self.session, self.preprocessor = real.session, real.preprocessor
        self._real = real
        self.embedded: list[str] = []

    def __call__(self, texts, *, prompt=None, long_text):
        self.embedded += texts
        time.sleep(0.1)
        return self._real(texts, prompt=prompt, long_text=long_text)


def test_embeddings_end_between_two_texts(start, embedding_pipeline) -> None:
    model = PacedVectors(embedding_pipeline)
    running = start({"model": model}, request_seconds=0.35)
    answer = running.post("/v1/embeddings", {"input": ["a"] * 50})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "timeout")
    running.wait_until_idle()
    assert 1 <= len(model.embedded) < 10
    few = running.post("/v1/embeddings", {"input": ["a", "b"]})
    assert len(few.json()["data"]) == 2


def test_a_failure_of_the_engine_is_told(start, embedding_pipeline) -> None:
    class Failing(PacedVectors):
        def __call__(self, texts, *, prompt=None, long_text):
            raise EnvironmentFailure("The engine failed.", "Try another.")

    running = start({"model": Failing(embedding_pipeline)})
    answer = running.post("/v1/embeddings", {"input": "a"})
    assert (answer.status_code, answer.json()["error"]["message"]) == (500, "The engine failed. Try another.")
