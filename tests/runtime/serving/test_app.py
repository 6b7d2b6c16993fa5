"""Which requests are let in, which models answer, and errors in one form."""

from __future__ import annotations

import httpx
import openai
import pytest

TOKEN = "correct-horse-battery"
MESSAGES = [{"role": "user", "content": "Hi"}]


def test_models_are_listed_and_shown(client) -> None:
    listed = client.models.list().data
    assert [model.id for model in listed] == ["tiny", "vectors"]
    shown = client.models.retrieve("vectors")
    assert (shown.object, shown.owned_by) == ("model", "fastserve")
    assert shown == listed[1]
    with pytest.raises(openai.NotFoundError, match="no model 'other'"):
        client.models.retrieve("other")


def test_health_is_told(real) -> None:
    assert httpx.get(f"{real.url}/health").json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("model", "route", "status", "message"),
    [
        ("other", "chat/completions", 404, "There is no model 'other'. Give one of tiny, vectors."),
        ("vectors", "chat/completions", 400, "task feature-extraction. Use /v1/embeddings"),
        ("tiny", "embeddings", 400, "task text-generation. Use /v1/chat/completions"),
    ],
)
def test_a_model_that_cannot_answer_is_named(real, model, route, status, message) -> None:
    answer = real.post(f"/v1/{route}", {"model": model, "messages": MESSAGES, "input": "a"})
    assert answer.status_code == status
    error = answer.json()["error"]
    assert message in error["message"]
    assert (error["type"], error["param"]) == ("invalid_request_error", "model")
    assert error["code"] == ("model_not_found" if status == 404 else None)


def test_a_request_that_names_no_model_means_the_only_one(start, paced) -> None:
    two = start({"first": paced(), "second": paced()})
    answer = two.post("/v1/completions", {"prompt": "a"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")
    chosen = two.post("/v1/completions", {"prompt": "a", "max_tokens": 1, "model": "second"})
    assert chosen.json()["model"] == "second"
    answer = two.post("/v1/embeddings", {"input": "a"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_other_routes_and_methods_are_refused_in_the_same_form(real) -> None:
    for answer, status in ((httpx.get(f"{real.url}/v1/nothing"), 404), (httpx.get(f"{real.url}/v1/completions"), 405)):
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert "POST" in answer.headers["allow"]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}])
def test_without_the_token_nothing_is_answered(start, paced, headers) -> None:
    model = paced()
    running = start({"model": model}, token=TOKEN)
    for answer in (
        running.post("/v1/completions", {"prompt": "a"}, headers=headers),
        httpx.get(f"{running.url}/v1/models", headers=headers),
        httpx.get(f"{running.url}/nowhere", headers=headers),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert TOKEN not in answer.text
    assert model.started == []
    assert httpx.get(f"{running.url}/health").status_code == 200


def test_with_the_token_all_is_answered(start, paced) -> None:
    running = start({"model": paced()}, token=TOKEN)
    with running.client(TOKEN) as client:
        assert client.completions.create(model="model", prompt="ab", max_tokens=2).choices[0].text == "bb"
    with running.client("another") as client, pytest.raises(openai.AuthenticationError):
        client.models.list()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_without_a_token_a_foreign_name_is_refused(real, host) -> None:
    answer = httpx.get(f"{real.url}/v1/models", headers={"Host": host})
    assert answer.status_code == 400
    assert "tiny" not in answer.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]", "[::1]:8080"])
def test_the_names_of_this_machine_are_let_in(real, host) -> None:
    assert httpx.get(f"{real.url}/v1/models", headers={"Host": host}).status_code == 200


def test_a_page_of_another_origin_may_not_send_what_it_can_send_unasked(real) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None):
        headers = {"Origin": "http://evil.example"} | ({} if kind is None else {"Content-Type": kind})
        answer = httpx.post(f"{real.url}/v1/completions", content=b'{"prompt": "a"}', headers=headers)
        assert answer.status_code == 415
    asked = httpx.options(f"{real.url}/v1/completions", headers={"Origin": "http://evil.example"})
    assert "access-control-allow-origin" not in asked.headers
