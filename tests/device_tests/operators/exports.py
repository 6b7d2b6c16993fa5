"""Small models of every family, exported in every precision, for their operators."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import transformers

from checkpoints import save_checkpoint
from fastserve_converters.checkpoints.model_loading import load_model
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.formats import ExportJob
from fastserve_converters.formats import executorch as executorch_format
from fastserve_converters.formats import tflite as tflite_format
from fastserve_converters.models.cached_part import CachedPart
from fastserve_converters.models.decoder.reading import read_decoder
from fastserve_converters.models.encoder_signature import encoder_part
from fastserve_converters.models.exportable_model import build_exportable_model
from fastserve_converters.models.model import TracedPart
from fastserve_converters.quantization.layers import assignment, quantized_weights
from random_decoders import CONFIGS, random_decoder

FORMATS: Mapping[str, ModuleType] = {"tflite": tflite_format, "executorch": executorch_format}
LENGTH = 16
CONTEXT = 40
WIDTH = 192
"""Blocks of 32, 48 and 64 columns fit into it."""
ALL = "all"


@dataclass(frozen=True)
class Encoder:
    """A small encoder to export.

    Attributes:
        family: as `save_checkpoint` names it.
        precisions: those to export it in; `all` for every one of the format.
        classify: whether it has a head.
        pooling: modes of sentence-transformers' pooling; none for token vectors.
        dense: activations of the dense layers behind the pooling.
        settings: of the model's config.
    """

    family: str
    precisions: tuple[str, ...] | str
    classify: bool = False
    pooling: tuple[str, ...] = ()
    dense: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


FEW = ("fp32", "int8-dynamic")
ENCODERS = {
    "bert-sentence": Encoder("bert", ALL, pooling=("mean",)),
    "bert-head": Encoder("bert", ALL, classify=True),
    "roberta-tokens": Encoder("roberta", FEW),
    "roberta-head": Encoder("roberta", FEW, classify=True),
    "albert-tokens": Encoder("albert", ALL),
    "albert-head": Encoder("albert", FEW, classify=True),
    "distilbert-head": Encoder("distilbert", FEW, classify=True),
    "poolings-and-dense": Encoder(
        "bert",
        FEW,
        pooling=("cls", "max", "mean", "mean_sqrt_len"),
        dense=("Tanh", "ReLU", "GELU", "Identity"),
    ),
    "relu": Encoder("bert", ALL, settings={"hidden_act": "relu"}),
    "silu": Encoder("bert", FEW, settings={"hidden_act": "silu"}),
    "gelu_new": Encoder("bert", FEW, settings={"hidden_act": "gelu_new"}),
}
DECODERS = {name: ALL if name in {"llama-tied-biased", "gpt-2"} else ("fp32", "int8") for name in CONFIGS}


def save_encoder(encoder: Encoder, folder: Path) -> Path:
    """Save an encoder of one layer as a checkpoint."""
    save_checkpoint(folder, encoder.family, classify=encoder.classify, layers=1, sentence=bool(encoder.pooling))
    config = transformers.AutoConfig.from_pretrained(folder)
    if encoder.family == "distilbert":
        config.dim = WIDTH
    else:
        config.hidden_size = WIDTH
    for name, value in encoder.settings.items():
        setattr(config, name, value)
    auto = transformers.AutoModelForSequenceClassification if encoder.classify else transformers.AutoModel
    torch.manual_seed(0)
    model = auto.from_config(config)
    with torch.no_grad():
        # Norms of ones and biases of zeros could be left out of a graph.
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    if encoder.pooling:
        _save_head(encoder, folder)
    return folder


def _save_head(encoder: Encoder, folder: Path) -> None:
    from safetensors.torch import save_file

    kinds = ["Transformer", "Pooling", *["Dense"] * len(encoder.dense), "Normalize"]
    modules = [
        {"idx": i, "name": str(i), "path": "" if i == 0 else f"{i}_{kind}", "type": f"sentence_transformers.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": list(encoder.pooling)}))
    width = WIDTH * len(encoder.pooling)
    for i, activation in enumerate(encoder.dense):
        place = folder / f"{i + 2}_Dense"
        place.mkdir()
        sizes = {"in_features": width, "out_features": WIDTH, "bias": True}
        name = f"torch.nn.modules.activation.{activation}"
        (place / "config.json").write_text(json.dumps({**sizes, "activation_function": name}))
        weights = {"linear.weight": torch.randn(WIDTH, width) / 16, "linear.bias": torch.randn(WIDTH)}
        save_file(weights, place / "model.safetensors")
        width = WIDTH


def exported_encoder(format_name: str, name: str, precision: str, folder: Path) -> Path:
    """Export one of `ENCODERS` and return the model's file; what `folder` has of it already is used."""
    exporter = FORMATS[format_name]
    out = folder / format_name / name / precision
    if (out / exporter.MODEL).exists():
        return Path(out, exporter.MODEL)
    precision_spec = exporter.PRECISIONS[precision]
    base = (
        None if precision_spec.base is None else exported_encoder(format_name, name, precision_spec.base, folder).parent
    )
    checkpoint = folder / "checkpoints" / name
    if not checkpoint.exists():
        save_encoder(ENCODERS[name], checkpoint)
    read = read_checkpoint(checkpoint, task="auto")
    module = build_exportable_model(load_model(read), read, LENGTH)
    part = encoder_part(module, LENGTH)
    schemes = assignment(
        part, precision_spec, mixture(part, precision_spec) if precision_spec.choices is not None else None
    )
    out.mkdir(parents=True)
    job = ExportJob(
        part=part.with_axes(is_open=precision_spec.has_dynamic_length),
        precision=precision,
        precision_spec=precision_spec,
        weights=quantized_weights(part, schemes),
        calibration=calibration(),
        samples=calibration(),
        base=base,
        out=out,
    )
    exporter.export(job)
    return Path(out, exporter.MODEL)


