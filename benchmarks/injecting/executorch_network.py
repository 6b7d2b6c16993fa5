"""ExecuTorch programs as networks: constants are found by the bytes that the checkpoint has.

XNNPACK's part of a program is opaque, but holds the floats of linear layers, norms and embeddings as they are. So these
can be changed in place, and nothing else.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from injecting.fault import NotHere
from injecting.network import Floats, Matrix, Norm, Table


class ExecuTorchNetwork:
    """An ExecuTorch program of floats; see `Network`."""

    def __init__(self, path: Path, checkpoint: Path) -> None:
        self._content = bytearray(path.read_bytes())
        self._weights = _floats_of(checkpoint)
        self.layers = sum(name.endswith(".intermediate.dense.weight") for name in self._weights)
        self.heads = _heads_of(checkpoint)

    def save(self, path: Path) -> None:
        """Write the program."""
        path.write_bytes(self._content)

    def matrix(self, module: str) -> Matrix:
        """Return a linear layer."""
        return Matrix(self._array(f"{module}.weight"), None, self._array(f"{module}.bias"))

    def put_matrix(self, module: str, matrix: Matrix) -> None:
        """Replace a linear layer's numbers."""
        self._put(f"{module}.weight", matrix.values)
        self._put(f"{module}.bias", matrix.bias)

    def table(self) -> Table:
        """Return the embedding of words."""
        return Table(self._array("embeddings.word_embeddings.weight"), None)

    def put_table(self, table: Table) -> None:
        """Replace it."""
        self._put("embeddings.word_embeddings.weight", table.values)

    def rows(self, kind: str) -> Floats:
        """Return the rows that are added, as many as the program has."""
        table = self._array(f"embeddings.{kind}_embeddings.weight")
        count = len(table)
        while count > 1 and self._content.count(table[:count].tobytes()) != 1:
            count //= 2
        return table[:count]

    def put_rows(self, kind: str, rows: Floats) -> None:
        """Replace them."""
        self._replace(f"embeddings.{kind}_embeddings.weight", self.rows(kind), rows)

    def norm(self, module: str) -> Norm:
        """Return a layer norm."""
        return Norm(self._array(f"{module}.weight"), self._array(f"{module}.bias"), 1e-12)

    def put_norm(self, module: str, norm: Norm) -> None:
        """Replace a layer norm's numbers."""
        if norm.epsilon != 1e-12:
            self._refuse()
        self._put(f"{module}.weight", norm.gamma)
        self._put(f"{module}.bias", norm.beta)

    def _refuse(self, *_: Any) -> NoReturn:
        raise NotHere("operators of a lowered program are not changed here, only its constants")

    penalty = put_penalty = gelu = residual = context = scores = pooling = norm_tensors = divert = _refuse

    def _array(self, end: str) -> NDArray[np.float32]:
        for name, values in self._weights.items():
            if name.endswith(end):
                return values
        raise NotHere(f"the checkpoint has no {end}")

    def _put(self, end: str, values: NDArray[Any]) -> None:
        self._replace(end, self._array(end), values)

    def _replace(self, name: str, old: NDArray[Any], new: NDArray[Any]) -> None:
        if np.array_equal(old, new):
            return
        before = np.ascontiguousarray(old, np.float32).tobytes()
        if self._content.count(before) != 1:
            raise NotHere(f"the floats of {name} are not in this program as the checkpoint has them")
        place = self._content.index(before)
        self._content[place : place + len(before)] = np.ascontiguousarray(new, np.float32).tobytes()


@lru_cache(maxsize=1)
def _floats_of(checkpoint: Path) -> dict[str, NDArray[np.float32]]:
    from safetensors.numpy import load_file

    return {name: np.asarray(v, np.float32) for name, v in load_file(str(checkpoint / "model.safetensors")).items()}


def _heads_of(checkpoint: Path) -> int:
    return int(json.loads((checkpoint / "config.json").read_text())["num_attention_heads"])
