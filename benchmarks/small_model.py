"""A model of microseconds in all three formats: a linear layer of 16 to 16, for measuring what a call costs."""

from __future__ import annotations

from pathlib import Path

INPUT = "x"
WIDTH = 16


def write_small_models(folder: Path) -> dict[str, Path]:
    """Write `small.onnx`, `small.tflite` and `small.pte`; return them by format."""
    import litert_torch
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    module = torch.nn.Linear(WIDTH, WIDTH).eval()
    sample = (torch.ones(1, WIDTH),)
    program = torch.export.export(module, sample)
    files = {
        "onnx": folder / "small.onnx",
        "tflite": folder / "small.tflite",
        "executorch": folder / "small.pte",
    }
    torch.onnx.export(program, dynamo=True, external_data=False, verbose=False).save(str(files["onnx"]))
    litert_torch.convert(module, sample).export(str(files["tflite"]))
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
    files["executorch"].write_bytes(lowered.buffer)
    return files
