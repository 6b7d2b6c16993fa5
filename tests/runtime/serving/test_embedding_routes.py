"""Embeddings through OpenAI's client, from a real engine."""

from __future__ import annotations

import base64

import numpy as np
import openai
import pytest

from fastserve_runtime.loading import load
from manifests import text_bundle, write_directory

TEXTS = ["a b", "c", "d e f"]


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_embeddings_are_the_pipelines(client, embedding_pipeline, encoding) -> None:
    options = {} if encoding is None else {"encoding_format": encoding}
    answer = client.embeddings.create(model="vectors", input=TEXTS, **options)
    vectors = [
        np.frombuffer(base64.b64decode(d.embedding), "<f4") if encoding == "base64" else np.float32(d.embedding)
        for d in answer.data
    ]
    np.testing.assert_array_equal(vectors, embedding_pipeline(TEXTS))
    assert [d.index for d in answer.data] == [0, 1, 2]
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (12, 12)


def test_one_text_gives_one_embedding(real, embedding_pipeline) -> None:
    answer = real.post("/v1/embeddings", {"input": "a b"}).json()
    np.testing.assert_array_equal(np.float32(answer["data"][0]["embedding"]), embedding_pipeline("a b"))
    assert len(answer["data"]) == 1


def test_a_request_names_the_prompt(start, tmp_path) -> None:
    document, contents = text_bundle()
    document["preprocessing"]["settings"] |= {"prompts": {"query": "c d ", "usual": "e "}, "default_prompt": "usual"}
    with load(write_directory(tmp_path / "prompts.fsb", document, contents)) as pipeline:
        running = start({"prompts": pipeline})
        for name, tokens in ((None, 5), ("query", 6), ("", 4)):
            asked = {"input": ["a b"]} | ({} if name is None else {"prompt_name": name})
            answer = running.post("/v1/embeddings", asked).json()
            np.testing.assert_array_equal(np.float32(answer["data"][0]["embedding"]), pipeline("a b", prompt=name))
            assert answer["usage"]["prompt_tokens"] == tokens
        for wrong, said in (("other", "no prompt 'other'. Its prompts are: query, usual"), (3, "prompt_name")):
            refused = running.post("/v1/embeddings", {"input": "a", "prompt_name": wrong})
            assert refused.status_code == 400
            assert said in refused.json()["error"]["message"]
            assert refused.json()["error"]["param"] == "prompt_name"


LONG = "a b c d e f b b c"


def test_a_text_that_is_too_long_is_refused_unless_the_server_says_otherwise(client, start, embedding_pipeline) -> None:
    with pytest.raises(openai.BadRequestError, match=r"input\[1\] has 11 tokens") as refused:
        client.embeddings.create(model="vectors", input=["a", LONG])
    assert refused.value.code == "context_length_exceeded"
    for treatment, tokens in (("truncate", 8), ("split", 11)):
        running = start({"vectors": embedding_pipeline}, long_input=treatment)
        answer = running.post("/v1/embeddings", {"input": LONG}).json()
        if treatment == "split":
            wanted = embedding_pipeline(LONG, long_text="split")
        else:
            with pytest.warns(UserWarning, match="cut off"):
                wanted = embedding_pipeline(LONG)
        np.testing.assert_array_equal(np.float32(answer["data"][0]["embedding"]), wanted)
        assert answer["usage"]["prompt_tokens"] == tokens
