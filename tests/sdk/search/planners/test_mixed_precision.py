"""Schemes are given to layers within a budget's limits on size and latency."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fastserve.search.budget import budget_from_flags
from fastserve.search.candidate import Candidate
from fastserve.search.planners import CannotPropose, Space
from fastserve.search.planners.mixed_precision import Mix, measured_seconds, mixed_assignment, open_planner
from fastserve_converters.precisions import FP32, INT8, Choices, Precision, WeightScheme
from fastserve_converters.quantization.assignment import Option, Unit, units_document
from fastserve_converters.recipe import Recipe
from fastserve_runtime.errors import DiskFull, UsageError

INT4 = WeightScheme(4, 32)
PRECISIONS = {
    "fp32": FP32,
    "int8-dynamic": Precision(INT8, INT8, "dynamic-int8"),
    "int8-embedding-int4": Precision(INT8, INT4, "dynamic-int8"),
    "int4": Precision(INT4, INT4, "dynamic-int8"),
    "mixed": Precision(None, None, "dynamic-int8", choices=Choices((None, INT8, INT4), (INT8, INT4))),
}
UNITS = (
    Unit(("embeddings",), 0, (Option(INT8, 0.001, 100), Option(INT4, 0.002, 60))),
    Unit(("query", "key"), 75, (Option(None, 0.0, 400), Option(INT8, 0.01, 100), Option(INT4, 0.2, 50))),
    Unit(("dense",), 25, (Option(None, 0.0, 400), Option(INT8, 0.02, 100), Option(INT4, 0.03, 50))),
)
Make = Callable[..., Candidate]


def space(
    *wanted: str, makers: tuple[str, ...] = ("onnx",), scores: Any = None, size: Callable[[Recipe], int] = lambda _: 0
) -> Space:
    known = scores or {"units": units_document(UNITS), "other_bytes": 0}
    return Space(
        precisions=dict.fromkeys(makers, PRECISIONS),
        wanted=dict.fromkeys(makers, wanted),
        passes=(),
        range_method="min-max",
        scores=known if callable(known) else lambda *_: known,
        size=size,
        room=lambda: 0,
    )


def mix(measured: list[Candidate] | None = None, **limits: Any) -> Mix:
    return Mix({"units": units_document(UNITS)}, budget_from_flags(**limits), PRECISIONS, measured or [])


def test_the_room_of_everything_else_is_left_free() -> None:
    assert dict(mixed_assignment(mix(max_size="1000B"), 0))["dense"] is None
    chosen = dict(mixed_assignment(mix(max_size="1000B"), 750))
    assert chosen["embeddings"] == INT8
    assert chosen["dense"] == INT4
    with pytest.raises(UsageError, match="cheapest assignment takes 160 bytes; 0 are left"):
        mixed_assignment(mix(max_size="1000B"), 1000)


def test_latency_is_predicted_from_what_was_measured(make_candidate: Make) -> None:
    measured = [
        make_candidate("onnx-fp32", p90=0.020),
        make_candidate("onnx-int8-dynamic", p90=0.006),
        make_candidate("onnx-int8-embedding-int4", p90=0.005),
        make_candidate("onnx-int4", p90=None, maximum=0.012),
    ]
    assert measured_seconds(mix(measured)) == {None: 0.020, INT8: 0.005, INT4: 0.012}
    # 25 of 100 products in float take 5 ms, the others in int8 3.75 ms.
    chosen = dict(mixed_assignment(mix(measured, max_latency="9ms"), 0))
    assert chosen["dense"] is None
    assert chosen["query"] == chosen["key"] == INT8
    assert dict(mixed_assignment(mix(measured, max_latency="8ms"), 0))["dense"] is not None


def test_latency_without_anything_measured_says_what_to_name(make_candidate: Make) -> None:
    failed = [make_candidate("onnx-fp32", failure="export failed")]
    with pytest.raises(UsageError, match="needs measured precisions") as failure:
        mixed_assignment(mix(failed, max_latency="9ms"), 0)
    assert "--precision fp32,int8-dynamic,mixed" in failure.value.remedy


def test_both_limits_are_kept_at_once(make_candidate: Make) -> None:
    measured = [make_candidate("onnx-fp32", p90=0.020), make_candidate("onnx-int8-dynamic", p90=0.005)]
    chosen = mixed_assignment(mix(measured, max_latency="9ms", max_size="1000B"), 500)
    assert dict(chosen)["dense"] is not None


@pytest.mark.parametrize("limits", [{}, {"min_quality": 0.99}, {"max_memory": "1GB"}])
def test_a_mixed_precision_without_a_limit_to_trade_against_is_refused(limits: dict[str, Any]) -> None:
    open_planner(space("fp32"), budget_from_flags(**limits))
    with pytest.raises(UsageError, match="The precision 'mixed' gives each layer") as failure:
        open_planner(space("fp32", "mixed"), budget_from_flags(**limits))
    assert "--max-size" in failure.value.remedy
    open_planner(space("mixed"), budget_from_flags(max_size="1MB", **limits))


def test_the_time_of_an_output_token_is_predicted_likewise(make_candidate: Make) -> None:
    measured = [
        make_candidate("onnx-fp32", p90=0.020, ttft=5.0),
        make_candidate("onnx-int8-dynamic", p90=0.005, ttft=1.0),
    ]
    assert measured_seconds(mix(measured)) == {None: 0.020, INT8: 0.005}
    open_planner(space("mixed"), budget_from_flags(max_tpot="9ms"))
    chosen = mixed_assignment(mix(measured, max_tpot="9ms"), 0)
    assert chosen == mixed_assignment(
        mix(
            [make_candidate("onnx-fp32", p90=0.020), make_candidate("onnx-int8-dynamic", p90=0.005)], max_latency="9ms"
        ),
        0,
    )
    assert dict(chosen)["dense"] is None
    with pytest.raises(UsageError, match="within a limit, and there is none"):
        open_planner(space("mixed"), budget_from_flags(max_ttft="1s"))


def test_a_file_that_came_out_too_large_is_worked_out_again_until_it_fits() -> None:
    """Formats store more than is counted, the more so the more layers are in int8."""
    units = [Unit((f"layer.{i}",), 1, (Option(INT8, 0.001, 40_000), Option(INT4, 0.02, 20_000))) for i in range(100)]
    scores = {"units": units_document(units), "other_bytes": 0}
    sizes: list[int] = []

    def size(recipe: Recipe) -> int:
        sizes.append(sum(42_000 if scheme == INT8 else 20_000 for _, scheme in recipe.assignment or ()))
        return sizes[-1]

    planner = open_planner(space("mixed", scores=scores, size=size), budget_from_flags(max_size="3000kB"))
    (recipe,) = planner.propose([], budget_from_flags(max_size="3000kB"))
    assert 1 < len(sizes) <= 3
    assert sizes[0] > 3_000_000
    assert 2_900_000 < sizes[-1] <= 3_000_000
    assert (recipe.maker, recipe.precision, recipe.words) == ("onnx", "mixed", "onnx-mixed")


def test_what_cannot_be_worked_out_is_told_once_and_the_next_maker_is_asked() -> None:
    budget = budget_from_flags(max_size="1B")
    planner = open_planner(space("mixed", makers=("onnx", "tflite")), budget)
    seen: list[Candidate] = []
    for maker in ("onnx", "tflite"):
        with pytest.raises(CannotPropose, match="cheapest assignment takes 160 bytes") as refusal:
            planner.propose(seen, budget)
        assert refusal.value.recipe == Recipe(maker, "mixed")
        seen.append(Candidate(refusal.value.recipe, maker, failure="export failed"))
    assert planner.propose(seen, budget) == []


def test_a_failure_that_stops_everything_is_not_made_one_of_a_recipe() -> None:
    def full(*_: str) -> dict[str, Any]:
        raise DiskFull

    budget = budget_from_flags(max_size="1MB")
    with pytest.raises(DiskFull):
        open_planner(space("mixed", scores=full), budget).propose([], budget)
