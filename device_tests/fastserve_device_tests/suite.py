"""The suite: every variant of a bundle on every target that takes its format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fastserve_device_tests.target_process import check_in_process
from fastserve_device_tests.targets import chosen_targets
from fastserve_runtime.bundle import open_bundle
from fastserve_runtime.verdict import Outcome, Verdict

APPLICABLE = "applicable"


def run_suite(
    bundle: Path, targets: Sequence[str] | None = None, on_start: Callable[[str], None] = lambda _: None
) -> list[Verdict]:
    """Check a bundle.

    Args:
        bundle: its directory or zip file.
        targets: names such as `onnx:cpu`, classes such as `npu`, or `all`; those on the CPU if None.
        on_start: gets told what is being checked.

    Returns:
        The verdicts. A target that no variant is made for gets one NOT_RUN.

    Raises:
        UsageError: a target is unknown, or there is no bundle.
        BundleError: the bundle is damaged.
    """
    chosen = chosen_targets(["cpu"] if targets is None else targets)
    with open_bundle(bundle) as source:
        source.check_integrity()
        variants = source.manifest.variants
    verdicts: list[Verdict] = []
    for target in chosen:
        fitting = [v for v in variants if v.format == target.FORMAT and v.target in {None, target.NAME}]
        if not fitting:
            message = f"the bundle has no variant for {target.FORMAT}"
            verdicts.append(Verdict("-", target.NAME, APPLICABLE, Outcome.NOT_RUN, message))
        for variant in fitting:
            if target.PRECISIONS is not None and variant.precision not in target.PRECISIONS:
                message = f"it takes {', '.join(target.PRECISIONS)}, not {variant.precision}"
                verdicts.append(Verdict(variant.id, target.NAME, APPLICABLE, Outcome.NOT_RUN, message))
                continue
            on_start(f"{variant.id} on {target.NAME}")
            verdicts.extend(check_in_process(bundle, variant.id, target))
    return verdicts
