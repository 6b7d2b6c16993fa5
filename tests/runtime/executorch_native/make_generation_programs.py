"""Makes the programs of test_generation.py with the official ExecuTorch package; run as a script, in a child process.

Each is attention over a cache: `forward(query, key, value, position)` writes the keys and values into its cache, and
attends to all tokens that the cache has then.

    make_generation_programs.py FOLDER [HEADS_KEYHEADS_DIM[_SCALE] ...]
"""

import sys
from pathlib import Path

import executorch.kernels.quantized  # noqa: F401  (registers the quantized operators)
import torch
from executorch.exir import EdgeCompileConfig, ExecutorchBackendConfig, to_edge
from executorch.exir.passes import MemoryPlanningPass
from executorch.extension.llm.custom_ops import custom_ops  # noqa: F401  (registers the operators)
from torch.export import Dim, export

CAPACITY = 160
MAX_TOKENS = 140


class Attention(torch.nn.Module):
    """Causal attention, or with a mask that comes as an input."""

    def __init__(self, heads, key_heads, dim, scale=None, *, batch=1, causal=True):
        super().__init__()
        self.scale, self.causal = scale, causal
        for name in ("keys", "values"):
            self.register_buffer(name, torch.zeros(batch, CAPACITY, key_heads, dim))
        self.shapes = (batch, 3, heads, dim), (batch, 3, key_heads, dim)

    def forward(self, query, key, value, position, mask=None):
        start = position[0].item()
        torch._check(start >= 0)
        torch._check(start + query.shape[1] <= CAPACITY)
        torch.ops.llama.update_cache(key, self.keys, start)
        torch.ops.llama.update_cache(value, self.values, start)
        return torch.ops.llama.custom_sdpa(query, self.keys, self.values, start, mask, 0.0, self.causal, self.scale)

    def exported(self, *, masked=False):
        tokens = Dim("tokens", min=1, max=MAX_TOKENS)
        query, key = self.shapes
        inputs = [torch.zeros(query), torch.zeros(key), torch.zeros(key), torch.zeros(1, dtype=torch.long)]
        shapes = {"query": {1: tokens}, "key": {1: tokens}, "value": {1: tokens}, "position": None, "mask": None}
        if masked:
            inputs.append(torch.zeros(3, CAPACITY))
            shapes["mask"] = {0: tokens}
        else:
            del shapes["mask"]
        return export(self, tuple(inputs), dynamic_shapes=shapes, strict=False)


class Bare(torch.nn.Module):
    """One call with tensors of the caller's, to pass what the operator must refuse."""

    def __init__(self, *, causal=True):
        super().__init__()
        self.causal = causal

    def forward(self, query, key, value, position, mask=None):
        return torch.ops.llama.custom_sdpa(query, key, value, position[0].item(), mask, 0.0, self.causal, None)


class Write(torch.nn.Module):
    """One write into a cache, and what the cache then is."""

    def __init__(self, dtype):
        super().__init__()
        self.register_buffer("cache", torch.zeros(2, 6, 2, 4, dtype=dtype))

    def forward(self, value, position):
        start = position[0].item()
        torch._check(start >= 0)
        torch._check(start + value.shape[1] <= 6)
        torch.ops.llama.update_cache(value, self.cache, start)
        return self.cache + 0


class FourBitEmbedding(torch.nn.Module):
    """A table of 4-bit numbers, two a byte, with a scale for each group of 8."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.register_buffer("weight", torch.randint(0, 256, (10, 16), dtype=torch.uint8))
        self.register_buffer("scales", torch.rand(10, 4) + 0.5)

    def forward(self, indices):
        return torch.ops.quantized_decomposed.embedding_4bit(self.weight, self.scales, None, -8, 7, indices)


def bare(module, query, key, value, mask=None, dtype=torch.float32):
    tensors = [torch.zeros(shape, dtype=dtype) for shape in (query, key, value)]
    masks = [] if mask is None else [torch.zeros(mask)]
    return export(module, (*tensors, torch.zeros(1, dtype=torch.long), *masks), strict=False)


def save(folder, name, methods):
    config = ExecutorchBackendConfig(memory_planning_pass=MemoryPlanningPass(alloc_graph_input=False))
    edge = to_edge(methods, compile_config=EdgeCompileConfig(_check_ir_validity=False, _skip_dim_order=True))
    Path(folder, f"{name}.pte").write_bytes(edge.to_executorch(config).buffer)


def main(folder, *names):
    for name in names:
        *shape, scale = [*name.split("_"), None][:4]
        save(folder, name, Attention(*map(int, shape), float(scale) if scale else None).exported())
    save(folder, "batch", Attention(4, 2, 16, batch=3).exported())
    save(folder, "masked", Attention(4, 2, 16, causal=False).exported(masked=True))
    save(folder, "unmasked", Attention(4, 2, 16, causal=False).exported())
    query, key = (1, 2, 4, 8), (1, 5, 2, 8)
    causal, masked = Bare(), Bare(causal=False)
    wrong = Path(folder, "wrong")
    wrong.mkdir()
    save(
        wrong,
        "bare",
        {
            "right": bare(causal, query, key, key),
            "half": bare(causal, query, key, key, dtype=torch.float16),
            "ratio": bare(causal, (1, 2, 3, 8), key, key),
            "dims": bare(causal, (1, 2, 4, 6), key, key),
            "batches": bare(causal, (2, 2, 4, 8), key, key),
            "both": bare(causal, query, key, key, (2, 5)),
            "mask": bare(masked, query, key, key, (2, 5)),
            "narrow": bare(masked, query, key, key, (2, 1)),
            "short": bare(masked, query, key, key, (1, 5)),
        },
    )
    writes = {}
    for dtype in (torch.float32, torch.int8, torch.float16):
        inputs = torch.zeros(2, 2, 2, 4, dtype=dtype), torch.zeros(1, dtype=torch.long)
        writes[str(dtype).removeprefix("torch.")] = export(Write(dtype), inputs, strict=False)
    save(folder, "writes", writes)
    table = FourBitEmbedding()
    indices = torch.tensor([[0, 3], [9, 1]])
    save(folder, "four_bits", export(table, (indices,)))
    torch.save({"indices": indices, "rows": table(indices)}, Path(folder, "four_bits.pt"))


if __name__ == "__main__":
    main(*sys.argv[1:])
