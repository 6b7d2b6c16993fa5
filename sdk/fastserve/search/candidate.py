"""A variant that could be shipped, with all that is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastserve.search.budget import Breach
from fastserve_converters.recipe import Recipe
from fastserve_runtime.conformance.quality import Quality
from fastserve_runtime.measurement.measurement import NOT_JUDGED, Figure, Measurement

MIN_SPREAD = 0.05
"""As a share: so much the p90 of one model differs from process to process, however steady each run was."""


@dataclass(frozen=True)
class Candidate:
    """What became of one recipe.

    Attributes:
        recipe: how it is made.
        format: of its artifact.
        folder: where the artifact's files are; None where its export failed.
        artifact: fields of the manifest's variant that the exporter gave.
        digests: SHA-256 of each of its files, by name, as they were when it was measured.
        measurement: what a device observed; None where it failed.
        outputs: file of its outputs on evaluation and golden inputs.
        size: bytes that a device must hold: its files and the shared ones.
        fake_quant_reference: how near its outputs come to the same quantized model elsewhere; None where that was not
            looked at.
        failure: why there is no artifact or no measurement, or why they are not to be used, in a sentence.
        target: the one target that it was made for; None where it is portable and measured on this machine.
        compilation: what made it for that target, and what that told.
        breaches: limits of the budget that it does not meet.
        suffix: what tells it apart from another one whose recipe has the same words.
        on_front: whether no other candidate is better in every respect (Pareto front).
    """

    recipe: Recipe
    format: str
    folder: Path | None = None
    artifact: Mapping[str, Any] | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    measurement: Measurement | None = None
    outputs: Path | None = None
    quality: Quality | None = None
    size: int | None = None
    fake_quant_reference: Mapping[str, Any] | None = None
    failure: str | None = None
    target: str | None = None
    compilation: Mapping[str, Any] | None = None
    breaches: tuple[Breach, ...] = field(default=())
    suffix: str = ""
    on_front: bool = False

    @property
    def id(self) -> str:
        """The recipe's words, and what tells it apart from others that have the same."""
        return f"{self.recipe.words}{self.suffix}"

    @property
    def precision(self) -> str:
        """The recipe's."""
        return self.recipe.precision

    @property
    def fits(self) -> bool:
        """Whether it was made, measured or made for a target that is not this machine, and meets the budget."""
        was_judged = self.measurement is not None or self.target is not None
        return self.failure is None and was_judged and not self.breaches

    @property
    def is_memory_judged(self) -> bool:
        """Whether its memory says something about a device; not where the engine brings PyTorch with it."""
        return self.measurement is not None and not self.measurement.brings_pytorch

    @property
    def peak_memory(self) -> int | None:
        """Whole-process peak in bytes, where it says something about a device."""
        return self.measurement.memory.peak if self.measurement is not None and self.is_memory_judged else None

    @property
    def p90(self) -> float | None:
        """MLPerf's early-stopping estimate of p90 latency in seconds, where it can be trusted.

        Of one inference, or of one output token of a model that generates text.
        """
        return None if self.measurement is None else self.measurement.latency.trusted_p90

    @property
    def latency_spread(self) -> tuple[float, float] | None:
        """From the median to the p90 of the calls, in seconds: what is inside says nothing of which one is faster.

        None where the p90 cannot be trusted.
        """
        if self.p90 is None or self.measurement is None:
            return None
        median = self.measurement.latency.p50
        # The median is an upper bound too, and may be that of a lucky minute.
        return min(self.p90 / (1 + MIN_SPREAD), self.p90 if median is None else median), self.p90

    @property
    def first_token_p90(self) -> float | None:
        """The same of the time to the first token; None where the model generates no text."""
        first = None if self.measurement is None else self.measurement.first_token
        return None if first is None else first.latency.trusted_p90

    @property
    def generates(self) -> bool:
        """Whether it was measured as a model that generates text."""
        return self.measurement is not None and self.measurement.first_token is not None

    def figures(self) -> dict[str, Figure]:
        """Return the figures that a budget judges, by metric.

        A latency that cannot be trusted is given as the longest that was seen: what is below the limit even so fits.
        What was made for a target is judged by size and quality alone.
        """
        unmeasured: Figure = None if self.target is None else NOT_JUDGED
        measurement = self.measurement
        return {
            "size": self.size,
            "memory": unmeasured if measurement is None else measurement.peak_memory,
            **(
                {"latency": unmeasured}
                if measurement is None
                else {metric: latency.upper_bound for metric, latency in measurement.latencies.items()}
            ),
            "quality": None if self.quality is None else self.quality.value,
        }

    def warnings(self) -> dict[str, str]:
        """Return, by metric, why a figure cannot be trusted."""
        latencies = {} if self.measurement is None else self.measurement.latencies
        return {m: "; ".join(x.warnings) for m, x in latencies.items() if not x.is_trustworthy}
