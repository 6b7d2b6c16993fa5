"""Indices that come with a run never make a kernel read or write beyond its operands, nor end the process."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest

fse = pytest.importorskip("fastserve_executorch", reason="fastserve-executorch is not installed")

ROWS = 7
FROM_THE_END = {"index", "index_put", "index_put_in_place", "select"}
"""Operators that count negative indices from the end, as in PyTorch."""
ONE_INDEX = {"select", "narrow"}
BEYOND = [[ROWS, 0, 0], [0, 0, 3_000_000], [0, 2**40, 0], [-1, 0, 0], [-ROWS - 1, 0, 0], [-(2**62), 0, 0]]
SCRIPT = """
    import json, sys
    import numpy as np
    from fastserve_executorch import ExecutorchError, Program

    found = []
    with Program(sys.argv[1], threads=1) as program:
        for indices in json.loads(sys.argv[2]):
            try:
                program.run("forward", [np.array(indices)])
                found.append("")
            except ExecutorchError as error:
                found.append(str(error))
        right = program.run("forward", [np.array([1, 0, 2])])[0]
    print(json.dumps([found, right.tolist()]))
"""


NAMES = [
    "embedding_byte", "embedding_byte_typed", "embedding_4bit", "embedding_4bit_groups", "embedding_2bit",
    "embedding_2bit_typed", "embedding", "index", "index_select", "gather", "scatter", "scatter_add", "index_put",
    "index_put_in_place", "select", "narrow",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_an_index_beyond_the_table_is_an_error_and_no_more(lookups, name):
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(lookups / f"{name}.pte"), json.dumps(BEYOND)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{name} ended the process with {done.returncode}: {done.stderr[-2000:]}"
    found, right = json.loads(done.stdout)
    for indices, message in zip(BEYOND, found, strict=True):
        looked_up = indices[:1] if name in ONE_INDEX else indices
        is_there = all((-ROWS if name in FROM_THE_END else 0) <= i < ROWS for i in looked_up)
        assert bool(message) != is_there, f"{name} with {indices}: {message or 'ran'}"
        if name.startswith("embedding_"):
            assert f"got the index {next(i for i in indices if i)} for a table of {ROWS} rows" in message
    if name != "index_put_in_place":
        with np.load(lookups / "expected.npz") as expected:
            np.testing.assert_array_equal(np.array(right, np.float32), expected[name])
