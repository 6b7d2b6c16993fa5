"""Keeping the verdicts of a conformance run with the bundle that they are about."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fastserve_runtime
from fastserve_device_tests.suite.versions import target_versions
from fastserve_device_tests.targets import load_target
from fastserve_runtime.bundle.reader import evidence_folder, open_bundle
from fastserve_runtime.conformance.verdict import Verdict
from fastserve_runtime.measurement.machine import this_machine

KIND = "conformance"
FILE = f"{KIND}.json"


def save_verdicts(bundle: Path, verdicts: Sequence[Verdict]) -> Path:
    """Write verdicts into a bundle's evidence, in the place of those of an earlier run.

    The manifest does not list evidence, so the bundle's id stays, and it verifies as before.

    Args:
        bundle: its directory, in whose `evidence` the file goes, or its zip file, beside which that folder lies.
        verdicts: of the suite, run on this machine.

    Returns:
        The file.
    """
    folder = evidence_folder(bundle)
    folder.mkdir(exist_ok=True)
    file = folder / FILE
    unfinished = folder / f".{FILE}.unfinished-{os.getpid()}"
    try:
        unfinished.write_text(json.dumps(evidence_document(bundle, verdicts), indent=1), encoding="utf-8")
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
    return file


def evidence_document(bundle: Path, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return verdicts with what they hold for: the bundle's id, the machine, and the versions of each target.

    It has no time, and the order is that of the names, so that the same results give the same file.
    """
    with open_bundle(bundle) as source:
        identifier = source.manifest.digest
    targets = {}
    for name in sorted({v.target for v in verdicts}):
        target = load_target(name)
        targets[name] = {
            "class": target.PROCESSOR,
            "executed_by": target.EXECUTED_BY,
            "versions": target_versions(bundle, target),
        }
    return {
        "manifest": identifier,
        "kind": KIND,
        "status": "measured",
        "fastserve": fastserve_runtime.__version__,
        "system": platform.platform(),
        "machine": asdict(this_machine()),
        "targets": targets,
        "verdicts": [v.as_document() for v in sorted(verdicts, key=lambda v: (v.target, v.variant))],
    }
