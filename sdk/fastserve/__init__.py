"""FastServe: the most accurate variant of a model that fits a device's budget, exported and proven.

    import fastserve
    result = fastserve.export("./my-model", "my-model.fsb", max_size="25MB")
    pipeline = fastserve.load("my-model.fsb")
    embeddings = pipeline(["a sentence", "another"])

Importing this package imports next to nothing: every name below comes with its module when it is first used (PEP 562).
PyTorch is imported in none but the process that exporting starts.
"""

from __future__ import annotations

import os

from fastserve_runtime import __version__
from fastserve_runtime.faces import face

TYPE_CHECKING = False  # typing itself takes long to import; see `fastserve_runtime.processes.leaving`
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from fastserve.bisecting import Bisection, bisect
    from fastserve.bundles.packing import pack
    from fastserve.conforming import conform
    from fastserve.exporting.export import ExportResult
    from fastserve.pipeline.own_quality import OwnQuality
    from fastserve.progress import Reporter
    from fastserve.search.budget import Budget, Limit
    from fastserve.search.candidate import Candidate
    from fastserve_runtime import (
        Bundle,
        BundleError,
        EnvironmentFailure,
        FastServeError,
        UsageError,
        Verdict,
        load,
        open_bundle,
        verify,
    )
    from fastserve_runtime.conformance.quality import Quality

__all__ = [
    "Bisection",
    "Budget",
    "Bundle",
    "BundleError",
    "Candidate",
    "EnvironmentFailure",
    "ExportResult",
    "FastServeError",
    "Limit",
    "Quality",
    "UsageError",
    "Verdict",
    "__version__",
    "bisect",
    "conform",
    "export",
    "load",
    "open_bundle",
    "pack",
    "verify",
]


