"""The commands that show and trim the cache of finished steps: `cache list` and `cache prune`."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from fastserve.cache.cache import Cache
from fastserve.cache.contents import KeptEntry, kept_entries, remove_entries, superfluous
from fastserve.cache.folder import default_cache_dir
from fastserve.cli.consoles import error_console, output_console, plain
from fastserve.cli.failures import failures_shown
from fastserve.cli.options import AsJson, Debug
from fastserve.progress import terminal_reporter
from fastserve.search.units import parse_age, parse_size
from fastserve_runtime.cli.streams import show_document
from fastserve_runtime.errors import UsageError
from fastserve_runtime.quantities import format_size, format_time

CacheDir = Annotated[
    Path | None, typer.Option(help="The cache's folder; the one that export takes if left out.", show_default=False)
]

app = typer.Typer(help="Show or trim the cache of finished steps.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_entries(cache_dir: CacheDir = None, as_json: AsJson = False, debug: Debug = False) -> None:
    """Show what the cache holds, those steps first that were used last."""
    with failures_shown(as_json=as_json, debug=debug):
        folder = _folder(cache_dir)
        entries = kept_entries(Cache(folder))
        total = sum(e.bytes for e in entries)
        if as_json:
            document = {"folder": str(folder), "bytes": total, "entries": [e.as_document() for e in entries]}
            show_document(document)
            return
        console = output_console()
        if entries:
            console.print(_table(entries))
        count = f"{len(entries)} finished step{'' if len(entries) == 1 else 's'}"
        console.print(f"{plain(str(folder))}: {count}, {format_size(total)}", highlight=False, soft_wrap=True)


@app.command("prune")
def prune(
    max_size: Annotated[
        str | None, typer.Option(help="So much may stay, such as 5GB; 0 for nothing.", show_default=False)
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(help="What was not used for so long goes, such as 30d or 12h.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing; show what would go.")] = False,
    cache_dir: CacheDir = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Remove damaged steps and those that were not used for longest. What a running export uses stays."""
    with failures_shown(as_json=as_json, debug=debug):
        if max_size is None and older_than is None:
            raise UsageError("Nothing says what may stay.", "Write --max-size 5GB or --older-than 30d.")
        max_bytes = None if max_size is None else 0 if max_size.strip() == "0" else parse_size(max_size)
        max_age = None if older_than is None else parse_age(older_than)
        folder = _folder(cache_dir)
        with Cache(folder) as cache:
            entries = kept_entries(cache)
            going = superfluous(entries, max_bytes=max_bytes, max_age=max_age)
            gone, kept = (going, []) if dry_run else _removed(cache, going)
        rest = sum(e.bytes for e in entries) - sum(e.bytes for e in gone)
        if as_json:
            document = {
                "folder": str(folder),
                "dry_run": dry_run,
                "removed": [e.as_document() for e in gone],
                "in_use": [e.as_document() for e in kept],
                "bytes_removed": sum(e.bytes for e in gone),
                "bytes": rest,
            }
            show_document(document)
            return
        _tell(gone, kept, rest, dry_run=dry_run)


def _removed(cache: Cache, going: list[KeptEntry]) -> tuple[list[KeptEntry], list[KeptEntry]]:
    if not going:
        return [], []
    with terminal_reporter(error_console()) as reporter:
        return remove_entries(cache, going, reporter)


def _tell(gone: list[KeptEntry], kept: list[KeptEntry], rest: int, *, dry_run: bool) -> None:
    console = output_console()
    if dry_run and gone:
        console.print(_table(gone))
    verb = "Would remove" if dry_run else "Removed"
    size = format_size(sum(e.bytes for e in gone))
    steps = f"{len(gone)} step{'' if len(gone) == 1 else 's'}"
    console.print(f"{verb} {steps}, {size}; {format_size(rest)} stay.", highlight=False)
    if kept:
        size = format_size(sum(e.bytes for e in kept))
        console.print(
            f"{len(kept)} more, {size}, are in use by a running export or may not be removed.", highlight=False
        )


def _folder(named: Path | None) -> Path:
    folder = named or default_cache_dir()
    if named is not None and not named.is_dir():
        raise UsageError(f"There is no folder '{named}'.", "Check the path.")
    return folder


def _table(entries: list[KeptEntry]) -> Table:
    table = Table("step", "of", "key")
    for heading in ("size", "took", "last used"):
        table.add_column(heading, justify="right")
    for entry in entries:
        used = datetime.fromtimestamp(entry.used, timezone.utc).astimezone()
        table.add_row(
            plain(entry.stage),
            plain(entry.about),
            entry.short_key,
            format_size(entry.bytes),
            "-" if entry.seconds is None else format_time(entry.seconds),
            f"{used:%Y-%m-%d %H:%M}",
        )
    return table
