"""The command line: `fastserve export | run | inspect | verify | conform | bisect | targets | pack | serve | cache`."""

from __future__ import annotations

import typer

import fastserve_runtime
from fastserve.cli import (
    bisect_command,
    cache_command,
    conform_command,
    export_command,
    pack_command,
    targets_command,
)
from fastserve.cli.device_commands import ForwardedCommand, device_command
from fastserve.cli.rich_view import RichView
from fastserve_runtime.cli.streams import flush_streams, prepare_streams, show
from fastserve_runtime.failure import failure_of

app = typer.Typer(
    name="fastserve",
    help="The most accurate variant of a model that fits a device's budget, exported and proven.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _device_command(name: str) -> None:
    app.command(name, cls=ForwardedCommand, add_help_option=False)(device_command(name))


app.command("export")(export_command.export)
_device_command("run")
_device_command("inspect")
_device_command("verify")
app.command("conform")(conform_command.conform)
app.command("bisect")(bisect_command.bisect)
app.command("targets")(targets_command.targets)
app.command("pack")(pack_command.pack)
_device_command("serve")
app.add_typer(cache_command.app, name="cache")


def _version(value: bool) -> None:
    if value:
        show(fastserve_runtime.__version__)
        raise typer.Exit


@app.callback()
def _common(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None: ...


def main() -> None:
    """Run the command line."""
    prepare_streams()
    try:
        app()
    except OSError as error:  # of what typer prints by itself, such as help
        failure = failure_of(error)
        RichView().fail(failure)
        raise SystemExit(failure.exit_code) from None
    finally:
        flush_streams()
