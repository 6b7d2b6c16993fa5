"""Formats: one exporter module each, found by name and imported when used.

Third parties add theirs by the entry-point group `fastserve.formats`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fastserve_runtime.errors import EnvironmentFailure, UsageError
from fastserve_runtime.plugins import PartFolder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastserve_converters.artifact import Artifact
    from fastserve_converters.layer_map import Tap
    from fastserve_converters.models.decoder.form import DecoderForm
    from fastserve_converters.models.model import TracedPart
    from fastserve_converters.precisions import Precision, RangeMethod
    from fastserve_converters.quantization.weights import QuantizedWeight

DEFAULT_PRECISIONS = ("fp32", "int8-dynamic", "int8")
"""What is exported where no precision is named: one to compare with, and the fastest faithful one."""

LEAST_TOKENS = 2
"""The fewest tokens of a graph of dynamic length: PyTorch would take 1 for a constant."""

FORMATS = PartFolder("fastserve_converters.formats", "fastserve.formats", "format")


@dataclass(frozen=True)
class ExportJob:
    """What an exporter gets.

    Attributes:
        part: the model's part that is exported, with its axes open where the precision's are.
        precision: one of the format's `PRECISIONS`.
        plan: what that precision is in this format.
        weights: torch module name → its weights as integers; layers that stay in float are absent.
        calibration: inputs by name, shape [samples, ...], texts padded; empty where none are needed.
        samples: a few inputs on which the loss of each layer is recorded; likewise.
        base: the folder of the artifact that this precision is made from, where `PRECISIONS` names one.
        out: an empty folder for the files.
        range_method: how the ranges of activations are found, where they are set beforehand.
    """

    part: TracedPart
    precision: str
    plan: Precision
    weights: Mapping[str, QuantizedWeight]
    calibration: Mapping[str, NDArray[np.generic]]
    samples: Mapping[str, NDArray[np.generic]]
    base: Path | None
    out: Path
    range_method: RangeMethod = "min-max"


@dataclass(frozen=True)
class DecoderJob:
    """What an exporter of decoders gets.

    Attributes:
        form: the decoder, in eval mode; its `context` is what the cache must hold.
        precision: one of the format's `PRECISIONS` for decoders.
        plan: what that precision is in this format.
        weights: torch module name → its weights as integers; layers that stay in float are absent. Where the head is
            the embedding table (`form.is_tied`), it has no entry of its own and multiplies with the embedding's.
        prompts: the fields of the runtime's `PromptSettings`: ids that end a text, and so on.
        out: an empty folder for the files.
    """

    form: DecoderForm
    precision: str
    plan: Precision
    weights: Mapping[str, QuantizedWeight]
    prompts: Mapping[str, Any]
    out: Path


def least_tokens(job: ExportJob) -> int | None:
    """Return to how many tokens a job's samples may be cut; None where its graph has one length."""
    return LEAST_TOKENS if job.plan.has_dynamic_length else None


class Format(Protocol):
    """What a module in `formats` offers.

    Attributes:
        NAME: as users write it.
        TOOLS: distributions whose versions decide the result.
        MODULES: import names that must be there.
        PRECISIONS: what it has, by name.
    """

    NAME: str
    TOOLS: tuple[str, ...]
    MODULES: tuple[str, ...]
    PRECISIONS: Mapping[str, Precision]

    def export(self, job: ExportJob) -> Artifact:
        """Write the artifact's files and its layer map into `job.out`.

        Beside an artifact of static ranges, also the outputs of its twin; see `quantization.twin`.
        """


class TappedFormat(Protocol):
    """What a module in `formats` offers beside, if its files keep to themselves what they compute inside.

    Attributes:
        TAPPED_MODEL: name of the file that does not.
    """

    TAPPED_MODEL: str

    def export_with_taps(self, job: ExportJob) -> list[Tap]:
        """Write a file of that name into `job.out`, whose outputs are followed by these taps."""


class DecoderFormat(Protocol):
    """What a format's module `decoder` offers.

    Attributes:
        PRECISIONS: what it has for decoders, by name. The head has the scheme of the embedding, if none of its own.
    """

    PRECISIONS: Mapping[str, Precision]

    def export(self, job: DecoderJob) -> Artifact:
        """Write the artifact's files into `job.out`. Its graphs are what the runtime's `open_decoder` knows."""


def decoder_format(format_module: Format) -> DecoderFormat | None:
    """Return how a format exports decoders of text, None if it does not."""
    name = f"{format_module.__name__}.decoder"  # type: ignore[attr-defined]
    try:
        module: DecoderFormat = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name and not name.startswith(f"{error.name}."):
            raise
        return None
    return module


class NeedsModules(Protocol):
    """A format or a lowering, as far as what must be installed for it goes; see `Format`."""

    MODULES: tuple[str, ...]


def missing_modules(part: NeedsModules) -> tuple[str, ...]:
    """Return the import names that a format or a lowering needs and that are not installed."""
    return tuple(name for name in part.MODULES if find_spec(name) is None)


def installation_hint(format_name: str) -> str:
    """Return the command that installs a built-in format's converter."""
    return f"pip install '.[{format_name}]' in FastServe's folder, or '[{format_name}]' behind its wheel's name"


def check_installed(format_name: str) -> Format:
    """Return a format whose converter is installed.

    Raises:
        UsageError: there is no such format.
        EnvironmentFailure: its converter is not installed.
    """
    module: Format = FORMATS.load(format_name)
    missing = missing_modules(module)
    if missing:
        raise EnvironmentFailure(
            f"The converter for {format_name} is not installed: {', '.join(missing)} cannot be found.",
            f"Install it with: {installation_hint(format_name)}.",
        )
    return module


def precisions_of(format_module: Format, *, generates: bool) -> Mapping[str, Precision]:
    """Return the precisions that a format has for encoders, or for decoders of text; none where it has no decoders."""
    if not generates:
        return format_module.PRECISIONS
    decoders = decoder_format(format_module)
    return {} if decoders is None else decoders.PRECISIONS


def check_precision(format_name: str, precisions: Mapping[str, Precision], precision: str) -> None:
    """Refuse a precision that a format lacks.

    Raises:
        UsageError: naming those that it has.
    """
    if precision not in precisions:
        raise UsageError(
            f"The format {format_name} has no precision '{precision}'.", f"It has: {', '.join(precisions)}."
        )


def chosen_precisions(
    available: Mapping[str, Mapping[str, Precision]], wanted: Sequence[str] | None
) -> dict[str, tuple[str, ...]]:
    """Return the precisions to export, by format, in the order in which each format lists them.

    Args:
        available: by format, those it has.
        wanted: precisions that were named; None for `DEFAULT_PRECISIONS`, or all of a format that has none of these.

    Raises:
        UsageError: no format was left with any, or one that was named is none of any format's.
    """
    if wanted is None:
        own = {name: tuple(p for p in has if p in DEFAULT_PRECISIONS) for name, has in available.items()}
        return {name: own[name] or tuple(has) for name, has in available.items()}
    if not wanted:
        raise UsageError("No precision was named.", f"Name some of: {', '.join(next(iter(available.values())))}.")
    for precision in wanted:
        if not any(precision in has for has in available.values()):
            listed = "; ".join(f"{name} has {', '.join(has)}" for name, has in available.items())
            raise UsageError(f"No format to be exported has the precision '{precision}'.", f"{listed}.")
    return {name: tuple(p for p in has if p in wanted) for name, has in available.items()}
