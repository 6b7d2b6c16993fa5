"""Tensors that operators are tried on: random ones, and those at the edges of number formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Filling = Callable[[np.random.Generator, tuple[int, ...]], Array]

HALF_MAX = 65504.0
"""The largest float16."""
MASK = -1e4
"""What a mask adds to a score where there is nothing to see."""


def _signs(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.choice([-1.0, 1.0], shape)


def _masked(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    hidden = rng.random(shape) < 0.5
    return rng.standard_normal(shape) + np.where(hidden, MASK, 0.0)


def _with(value: float) -> Filling:
    def filled(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        values = rng.standard_normal(shape).reshape(-1)
        values[rng.integers(0, len(values))] = value
        return values.reshape(shape)

    return filled


FINITE: Mapping[str, Filling] = {
    "random": lambda rng, shape: rng.standard_normal(shape),
    "zeros": lambda _, shape: np.zeros(shape),
    "negative zeros": lambda _, shape: np.full(shape, -0.0),
    "ones": lambda _, shape: np.ones(shape),
    "negative": lambda rng, shape: -np.abs(rng.standard_normal(shape)) - 0.01,
    "ten thousands": lambda rng, shape: 1e4 * _signs(rng, shape) * rng.uniform(0.5, 1, shape),
    "float16's largest": lambda rng, shape: HALF_MAX * _signs(rng, shape),
    "denormal": lambda rng, shape: 1e-40 * rng.standard_normal(shape),
    "tiny": lambda rng, shape: 1e-30 * rng.standard_normal(shape),
    "halves": lambda rng, shape: rng.integers(-12, 12, shape) + 0.5,
    "equal": lambda rng, shape: np.broadcast_to(rng.standard_normal((*shape[:-1], 1)), shape),
    "masked": _masked,
    "all masked": lambda rng, shape: MASK + rng.standard_normal(shape) * 0.1,
    "one large": lambda rng, shape: _with(3000.0)(rng, shape),
}
INFINITE: Mapping[str, Filling] = {"nan": _with(np.nan), "inf": _with(np.inf), "-inf": _with(-np.inf)}
FLOATS: Mapping[str, Filling] = {**FINITE, **INFINITE}


def positive(fillings: Mapping[str, Filling]) -> Mapping[str, Filling]:
    """Return the same numbers without their signs."""
    return {name: _without_sign(filling) for name, filling in fillings.items()}


def _without_sign(filling: Filling) -> Filling:
    return lambda rng, shape: np.abs(filling(rng, shape))


def integers(minimum: int, maximum: int) -> Mapping[str, Filling]:
    """Return fillings of whole numbers of a range."""
    return {
        "random": lambda rng, shape: rng.integers(minimum, maximum + 1, shape),
        "zeros": lambda _, shape: np.zeros(shape, np.int64),
        "ones": lambda _, shape: np.full(shape, min(1, maximum)),
        "minimum": lambda _, shape: np.full(shape, minimum),
        "maximum": lambda _, shape: np.full(shape, maximum),
        "ends": lambda rng, shape: rng.choice([minimum, maximum], shape),
    }


@dataclass(frozen=True)
class Drawn:
    """Inputs of one run.

    Attributes:
        filling: which one they have.
        values: float32 or integers.
    """

    filling: str
    values: tuple[Array, ...]


def drawn(
    inputs: Sequence[tuple[str, Mapping[str, Filling]]],
    shapes: Sequence[Sequence[tuple[int, ...]]],
    *,
    seeds: int = 1,
) -> Iterator[Drawn]:
    """Yield inputs: every filling in every set of shapes.

    Args:
        inputs: dtype and fillings of each input. Where an input lacks a filling of the first one, it is random.
        shapes: of the inputs, set by set.
        seeds: so many of each.
    """
    for number, of_inputs in enumerate(shapes):
        for name in inputs[0][1]:
            for seed in range(seeds):
                yield Drawn(name, draw(inputs, of_inputs, name, (number, seed)))


def draw(
    inputs: Sequence[tuple[str, Mapping[str, Filling]]],
    shapes: Sequence[tuple[int, ...]],
    name: str,
    seeds: tuple[int, ...],
) -> tuple[Array, ...]:
    """Return inputs of one filling; those that lack it are random."""
    rng = np.random.default_rng([*name.encode(), *seeds])
    return tuple(
        np.asarray(fillings.get(name, fillings["random"])(rng, tuple(shape))).astype(dtype)
        for (dtype, fillings), shape in zip(inputs, shapes, strict=True)
    )