def mixture(part: TracedPart, precision_spec: Any) -> dict[str, Any]:
    """Give layers the schemes of a mixed precision in turn."""
    from dataclasses import asdict

    choices = {"linear": precision_spec.choices.linear, "embedding": precision_spec.choices.embedding}
    found = {}
    for i, (name, kind) in enumerate(part.layers.items()):
        among = choices["embedding" if kind == "embedding" else "linear"]
        scheme = among[i % len(among)]
        found[name] = None if scheme is None else asdict(scheme)
    return found


def calibration() -> dict[str, np.ndarray]:
    """Eight padded samples."""
    ids = np.random.default_rng(0).integers(5, 700, (8, LENGTH)).astype(np.int32)
    lengths = np.array([16, 12, 9, 5] * 2)
    return {"input_ids": ids, "attention_mask": (np.arange(LENGTH) < lengths[:, None]).astype(np.float32)}


def exported_decoder(format_name: str, name: str, precision: str, folder: Path) -> Path:
    """Export one of `DECODERS` and return the model's file.

    For ExecuTorch this loads libraries of ExecuTorch's own that must not be in a process with our runtime.
    """
    if format_name == "tflite":
        from fastserve_converters.formats.tflite import decoder
    else:
        from fastserve_converters.formats.executorch import decoder
    out = folder / format_name / name / precision
    if (out / decoder.MODEL).exists():
        return Path(out, decoder.MODEL)
    config = CONFIGS[name]()
    kinds = getattr(config, "layer_types", None)
    config.num_hidden_layers = 1 if kinds is None else 2
    if kinds is not None:
        config.layer_types = [kinds[0], kinds[-1]]
    form = read_decoder(random_decoder(config), CONTEXT)
    precision_spec = decoder.PRECISIONS[precision]
    part = CachedPart(form)
    weights = quantized_weights(part, assignment(part, precision_spec))
    out.mkdir(parents=True)
    prompts = {"beginning": 1, "ends": (2,)}
    decoder.export(ExportJob(part, precision, precision_spec, weights, {}, {}, None, out, prompts=prompts))
    return Path(out, decoder.MODEL)


def all_exports(format_name: str) -> Iterator[tuple[str, str, str]]:
    """Yield kind (`encoder` or `decoder`), name and precision of everything that is exported.

    The layers of a decoder's mixed precision are those of its others.
    """
    exporter = FORMATS[format_name]
    for name, encoder in ENCODERS.items():
        for precision in exporter.PRECISIONS if encoder.precisions == ALL else encoder.precisions:
            yield "encoder", name, precision
    for name, precisions in DECODERS.items():
        for precision in ("fp32", "int8", "int4", "int4-embedding-int8") if precisions == ALL else precisions:
            yield "decoder", name, precision


def exported(format_name: str, kind: str, name: str, precision: str, folder: Path) -> Path:
    """Export one of `all_exports`; a folder that an interruption left is made anew."""
    make = exported_encoder if kind == "encoder" else exported_decoder
    try:
        return make(format_name, name, precision, folder)
    except FileExistsError:
        shutil.rmtree(folder / format_name / name / precision)
        return make(format_name, name, precision, folder)
