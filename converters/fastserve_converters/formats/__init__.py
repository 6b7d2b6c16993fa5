"""Formats: one exporter module each, found by name and imported when used.

Third parties add theirs by the entry-point group `fastserve.formats`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from fastserve_converters.models.dynamic_shapes import MIN_TOKENS
from fastserve_runtime.errors import EnvironmentFailure, UsageError
from fastserve_runtime.plugins import PartFolder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fastserve_converters.artifact import Artifact
    from fastserve_converters.layer_map import IntermediateOutput
    from fastserve_converters.models.cached_part import CachedPart
    from fastserve_converters.models.model import Form, TracedPart
    from fastserve_converters.precisions import Precision, RangeMethod
    from fastserve_converters.quantized_weight import QuantizedWeight

DEFAULT_PRECISIONS = ("fp32", "int8-dynamic", "int8")
"""What is exported where no precision is named: one to compare with, and the fastest faithful one."""

PartT = TypeVar("PartT", bound="TracedPart | CachedPart")

FORMATS = PartFolder("fastserve_converters.formats", "fastserve.formats", "format")


@dataclass(frozen=True)
class ExportJob(Generic[PartT]):
    """What an exporter gets.

    Attributes:
        part: the model's part that is exported; a traced one with its axes open where the precision's are.
        precision: one of the exporter's `PRECISIONS`.
        precision_spec: what that precision is there.
        weights: torch module name → its quantized weights; layers that stay in float are absent. A head that multiplies
            with the embedding itself has no entry of its own.
        calibration: inputs by name, shape [samples, ...], texts padded; empty where none are needed.
        samples: a few inputs on which the loss of each layer is recorded; likewise.
        base: the folder of the artifact that this precision is made from, where `PRECISIONS` names one.
        out: an empty folder for the files.
        range_method: how the ranges of activations are found, where they are set beforehand.
        prompts: of a model that generates text, the fields of the runtime's `PromptSettings`: ids that end a text, and
            so on.
    """

    part: PartT
    precision: str
    precision_spec: Precision
    weights: Mapping[str, QuantizedWeight]
    calibration: Mapping[str, NDArray[np.generic]]
    samples: Mapping[str, NDArray[np.generic]]
    base: Path | None
    out: Path
    range_method: RangeMethod = "min-max"
    prompts: Mapping[str, Any] = field(default_factory=dict)


def min_tokens(job: ExportJob[TracedPart]) -> int | None:
    """Return to how many tokens a job's samples may be cut; None where its graph has one length."""
    return MIN_TOKENS if job.precision_spec.has_dynamic_length else None


def check_quantizes(job: ExportJob[Any], *, is_quantized: bool, taken: str) -> None:
    """Refuse an artifact in which a precision changed nothing: it would be fp32 under another name.

    Args:
        job: what was exported.
        is_quantized: whether the file holds anything quantized, or halved.
        taken: what the format takes, for people.

    Raises:
        EnvironmentFailure: it does not.
    """
    if not is_quantized:
        raise EnvironmentFailure(
            f"{job.precision} would quantize nothing: in this format it takes {taken}, and the model has none.",
            "Export fp32, or another format.",
        )


class Format(Protocol):
    """What a module in `formats` offers: it exports traced parts. Its module `decoder`, if it has one, cached parts.

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

    def export(self, job: ExportJob[TracedPart]) -> Artifact:
        """Write the artifact's files and its layer map into `job.out`.

        Beside an artifact of static ranges, also the outputs of its fake-quant reference; see
        `quantization.fake_quant_reference`.
        """


class FormatWithIntermediates(Protocol):
    """What a module in `formats`, or its `decoder`, offers beside, if its files keep what they compute to themselves.

    Attributes:
        INTERMEDIATES_MODEL: name of the file that does not.
    """

    INTERMEDIATES_MODEL: str

    def export_with_intermediates(self, job: ExportJob[Any]) -> list[IntermediateOutput]:
        """Write a file of that name into `job.out`, whose outputs are followed by these intermediate outputs."""


class CachedExporter(Protocol):
    """What a format's module `decoder` offers.

    Attributes:
        PRECISIONS: what it has for cached parts, by name. The head has the scheme of the embedding, if none of its own.

    A module whose layer maps name intermediate outputs also offers NAMES_INTERMEDIATES, which is True.
    """

    PRECISIONS: Mapping[str, Precision]

    def export(self, job: ExportJob[CachedPart]) -> Artifact:
        """Write the artifact's files into `job.out`. Its graphs are what the runtime's `open_decoder` knows."""


def cached_exporter(format_module: Format) -> CachedExporter | None:
    """Return how a format exports cached parts, None if it does not."""
    name = f"{format_module.__name__}.decoder"  # type: ignore[attr-defined]
    try:
        module: CachedExporter = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name and not name.startswith(f"{error.name}."):
            raise
        return None
    return module


def precisions_of(format_module: Format, form: Form) -> Mapping[str, Precision]:
    """Return the precisions that a format has for parts of a form; none where it does not export such parts."""
    if form == "traced":
        return format_module.PRECISIONS
    exporter = cached_exporter(format_module)
    return {} if exporter is None else exporter.PRECISIONS


def intermediates_exporter(format_module: Format, form: Form) -> FormatWithIntermediates | None:
    """Return what exports parts of a form so that what the file keeps inside becomes outputs; None if nothing does."""
    exporter: Any = format_module if form == "traced" else cached_exporter(format_module)
    return exporter if hasattr(exporter, "export_with_intermediates") else None


def shows_inside(format_module: Format, form: Form) -> bool:
    """Whether what a format's files compute inside can be compared: their layer maps name it, or an export shows it."""
    if form == "traced":
        return True
    names_it = getattr(cached_exporter(format_module), "NAMES_INTERMEDIATES", False)
    return names_it or intermediates_exporter(format_module, form) is not None


def plan_of(format_module: Format, form: Form, precision: str) -> Precision:
    """Return what a precision is in a format, for parts of a form.

    Raises:
        UsageError: the format exports no such parts, or lacks the precision.
    """
    precisions = precisions_of(format_module, form)
    if not precisions:
        raise UsageError(
            f"The format {format_module.NAME} takes no models that generate text with a cache.",
            "Name another with --format.",
        )
    check_precision(format_module.NAME, precisions, precision)
    return precisions[precision]


def exported(format_module: Format, job: ExportJob[Any]) -> Artifact:
    """Export a part by what a format has for its form; see `plan_of`."""
    if job.part.form == "traced":
        return format_module.export(job)
    exporter = cached_exporter(format_module)
    assert exporter is not None  # its precision was looked up
    return exporter.export(job)


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
