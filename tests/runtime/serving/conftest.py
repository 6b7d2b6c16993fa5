"""Servers in threads of their own, with real small models and with one whose pace is known."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import httpx
import openai
import pytest

from fastserve_runtime.generation.finish import Generation
from fastserve_runtime.generation.prompt_tokenizer import PromptSettings, PromptTokenizer
from fastserve_runtime.loading import load, open_model
from fastserve_runtime.pipelines.text_generation import open_pipeline
from fastserve_runtime.pipelines.text_generation.pipeline import TextStream
from fastserve_runtime.serving.models import ServedModel
from fastserve_runtime.serving.server import HttpServer, listening, url_of
from fastserve_runtime.serving.settings import ServerSettings
from fastserve_runtime.serving.work_queue import WorkQueue
from manifests import text_bundle, write_directory

CONTEXT = 64
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
)
SECONDS_A_PIECE = 0.02
HTTP = httpx.Client(timeout=30)  # each one made reads all certificates of the system


class PacedText:
    """A pipeline that says its prompt's last character again and again, at a known pace."""

    task = "text-generation"

    def __init__(self, *, seconds_before: float = 0.0) -> None:
        self.seconds_before = seconds_before
        self.started: list[str] = []
        self.ended: list[Generation] = []
        self.at_once = 0

    def stream(self, prompt, *, max_new_tokens, is_cancelled, **options):
        text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
        results = []

        def pieces():
            self.started.append(text)
            self.at_once += 1
            assert self.at_once == 1
            time.sleep(self.seconds_before)
            said = []
            while len(said) < max_new_tokens and not is_cancelled():
                time.sleep(SECONDS_A_PIECE)
                if text == "fail" and len(said) == 2:
                    self.at_once -= 1
                    raise RuntimeError("broken")
                said.append(text[-1])
                yield said[-1]
            reason = "length" if len(said) == max_new_tokens else "cancelled"
            results.append(Generation("".join(said), tuple(range(len(said))), reason, len(text), 0.1, 0.1))
            self.ended.append(results[0])
            self.at_once -= 1

        return TextStream(pieces(), lambda: results[0] if results else None)


@dataclass
class Running:
    """A server that runs."""

    url: str
    queues: dict[str, WorkQueue]
    server: HttpServer

    def post(self, route: str, document, **options) -> httpx.Response:
        return HTTP.post(f"{self.url}{route}", json=document, **options)

    def client(self, key: str = "none") -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=30)

    @property
    def unfinished(self) -> int:
        return sum(queue.unfinished for queue in self.queues.values())

    def wait_until(self, condition) -> None:
        wait_for(condition)

    def wait_until_idle(self) -> None:
        wait_for(lambda: self.unfinished == 0)


def wait_for(condition) -> None:
    limit = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < limit, "it did not come"
        time.sleep(0.005)


@contextmanager
def running_server(pipelines, **settings):
    settings = ServerSettings(port=0, **settings)
    queues = {name: WorkQueue(settings.queue) for name in pipelines}
    models = [ServedModel(name, pipeline, queues[name]) for name, pipeline in pipelines.items()]
    with listening(settings.host, 0) as listener:
        server = HttpServer(models, settings, listener)
        thread = threading.Thread(target=server.serve_until_stopped)
        url = url_of(listener)
        thread.start()
        try:
            wait_for(lambda: server.started)
            yield Running(url, queues, server)
        finally:
            server.stop()
            for queue in queues.values():
                queue.close()
            thread.join(10)
            assert not thread.is_alive()


@pytest.fixture(scope="session", autouse=True)
def _closed_client():
    yield
    HTTP.close()


@pytest.fixture
def start():
    """Start a server for pipelines by name; it ends with the test."""
    with ExitStack() as stack:
        yield lambda pipelines, **settings: stack.enter_context(running_server(pipelines, **settings))


@pytest.fixture
def paced():
    """Make pipelines whose pace is known."""
    return PacedText


@pytest.fixture(scope="session")
def text_pipeline(decoder_file, byte_tokenizer):
    settings = PromptSettings(CONTEXT, chat_template=TEMPLATE)
    tokenizer = PromptTokenizer(byte_tokenizer.to_str().encode(), settings)
    with open_pipeline(open_model(decoder_file), tokenizer, {}) as pipeline:
        yield pipeline


@pytest.fixture(scope="session")
def embedding_pipeline(tmp_path_factory):
    with load(write_directory(tmp_path_factory.mktemp("served") / "text.fsb", *text_bundle())) as pipeline:
        yield pipeline


@pytest.fixture(scope="session")
def real(text_pipeline, embedding_pipeline):
    """A server of two real models."""
    with running_server({"tiny": text_pipeline, "vectors": embedding_pipeline}) as running:
        yield running


@pytest.fixture(scope="session")
def client(real):
    with real.client() as client:
        yield client
