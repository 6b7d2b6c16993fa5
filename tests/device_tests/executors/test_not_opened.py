"""What is not opened is told in the same words by every target and engine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastserve_device_tests.executors.not_opened import check_one_graph, only_graph
from fastserve_device_tests.targets import COMPILE_ONLY, load_target, target_names
from fastserve_runtime.bundle.manifest import parse_variant
from fastserve_runtime.errors import EnvironmentFailure, UsageError
from fastserve_runtime.parsing import Fields
from manifests import variant

VARIANT = parse_variant(Fields(variant(), "the variant"))
((NAME, GRAPH),) = VARIANT.graphs.items()
TWO = {"one": GRAPH, "two": GRAPH}


def test_a_variant_of_one_graph_is_taken_and_one_of_two_is_refused() -> None:
    check_one_graph("tflite:micro", VARIANT)
    with pytest.raises(UsageError) as failure:
        check_one_graph("tflite:micro", replace(VARIANT, graphs=TWO))
    assert failure.value.problem == f"tflite:micro takes models of one graph; {VARIANT.id} has 2."


def test_the_only_graph_is_returned_with_its_name() -> None:
    assert only_graph("An engine", VARIANT.graphs) == (NAME, GRAPH)
    with pytest.raises(UsageError, match=r"An engine does not open a model of 2 graphs\."):
        only_graph("An engine", TWO)
    with pytest.raises(UsageError, match=r"An engine does not open a bare file\."):
        only_graph("An engine", None)


@pytest.mark.parametrize("name", [n for n in target_names() if load_target(n).EXECUTED_BY == COMPILE_ONLY])
def test_a_target_that_nothing_executes_says_so_by_its_own_name(name: str) -> None:
    with pytest.raises(EnvironmentFailure) as failure:
        load_target(name).engine(VARIANT)
    assert failure.value.problem == f"Nothing here executes variant '{VARIANT.id}' on {name}."
