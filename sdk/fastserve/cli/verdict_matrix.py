"""Verdicts for a terminal: a matrix of checks and targets, and a table of what the matrix cannot tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table

from fastserve.cli.consoles import plain
from fastserve.cli.rich_view import STYLES, rich_table
from fastserve_device_tests.suite.suite import APPLICABLE, NO_VARIANT
from fastserve_device_tests.suite.target_process import LOAD, RUN
from fastserve_runtime.cli.verify_command import tone_of, verdict_table
from fastserve_runtime.conformance.verdict import Outcome, Verdict

WHOLE_CHECKS = {APPLICABLE, LOAD, RUN}
"""What is said of a variant as a whole: no check was made, so these have no rows."""
_HEAD = "variant and check"
_INDENT = "  "
_SHORT = {Outcome.OUTPUT_MISMATCH: "MISMATCH"}
_WORST_FIRST = (
    Outcome.RUN_FAILED, Outcome.LOAD_FAILED, Outcome.OUTPUT_MISMATCH, Outcome.FELL_BACK, Outcome.OVER_BUDGET,
    Outcome.NOT_RUN, Outcome.PASS,
)  # fmt: skip
_BORDERS = 3
"""How many columns of the terminal a table's column takes beside its content."""


def verdict_tables(verdicts: Sequence[Verdict], width: int) -> Iterator[RenderableType]:
    """Yield what to show of the verdicts of `conform`.

    Where a variant was checked on several targets, that is a matrix for each format, and below it every verdict that
    is not PASS, with message and figures. Else it is the table of all verdicts.

    Args:
        verdicts: of all variants and targets.
        width: how many columns the terminal has.
    """
    if not _has_several_targets(verdicts):
        yield rich_table(verdict_table(verdicts))
        return
    for targets in _formats(verdicts):
        own = [v for v in verdicts if v.target in targets]
        head = max(len(text) for v in own for text in (_HEAD, v.variant, _INDENT + v.check))
        cell = max(len(text) for text in (*map(_shown, Outcome), *(line for t in targets for line in _lines(t))))
        fitting = max(1, (width - head - _BORDERS - 1) // (cell + _BORDERS))
        for start in range(0, len(targets), fitting):
            yield _matrix([v for v in own if v.target in targets[start : start + fitting]])
    rest = [v for v in verdicts if v.outcome is not Outcome.PASS]
    if rest:
        yield rich_table(verdict_table(_together(rest)))


def _has_several_targets(verdicts: Sequence[Verdict]) -> bool:
    pairs = {(v.variant, v.target) for v in verdicts if v.variant != NO_VARIANT}
    return len(pairs) > len({variant for variant, _ in pairs})


def _formats(verdicts: Sequence[Verdict]) -> list[list[str]]:
    """Return the targets that any variant is for, those of one format together: other formats have other variants."""
    formats: dict[str, list[str]] = {}
    for target in dict.fromkeys(v.target for v in verdicts if v.variant != NO_VARIANT):
        formats.setdefault(target.partition(":")[0], []).append(target)
    return list(formats.values())


def _matrix(verdicts: Sequence[Verdict]) -> Table:
    """Make a row for each check of each variant, below one that has the worst outcome of all its checks."""
    targets = list(dict.fromkeys(v.target for v in verdicts))
    table = Table(_HEAD, *("\n".join(map(plain, _lines(t))) for t in targets))
    for variant in dict.fromkeys(v.variant for v in verdicts):
        own = [v for v in verdicts if v.variant == variant]
        table.add_row(f"[bold]{plain(variant)}[/]", *(_cell([v for v in own if v.target == t]) for t in targets))
        checks = list(dict.fromkeys(v.check for v in own if v.check not in WHOLE_CHECKS))
        for check in checks:
            cells = (_cell([v for v in own if v.target == t and v.check == check]) for t in targets)
            table.add_row(_INDENT + plain(check), *cells, end_section=check == checks[-1])
        if not checks:
            table.add_section()
    return table


def _cell(verdicts: Sequence[Verdict]) -> str:
    """Return the worst outcome of some verdicts; a check that looks at several outputs has several."""
    if not verdicts:
        return "[dim]·[/]"
    worst = min((v.outcome for v in verdicts), key=_WORST_FIRST.index)
    return f"[{STYLES[tone_of(worst)]}]{_shown(worst)}[/]"


def _shown(outcome: Outcome) -> str:
    return _SHORT.get(outcome, outcome.value)


def _lines(target: str) -> list[str]:
    """Break a target's name behind the format, since columns are narrow."""
    return target.replace(":", ":\n", 1).splitlines()


def _together(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Tell once what is the same of several variants on a target, such as that a package is missing."""
    variants: dict[tuple[str, str, Outcome, str], list[str]] = {}
    for v in verdicts:
        variants.setdefault((v.target, v.check, v.outcome, v.detail), []).append(v.variant)
    return [
        Verdict(", ".join(dict.fromkeys(names)), target, check, outcome, detail)
        for (target, check, outcome, detail), names in variants.items()
    ]
