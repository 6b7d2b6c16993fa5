"""The command of devices: `fastserve-runtime inspect | run | verify | bench | serve`.

It needs what the runtime needs and no more: the standard library until a model is loaded, then numpy and one engine.
Each command is a module `<name>_command` with `run(arguments, view) -> exit code`, imported when it is chosen.
`fastserve`, the SDK's command, has the same ones with another view.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from fastserve_runtime._version import __version__
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.cli.failures import run_with_failures_told
from fastserve_runtime.cli.server_options import add_server_flags
from fastserve_runtime.cli.streams import flush_streams, prepare_streams
from fastserve_runtime.cli.task_flags import COMMAND, add_task_flags, refuse_flags_of_others, run_task
from fastserve_runtime.cli.view import PlainView, View

Command = Callable[[argparse.Namespace, View], int]
AddFlags = Callable[[argparse.ArgumentParser], None]

PROGRAM = "fastserve-runtime"


def main(words: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        words: the words behind the command's name; those that the process was started with if left out.
    """
    prepare_streams()
    return run_words(words, PlainView())


def run_words(words: Sequence[str] | None, view: View, program: str = PROGRAM) -> int:
    """Run one command in a view and return its exit code.

    Args:
        words: as of `main`.
        view: where results and messages go.
        program: the name under which wrong usage and help are told.
    """
    given = sys.argv[1:] if words is None else words
    # Flags of a task are known once its bundle is.
    flags = partial(add_task_flags, task=run_task(given)) if list(given[:1]) == [COMMAND] else None
    top = parser(program, flags)

    def command() -> int:
        if unknown:
            _refuse(unknown, arguments, top)
        return _command(arguments.command)(arguments, view)

    try:
        arguments, unknown = top.parse_known_args(given)
        if arguments.bundle is None and not arguments.machine:  # of `inspect`; all others want a bundle
            arguments.wrong_usage("a BUNDLE is wanted, or --machine")
        return run_with_failures_told(command, view, as_json=arguments.as_json, debug=arguments.debug)
    except SystemExit as end:  # --help, --version, and wrong usage, which was told already
        flush_streams()
        return end.code if isinstance(end.code, int) else 0


def _refuse(unknown: Sequence[str], arguments: argparse.Namespace, top: argparse.ArgumentParser) -> None:
    """Refuse words that mean nothing; a bundle that cannot be opened, or is of another task, says more than argparse.

    Raises:
        FastServeError: see `open_bundle` and `refuse_flags_of_others`.
        SystemExit: after argparse told wrong usage.
    """
    if arguments.command == COMMAND:
        with open_bundle(arguments.bundle) as bundle:
            task = bundle.manifest.task
        refuse_flags_of_others(unknown, task)
    top.error(f"unrecognized arguments: {' '.join(unknown)}")


def parser(program: str = PROGRAM, add_run_flags: AddFlags | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command line.

    Args:
        program: the name under which wrong usage and help are told.
        add_run_flags: adds to `run` what a bundle's task has beside; see `task_flags`.
    """
    top = argparse.ArgumentParser(
        prog=program,
        description="Look into FastServe bundles, run them, check them and measure them on this device.",
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=__version__, help="Show the version.")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    inspect = _add(commands, "inspect", "Show what is inside a bundle, or what this machine can run.", may_omit=True)
    inspect.add_argument(
        "--machine",
        action="store_true",
        help="Show this machine's instruction sets and which engines run on it; with a bundle, which variants too.",
    )
    inspect.set_defaults(wrong_usage=inspect.error)
    inspect.add_argument("--engine", metavar="NAME", help="With --machine: try this engine alone.")
    run = _add(
        commands,
        "run",
        "Use a bundle: embeddings and how alike the texts are, labels with scores, answers, or generated text. With a "
        "bundle before --help, its task's own flags are shown too.",
        conflicts="resolve",  # a task may mean another thing by a word
    )
    texts = run.add_argument(
        "texts",
        nargs="+",
        default=[],
        metavar="TEXT",
        help="One text or several; '-' stands for the lines of standard input. Of a model that takes tensors, one .npz "
        "file.",
    )
    texts.required = False  # nargs="*" would be satisfied by no text before a flag, and refuse those behind it
    if add_run_flags is not None:
        add_run_flags(run)
    verify = _add(commands, "verify", "Check a bundle's files, and that its variants compute what they should here.")
    bench = _add(commands, "bench", "Measure latency, memory and start-up of a variant on the bundle's own texts.")
    bench.add_argument(
        "--minutes", type=float, metavar="M", help="Run on for M minutes, to see whether the device slows as it warms."
    )
    serve = _add(commands, "serve", "Serve bundles over HTTP as OpenAI's API does, until Ctrl-C.")
    add_server_flags(serve)
    for command in (run, verify, bench, serve):
        command.add_argument("--variant", metavar="ID", help="Take this variant.")
        command.add_argument("--engine", metavar="NAME", help="Take this engine.")
        command.add_argument("--threads", type=int, default=1, metavar="N", help="Threads that one inference may use.")
    return top


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    description: str,
    *,
    may_omit: bool = False,
    conflicts: str = "error",
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name, help=description, description=description, allow_abbrev=False, conflict_handler=conflicts
    )
    bundle = command.add_argument("bundle", type=Path, metavar="BUNDLE", help="A bundle: its directory or .zip file.")
    if may_omit:
        bundle.nargs, bundle.required = "?", False
    command.add_argument(
        "--json", dest="as_json", action="store_true", help="Print one JSON document on standard output."
    )
    command.add_argument("--debug", action="store_true", help="Show tracebacks and the engines' logs.")
    return command


def _command(name: str) -> Command:
    module = importlib.import_module(f"{__name__}.{name}_command")
    command: Command = module.run
    return command
