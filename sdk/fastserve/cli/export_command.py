"""`fastserve export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fastserve.cli.consoles import error_console, output_console
from fastserve.cli.failures import failures_shown
from fastserve.cli.report import export_document, print_export
from fastserve.exporting.export import run_export
from fastserve.exporting.length import DEFAULT_CONTEXT
from fastserve.exporting.request import ExportRequest
from fastserve.progress import terminal_reporter
from fastserve.search.budget import budget_from_flags
from fastserve.search.planners import DEFAULT_PLANNERS
from fastserve_converters.checkpoints.task import USUAL_LENGTH
from fastserve_runtime.cli.listed_words import WORDS, listed_words
from fastserve_runtime.cli.streams import show_document
from fastserve_runtime.errors import EXIT_NOTHING_FITS


def export(
    model: Annotated[str, typer.Argument(help="A checkpoint directory, a GGUF or .pt2 file, or hf:organisation/name.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The bundle: a directory, or one file if *.zip.")],
    task: Annotated[str, typer.Option(help="As named on the Hub; found from the config if 'auto'.")] = "auto",
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="Some of onnx,tflite,executorch; all installed if left out.", metavar=WORDS),
    ] = None,
    precisions: Annotated[
        list[str] | None,
        typer.Option(
            "--precision",
            help="Some of those that the formats have; fp32 and dynamic int8 if left out.",
            metavar=WORDS,
        ),
    ] = None,
    targets: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            help="Also make what these need of their own: names such as onnx:qnn-htp, or npu, gpu, all.",
            metavar=WORDS,
        ),
    ] = None,
    seq_len: Annotated[
        int | None,
        typer.Option(help=f"Tokens a text is padded or cut to; the task's usual, mostly {USUAL_LENGTH}, if left out."),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(help=f"Tokens of prompt and new text together; {DEFAULT_CONTEXT} if left out."),
    ] = None,
    truncate_dim: Annotated[int | None, typer.Option(help="Keep so many numbers of a sentence embedding.")] = None,
    max_size: Annotated[str | None, typer.Option(help="Most bytes on the device, such as 25MB.")] = None,
    max_memory: Annotated[str | None, typer.Option(help="Most peak memory, such as 120MB.")] = None,
    max_latency: Annotated[str | None, typer.Option(help="Most p90 latency, such as 30ms.")] = None,
    max_ttft: Annotated[str | None, typer.Option(help="Most p90 time to first token, such as 500ms.")] = None,
    max_tpot: Annotated[str | None, typer.Option(help="Most p90 time per output token, such as 20ms.")] = None,
    min_quality: Annotated[str | None, typer.Option(help="Least quality, such as 0.99.")] = None,
    keep: Annotated[
        str, typer.Option(help="Ship the 'best' variant, the best of the 'formats', or 'all'.")
    ] = "formats",
    data: Annotated[
        list[Path] | None, typer.Option(help="CSV, JSON lines, Parquet or text; .npz of a .pt2; may be repeated.")
    ] = None,
    text_column: Annotated[
        str | None, typer.Option(help="The data's column of the text; 'text' or 'question' if left out.")
    ] = None,
    text_pair_column: Annotated[
        str | None,
        typer.Option(help="The data's column of the second text; the model is then exported for pairs of texts."),
    ] = None,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Export a classifier for pairs of texts (NLI, STS); rankers always are.")
    ] = False,
    label_column: Annotated[
        str | None, typer.Option(help="The data's column of the label; 'label' or 'answers' if left out.")
    ] = None,
    range_method: Annotated[
        str, typer.Option(help="How static precisions find activations' ranges: min-max, percentile or mse.")
    ] = "min-max",
    passes: Annotated[
        list[str] | None,
        typer.Option(
            "--pass",
            help="Change the checkpoint before it is exported, such as drop-layers:keep=3; may be repeated, in order.",
            metavar="NAME[:SETTING=VALUE]",
        ),
    ] = None,
    planners: Annotated[
        list[str] | None,
        typer.Option(
            "--planner",
            help=f"What proposes the variants that are tried; {','.join(DEFAULT_PLANNERS)} if left out.",
            metavar=WORDS,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Where variants are measured.")] = "local",
    threads: Annotated[int, typer.Option(help="Threads that one inference may use.")] = 1,
    seed: Annotated[int, typer.Option(help="For the data's split and the bootstrap.")] = 0,
    cache_dir: Annotated[Path | None, typer.Option(help="Where finished steps are kept.")] = None,
    remeasure: Annotated[bool, typer.Option("--remeasure", help="Measure again what is cached.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle that exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and the converters' logs.")] = False,
    debug_dir: Annotated[Path | None, typer.Option(help="Write the torch program and layer maps there.")] = None,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run the checkpoint's code.")] = False,
    allow_pickle: Annotated[bool, typer.Option("--allow-pickle", help="Accept weights that are a pickle.")] = False,
) -> None:
    """Export a model into a bundle of the most accurate variants that fit a budget."""
    finished: list[str] = []

    def after_interruption() -> str:
        return "Finished steps are kept; the same command goes on from them." if finished else ""

    with failures_shown(as_json=as_json, debug=debug, after_interruption=after_interruption):
        budget = budget_from_flags(
            max_size=max_size,
            max_memory=max_memory,
            max_latency=max_latency,
            max_ttft=max_ttft,
            max_tpot=max_tpot,
            min_quality=min_quality,
        )
        request = ExportRequest(
            model=model,
            output=output,
            task=task,
            formats=listed_words(formats),
            precisions=listed_words(precisions),
            targets=listed_words(targets),
            sequence_length=seq_len,
            context=context,
            truncate_dim=truncate_dim,
            budget=budget,
            keep=keep,
            data=tuple(data or ()),
            text_column=text_column,
            label_column=label_column,
            text_pair_column=text_pair_column,
            pairs=pairs,
            range_method=range_method,
            passes=tuple(passes or ()),
            planners=DEFAULT_PLANNERS if planners is None else listed_words(planners) or (),
            device=device,
            threads=threads,
            seed=seed,
            cache_dir=cache_dir,
            force=force,
            remeasure=remeasure,
            debug=debug,
            debug_dir=debug_dir,
            trust_remote_code=trust_remote_code,
            allow_pickle=allow_pickle,
        )
        with terminal_reporter(error_console(), finished) as reporter:
            result = run_export(request, reporter)
        if as_json:
            show_document(export_document(result))
        else:
            print_export(result, output_console())
    if result.bundle is None:
        raise typer.Exit(EXIT_NOTHING_FITS)
