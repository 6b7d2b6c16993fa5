"""The checks of a variant on a target that nothing here executes: whether its compiler takes it, and how much of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastserve_device_tests.compilers.compiled import ESTIMATES, Compiled
from fastserve_device_tests.targets import Target, compiler_of, compiles
from fastserve_runtime.bundle.manifest import Variant
from fastserve_runtime.bundle.reader import Bundle
from fastserve_runtime.cli.inspection import COMPILATION as RECORDED
from fastserve_runtime.conformance.verdict import Outcome, Verdict
from fastserve_runtime.errors import EnvironmentFailure, FastServeError
from fastserve_runtime.variants import checked_model

COMPILATION = "compilation"
EXECUTION = "execution"


def check_compilation(bundle: Bundle, variant: Variant, target: Target) -> Iterator[Verdict]:
    """Yield a verdict of the compiler's work, and one that nothing was executed.

    A variant that was made for the target is compiled already: what was recorded then is repeated.
    """
    if variant.target is not None:
        message = f"nothing here executes it{_recorded(bundle, variant)}"
        yield Verdict(variant.id, target.NAME, EXECUTION, Outcome.NOT_RUN, message)
        return
    if not compiles(target):
        message = f"it needs an artifact of its own: export with --target {target.NAME}"
        yield Verdict(variant.id, target.NAME, EXECUTION, Outcome.NOT_RUN, message)
        return
    yield _compiled(bundle, variant, target)
    yield Verdict(variant.id, target.NAME, EXECUTION, Outcome.NOT_RUN, "nothing here executes it")


def judge_compilation(variant: Variant, target: str, compiled: Compiled, shipped: Variant | None) -> Verdict:
    """Return the verdict of what a compiler made of a portable variant.

    Args:
        variant: the portable one.
        target: the target's name.
        compiled: what its compiler made.
        shipped: the bundle's variant of the same precision that was made for the target, if any. As many operators
            must be on the target's processor as were then; else all of them.
    """
    placed = compiled.expected_placement
    taken, total = placed.delegated or 0, placed.total or 0
    expected = total if shipped is None else (shipped.expected_placement.delegated or 0)
    figures = {"expected": float(expected), "found": float(taken), **reckoned(compiled.report)}
    if taken >= expected:
        return Verdict(variant.id, target, COMPILATION, Outcome.PASS, figures=figures)
    left: Mapping[str, int] = compiled.report["operators"]["cpu"]
    names = ", ".join(f"{name} {count}" for name, count in sorted(left.items(), key=lambda pair: (-pair[1], pair[0])))
    message = f"{taken} of {total} operators are compiled for {placed.backend}; left to the CPU: {names}"
    return Verdict(variant.id, target, COMPILATION, Outcome.FELL_BACK, message, figures)


def reckoned(report: Mapping[str, Any]) -> dict[str, float]:
    """Return a report's estimates as figures, each named as what it is."""
    return {f"predicted_{name}": float(value) for name, value in report.get(ESTIMATES, {}).items()}


def _compiled(bundle: Bundle, variant: Variant, target: Target) -> Verdict:
    with tempfile.TemporaryDirectory(prefix="fastserve-compile-") as name:
        folder = Path(name)
        model = checked_model(bundle, variant)
        if not isinstance(model, Path):
            content, model = bytes(model), folder / Path(variant.files[0]).name
            model.write_bytes(content)
        out = folder / "out"
        out.mkdir()
        try:
            compiled = compiler_of(target).compile_model(model, variant, out)
        except EnvironmentFailure as error:
            return Verdict(variant.id, target.NAME, COMPILATION, Outcome.NOT_RUN, str(error))
        except FastServeError as error:
            return Verdict(variant.id, target.NAME, COMPILATION, Outcome.LOAD_FAILED, str(error))
    made = (v for v in bundle.manifest.variants if v.target == target.NAME and v.precision == variant.precision)
    return judge_compilation(variant, target.NAME, compiled, next(made, None))


def _recorded(bundle: Bundle, variant: Variant) -> str:
    """Return what the bundle's evidence says of a variant's compilation, in a few words."""
    placed = variant.expected_placement
    words = f"; {placed.delegated} of {placed.total} operators were compiled for {placed.backend}"
    for document in bundle.evidence():
        if document.get("kind") == RECORDED and document.get("variant") == variant.id:
            figures: Mapping[str, float] = {}
            with suppress(AttributeError, TypeError, ValueError):  # evidence that is damaged tells nothing
                figures = reckoned(document.get("report", {}))
            words += "".join(f", {name.replace('_', ' ')} {value:.4g}" for name, value in figures.items())
    return words if placed.delegated is not None else ""
