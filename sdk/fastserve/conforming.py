"""Running the conformance suite on a bundle."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fastserve_device_tests.suite.suite import run_suite
from fastserve_runtime.conformance.verdict import Verdict


def conform(bundle: str | os.PathLike[str], *, targets: Sequence[str] | None = None) -> list[Verdict]:
    """Check every variant of a bundle on the targets that take its format.

    Args:
        bundle: a bundle's directory or zip file.
        targets: names such as `onnx:cpu`, or `cpu`, `gpu`, `npu`, `all`; those on the CPU if left out.

    Raises:
        UsageError: a target is unknown, or there is no bundle.
        BundleError: the bundle is damaged.
    """
    return run_suite(Path(bundle), targets)
