"""Which variant of a bundle is searched, and where."""

from __future__ import annotations

from fastserve_device_tests.targets import Target, chosen_targets, load_target, takes
from fastserve_runtime.bundle.manifest import Variant
from fastserve_runtime.bundle.reader import Bundle
from fastserve_runtime.errors import UsageError

_GENERATION = "text-generation"


def chosen_pair(bundle: Bundle, variant: str | None, target: str | None) -> tuple[Variant, Target]:
    """Return which variant is searched on which target.

    Raises:
        UsageError: one is not known, they do not fit, or the bundle's task is not supported.
    """
    manifest = bundle.manifest
    if manifest.task == _GENERATION:
        raise UsageError(
            "bisect compares encoders; the bundle's model generates text.",
            "Look at the layers' losses with inspect, or at conform's verdicts.",
        )
    on = None if target is None else load_target(target)
    if variant is not None:
        chosen = manifest.variant(variant)
    else:
        ordered = sorted(manifest.variants, key=lambda v: v.id != manifest.chosen)
        fitting = [v for v in ordered if on is None or takes(on, v)]
        if not fitting:
            raise UsageError(f"The bundle has no variant for {target}.", "Name another target.")
        chosen = fitting[0]
    if on is None:
        found = [t for t in chosen_targets(None) if takes(t, chosen)]
        if not found:
            raise UsageError(f"No target of this machine takes '{chosen.id}'.", "Name one with --target.")
        on = found[0]
    if not takes(on, chosen):
        raise UsageError(
            f"{on.NAME} does not take the variant '{chosen.id}' ({chosen.format}, {chosen.precision}).",
            "Name another target or variant.",
        )
    return chosen, on
