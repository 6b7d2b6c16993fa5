"""Which variant of a bundle is searched, and where."""

from __future__ import annotations

from fastserve_converters.formats import FORMATS, shows_inside
from fastserve_converters.models.sources import form_of_task
from fastserve_device_tests.targets import Target, chosen_targets, load_target, takes
from fastserve_runtime.bundle.manifest import Variant
from fastserve_runtime.bundle.reader import Bundle
from fastserve_runtime.errors import UsageError


def chosen_pair(bundle: Bundle, variant: str | None, target: str | None) -> tuple[Variant, Target]:
    """Return which variant is searched on which target.

    Raises:
        UsageError: one is not known, they do not fit, or the variant's format shows nothing of what such a model
            computes inside.
    """
    manifest = bundle.manifest
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
    _check_shown(manifest.task, chosen)
    return chosen, on


def _check_shown(task: str, variant: Variant) -> None:
    form = form_of_task(task)
    if form == "cached" and not shows_inside(FORMATS.load(variant.format), form):
        raise UsageError(
            f"'{variant.id}' shows nothing of what it computes inside: {variant.format} names no tensors in the files "
            "of cached parts, those of models that generate text.",
            "Search a variant in onnx, whose files do.",
        )
