"""Which engines this processor can run, found out in processes of their own before one of them ends the caller's.

A library that was built for newer processors ends its process at the first instruction that this one lacks, with
SIGILL, and says nothing. So each engine is imported in a child process; and where a bundle is given, the goldens of
each of its variants are run there, since kernels are chosen when a model runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_runtime.engines import ENGINES, engines_for
from fastserve_runtime.errors import FastServeError
from fastserve_runtime.measurement.instruction_sets import NEEDED_BY_NUMPY
from fastserve_runtime.processes.child import Child, ChildEnded, Program
from fastserve_runtime.processes.limits import Limits

if TYPE_CHECKING:
    from fastserve_runtime.bundle.manifest import Variant
    from fastserve_runtime.bundle.reader import Bundle
    from fastserve_runtime.measurement.machine import Machine
    from fastserve_runtime.sessions.session import Engine

NOT_INSTALLED = "not installed"
TRIAL_HEADINGS = ("engine", "version", "variant", "runs here", "needs", "")
_PROCESS = "fastserve_runtime.measurement.engine_trial_process"
_IMPORT_SECONDS = 120
_RUN_SECONDS = 900
_ARCHITECTURES: Mapping[str, str] = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True)
class EngineTrial:
    """What came of trying an engine.

    Attributes:
        engine: its name.
        format: that it executes.
        version: that is installed, or None.
        runs: whether its library could be imported, or a variant's goldens were run and are right; None where it is
            not installed.
        problem: why not, in words; empty where it runs.
        needs: instruction sets without which it ends, as far as they are known for this architecture.
        missing: those of them that this processor lacks.
        variant: the variant that was run; None where the library alone was imported.
    """

    engine: str
    format: str
    version: str | None
    runs: bool | None
    problem: str = ""
    needs: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    variant: str | None = None

    def as_document(self) -> dict[str, Any]:
        """Return its JSON fields."""
        return {**asdict(self), "needs": list(self.needs), "missing": list(self.missing)}


def try_engines(machine: Machine, only: str | None = None) -> Iterator[EngineTrial]:
    """Import every engine that there is, or only one, each in a process of its own."""
    for name in (*ENGINES.built_in(), *ENGINES.third_party()) if only is None else (only,):
        engine: Engine = ENGINES.load(name)
        if engine.version() is None:
            yield _trial(engine, machine, NOT_INSTALLED)
            continue
        yield _trial(engine, machine, _problem({"ask": "import", "engine": name}, _IMPORT_SECONDS))


def try_variants(
    bundle: Path, variants: Sequence[Variant], machine: Machine, only: str | None = None
) -> Iterator[EngineTrial]:
    """Run the goldens of each variant of a bundle on each installed engine, or only one, that executes its format.

    Variants that were made for a single target are left out: they need what stands for it.
    """
    for variant in variants:
        if variant.target is not None:
            continue
        for engine in engines_for(variant.format):
            if engine.version() is not None and only in (None, engine.NAME):
                request = {"ask": "verify", "bundle": str(bundle), "variant": variant.id, "engine": engine.NAME}
                yield _trial(engine, machine, _problem(request, _RUN_SECONDS), variant.id)


def trial_row(trial: EngineTrial) -> tuple[str, ...]:
    """Return a trial as the cells of a table; see `TRIAL_HEADINGS`."""
    runs = {True: "yes", False: "NO", None: "–"}[trial.runs]
    problem = trial.problem
    if trial.missing:
        problem += f"{'; ' if problem else ''}this processor lacks {' '.join(trial.missing)}"
    return (trial.engine, trial.version or "–", trial.variant or "–", runs, " ".join(trial.needs) or "–", problem)


def trials_of(bundle: Bundle | None, machine: Machine, only: str | None = None) -> list[EngineTrial]:
    """Try every engine, or only one, and then the variants of a bundle."""
    engines = list(try_engines(machine, only))
    if bundle is None:
        return engines
    return [*engines, *try_variants(bundle.location, bundle.manifest.variants, machine, only)]


def trials_document(trials: Sequence[EngineTrial], machine: Machine) -> dict[str, Any]:
    """Return the machine and what came of the trials, as JSON."""
    described = {**asdict(machine), "instruction_sets": list(machine.instruction_sets)}
    return {"machine": described, "engines": [trial.as_document() for trial in trials]}


def _trial(engine: Engine, machine: Machine, problem: str, variant: str | None = None) -> EngineTrial:
    needs = needed_instruction_sets(engine, machine.architecture)
    missing = tuple(n for n in needs if n not in machine.instruction_sets) if machine.instruction_sets else ()
    runs = None if problem == NOT_INSTALLED else not problem
    return EngineTrial(engine.NAME, engine.FORMAT, engine.version(), runs, problem, needs, missing, variant)


def needed_instruction_sets(engine: Engine, architecture: str) -> tuple[str, ...]:
    """Return the instruction sets without which an engine ends; none where they are not known.

    Args:
        engine: a module of `engines`.
        architecture: as `platform.machine` names it.
    """
    needs: Mapping[str, tuple[str, ...]] = getattr(engine, "NEEDS", NEEDED_BY_NUMPY)
    return needs.get(_ARCHITECTURES.get(architecture.lower(), architecture), ())


def _problem(request: Mapping[str, Any], seconds: float) -> str:
    """Return what a process of an engine's own says is wrong, or how it ended, in words; empty where nothing is."""
    with Child(Program(_PROCESS), Limits(seconds=seconds)) as process:
        try:
            return str(process.ask(request)[0]["problem"])
        except ChildEnded as ended:
            reason = ": the library was built for another processor" if "SIGILL" in ended.how else ""
            return f"its process {ended.how}{reason}"
        except FastServeError as error:
            return error.problem
