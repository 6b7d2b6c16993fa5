import hashlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_runtime.bundle.canonical_json import canonical_json, digest

texts = st.text(st.characters(exclude_categories=["Cs"]))
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


def reversed_keys(document):
    if isinstance(document, dict):
        return {key: reversed_keys(document[key]) for key in reversed(document)}
    return [reversed_keys(v) for v in document] if isinstance(document, list) else document


def test_keys_are_sorted_without_spaces_and_letters_stay_as_they_are():
    assert canonical_json({"z": [1, 2.5, None], "a": {"ü": True}}) == '{"a":{"ü":true},"z":[1,2.5,null]}'.encode()


@given(documents)
def test_the_order_of_keys_changes_nothing(document):
    assert canonical_json(document) == canonical_json(reversed_keys(document))
    assert digest(document) == digest(reversed_keys(document))


@given(documents)
def test_reading_gives_the_document_back(document):
    assert json.loads(canonical_json(document)) == document


@given(documents, documents)
def test_only_equal_documents_have_equal_digests(left, right):
    is_equal = json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)
    assert (digest(left) == digest(right)) == is_equal


def test_the_digest_is_the_sha256_of_the_canonical_form():
    assert digest({"b": 1, "a": "é"}) == hashlib.sha256('{"a":"é","b":1}'.encode()).hexdigest()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have_are_refused(value):
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"figures": [value]})
