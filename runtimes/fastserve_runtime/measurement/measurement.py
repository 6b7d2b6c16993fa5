"""What was observed of a model on a machine, as one type for all who measure, judge, ship and show it.

Its document is what `fastserve-runtime bench --json`, an export's JSON and a bundle's evidence have. Standard library
only: those who only show a measurement import no numpy.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Final, Literal, TypeAlias, get_args

from fastserve_runtime.errors import BundleError
from fastserve_runtime.measurement.latency import Latency, latency_document
from fastserve_runtime.measurement.machine import Machine
from fastserve_runtime.measurement.memory import MemoryReading
from fastserve_runtime.parsing import Fields, read
from fastserve_runtime.sessions.session import Placement

Status = Literal["measured", "emulated", "predicted"]
"""Where figures come from: the hardware that they speak of, an emulator of it, or a model of it."""
STATUSES: tuple[Status, ...] = get_args(Status)


class NotJudged(Enum):
    """The type of `NOT_JUDGED`."""

    NOT_JUDGED = "not judged"

    def __repr__(self) -> str:
        return "NOT_JUDGED"


NOT_JUDGED: Final = NotJudged.NOT_JUDGED
"""In the place of a figure that means nothing here, so that no limit can judge it. None is a figure that should be
there and is missing, which meets no limit."""

Figure: TypeAlias = "float | NotJudged | None"


@dataclass(frozen=True)
class Memory:
    """What a process took, in bytes; None where the system does not tell.

    Attributes:
        peak: the most that the whole process was resident with.
        anonymous_growth: by how much its own memory grew since before the model was loaded.
        file_backed_growth: likewise, pages of mapped files, which the system can drop.
    """

    peak: int | None
    anonymous_growth: int | None
    file_backed_growth: int | None


@dataclass(frozen=True)
class FirstToken:
    """What is timed of a model that generates text beside its steps.

    Attributes:
        prompt_tokens: how many tokens the timed prompts have.
        latency: from an empty cache to the first token.
    """

    prompt_tokens: int
    latency: Latency


@dataclass(frozen=True)
class SampleLatency:
    """Median and 90th percentile over the samples, each run once at its own length, in seconds."""

    p50: float
    p90: float
    samples: int


@dataclass(frozen=True)
class Measurement:
    """What was observed of one model with one engine on one machine.

    Attributes:
        machine: what latency and memory belong to.
        threads: how many one call used.
        brings_pytorch: whether PyTorch was in the process, so that its memory says nothing of a device.
        import_seconds: of the engine, after numpy.
        load_seconds: of the model.
        memory: of the process.
        latency: of one call, or of one output token of a model that generates text.
        items_per_second: calls or output tokens, one at a time.
        placement: which backend took how many operators.
        first_token: of a model that generates text; None of others.
        sample_latency: None where the samples were not all run.
        status: where the figures come from.
    """

    machine: Machine
    engine: str
    engine_version: str | None
    threads: int
    brings_pytorch: bool
    import_seconds: float
    load_seconds: float
    first_inference_seconds: float
    memory: Memory
    latency: Latency
    items_per_second: float
    placement: Placement
    first_token: FirstToken | None = None
    sample_latency: SampleLatency | None = None
    status: Status = "measured"

    @property
    def peak_memory(self) -> int | NotJudged | None:
        """The process' peak in bytes; not judged where the engine brings PyTorch with it."""
        return NOT_JUDGED if self.brings_pytorch else self.memory.peak

    @property
    def latencies(self) -> dict[str, Latency]:
        """What a budget limits: the `latency` of a call, or `ttft` and `tpot` (MLPerf Inference's terms)."""
        if self.first_token is None:
            return {"latency": self.latency}
        return {"ttft": self.first_token.latency, "tpot": self.latency}


def memory_between(before: MemoryReading, after: MemoryReading) -> Memory:
    """Return the whole process' peak, and its growth between two readings."""
    return Memory(
        after.peak,
        _difference(before.anonymous, after.anonymous),
        _difference(before.file_backed, after.file_backed),
    )


def measurement_document(measurement: Measurement) -> dict[str, Any]:
    """Return a measurement as JSON."""
    first, samples = measurement.first_token, measurement.sample_latency
    return {
        "status": measurement.status,
        "machine": {**asdict(measurement.machine), "instruction_sets": list(measurement.machine.instruction_sets)},
        "engine": measurement.engine,
        "engine_version": measurement.engine_version,
        "threads": measurement.threads,
        "brings_pytorch": measurement.brings_pytorch,
        "import_seconds": measurement.import_seconds,
        "load_seconds": measurement.load_seconds,
        "first_inference_seconds": measurement.first_inference_seconds,
        "memory": asdict(measurement.memory),
        "latency": latency_document(measurement.latency),
        "items_per_second": measurement.items_per_second,
        "placement": {"operators": measurement.placement.operators, "source": measurement.placement.source},
        **(
            {}
            if first is None
            else {"prompt_tokens": first.prompt_tokens, "time_to_first_token": latency_document(first.latency)}
        ),
        **({} if samples is None else {"sample_latency": asdict(samples)}),
    }


def parse_measurement(document: object) -> Measurement:
    """Read a measurement from its document.

    Raises:
        BundleError: a field is missing or of another kind.
    """
    fields = Fields(document, "measurement")
    return Measurement(
        machine=read(fields.object("machine"), Machine),
        engine=fields.text("engine"),
        engine_version=fields.optional_text("engine_version"),
        threads=fields.count("threads"),
        brings_pytorch=fields.flag("brings_pytorch"),
        import_seconds=fields.number("import_seconds"),
        load_seconds=fields.number("load_seconds"),
        first_inference_seconds=fields.number("first_inference_seconds"),
        memory=_memory(fields.object("memory")),
        latency=read(fields.object("latency"), Latency),
        items_per_second=fields.number("items_per_second"),
        placement=_placement(fields.object("placement")),
        first_token=(
            FirstToken(fields.count("prompt_tokens"), read(fields.object("time_to_first_token"), Latency))
            if fields.has("time_to_first_token")
            else None
        ),
        sample_latency=read(fields.object("sample_latency"), SampleLatency) if fields.has("sample_latency") else None,
        status=_status(fields),
    )


def _memory(fields: Fields) -> Memory:
    return Memory(
        fields.optional_count("peak"),
        fields.optional_integer("anonymous_growth"),
        fields.optional_integer("file_backed_growth"),
    )


def _placement(fields: Fields) -> Placement:
    operators = fields.optional_mapping("operators")
    return Placement(operators, fields.text("source"))


def _status(fields: Fields) -> Status:
    written = fields.text("status")
    for status in STATUSES:
        if status == written:
            return status
    raise BundleError(f"measurement.status is '{written:.80}', none of {', '.join(STATUSES)}.")


def _difference(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before
