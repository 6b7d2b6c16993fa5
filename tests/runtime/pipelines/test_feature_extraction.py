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


LONG = "a b c d e f b b c"
PARTS = ["a b c d e f", "b b c"]


def test_a_long_text_that_is_split_gets_the_weighted_mean_of_its_windows(embed):
    first, second = expected_embeddings(PARTS)
    results = embed(["a b", LONG], long_text="split")
    np.testing.assert_allclose(results[0], expected_embeddings(["a b"])[0], rtol=1e-6)
    np.testing.assert_allclose(results[1], first * 6 / 9 + second * 3 / 9, rtol=1e-5)
    np.testing.assert_allclose(embed(LONG, long_text="split"), results[1], rtol=1e-6)


def test_embeddings_of_length_one_stay_so_when_they_are_joined(embed):
    windows = embed.preprocessor.windows([LONG], "split")
    units = np.array([[1, 0, 0, 0], [0, 1, 0, 0]], np.float32)
    joined = feature_extraction.mean_embedding(units, windows, 0)
    np.testing.assert_allclose(joined, np.array([2, 1, 0, 0]) / np.sqrt(5), rtol=1e-6)
    opposite = feature_extraction.mean_embedding(np.array([[1.0, 0], [-2.0, 0]], np.float32), windows, 0)
    np.testing.assert_allclose(opposite, [0, 0], atol=1e-7)


def test_the_states_of_a_split_text_are_those_of_its_words_in_order(hidden):
    states = hidden(LONG, long_text="split")
    ids = [token_ids(PARTS[0])[0], *token_ids(PARTS[0])[1:-1], *token_ids(PARTS[1])[1:4], token_ids(PARTS[1])[4]]
    np.testing.assert_array_equal(states, word_vectors()[ids])
    with pytest.warns(UserWarning, match="cut off"):
        assert len(hidden(LONG)) == 8
