"""The command that tells of the conformance suite's targets: `targets`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.table import Table

from fastserve.cli.consoles import output_console, plain
from fastserve.cli.failures import failures_shown
from fastserve_converters.lowerings import lowering_targets
from fastserve_device_tests.suite.availability import missing_of
from fastserve_device_tests.targets import COMPILE_ONLY, Target, compiles, load_target, target_names
from fastserve_runtime.cli.streams import show_document


def targets(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Show the targets that conform knows, which of them can run here, and what the others lack."""
    with failures_shown(as_json=as_json, debug=debug):
        known = [(target, missing_of(target)) for target in map(load_target, target_names())]
        if as_json:
            documents = [target_document(target, missing) for target, missing in known]
            show_document({"targets": documents})
            return
        console = output_console()
        table = Table("target", "class", "executed by", "runs here")
        for target, missing in known:
            able = "compiles" if target.EXECUTED_BY == COMPILE_ONLY else "yes"
            runs = "[yellow]no[/]" if missing else f"[green]{able}[/]"
            table.add_row(plain(target.NAME), target.PROCESSOR, plain(target.EXECUTED_BY), runs)
        console.print(table)
        for target, missing in known:
            for command in dict.fromkeys(missing.values()):
                lacking = " and ".join(what for what, brought_by in missing.items() if brought_by == command)
                console.print(f"{plain(target.NAME)} lacks {plain(lacking)}:", highlight=False, soft_wrap=True)
                console.print(f"    {plain(command)}", highlight=False, soft_wrap=True)


def target_document(target: Target, missing: Mapping[str, str]) -> dict[str, Any]:
    """Return a target as JSON fields."""
    return {
        "name": target.NAME,
        "class": target.PROCESSOR,
        "executed_by": target.EXECUTED_BY,
        "format": target.FORMAT,
        "backend": target.BACKEND,
        "precisions": None if target.PRECISIONS is None else dict(target.PRECISIONS),
        "runs_here": not missing and target.EXECUTED_BY != COMPILE_ONLY,
        "own_artifact": compiles(target) or target.NAME in lowering_targets(),
        "missing": [{"what": what, "install": command} for what, command in missing.items()],
    }
