"""Gives a model inputs that nobody means, as a child process: `python odd_inputs.py ENGINE FILE SEED COUNT`.

It prints how many were refused, failed, and ran, as JSON. Whatever ends the process, or raises something else than the
runtime's errors, is a fault; so is an id that ran though the model does not have it, or a result that changed.
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from typing import Any

import numpy as np

from fastserve_runtime.bundle.tensor_specs import TensorSpec
from fastserve_runtime.errors import EnvironmentFailure, InputError, UsageError
from fastserve_runtime.loading import open_model
from fastserve_runtime.sessions.tensors import zero_inputs
from fastserve_runtime.sessions.token_ids import INPUT_IDS

SIZES = (0, 1, 2, 3, 7, 8, 64, 65, 200)
INTEGERS = (0, 1, 2, -1, 7, 255, 256, 257, 3_000_000, 2**31 - 1, -(2**31), 2**62, -(2**62))
FLOATS = (0.0, 1.0, -1.0, float("nan"), float("inf"), float("-inf"), 3e38, -3e38, 1e-45)
DTYPES = ("int64", "int32", "uint8", "bool", "float32", "float64", "float16", "complex64", "U4", "object")


def sound(chance: random.Random, spec: TensorSpec, sizes: dict[str, int]) -> Any:
    """Return zeros of the type and shape that an input has."""
    return np.zeros(shape_of(chance, spec, sizes), spec.dtype)


def shape_of(chance: random.Random, spec: TensorSpec, sizes: dict[str, int]) -> list[int]:
    return [dim if isinstance(dim, int) else sizes.setdefault(dim.symbol, chance.choice(SIZES)) for dim in spec.dims]


def odd(chance: random.Random, spec: TensorSpec, sizes: dict[str, int]) -> Any:
    """Return something to be given for an input; most often of its type and shape, with values at random."""
    shape = shape_of(chance, spec, sizes)
    if chance.random() < 0.15 and shape:
        shape[chance.randrange(len(shape))] = chance.choice(SIZES)
    if chance.random() < 0.05:
        shape = shape[1:] if chance.random() < 0.5 else [*shape, 1]
    dtype = np.dtype(spec.dtype if chance.random() < 0.9 else chance.choice(DTYPES))
    array = np.zeros(shape, dtype)
    if chance.random() < 0.7 and dtype.kind in "iuf" and array.size:
        values = FLOATS if dtype.kind == "f" else INTEGERS
        with np.errstate(over="ignore"):
            picked = np.array([chance.choice(values) for _ in range(min(array.size, 16))])
            array = np.resize(picked, shape).astype(dtype)
    return laid_out(chance, array)


def laid_out(chance: random.Random, array: np.ndarray) -> Any:
    """Return the same values in another layout, or something that is no array."""
    kind = chance.randrange(20)
    if kind == 0:
        return np.asfortranarray(array)
    if kind == 1 and array.ndim:
        return np.repeat(array, 2, axis=-1)[..., ::2]
    if kind == 2 and array.ndim:
        return array[::-1]
    if kind == 3:
        array.flags.writeable = False
    if kind == 4 and array.ndim and array.size:
        return np.broadcast_to(array.ravel()[:1], array.shape)
    return {5: array.tolist(), 6: None}.get(kind, array)


def knows(inputs: Any, rows: int | None) -> bool:
    """Whether all ids are the model's."""
    ids = inputs.get(INPUT_IDS)
    if rows is None or ids is None:
        return True
    ids = np.asarray(ids)
    return ids.size == 0 or (int(ids.min()) >= 0 and int(ids.max()) < rows)


def main(engine: str, file: str, seed: int, count: int) -> None:
    """Try so many."""
    chance, found = random.Random(seed), Counter[str]()
    with open_model(file, engine=engine) as session:
        graphs = list(session.graphs)
        plain = {name: zero_inputs(session.graphs[name]) for name in graphs}
        before = {name: outcome_of(session, name, plain[name]) for name in graphs}
        for number in range(count):
            name = chance.choice(graphs)
            sizes: dict[str, int] = {}
            inputs = {
                spec.name: odd(chance, spec, sizes) if chance.random() < 0.5 else sound(chance, spec, sizes)
                for spec in session.graphs[name].inputs
            }
            if chance.random() < 0.03 and inputs:
                del inputs[chance.choice(list(inputs))]
            try:
                if chance.random() < 0.3:
                    session.bind(inputs, graph=name).run()
                else:
                    session.run(inputs, graph=name)
            except (InputError, UsageError):
                found["refused"] += 1
            except EnvironmentFailure:
                found["failed"] += 1
            else:
                found["ran"] += 1
                assert knows(inputs, session.id_rows.get(name)), f"{number}: ids beyond the table ran"
            if number % 10 == 0:
                session.reset_state()
                assert outcome_of(session, name, plain[name]) == before[name], f"{number}: another result than before"
    sys.stdout.write(json.dumps(found) + "\n")


def outcome_of(session: Any, name: str, inputs: Any) -> Any:
    """Return the bytes of a graph's outputs, or why there are none."""
    try:
        return {key: value.tobytes() for key, value in session.run(inputs, graph=name).items()}
    except EnvironmentFailure as error:
        return str(error)[:80]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
