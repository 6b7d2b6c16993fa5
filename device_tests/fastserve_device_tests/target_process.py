"""Checking one variant on one target in a process of its own: an engine that crashes there is a verdict.

    python -m fastserve_device_tests.target_process BUNDLE VARIANT TARGET

Prints the verdicts as one JSON list.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from fastserve_device_tests.targets import Target, load_target
from fastserve_runtime.bundle import open_bundle
from fastserve_runtime.errors import FastServeError
from fastserve_runtime.loading import open_variant, usable_engine
from fastserve_runtime.verdict import Outcome, Verdict

TIMEOUT_SECONDS = 600
LOAD = "load"
RUN = "run"


def check_in_process(bundle: Path, variant: str, target: Target) -> list[Verdict]:
    """Run the checks in a child process; a crash, a hang or rubbish is a RUN_FAILED verdict."""
    command = [
        sys.executable,
        "-m",
        "fastserve_device_tests.target_process",
        str(bundle),
        variant,
        target.NAME,
    ]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        message = f"it hung and was ended after {TIMEOUT_SECONDS} s"
        return [Verdict(variant, target.NAME, RUN, Outcome.RUN_FAILED, message)]
    try:
        documents = json.loads(done.stdout)
    except ValueError:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        message = f"the process died with exit code {done.returncode}" + (f": {words[-1]}" if words else "")
        return [Verdict(variant, target.NAME, RUN, Outcome.RUN_FAILED, message)]
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
    from fastserve_device_tests.checks import all_checks
    from fastserve_device_tests.subject import Subject
    from fastserve_runtime.golden import read_golden

    with open_bundle(location) as bundle:
        variant = bundle.manifest.variant(variant_id)
        if variant.golden is None:
            yield Verdict(variant_id, target.NAME, RUN, Outcome.NOT_RUN, "the bundle has no golden for it")
            return
        try:
            engine = usable_engine(variant)
        except FastServeError as error:
            yield Verdict(variant_id, target.NAME, LOAD, Outcome.NOT_RUN, str(error))
            return
        golden = read_golden(bundle.read(variant.golden))
        try:
            session = open_variant(bundle, variant, engine)
        except FastServeError as error:
            yield Verdict(variant_id, target.NAME, LOAD, Outcome.LOAD_FAILED, str(error))
            return
        with session:
            try:
                yield from all_checks(Subject(bundle.manifest.task, variant, golden, session, target))
            except FastServeError as error:
                yield Verdict(variant_id, target.NAME, RUN, Outcome.RUN_FAILED, str(error))


def main(arguments: list[str]) -> None:
    """Answer for one variant and target."""
    # Engines print to standard output; the answer must stand there alone.
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    location, variant, target = arguments
    documents = [v.as_document() for v in check_variant(Path(location), variant, load_target(target))]
    answer.write(json.dumps(documents))
    answer.close()


if __name__ == "__main__":
    main(sys.argv[1:])
