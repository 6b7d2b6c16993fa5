"""Checking one variant on one target in a process of its own: an engine that crashes there is a verdict."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_device_tests.executors.refusals import refusal
from fastserve_device_tests.processes.target_child import ask_target
from fastserve_device_tests.targets import COMPILE_ONLY, Target, as_computed, load_target
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.conformance.verdict import Outcome, Verdict
from fastserve_runtime.errors import EnvironmentFailure, FastServeError
from fastserve_runtime.processes.answering import answer_requests
from fastserve_runtime.processes.child import ChildEnded
from fastserve_runtime.variants import open_variant

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Tensors

LOAD = "load"
RUN = "run"


def check_in_process(bundle: Path, variant: str, target: Target) -> list[Verdict]:
    """Run the checks in a child process; a crash, a hang, too much memory or rubbish is a RUN_FAILED verdict.

    Where the target cannot run on this machine, the verdict is NOT_RUN, with what would bring it.
    """
    needs = target.needs()
    missing = needs.missing()
    if missing:
        message = f"{' and '.join(missing)} is missing: {'; '.join(dict.fromkeys(missing.values()))}"
        return [Verdict(variant, target.NAME, LOAD, Outcome.NOT_RUN, message)]
    request = {"bundle": str(bundle.absolute()), "variant": variant, "target": target.NAME}
    try:
        documents = ask_target(needs, "suite.target_process", request)["verdicts"]
    except ChildEnded as ended:
        return [Verdict(variant, target.NAME, RUN, Outcome.RUN_FAILED, f"the process {ended.told}")]
    return [
        Verdict(
            d["variant"],
            d["target"],
            d["check"],
            Outcome(d["outcome"]),
            d["message"],
            {k: float(v) for k, v in d["figures"].items()},
        )
        for d in documents
    ]


def check_variant(location: Path, variant_id: str, target: Target) -> Iterator[Verdict]:
    """Open a variant on a target and run every check in this process."""
    from fastserve_device_tests.checks.compilation_check import check_compilation
    from fastserve_device_tests.checks.model_checks import all_checks
    from fastserve_device_tests.checks.subject import Subject
    from fastserve_runtime.bundle.evaluation import evaluation_of
    from fastserve_runtime.conformance.verification import whole_golden

    with open_bundle(location) as bundle:
        variant = bundle.manifest.variant(variant_id)
        if target.EXECUTED_BY == COMPILE_ONLY:
            yield from check_compilation(bundle, variant, target)
            return
        if variant.golden is None:
            yield Verdict(variant_id, target.NAME, RUN, Outcome.NOT_RUN, "the bundle has no golden for it")
            return
        try:
            engine = target.engine(variant)
        except FastServeError as error:
            yield Verdict(variant_id, target.NAME, LOAD, Outcome.NOT_RUN, str(error))
            return
        golden = whole_golden(bundle, variant, variant.golden)
        try:
            session = open_variant(bundle, variant, engine)
        except EnvironmentFailure as error:  # such as a driver without a device
            yield Verdict(variant_id, target.NAME, LOAD, Outcome.NOT_RUN, str(error))
            return
        except FastServeError as error:
            message = refusal(str(error), engine.NAME, engine.version())
            yield Verdict(variant_id, target.NAME, LOAD, Outcome.LOAD_FAILED, message)
            return
        with session:
            try:
                computed = as_computed(target, variant)
                evaluation = evaluation_of(bundle)
                manifest = bundle.manifest
                yield from all_checks(
                    Subject(manifest.task, computed, golden, session, target, evaluation, manifest.task_settings)
                )
            except FastServeError as error:
                message = refusal(str(error), engine.NAME, engine.version())
                yield Verdict(variant_id, target.NAME, RUN, Outcome.RUN_FAILED, message)


def answer(request: Mapping[str, Any], arrays: Tensors) -> tuple[dict[str, Any], Tensors]:  # noqa: ARG001 -- has none
    """Answer for one variant and target."""
    found = check_variant(Path(request["bundle"]), request["variant"], load_target(request["target"]))
    return {"verdicts": [verdict.as_document() for verdict in found]}, {}


if __name__ == "__main__":
    sys.exit(answer_requests(answer))
