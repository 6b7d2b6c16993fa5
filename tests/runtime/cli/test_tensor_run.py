"""`run` takes the tensors of a model of any kind from a file, and shows or writes what it gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fastserve_runtime.cli.tensor_run import run_tensors
from fastserve_runtime.cli.view import PlainView
from fastserve_runtime.errors import InputError, UsageError


class Doubling:
    """Doubles `x`, and says of each sample whether its sum is above nothing."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def __call__(self, inputs):
        return {"doubled": inputs["x"] * 2, "is_above": inputs["x"].sum(1) > 0}


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.setattr("fastserve_runtime.loading.load", lambda *_, **__: Doubling())

    def call(*words, output=None, as_json=False):
        bundle, view = tmp_path / "a.fsb", PlainView()
        return run_tensors(bundle, words, output, view, as_json=as_json)

    return call


@pytest.fixture
def samples(tmp_path: Path) -> str:
    np.savez(tmp_path / "x.npz", x=np.array([[1.5, np.inf], [-2, 1]], np.float32))
    return str(tmp_path / "x.npz")


def test_outputs_are_shown_with_their_types_and_shapes(run, samples, capsys) -> None:
    assert run(samples) == 0
    shown = capsys.readouterr().out
    assert "doubled   float32  [2, 2]  +3 +inf -4 +2" in shown
    assert "is_above  bool     [2]     True False" in shown


def test_outputs_are_written_and_given_as_json(run, samples, tmp_path, capsys) -> None:
    assert run(samples, output=tmp_path / "y.npz", as_json=True) == 0
    with np.load(tmp_path / "y.npz") as written:
        assert written["doubled"].tolist() == [[3, np.inf], [-4, 2]]
    document = json.loads(capsys.readouterr().out)
    assert document["doubled"] == {"dtype": "float32", "shape": [2, 2], "values": [[3.0, None], [-4.0, 2.0]]}


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        ((), {}, "0 texts were given. Give one .npz file"),
        (("a text",), {}, "1 texts were given"),
        (("a.npz", "b.npz"), {}, "2 texts were given"),
        (("absent.npz",), {}, "There is no file at 'absent.npz'"),
        (("absent.npz",), {"output": Path("y.txt")}, "cannot be written to 'y.txt'"),
    ],
)
def test_what_is_no_file_of_tensors_is_refused(run, words, options, message) -> None:
    with pytest.raises(UsageError, match=message):
        run(*words, **options)


def test_a_damaged_file_is_told(run, tmp_path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"bad.npz' cannot be read"):
        run(str(tmp_path / "bad.npz"))
    np.savez(tmp_path / "pickled.npz", x=np.array([{}]))
    with pytest.raises(InputError, match="cannot be read"):
        run(str(tmp_path / "pickled.npz"))
