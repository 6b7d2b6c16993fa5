"""Bare model files that are cut off, altered or random: an answer in time for every one, and never a dead caller."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fastserve_runtime.bundle.signatures import parse_signature
from fastserve_runtime.errors import BundleError, EnvironmentFailure, FastServeError
from fastserve_runtime.parsing import Fields
from fastserve_runtime.processes.child import Child, ChildEnded
from fastserve_runtime.processes.isolation import engine_child, open_request
from fastserve_runtime.processes.limits import Limits
from fastserve_runtime.sessions.tensors import zero_inputs

FILES = {
    "onnxruntime": "model.onnx",
    "litert": "model.tflite",
    "executorch": "model.pte",
}
LIMITS = Limits(seconds=60, memory=8 * 2**30)


def damaged(whole: bytes, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield as many damaged copies of a file: a fifth cut off, three fifths with flipped bits, a fifth random."""
    chance = random.Random(seed)
    for number in range(count):
        kind = ("cut off", "flipped", "flipped", "flipped", "random")[number % 5]
        if kind == "cut off":
            content = whole[: chance.randrange(len(whole))]
        elif kind == "flipped":
            altered = bytearray(whole)
            for _ in range(chance.choice([1, 1, 2, 8, 64])):
                altered[chance.randrange(len(altered))] ^= 1 << chance.randrange(8)
            content = bytes(altered)
        else:
            # Half of them have the head of a real file, else every one would end at the identifier.
            noise = chance.randbytes(chance.randrange(1, 4096))
            content = whole[:16] + noise if chance.random() < 0.5 else noise
        yield kind, content


def outcome(process: Child, file: Path, engine: str) -> str:
    """Load a file and run each of its graphs once; tell what came of it."""
    try:
        opened = process.ask(open_request(file, engine))[0]
    except BundleError:
        return "refused"
    except EnvironmentFailure:  # memory
        return "failed to load"
    for name, graph in opened["graphs"].items():
        try:
            inputs = zero_inputs(parse_signature(Fields(graph, name)))
            process.ask({"ask": "run", "graph": name}, inputs)
        except FastServeError:
            return "failed to run"
    return "ran"


def try_all(engine: str, whole: bytes, folder: Path, count: int, seed: int) -> Counter[str]:
    """Give all damaged files to one process until it dies, and go on with another."""
    found: Counter[str] = Counter()
    process = engine_child(LIMITS)
    for number, (_, content) in enumerate(damaged(whole, count, seed)):
        file = folder / f"{number}{Path(FILES[engine]).suffix}"
        file.write_bytes(content)
        try:
            found[outcome(process, file, engine)] += 1
        except ChildEnded as ended:
            found["hung" if "gave no answer" in ended.how else "crashed"] += 1
            process.close()
            process = engine_child(LIMITS)
        else:
            file.unlink()
    process.close()
    return found


def check(engine: str, models: Path, folder: Path, count: int) -> Counter[str]:
    found = try_all(engine, (models / FILES[engine]).read_bytes(), folder, count, seed=count)
    assert found.total() == count
    assert found["hung"] == 0
    assert found["crashed"] <= count // 100
    assert found["refused"] >= count // 4  # all that are cut off, and most of the random ones
    return found


@pytest.mark.parametrize("engine", FILES)
def test_fifty_damaged_files_of_each_format(engine: str, score_models: Path, tmp_path: Path) -> None:
    assert check(engine, score_models, tmp_path, 50)["crashed"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("engine", FILES)
def test_five_hundred_damaged_files_of_each_format(
    engine: str, score_models: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    record_property("outcomes", dict(check(engine, score_models, tmp_path, 500)))


@pytest.mark.parametrize("engine", FILES)
def test_the_process_goes_on_after_a_damaged_file(engine: str, score_models: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_bytes(b"no model at all")
    with engine_child(LIMITS) as process:
        with pytest.raises(BundleError):
            process.ask(open_request(bad, engine))
        assert outcome(process, score_models / FILES[engine], engine) == "ran"


def test_zeros_have_the_shapes_that_a_signature_asks_for() -> None:
    document = {
        "inputs": [{"name": "x", "dtype": "int32", "dims": [2, {"symbol": "n", "min": 0, "max": 5}]}],
        "outputs": [],
    }
    (zeros,) = zero_inputs(parse_signature(Fields(document, "graph"))).values()
    assert zeros.shape == (2, 1)
    assert zeros.dtype == np.int32
