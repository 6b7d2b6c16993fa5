"""Checking one variant on one target in a process of its own: an engine that crashes there is a verdict.

    python -m fastserve_device_tests.suite.target_process BUNDLE VARIANT TARGET

Prints the verdicts as one JSON list.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from fastserve_device_tests.executors.refusals import refusal
from fastserve_device_tests.processes.limited_process import begin_answer, run_module
from fastserve_device_tests.targets import COMPILE_ONLY, Target, as_computed, load_target
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.conformance.verdict import Outcome, Verdict
from fastserve_runtime.errors import EnvironmentFailure, FastServeError
from fastserve_runtime.variants import open_variant

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
    ended = run_module(needs, "suite.target_process", str(bundle), variant, target.NAME)
    if ended.broken_limit is not None:
        return [Verdict(variant, target.NAME, RUN, Outcome.RUN_FAILED, ended.broken_limit)]
    try:
        documents = json.loads(ended.output)
    except ValueError:
        return [Verdict(variant, target.NAME, RUN, Outcome.RUN_FAILED, f"the process {ended.death}")]
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


def main(arguments: list[str]) -> None:
    """Answer for one variant and target."""
    answer = begin_answer()
    location, variant, target = arguments
    documents = [v.as_document() for v in check_variant(Path(location), variant, load_target(target))]
    answer.write(json.dumps(documents))
    answer.close()


if __name__ == "__main__":
    main(sys.argv[1:])
