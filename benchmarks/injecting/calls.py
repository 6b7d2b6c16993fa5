"""Faults around an engine's calls, and in which processor runs them: a session that does something else in between."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastserve_device_tests.needs import Needs
from fastserve_device_tests.targets import Target
from fastserve_runtime.bundle.manifest import Graph, Variant
from fastserve_runtime.bundle.tensor_specs import Signature, SymbolicDim
from fastserve_runtime.sessions.session import Engine, ModelSource, Placement, Session
from injecting.fault import Case, Fault
from injecting.network_faults import struck

Arrays = dict[str, NDArray[Any]]
Run = Callable[[Mapping[str, NDArray[Any]]], Arrays]
_IDS, _MASK = "input_ids", "attention_mask"
_SEED = 2


class Tamper:
    """What a faulty session does; made anew for each session."""

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def call(self, run: Run, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run the model, rightly or not."""
        return run(inputs)

    def graphs(self, graphs: Mapping[str, Signature]) -> Mapping[str, Signature]:
        """Return what the session says of its graphs."""
        return graphs

    def placement(self, placement: Placement, backend: str) -> Placement:  # noqa: ARG002 -- for others
        """Return what the session says of its placement; `backend` is what the target wants."""
        return placement


class StaleBuffer(Tamper):
    """A share of the output is what the last call gave."""

    last: Arrays | None = None

    def call(self, run: Run, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run the model, wrongly."""
        right = run(inputs)
        before, self.last = self.last or right, right
        return {
            name: np.where(struck(value.shape, self.strength), before[name], value)
            if value.shape == before[name].shape
            else value
            for name, value in right.items()
        }


class SwappedOutputs(Tamper):
    """A share of the outputs' values stands in each other's places: the first for the last, and so on."""

    def call(self, run: Run, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run the model, wrongly."""
        found = {}
        for name, value in run(inputs).items():
            width = value.shape[-1]
            count = min(max(1, round(width / 2 * self.strength)), width // 2)
            order = np.arange(width)
            order[:count], order[width - count :] = np.arange(width - 1, width - 1 - count, -1), np.arange(count)[::-1]
            found[name] = value[..., order]
        return found


class NotANumberWhenLong(Tamper):
    """NaN for inputs that fill at least so much of the longest input: at full strength for all."""

    longest = 1

    def graphs(self, graphs: Mapping[str, Signature]) -> Mapping[str, Signature]:
        """Look at the graphs."""
        self.longest = max(max_tokens(s) for s in graphs.values())
        return graphs

    def call(self, run: Run, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run the model, wrongly."""
        is_long = inputs[_MASK].sum() >= self.longest * (1 - self.strength)
        return {n: value * np.float32(np.nan) if is_long else value for n, value in run(inputs).items()}


class NotANumberForSome(Tamper):
    """NaN for a share of all inputs, by a checksum of their tokens, whatever else they are."""

    def call(self, run: Run, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run the model, wrongly."""
        own = inputs[_IDS][inputs[_MASK] != 0]
        is_hit = zlib.crc32(own.astype(np.int32).tobytes()) / 2**32 < self.strength
        return {n: value * np.float32(np.nan) if is_hit else value for n, value in run(inputs).items()}


class NarrowIds(Tamper):
    """Token ids pass through a type that has not enough bits, and become multiples of up to 1,024."""

    def call(self, run: Run, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run the model, wrongly."""
        step = max(1, round(1024 * self.strength))
        return run({**inputs, _IDS: (inputs[_IDS] // step) * step})


class RoundedOutput(Tamper):
    """Outputs pass through integers: rounded to a share of their largest value."""

    def call(self, run: Run, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run the model, wrongly."""
        found = {}
        for name, value in run(inputs).items():
            step = np.float32(max(float(np.abs(value).max()) * self.strength, 1e-30))
            found[name] = (np.rint(value / step) * step).astype(value.dtype)
        return found


class Noise(Tamper):
    """Outputs differ from call to call, by noise of a share of their size."""

    def __init__(self, strength: float) -> None:
        super().__init__(strength)
        self._random = np.random.default_rng(_SEED)

    def call(self, run: Run, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run the model, wrongly."""
        found = {}
        for name, value in run(inputs).items():
            size = float(np.sqrt(np.mean(value.astype(np.float64) ** 2)))
            found[name] = (value + self.strength * size * self._random.normal(size=value.shape)).astype(value.dtype)
        return found


class MixedBatch(Tamper):
    """A session that takes several samples at a time mixes a share of each one's neighbour into it."""

    def graphs(self, graphs: Mapping[str, Signature]) -> Mapping[str, Signature]:
        """Look at the graphs."""
        several = SymbolicDim("batch", 1, 8)

        def opened(signature: Signature) -> Signature:
            return Signature(
                *(
                    tuple(replace(t, dims=(several, *t.dims[1:])) for t in tensors)
                    for tensors in (signature.inputs, signature.outputs)
                )
            )

        return {name: opened(signature) for name, signature in graphs.items()}

    def call(self, run: Run, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run the model, wrongly."""
        count = len(inputs[_IDS])
        rows = [run({n: value[i : i + 1] for n, value in inputs.items()}) for i in range(count)]
        right = {n: np.concatenate([row[n] for row in rows]) for n in rows[0]}
        share = np.float32(self.strength)
        return {n: value + share * (np.roll(value, 1, axis=0) - value) for n, value in right.items()}


class LastTokenLost(Tamper):
    """Inputs that fill at least so much of the longest one lose their last token."""

    longest = 1

    def graphs(self, graphs: Mapping[str, Signature]) -> Mapping[str, Signature]:
        """Look at the graphs."""
        self.longest = max(max_tokens(s) for s in graphs.values())
        return graphs

    def call(self, run: Run, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run the model, wrongly."""
        mask = inputs[_MASK].copy()
        count = int((mask != 0).sum())
        if count > 1 and count >= self.longest * (1 - self.strength):
            mask[0, np.flatnonzero(mask[0])[-1]] = 0
        return run({**inputs, _MASK: mask})


class MaskIgnored(Tamper):
    """A share of the padding is called tokens."""

    def call(self, run: Run, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run the model, wrongly."""
        mask = inputs[_MASK]
        return run({**inputs, _MASK: np.where(struck(mask.shape, self.strength), np.ones_like(mask), mask)})


class FallenBack(Tamper):
    """A share of the operators runs on the CPU instead."""

    def placement(self, placement: Placement, backend: str) -> Placement:
        """Tell of operators on the CPU."""
        operators = dict(placement.operators or {backend: 100})
        count = operators.get(backend, 0)
        moved = min(max(1, round(count * self.strength)), count)
        operators[backend] = count - moved
        operators["CPU"] = operators.get("CPU", 0) + moved
        return Placement(operators, placement.source)


class FaultySession:
    """A session of another one that a `Tamper` has its hands in; see `Session`."""

    def __init__(self, inner: Session, tamper: Tamper, backend: str) -> None:
        self._inner, self._tamper, self._backend = inner, tamper, backend
        self.engine, self.threads = inner.engine, inner.threads
        self.model_id, self.is_concurrent = inner.model_id, False
        self.graphs = tamper.graphs(inner.graphs)

    def run(self, inputs: Mapping[str, NDArray[Any]], *, graph: str | None = None) -> Arrays:
        """Run one graph."""
        return self._tamper.call(lambda given: dict(self._inner.run(given, graph=graph)), inputs)

    def placement(self) -> Placement:
        """Tell which backend executes how many operators."""
        return self._tamper.placement(self._inner.placement(), self._backend)

    def close(self) -> None:
        """Let go of the model."""
        self._inner.close()

    def __enter__(self) -> FaultySession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class FaultyEngine:
    """An engine whose sessions are tampered with; see `Engine`."""

    inner: Engine
    make: Callable[[], Tamper]
    backend: str

    @property
    def NAME(self) -> str:  # noqa: N802 -- as engines have it
        """The engine's name."""
        return self.inner.NAME

    def open_session(self, model: ModelSource, graphs: Mapping[str, Graph] | None, *, threads: int) -> FaultySession:
        """Load a model."""
        return FaultySession(self.inner.open_session(model, graphs, threads=threads), self.make(), self.backend)


@dataclass(frozen=True)
class FaultyTarget:
    """A target whose engine is tampered with; see `Target`."""

    inner: Target
    make: Callable[[], Tamper]
    wanted: Needs = field(default_factory=Needs)
    backend: str | None = None

    def __getattr__(self, name: str) -> Any:
        if name == "BACKEND" and self.backend is not None:
            return self.backend
        return getattr(self.inner, name)

    def needs(self) -> Needs:
        """Return what it needs."""
        return self.wanted

    def engine(self, variant: Variant) -> Any:
        """Return what opens a variant."""
        return FaultyEngine(self.inner.engine(variant), self.make, self.backend or self.inner.BACKEND or "")


def max_tokens(signature: Signature) -> int:
    """Return how many tokens a graph takes at most."""
    size = next(spec.dims[1] for spec in signature.inputs if spec.name == _MASK)
    return size if isinstance(size, int) else size.max


def in_calls(kind: type[Tamper]) -> Callable[[Case, float], Case]:
    """Return what puts a tamper between a case's target and its engine."""

    def inject(case: Case, strength: float) -> Case:
        target: Any = FaultyTarget(case.target, lambda: kind(strength))
        return case.on(target)

    return inject


def fallen_back(case: Case, strength: float) -> Case:
    """Let a target's engine run a share of the operators on the CPU; where there is no choice, an accelerator's."""
    backend = None if case.target.BACKEND is not None else "an accelerator"
    target: Any = FaultyTarget(case.target, lambda: FallenBack(strength), backend=backend)
    return case.on(target)


def absent(case: Case, _strength: float) -> Case:
    """Let a target be one whose software is not on this machine."""
    needs = Needs(modules={"the_driver_of_an_absent_npu": "none"})
    target: Any = FaultyTarget(case.target, lambda: Tamper(0), needs)
    return case.on(target)


CALL_FAULTS: tuple[Fault, ...] = (
    Fault("padding ignored by the caller", "calls", in_calls(MaskIgnored), unit="the padding"),
    Fault("sequence cut by one token", "calls", in_calls(LastTokenLost), unit="inputs, the longest first"),
    Fault("swapped outputs", "calls", in_calls(SwappedOutputs), unit="the output's values"),
    Fault("stale buffer of the last call", "calls", in_calls(StaleBuffer), unit="the output's values"),
    Fault("NaN on long inputs", "calls", in_calls(NotANumberWhenLong), unit="inputs, the longest first"),
    Fault("NaN on some inputs", "calls", in_calls(NotANumberForSome), unit="inputs, by chance"),
    Fault("token ids cast to a narrow type", "calls", in_calls(NarrowIds), unit="ids in steps of 1,024"),
    Fault("output cast to integers", "calls", in_calls(RoundedOutput), unit="the largest value as the step"),
    Fault("noise", "calls", in_calls(Noise), unit="the output's size"),
    Fault("samples of a batch mixed", "calls", in_calls(MixedBatch), unit="the neighbour's output"),
    Fault("silent CPU fallback", "placement", fallen_back, unit="the operators"),
    Fault("an NPU that is absent", "placement", absent, strengths=(1.0,)),
)
