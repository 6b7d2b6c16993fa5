"""Makes the small programs of these tests with the official ExecuTorch package; run as a script, in a child process."""

import sys
from pathlib import Path

import executorch.kernels.quantized  # noqa: F401  (registers the quantized operators)
import numpy as np
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge, to_edge_transform_and_lower
from executorch.exir.passes import MemoryPlanningPass
from torch.export import Dim, export

DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "bfloat16")


class Add(torch.nn.Module):
    def forward(self, x, y):
        return x + y


class Several(torch.nn.Module):
    def forward(self, x, y):
        return x + y, x * 2, (x - y).sum()


class Same(torch.nn.Module):
    def forward(self, x):
        return x.clone()


class Counter(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(3))

    def forward(self, x):
        self.total.add_(x)
        return self.total + 0


class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Linear(16, 32)
        self.second = torch.nn.Linear(32, 4)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


class Heavy(torch.nn.Module):
    """Long enough to run for other threads to make progress meanwhile."""

    def forward(self, x):
        for _ in range(20):
            x = torch.cumsum(torch.sigmoid(x), dim=1)
        return x


class Scaled(torch.nn.Module):
    def forward(self, x, factor: int):
        return x * factor, x.argmax()


class Image(torch.nn.Module):
    def forward(self, x):
        return (x * 2).to(memory_format=torch.channels_last)


class QuantizedEmbedding(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.register_buffer("weight", torch.randint(-128, 127, (10, 8), dtype=torch.int8))
        self.register_buffer("scales", torch.rand(10, 1) + 0.5)
        self.register_buffer("zeros", torch.zeros(10, 1))

    def forward(self, indices):
        return torch.ops.quantized_decomposed.embedding_byte(self.weight, self.scales, self.zeros, -128, 127, indices)


def exported(module, *args, shapes=None):
    return export(module, args, dynamic_shapes=shapes)


def save(folder, name, edge, *, planned=True):
    planning = MemoryPlanningPass(alloc_graph_input=planned, alloc_graph_output=planned)
    config = ExecutorchBackendConfig(memory_planning_pass=planning)
    with Path(folder, f"{name}.pte").open("wb") as file:
        edge.to_executorch(config).write_to_file(file)


def portable(methods):
    return to_edge(methods, compile_config=EdgeCompileConfig(_check_ir_validity=False))


def delegated(program):
    return to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])


def main(folder):
    pair = torch.randn(2, 3), torch.randn(2, 3)
    rows = Dim("rows", max=8)
    growing = exported(Add(), torch.randn(4, 3), torch.randn(4, 3), shapes={"x": {0: rows}, "y": {0: rows}})
    methods = {
        "add": exported(Add(), *pair),
        "several": exported(Several(), *pair),
        "scalars": exported(Add(), torch.tensor(1.5), torch.tensor(2.0)),
        "number": exported(Scaled(), torch.randn(4), 3),
        "image": exported(Image(), torch.randn(1, 3, 4, 5)),
        "heavy": exported(Heavy(), torch.randn(200, 2000)),
        "embedding": exported(QuantizedEmbedding(), torch.tensor([[0, 3], [9, 1]])),
    }
    methods |= {f"same_{name}": exported(Same(), torch.ones(3, 2).to(getattr(torch, name))) for name in DTYPES}
    save(folder, "methods", portable(methods))
    unplanned = {"add": exported(Add(), *pair), "growing": growing}
    save(folder, "unplanned", portable(unplanned), planned=False)
    save(folder, "growing", portable(growing))
    save(folder, "state", portable(exported(Counter(), torch.randn(3))))
    linear = Linear().eval()
    batches = {"x": {0: Dim("batch", max=8)}}
    save(folder, "linear", delegated(exported(linear, torch.randn(2, 16), shapes=batches)))
    embedding, inputs = QuantizedEmbedding(), torch.randn(2, 16)
    arrays = {
        "linear_x": inputs, "linear_y": linear(inputs).detach(),
        "weight": embedding.weight, "scales": embedding.scales,
    }  # fmt: skip
    np.savez(Path(folder, "expected.npz"), **{name: value.numpy() for name, value in arrays.items()})


if __name__ == "__main__":
    main(sys.argv[1])
