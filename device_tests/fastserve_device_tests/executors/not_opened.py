"""Refusing what a target or an engine does not open, in the same words for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NoReturn

from fastserve_runtime.bundle.manifest import Graph, Variant
from fastserve_runtime.errors import EnvironmentFailure, UsageError


def check_one_graph(target: str, variant: Variant) -> None:
    """Refuse a variant of several graphs, where a target takes one only.

    Raises:
        UsageError: the variant has several.
    """
    if len(variant.graphs) != 1:
        problem = f"{target} takes models of one graph; {variant.id} has {len(variant.graphs)}."
        raise UsageError(problem, "Check it on tflite:xnnpack.")


def only_graph(engine: str, graphs: Mapping[str, Graph] | None) -> tuple[str, Graph]:
    """Return the name of a model's one graph, and the graph, of those that `Engine.open_session` is given.

    Raises:
        UsageError: none are given, as for a bare file, or there are several.
    """
    if graphs is None or len(graphs) != 1:
        count = "a bare file" if graphs is None else f"a model of {len(graphs)} graphs"
        raise UsageError(f"{engine} does not open {count}.", "Open a bundle whose model has one graph.")
    (found,) = graphs.items()
    return found


def nothing_executes(target: str) -> Callable[[Variant], NoReturn]:
    """Return the `Target.engine` of a target that is compiled for and not executed: it refuses every variant."""

    def engine(variant: Variant) -> NoReturn:
        raise EnvironmentFailure(f"Nothing here executes variant '{variant.id}' on {target}.", "Run it on the device.")

    return engine
