"""What a variant is, before it is made."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from fastserve_converters.precisions import RANGE_METHODS, WeightScheme
from fastserve_converters.recipe import Recipe, assignment_of, parse_assignment

NAMES = st.text("abcdefgh0123456789", min_size=1, max_size=6)
SCHEMES = st.builds(
    WeightScheme,
    bits=st.sampled_from([4, 8]),
    group=st.none() | st.sampled_from([32, 128]),
    symmetric=st.booleans(),
    pair_limit=st.none() | st.just(128),
)
ASSIGNMENTS = st.dictionaries(NAMES, st.none() | SCHEMES)
RECIPES = st.builds(
    Recipe,
    maker=NAMES,
    precision=NAMES,
    passes=st.lists(NAMES, max_size=2).map(tuple),
    assignment=st.none() | ASSIGNMENTS.map(assignment_of),
    range_method=st.sampled_from(RANGE_METHODS),
)


@given(RECIPES, RECIPES)
def test_digests_are_equal_where_recipes_are(one: Recipe, other: Recipe) -> None:
    assert (one.digest == other.digest) == (one == other)
    assert one.digest == replace(one).digest
    assert hash(one) == hash(replace(one))


@given(ASSIGNMENTS)
def test_an_assignment_is_read_from_what_a_manifest_says_of_it(schemes: dict[str, WeightScheme | None]) -> None:
    recipe = Recipe("onnx", "mixed", assignment=assignment_of(schemes))
    document = json.loads(json.dumps(recipe.as_document()))
    assert parse_assignment(document["assignment"]) == recipe.assignment
    assert parse_assignment(None) is None


@given(ASSIGNMENTS, st.randoms())
def test_the_order_of_layers_does_not_matter(schemes: dict[str, WeightScheme | None], random) -> None:
    shuffled = list(schemes.items())
    random.shuffle(shuffled)
    assert assignment_of(dict(shuffled)) == assignment_of(schemes)


def test_the_words_are_what_users_see() -> None:
    assert Recipe("onnx", "int8-dynamic").words == "onnx-int8-dynamic"
    assert Recipe("onnx:qnn-htp", "a16w8").words == "onnx-qnn-htp-a16w8"
    assert Recipe("onnx", "fp32", passes=("drop-layers",)).words == "onnx-fp32-after-drop-layers"
