"""Writes the models that `products.py` measures: each with its quantized weights in several ways.

The table of words has just the words of the texts, which changes no output and keeps the files small.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer, BertConfig

from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.model_loading import load_model
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.formats import ExportJob, onnx
from fastserve_converters.formats.onnx import quantized_weights
from fastserve_converters.formats.onnx.files import MODEL
from fastserve_converters.formats.onnx.products import PRODUCTS
from fastserve_converters.formats.onnx.quantized_weights import Initializers
from fastserve_converters.models.dynamic_shapes import MIN_TOKENS
from fastserve_converters.models.encoder_signature import encoder_part
from fastserve_converters.models.exportable_model import ExportableModel, build_exportable_model
from fastserve_converters.models.layer_groups import LINEAR, quantizable_layers
from fastserve_converters.models.samples import Samples, single_samples
from fastserve_converters.precisions import INT8, WeightScheme
from fastserve_converters.quantization.weights import quantize_nearest
from fastserve_converters.quantized_weight import QuantizedWeight
from products.ways import FREE, HALF, PAIRS, UNSIGNED
from report import ROOT, minilm

sys.path.insert(0, str(ROOT / "tests"))
from checkpoints import save_checkpoint
from checkpoints import texts as shipped_texts

RANDOM = ("albert", "bert")
TOKENS = 64
TEXTS = 300
CALIBRATION = 64
_SEED = 0


def write_models(folder: Path) -> None:
    """Write a folder for each model: `texts.npz`, and a file for each way."""
    for name, module, texts, calibration in _models():
        out = folder / name
        out.mkdir(parents=True, exist_ok=True)
        with torch.no_grad():
            samples = single_samples(texts, min_tokens=MIN_TOKENS)
            inputs = ({name: torch.from_numpy(value) for name, value in sample.items()} for sample in samples)
            expected = np.concatenate([module(**sample)[module.output].numpy() for sample in inputs])
        np.savez_compressed(out / "texts.npz", **texts, expected=expected)
        for way, weights in _ways(module).items():
            _write(module, weights, calibration, out / f"{way}.onnx", scheme=PRODUCTS if way != FREE else INT8)
            print(name, way, flush=True)
        model = ir.load(out / f"{FREE}.onnx")
        _make_unsigned(model)
        ir.save(model, out / f"{UNSIGNED}.onnx")


def _models() -> Iterator[tuple[str, ExportableModel, Samples, Samples]]:
    """Give each model with its texts and others to balance layers by: all-MiniLM-L6-v2, and two of random weights."""
    shipped = shipped_texts()
    with TemporaryDirectory() as scratch:
        random = {name: save_checkpoint(Path(scratch) / name, name, layers=4, sentence=True) for name in RANDOM}
        for name, checkpoint in {"minilm": minilm(), **random}.items():
            described = read_checkpoint(checkpoint)
            loaded = _narrower(described) if name == "bert" else load_model(described)
            module = build_exportable_model(loaded, described, TOKENS)
            tokenizer = AutoTokenizer.from_pretrained(checkpoint)
            parts = [
                tokenizer(part, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="np")
                for part in (shipped[:TEXTS], shipped[TEXTS : TEXTS + CALIBRATION])
            ]
            used = np.unique(np.concatenate([part["input_ids"] for part in parts]))
            words = module.get_submodule("model.embeddings.word_embeddings")
            kept = words.weight.detach()[torch.from_numpy(used)]  # type: ignore[index, operator]
            words.weight = torch.nn.Parameter(kept, requires_grad=False)
            texts, calibration = (
                {
                    "input_ids": np.searchsorted(used, part["input_ids"]).astype(np.int32),
                    "attention_mask": part["attention_mask"].astype(np.float32),
                }
                for part in parts
            )
            yield name, module, texts, calibration


def _narrower(checkpoint: Checkpoint) -> torch.nn.Module:
    """Return a BERT of random weights whose width, 36, is no whole number of vectors."""
    sizes = {"hidden_size": 36, "intermediate_size": 72, "num_attention_heads": 3}
    torch.manual_seed(_SEED)
    model = AutoModel.from_config(BertConfig(**{**checkpoint.config, **sizes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    return model


def _ways(module: ExportableModel) -> dict[str, Mapping[str, QuantizedWeight]]:
    """Return the quantized weights of every layer, by what they are limited to."""
    layers = {name: module.get_submodule(name).weight.detach().numpy() for name in quantizable_layers(module)}  # type: ignore[operator]
    linears = {name for name, kind in quantizable_layers(module).items() if kind == LINEAR}

    def made(quantize: Callable[[NDArray[np.float32]], QuantizedWeight]) -> dict[str, QuantizedWeight]:
        return {n: quantize(w) if n in linears else quantize_nearest(w, INT8) for n, w in layers.items()}

    return {
        FREE: made(lambda weight: quantize_nearest(weight, INT8)),
        PAIRS: made(lambda weight: quantize_nearest(weight, PRODUCTS)),
        HALF: made(_in_half_the_range),
    }


def _in_half_the_range(weight: NDArray[np.float32]) -> QuantizedWeight:
    scale = np.maximum(np.abs(weight).max(1, keepdims=True) / 64, np.float32(1e-12))
    values = np.rint(weight / scale).astype(np.int8)
    return QuantizedWeight(values, scale, np.zeros_like(values[:, :1]), INT8)


def _write(
    module: ExportableModel,
    weights: Mapping[str, QuantizedWeight],
    calibration: Samples,
    file: Path,
    *,
    scheme: WeightScheme,
) -> None:
    """Export as the converters do, but with a scheme for what balancing rounds again."""
    plan = onnx.PRECISIONS["int8-dynamic"]
    defaults = quantized_weights.int8_matrix.__kwdefaults__
    kept = defaults["scheme"]
    defaults["scheme"] = scheme
    try:
        with TemporaryDirectory() as out:
            onnx.export(
                ExportJob(
                    part=encoder_part(module, TOKENS),
                    precision="int8-dynamic",
                    plan=plan,
                    weights=weights,
                    calibration=calibration,
                    samples={name: value[:8] for name, value in calibration.items()},
                    base=None,
                    out=Path(out),
                )
            )
            file.write_bytes((Path(out) / MODEL).read_bytes())
    finally:
        defaults["scheme"] = kept


def _make_unsigned(model: ir.Model) -> None:
    """Let weights be unsigned, with 128 for their zero, in place."""
    initializers = Initializers(model.graph)
    places = {"DynamicQuantizeMatMul": (1, 3), "QAttention": (1, 7)}
    for node in list(model.graph):
        if node.op_type not in places:
            continue
        at, zero_at = places[node.op_type]
        matrix = node.inputs[at]
        assert matrix is not None
        assert matrix.const_value is not None
        values = matrix.const_value.numpy()
        moved = (values.astype(np.int16) + 128).astype(np.uint8)
        zeros = np.full(values.shape[1], 128, np.uint8)
        node.replace_input_with(at, initializers.add(f"{matrix.name}/unsigned", moved))
        node.replace_input_with(zero_at, initializers.add(f"unsigned_zeros_{len(zeros)}", zeros))
        if not matrix.uses():
            model.graph.initializers.pop(str(matrix.name))
