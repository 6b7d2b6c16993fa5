"""What an export found, as a table for people and as a document for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from fastserve.cli.consoles import plain
from fastserve.exporting.export import ExportResult
from fastserve.search.budget import Breach
from fastserve.search.candidate import Candidate
from fastserve.search.ranking import explain_nothing_fits
from fastserve_runtime.conformance.quality import reference_name
from fastserve_runtime.measurement.measurement import measurement_document
from fastserve_runtime.quantities import format_size, format_time

_TIMES = "p90: at full length; typical: median over the texts, each as long as it is"
_TIMES_OF_GENERATION = (
    "TTFT, TPOT: p90 of the time to the first token behind a prompt, and of each further one (as MLPerf defines them)"
)


def export_document(result: ExportResult) -> dict[str, Any]:
    """Return an export's result as JSON: the table's content, the budget, and the time of every stage."""
    document: dict[str, Any] = {
        "bundle": None if result.bundle is None else str(result.bundle),
        "digest": result.digest,
        "chosen": None if result.chosen is None else result.chosen.id,
        "chosen_because": result.chosen_because,
        "model": result.model,
        "task": result.task,
        "context" if result.generates else "sequence_length": result.length or None,
        "machine": {
            "description": str(result.machine),
            "instruction_sets": list(result.machine.instruction_sets),
            "fingerprint": result.machine.fingerprint,
        },
        "threads": result.threads,
        "budget": result.budget.as_document(),
        "variants": [_candidate_document(c, result) for c in result.candidates],
        "notes": list(result.notes),
        "stages": [{"stage": s.stage, "seconds": s.seconds, "cached": s.cached} for s in result.stages],
        "seconds": result.seconds,
    }
    if result.bundle is None:
        report = explain_nothing_fits(result.candidates, result.budget)
        document["binding_limits"] = [str(limit) for limit in report.binding]
        document["nearest_misses"] = [{"id": c.id, "excess": excess} for c, excess in report.nearest]
    return document


def print_export(result: ExportResult, console: Console) -> None:
    """Print the table, what binds where nothing fits, and the notes."""
    console.print(export_table(result))
    if result.chosen_because is not None:
        console.print(f"[dim]Note:[/] {plain(result.chosen_because)}", highlight=False)
    for note in result.notes:
        console.print(f"[dim]Note:[/] {plain(note)}", highlight=False)
    for candidate in result.candidates:
        for metric, warning in candidate.warnings().items():
            console.print(f"[dim]Note:[/] {metric} of {candidate.id}: {warning}.", highlight=False)
    if any(c.measurement is not None and not c.is_memory_judged for c in result.candidates):
        console.print(
            "[dim]Note:[/] * is ExecuTorch's official Python runtime, which brings PyTorch with it; "
            "its memory is not judged.",
            highlight=False,
        )
    if result.bundle is None:
        _print_nothing_fits(result, console)
    else:
        assert result.chosen is not None
        bundle = plain(str(result.bundle))
        console.print(
            f"\n[bold green]{bundle}[/]: {', '.join(result.shipped)}; chosen: [bold]{result.chosen.id}[/]",
            highlight=False,
        )


def export_table(result: ExportResult) -> Table:
    """Make the table of all variants; its heading names the machine that latency and memory belong to."""
    names = {c.quality.name for c in result.candidates if c.quality is not None}
    threads = f"{result.threads} thread{'s' if result.threads > 1 else ''}"
    times = _TIMES_OF_GENERATION if result.generates else _TIMES
    columns = ("TTFT", "TPOT") if result.generates else ("p90", "typical")
    table = Table(
        title=f"{plain(result.model)}, {result.task}{f', {result.length} tokens' if result.length else ''}\n"
        f"measured on {plain(str(result.machine))}; {threads}",
        title_justify="left",
        title_style="",
        caption=f"quality: {', '.join(sorted(names)) or 'not measured'} (lower end of its 95 % interval); {times}",
        caption_justify="left",
    )
    table.add_column("variant", no_wrap=True)
    for heading in ("quality", "size", "peak memory", *columns):
        table.add_column(heading, justify="right")
    table.add_column("Pareto", justify="center")
    table.add_column("verdict")
    compared = compared_names(result.candidates)
    for position, name in enumerate(compared):
        table.columns.insert(2 + position, Column(f"{name} (reference)", justify="right"))
    for candidate in result.candidates:
        cells = list(_cells(candidate))
        cells[2:2] = [_compared(candidate, name) for name in compared]
        table.add_row(*cells, _verdict(candidate, result), style=_style(candidate, result))
    return table


def compared_names(candidates: Sequence[Candidate]) -> list[str]:
    """Return the names of figures beside the quality that are known of the reference too, such as `accuracy`.

    A ratio of both may be above 1, which says nothing by itself.
    """
    names = [name for c in candidates if c.quality is not None for name in c.quality.beside]
    return [name for name in dict.fromkeys(names) if reference_name(name) in names]


def _compared(candidate: Candidate, name: str) -> str:
    beside = {} if candidate.quality is None else candidate.quality.beside
    if name not in beside or reference_name(name) not in beside:
        return "-"
    return f"{beside[name]:.4f} ({beside[reference_name(name)]:.4f})"


def _cells(candidate: Candidate) -> Iterator[str]:
    quality = candidate.quality
    yield candidate.id
    yield "-" if quality is None else f"{quality.value:.4f} ({quality.low:.4f})"
    yield "-" if candidate.size is None else format_size(candidate.size)
    if candidate.measurement is None:
        yield from ("-", "-", "-")
    else:
        peak = candidate.measurement.memory.peak
        mark = "" if candidate.is_memory_judged else " *"
        yield "unknown" if peak is None else f"{format_size(peak)}{mark}"
        if candidate.generates:
            yield _time(candidate.first_token_p90)
        yield _time(candidate.p90)
        if not candidate.generates:
            samples = candidate.measurement.sample_latency
            yield "-" if samples is None else format_time(samples.p50)
    yield "●" if candidate.on_front else ""


def _time(p90: float | None) -> str:
    return "not trustworthy" if p90 is None else format_time(p90)


def _verdict(candidate: Candidate, result: ExportResult) -> Text:
    if candidate.failure is not None:
        return Text(candidate.failure)
    if candidate.breaches:
        return Text("breaks " + ", ".join(_breach(b) for b in candidate.breaches))
    if result.chosen is not None and candidate.id == result.chosen.id:
        return Text("chosen")
    if candidate.id in result.shipped:
        return Text("fits, shipped" if candidate.target is None else f"fits, shipped for {candidate.target}")
    return Text("fits")


def _breach(breach: Breach) -> str:
    """Name the broken limit; its figure stands in the row, unless there is none or it is not trustworthy."""
    is_plain = breach.figure is not None and "trustworthy" not in breach.reason
    return str(breach.limit) if is_plain else f"{breach.limit}: {breach.reason}"


def _style(candidate: Candidate, result: ExportResult) -> str:
    if result.chosen is not None and candidate.id == result.chosen.id:
        return "bold green"
    return "" if candidate.fits else "dim"


def _print_nothing_fits(result: ExportResult, console: Console) -> None:
    report = explain_nothing_fits(result.candidates, result.budget)
    console.print("\n[bold red]Nothing fits the budget, so nothing was written.[/]")
    if report.binding:
        console.print(f"The limit that binds: {' or '.join(map(str, report.binding))}.", highlight=False)
    else:
        console.print("No limit binds alone: every variant breaks several.", highlight=False)
    for candidate, excess in report.nearest:
        broken = "; ".join(f"{b.reason} breaks {b.limit}" for b in candidate.breaches)
        console.print(f"  nearest: {candidate.id}, over by {excess:.0%}: {broken}", highlight=False)


def _candidate_document(candidate: Candidate, result: ExportResult) -> dict[str, Any]:
    quality = candidate.quality
    return {
        "id": candidate.id,
        "format": candidate.format,
        "precision": candidate.precision,
        "target": candidate.target,
        "failure": candidate.failure,
        "fits": candidate.fits,
        "breaches": [{"limit": str(b.limit), "figure": b.figure, "reason": b.reason} for b in candidate.breaches],
        "chosen": result.chosen is not None and candidate.id == result.chosen.id,
        "shipped": candidate.id in result.shipped,
        "on_pareto_front": candidate.on_front,
        "size": candidate.size,
        "warnings": candidate.warnings(),
        "latency_spread": None if candidate.latency_spread is None else list(candidate.latency_spread),
        "quality": None
        if quality is None
        else {
            "name": quality.name,
            "value": quality.value,
            "low": quality.low,
            "high": quality.high,
            "samples": quality.samples,
            "beside": dict(quality.beside),
        },
        "memory_judged": candidate.is_memory_judged,
        "compilation": candidate.compilation,
        "measurement": None if candidate.measurement is None else measurement_document(candidate.measurement),
    }
