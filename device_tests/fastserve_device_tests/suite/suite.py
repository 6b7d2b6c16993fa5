"""The suite: every variant of a bundle on every target that takes its format."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastserve_device_tests.suite.target_process import check_in_process
from fastserve_device_tests.targets import Target, chosen_targets, is_for, obstacle
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.conformance.verdict import Outcome, Verdict

APPLICABLE = "applicable"
NO_VARIANT = "-"
"""Stands for a variant where the bundle has none for a target."""


@dataclass(frozen=True)
class Pairing:
    """A variant that is to be checked on a target.

    Attributes:
        variant: its id; `NO_VARIANT` where the bundle has none for the target.
        target: the target.
        obstacle: why the one cannot be checked on the other at all; empty where it can.
    """

    variant: str
    target: Target
    obstacle: str = ""

    def __str__(self) -> str:
        return f"{self.variant} on {self.target.NAME}"


def pairings(bundle: Path, targets: Sequence[str] | None = None) -> list[Pairing]:
    """Look at a bundle's files, and tell what there is to check.

    Args:
        bundle: its directory or zip file.
        targets: names such as `onnx:cpu`, classes such as `npu`, or `all`; those that this machine's own
            processor executes if None.

    Returns:
        Target by target, the variants of its format in the bundle's order.

    Raises:
        UsageError: a target is unknown, or there is no bundle.
        BundleError: the bundle is damaged.
    """
    chosen = chosen_targets(targets)
    with open_bundle(bundle) as source:
        source.check_integrity()
        variants = source.manifest.variants
    found: list[Pairing] = []
    for target in chosen:
        fitting = [v for v in variants if is_for(target, v)]
        if not fitting:
            found.append(Pairing(NO_VARIANT, target, f"the bundle has no variant for {target.FORMAT}"))
        found += [Pairing(variant.id, target, obstacle(target, variant)) for variant in fitting]
    return found


def check_pairing(bundle: Path, pairing: Pairing) -> list[Verdict]:
    """Run every check of a variant on a target, in a process of its own; an obstacle is one NOT_RUN."""
    if pairing.obstacle:
        return [Verdict(pairing.variant, pairing.target.NAME, APPLICABLE, Outcome.NOT_RUN, pairing.obstacle)]
    return check_in_process(bundle, pairing.variant, pairing.target)


def run_suite(
    bundle: Path,
    targets: Sequence[str] | None = None,
    on_start: Callable[[str], None] = lambda _: None,
    on_end: Callable[[Pairing, float], None] = lambda *_: None,
) -> list[Verdict]:
    """Check a bundle.

    Args:
        bundle: its directory or zip file.
        targets: names such as `onnx:cpu`, classes such as `npu`, or `all`; those that this machine's own
            processor executes if None.
        on_start: gets told what is being checked.
        on_end: gets told what was checked and how many seconds that took.

    Returns:
        The verdicts. A target that no variant is made for gets one NOT_RUN.

    Raises:
        UsageError: a target is unknown, or there is no bundle.
        BundleError: the bundle is damaged.
    """
    verdicts: list[Verdict] = []
    for pairing in pairings(bundle, targets):
        if not pairing.obstacle:
            on_start(str(pairing))
        begin = time.monotonic()
        verdicts += check_pairing(bundle, pairing)
        if not pairing.obstacle:
            on_end(pairing, time.monotonic() - begin)
    return verdicts
