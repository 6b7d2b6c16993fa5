"""Makes programs that look something up by an index of the caller's, with the official ExecuTorch package.

    make_lookups.py FOLDER

Each takes int64 indices of shape [3]. `expected.npz` has what they give for 1, 0 and 2.
"""

import sys
from pathlib import Path

import executorch.kernels.quantized  # noqa: F401  (registers the quantized operators)
import numpy as np
import torch
from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge
from executorch.exir.passes import MemoryPlanningPass
from torch.export import export

ROWS, COLUMNS = 7, 8
INDICES = torch.tensor([1, 0, 2])
_BITS = {8: ("embedding_byte", torch.int8, -128, 127), 4: ("embedding_4bit", torch.uint8, -8, 7)}
_BITS[2] = ("embedding_2bit", torch.uint8, -2, 1)


class Table(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.register_buffer("table", torch.randn(ROWS, COLUMNS))
        self.register_buffer("column", torch.randn(ROWS))
        self.register_buffer("cache", torch.zeros(ROWS, COLUMNS))


class Integers(torch.nn.Module):
    """A look-up in a quantized embedding of so many bits, with a scale for each row or for each group of 4 columns."""

    def __init__(self, bits, *, by_group=False, dtype=None):
        super().__init__()
        torch.manual_seed(bits)
        name, kind, self.lowest, self.highest = _BITS[bits]
        self.operator = getattr(torch.ops.quantized_decomposed, name)
        self.dtype = dtype
        lowest, highest = (-128, 128) if kind is torch.int8 else (0, 256)
        width = COLUMNS * bits // 8
        self.register_buffer("weight", torch.randint(lowest, highest, (ROWS, width), dtype=kind))
        self.register_buffer("scales", torch.rand(ROWS, 2 if by_group else 1) + 0.5)

    def forward(self, indices):
        more = {} if self.dtype is None else {"dtype": self.dtype}
        return self.operator(self.weight, self.scales, None, self.lowest, self.highest, indices, **more)


class Floats(Table):
    def forward(self, indices):
        return torch.nn.functional.embedding(indices, self.table)


class Index(Table):
    def forward(self, indices):
        return self.table[indices]


class IndexSelect(Table):
    def forward(self, indices):
        return torch.index_select(self.table, 0, indices)


class Gather(Table):
    def forward(self, indices):
        return torch.gather(self.column, 0, indices)


class Scatter(Table):
    def forward(self, indices):
        return torch.scatter(self.column, 0, indices, torch.ones(3))


class ScatterAdd(Table):
    def forward(self, indices):
        return torch.scatter_add(self.column, 0, indices, torch.ones(3))


class IndexPut(Table):
    def forward(self, indices):
        return torch.index_put(self.table, (indices,), torch.ones(3, COLUMNS))


class InPlace(Table):
    def forward(self, indices):
        self.cache[indices] = torch.ones(3, COLUMNS)
        return self.cache + 0


class Select(Table):
    def forward(self, indices):
        place = indices[0].item()
        torch._check(place >= 0)
        torch._check(place < ROWS)
        return self.table.select(0, place) + 0


class Narrow(Table):
    def forward(self, indices):
        place = indices[0].item()
        torch._check(place >= 0)
        torch._check(place + 2 <= ROWS)
        return torch.narrow(self.table, 0, place, 2) + 0


MODULES = {
    "embedding_byte": Integers(8),
    "embedding_byte_typed": Integers(8, dtype=torch.float32),
    "embedding_4bit": Integers(4),
    "embedding_4bit_groups": Integers(4, by_group=True, dtype=torch.float32),
    "embedding_2bit": Integers(2),
    "embedding_2bit_typed": Integers(2, dtype=torch.float32),
    "embedding": Floats(),
    "index": Index(),
    "index_select": IndexSelect(),
    "gather": Gather(),
    "scatter": Scatter(),
    "scatter_add": ScatterAdd(),
    "index_put": IndexPut(),
    "index_put_in_place": InPlace(),
    "select": Select(),
    "narrow": Narrow(),
}


def main(folder):
    config = ExecutorchBackendConfig(memory_planning_pass=MemoryPlanningPass(alloc_graph_input=False))
    expected = {}
    for name, module in MODULES.items():
        program = export(module, (INDICES,), strict=False)
        edge = to_edge(program, compile_config=EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True))
        Path(folder, f"{name}.pte").write_bytes(edge.to_executorch(config).buffer)
        expected[name] = module(INDICES).numpy()
    np.savez(Path(folder, "expected.npz"), **expected)


if __name__ == "__main__":
    main(sys.argv[1])
