import numpy as np
import pytest

import fastserve_runtime
from fastserve_runtime.errors import UsageError
from fastserve_runtime.pipelines import feature_extraction
from manifests import WIDTH, expected_embeddings, text_bundle, token_ids, word_vectors, write_directory


@pytest.fixture
def embed(tmp_path):
    with fastserve_runtime.load(write_directory(tmp_path / "text.fsb", *text_bundle())) as pipeline:
        yield pipeline


@pytest.fixture
def hidden(tmp_path):
    location = write_directory(tmp_path / "text.fsb", *text_bundle("last_hidden_state"))
    with fastserve_runtime.load(location) as pipeline:
        yield pipeline


def test_the_pipeline_is_that_of_its_task(embed):
    assert embed.task == "feature-extraction"
    assert isinstance(embed, feature_extraction.FeatureExtraction)


def test_one_text_gives_one_embedding(embed):
    result = embed("a b")
    assert (result.shape, result.dtype) == ((WIDTH,), np.float32)
    np.testing.assert_allclose(result, expected_embeddings(["a b"])[0], rtol=1e-6)


@pytest.mark.parametrize("texts", [["a b"], ["a", "b c", ""], ("a", "b")])
def test_several_texts_give_a_row_each_in_their_order(embed, texts):
    result = embed(texts)
    assert result.shape == (len(texts), WIDTH)
    np.testing.assert_allclose(result, expected_embeddings(list(texts)), rtol=1e-6)


def test_texts_may_come_one_by_one(embed):
    np.testing.assert_allclose(embed(text for text in ("a", "b")), expected_embeddings(["a", "b"]), rtol=1e-6)


def test_without_pooling_one_text_gives_a_row_for_each_token(hidden):
    result = hidden("a b")
    assert isinstance(result, np.ndarray)
    np.testing.assert_array_equal(result, word_vectors()[[i for i in token_ids("a b") if i]])


def test_without_pooling_several_texts_give_a_list_without_padding(hidden):
    texts = ["a b", "", "a b c d e f"]
    results = hidden(texts)
    assert [len(result) for result in results] == [4, 2, 8]
    for text, result in zip(texts, results, strict=True):
        np.testing.assert_array_equal(result, word_vectors()[[i for i in token_ids(text) if i]])


@pytest.mark.parametrize("inputs", [[], [3], ["a", None]])
def test_what_is_no_text_is_refused(embed, inputs):
    with pytest.raises(UsageError, match="A text is wanted"):
        embed(inputs)


def test_a_closed_pipeline_is_refused(embed):
    embed.close()
    embed.close()
    with pytest.raises(UsageError, match="The session is closed"):
        embed("a")