def export(
    model: str | os.PathLike[str] | Any,
    output: str | os.PathLike[str],
    *,
    task: str = "auto",
    formats: Sequence[str] | None = None,
    precisions: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    sequence_length: int | None = None,
    context: int | None = None,
    truncate_dim: int | None = None,
    max_size: str | int | None = None,
    max_memory: str | int | None = None,
    max_latency: str | float | None = None,
    max_ttft: str | float | None = None,
    max_tpot: str | float | None = None,
    min_quality: str | float | None = None,
    budget: Budget | None = None,
    keep: str = "formats",
    data: Sequence[str | os.PathLike[str]] = (),
    text_column: str | None = None,
    label_column: str | None = None,
    text_pair_column: str | None = None,
    pairs: bool = False,
    range_method: str = "min-max",
    passes: Sequence[str] = (),
    planners: Sequence[str] | None = None,
    device: str = "local",
    threads: int = 1,
    seed: int = 0,
    cache_dir: str | os.PathLike[str] | None = None,
    force: bool = False,
    remeasure: bool = False,
    debug: bool = False,
    debug_dir: str | os.PathLike[str] | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    reporter: Reporter | None = None,
    example: Any = None,
    samples: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    quality: OwnQuality | None = None,
    dynamic_shapes: Any = None,
    axes: Mapping[str, Sequence[str]] | None = None,
) -> ExportResult:
    """Export a model into a bundle of the variants that fit a budget.

    Args:
        model: a Transformers or sentence-transformers checkpoint directory, a GGUF file, or `hf:organisation/name`,
            which alone uses the network; a program of `torch.export` (`.pt2`), or a torch module, which is traced.
        output: the bundle: a directory, or one file where it ends in `.zip`.
        task: as named on the Hub; `auto` finds it from the config.
        formats: some of `onnx`, `tflite`, `executorch`; all that are installed if left out.
        precisions: some of those that the formats have; fp32 and dynamic int8 if left out.
        targets: also make what these need of their own, such as `onnx:qnn-htp`, or those of a class (`npu`), or `all`.
        sequence_length: tokens a text is padded or cut to; 64 if left out, or where sentence-transformers cuts texts
            of the model, if that is sooner.
        context: tokens of prompt and new text together, for a model that generates text; 1024 if left out.
        truncate_dim: keep so many numbers of a sentence embedding, as Matryoshka models are made for; as many as the
            model's own files say if left out.
        max_size: most bytes on the device, model and tokenizer: `"25MB"` or a number.
        max_memory: most bytes of peak memory of the whole process.
        max_latency: most p90 latency: `"30ms"` or seconds.
        max_ttft: most p90 time to first token, for a model that generates text.
        max_tpot: most p90 time per output token, likewise.
        min_quality: least quality, between 0 and 1.
        budget: the limits as a `Budget`, instead of the limits above.
        keep: ship the `best` variant, the best of each of the `formats`, or `all` that fit.
        data: CSV, JSON lines, Parquet or text files for calibration and evaluation.
        text_column: the column of the text; `text` if left out, or `question` where questions are answered.
        label_column: the column of the label, by name or id; may be absent. `label` if left out, or `answers`.
        text_pair_column: the column of the second text; the model is then exported for pairs of texts. `context` if
            left out where questions are answered.
        pairs: export a classifier for pairs of texts, also without such a column; what ranks texts always is.
        range_method: how static precisions find the ranges of activations: `min-max`, `percentile` or `mse`.
        passes: what changes the checkpoint before it is exported, in order, such as `drop-layers:keep=3`.
        planners: what proposes the variants that are tried: `exhaustive` and `mixed-precision` if left out.
        device: where variants are measured: this machine if left out.
        threads: how many threads one inference may use.
        seed: for splitting the data and for bootstrap intervals.
        cache_dir: where finished stages are kept.
        force: replace a bundle that exists.
        remeasure: measure again even where a measurement is cached.
        debug: show the converters' and engines' logs.
        debug_dir: also write the exported program and the layer maps there.
        trust_remote_code: let a checkpoint's own code run.
        allow_pickle: accept pickle weights, read with `torch.load(weights_only=True)`.
        reporter: gets told of the progress.
        example: inputs of a torch module: a tensor, a tuple of them, or a mapping by name.
        samples: of a module or a program: arrays by input, samples along the first axis, or the path of an `.npz` file.
        quality: judges a variant of a module or a program: `quality(inputs, reference, outputs)`, each arrays by name,
            gives a number that is 1 where nothing is lost.
        dynamic_shapes: axes of a module that stay open, as `torch.export.export` takes them.
        axes: what the axes of a module's inputs and outputs are called, such as `{"image": ("batch", "channels",
            "height", "width")}`.

    Returns:
        The result; its `bundle` is None where nothing fits.

    Raises:
        UsageError: the model, a setting or the data is wrong, or the output exists.
        EnvironmentFailure: a converter is missing, or every one failed.
    """
    from dataclasses import replace
    from pathlib import Path

    from fastserve.exporting.export import run_export
    from fastserve.exporting.modules import given_as_files
    from fastserve.exporting.request import ExportRequest
    from fastserve.search.budget import budget_from_flags
    from fastserve.search.planners import DEFAULT_PLANNERS

    limits = budget or budget_from_flags(
        max_size=max_size,
        max_memory=max_memory,
        max_latency=max_latency,
        max_ttft=max_ttft,
        max_tpot=max_tpot,
        min_quality=min_quality,
    )
    request = ExportRequest(
        model="",
        output=Path(output),
        task=task,
        formats=None if formats is None else tuple(formats),
        precisions=None if precisions is None else tuple(precisions),
        targets=None if targets is None else tuple(targets),
        sequence_length=sequence_length,
        context=context,
        truncate_dim=truncate_dim,
        budget=limits,
        keep=keep,
        text_column=text_column,
        label_column=label_column,
        text_pair_column=text_pair_column,
        pairs=pairs,
        range_method=range_method,
        passes=tuple(passes),
        planners=DEFAULT_PLANNERS if planners is None else tuple(planners),
        device=device,
        threads=threads,
        seed=seed,
        cache_dir=None if cache_dir is None else Path(cache_dir),
        force=force,
        remeasure=remeasure,
        debug=debug,
        debug_dir=None if debug_dir is None else Path(debug_dir),
        trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
        quality=quality,
    )
    given = given_as_files(model, data, example=example, samples=samples, dynamic_shapes=dynamic_shapes, axes=axes)
    with given as (path, files):
        return run_export(replace(request, model=path, data=files), reporter)


__getattr__, __dir__ = face(
    __name__,
    "",
    {
        "fastserve.bisecting": "Bisection bisect",
        "fastserve.search.budget": "Budget Limit",
        "fastserve.search.candidate": "Candidate",
        "fastserve.conforming": "conform",
        "fastserve.exporting.export": "ExportResult",
        "fastserve.bundles.packing": "pack",
        "fastserve_runtime.conformance.quality": "Quality",
        "fastserve_runtime": (
            "Bundle BundleError EnvironmentFailure FastServeError UsageError Verdict load open_bundle verify"
        ),
    },
)
