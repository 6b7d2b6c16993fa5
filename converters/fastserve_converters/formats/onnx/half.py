"""Half precision: weights and arithmetic in float16, inputs and outputs in float32."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir


def convert(file: Path) -> ir.Model:
    """Return a portable fp32 model in float16.

    The exportable model's constants fit: the mask's penalty is -100, of few models as much as -10,000, and
    max-pooling's -10,000, of at most 65,504. Sums of squares and clamps near zero of the pooled vector's norm do not,
    so what follows the pooling stays in float32.
    """
    import onnx
    import onnx_ir as ir
    from onnxruntime.transformers import float16

    model = onnx.load(str(file))
    kept = [n.name for n in model.graph.node if n.op_type in {"ReduceSum", "Clip", "Sqrt", "Div", "Sub"} and n.name]
    proto = float16.convert_float_to_float16(model, keep_io_types=True, node_block_list=kept)
    converted: ir.Model = ir.from_proto(proto)
    return converted
