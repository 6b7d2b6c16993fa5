"""Which makers an export has, and what each of them makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastserve.makers import Maker
from fastserve.makers.for_target import CompilingMaker, LoweringMaker, TargetMaker
from fastserve.makers.portable import PortableMaker
from fastserve_converters.formats import (
    FORMATS,
    check_installed,
    chosen_precisions,
    installation_hint,
    missing_modules,
    precisions_of,
)
from fastserve_converters.lowerings import check_lowering_installed, lowering_targets
from fastserve_converters.models.model import Form, check_takes
from fastserve_device_tests.suite.compiling import check_there
from fastserve_device_tests.targets import PROCESSORS, Target, chosen_targets, compiles, parts_compiled
from fastserve_runtime.errors import EnvironmentFailure, UsageError


def portable_makers(wanted: Sequence[str] | None, form: Form) -> tuple[list[PortableMaker], list[str]]:
    """Return the formats to export, and notes on those that were left out.

    Formats that were named must be installed; if none was named, those that are installed are taken.

    Args:
        wanted: names of formats; None for all.
        form: of the part of the model that is exported.

    Raises:
        UsageError: a name is no format, or the list is empty.
        EnvironmentFailure: the converter of a format that was named is missing, or all are.
    """
    names, notes = _formats(wanted)
    return [PortableMaker(n, precisions_of(FORMATS.load(n), form)) for n in names], notes


def target_makers(
    words: Sequence[str] | None, portable: Sequence[PortableMaker], form: Form
) -> tuple[list[CompilingMaker | LoweringMaker], list[str]]:
    """Return what makes the named targets' artifacts, and notes on targets for which nothing does.

    A target that was named must have all that it needs. Of a class (`npu`) or `all`, those that lack something are left
    out, and those that need nothing of their own are not mentioned.

    Args:
        words: names of targets, classes of processors, or `all`; None for no targets.
        portable: the formats to be exported.
        form: of the part of the model that is exported.

    Raises:
        UsageError: there are no words, a word is no target, its compiler takes a format that is not to be exported, or
            what makes its artifacts takes no parts of that form.
        EnvironmentFailure: a target that was named lacks something on this machine.
    """
    if words is None:
        return [], []
    if not words:
        raise UsageError("No target was named.", f"Name some, such as onnx:qnn-htp, or {', '.join(PROCESSORS)}, all.")
    makers: list[CompilingMaker | LoweringMaker] = []
    notes = []
    lowered = set(lowering_targets())
    for target in chosen_targets(words):
        is_named = target.NAME in words
        if not compiles(target) and target.NAME not in lowered:
            if is_named:
                notes.append(f"{target.NAME} needs no artifact of its own: it takes the portable {target.FORMAT} ones.")
            continue
        try:
            makers.append(_maker(target, portable, form, is_named=is_named))
        except (UsageError, EnvironmentFailure) as error:
            if is_named:
                raise
            notes.append(f"Nothing was made for {target.NAME}: {error}")
    return makers, notes


def chosen_for(
    makers: Sequence[Maker], precisions: Sequence[str] | None
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Return what each maker makes, and notes on those that make nothing; portable artifacts that compilers take too.

    Args:
        makers: formats first.
        precisions: those that were named; None for the usual ones.

    Raises:
        UsageError: a precision is none of any maker's, or a target that was named takes none of them.
    """
    wanted = chosen_precisions({maker.name: maker.precisions for maker in makers}, precisions)
    notes = [f"{name} has none of the precisions that were named." for name, chosen in wanted.items() if not chosen]
    for maker in makers:
        if isinstance(maker, TargetMaker) and maker.is_named and not wanted[maker.name]:
            raise UsageError(
                f"The target {maker.name} takes none of the precisions that were named.",
                f"It takes: {', '.join(maker.precisions)}.",
            )
    return wanted | _with_bases(makers, wanted), notes


def _with_bases(makers: Sequence[Maker], wanted: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    made = {}
    compiling = [maker for maker in makers if isinstance(maker, CompilingMaker)]
    for maker in makers:
        if maker.target is None:
            needed = {p for c in compiling if c.format == maker.name for p in wanted[c.name]}
            made[maker.name] = tuple(p for p in maker.precisions if p in wanted[maker.name] or p in needed)
    return made


def _maker(
    target: Target, portable: Sequence[PortableMaker], form: Form, *, is_named: bool
) -> CompilingMaker | LoweringMaker:
    if not compiles(target):
        lowering = LoweringMaker(target, is_named=is_named)
        check_takes(f"The lowering for {target.NAME}", lowering.takes_parts, form)
        check_lowering_installed(target.NAME)
        check_there(target)
        return lowering
    check_takes(f"The compiler for {target.NAME}", parts_compiled(target), form)
    base = next((maker for maker in portable if maker.name == target.FORMAT), None)
    if base is None:
        check_installed(target.FORMAT)
        names = [maker.name for maker in portable]
        raise UsageError(
            f"The target {target.NAME} is made from {target.FORMAT}, which is not to be exported.",
            f"Add it: --format {','.join((*names, target.FORMAT))}.",
        )
    check_there(target)
    return CompilingMaker(target, base.precisions, is_named=is_named)


def _formats(wanted: Sequence[str] | None) -> tuple[list[str], list[str]]:
    if wanted is not None:
        if not wanted:
            raise UsageError("No format was named.", f"Name some of: {', '.join(FORMATS.built_in())}.")
        for name in wanted:
            check_installed(name)
        return list(dict.fromkeys(wanted)), []
    installed, notes = [], []
    # ONNX first: it is quickest, so the first result comes soon.
    for name in sorted(FORMATS.built_in(), key=lambda n: (n != "onnx", n != "tflite", n)):
        missing = missing_modules(FORMATS.load(name))
        if missing:
            notes.append(f"{name} was left out: its converter is not installed ({installation_hint(name)}).")
        else:
            installed.append(name)
    if not installed:
        raise EnvironmentFailure(
            "No converter is installed.", f"Install one, for example: {installation_hint('onnx')}."
        )
    return installed, notes
