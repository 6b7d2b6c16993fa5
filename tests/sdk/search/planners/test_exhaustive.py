"""Everything that is wanted is proposed, once, in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastserve.search.budget import Budget
from fastserve.search.candidate import Candidate
from fastserve.search.planners import DEFAULT_PLANNERS, PLANNERS, Space
from fastserve.search.planners.exhaustive import open_planner
from fastserve_converters.formats.onnx import PRECISIONS as ONNX
from fastserve_converters.formats.tflite import PRECISIONS as TFLITE
from fastserve_converters.recipe import Recipe

AVAILABLE = {"onnx": ONNX, "tflite": TFLITE}
SPACES = st.fixed_dictionaries(
    {name: st.lists(st.sampled_from(sorted(has)), unique=True) for name, has in AVAILABLE.items()}
)


def refused(*_: object) -> int:
    raise AssertionError("nothing is worked out")


def space(wanted: dict[str, list[str]]) -> Space:
    return Space(AVAILABLE, wanted, (), "mse", refused, refused, refused)  # type: ignore[arg-type]


@given(SPACES, st.data())
def test_each_recipe_is_proposed_until_it_was_seen_and_mixed_ones_never(wanted, data) -> None:
    planner = open_planner(space(wanted), Budget())
    everything = [
        Recipe(name, precision, range_method="mse")
        for name, chosen in wanted.items()
        for precision in chosen
        if AVAILABLE[name][precision].choices is None
    ]
    assert planner.propose([], Budget()) == everything
    known = data.draw(st.lists(st.sampled_from(everything), unique=True)) if everything else []
    seen = [Candidate(recipe, recipe.maker) for recipe in known]
    assert planner.propose(seen, Budget()) == [recipe for recipe in everything if recipe not in known]


def test_planners_are_found_by_name() -> None:
    assert set(DEFAULT_PLANNERS) == set(PLANNERS.built_in())
