"""Small sentence-transformers models, one for each way of embedding; their weights are the same on every machine.

`recorded/sentence_transformers.json` holds what sentence-transformers itself gives for them.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

RECORDED = Path(__file__).parent / "recorded" / "sentence_transformers.json"
WIDTH = 16
POSITIONS = 40
_LONG = (
    "Open the door, please: it is cold outside and the dog has been waiting there since the rain began this morning, "
    "as it does whenever somebody forgets that it cannot turn the key"
)
TEXTS = (
    "How do I reset my PASSWORD?",
    "the river rises",
    "",
    _LONG,
    "Berlin is a city.",
)
SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
Module = tuple[str, Mapping[str, Any]]
MEAN: Module = ("Pooling", {"embedding_dimension": WIDTH, "pooling_mode": "mean"})
NORMALIZE: Module = ("Normalize", {})
SQUARE = {"in_features": WIDTH, "out_features": WIDTH}
SMALLER = {"in_features": WIDTH, "out_features": 6}
PROMPTS = {"query": "the question: ", "document": "", "passage": "A text about "}


@dataclass(frozen=True)
class SentenceModel:
    """How a small model embeds sentences.

    Attributes:
        modules: kind and config of what follows the Transformer.
        settings: `config_sentence_transformers.json`, where there is one.
        transformer: `sentence_bert_config.json`, where there is one.
        config: more of `config.json`.
        family: of the encoder.
        lower: whether the tokenizer makes texts lower case.
        maximum: the tokenizer's `model_max_length`, or None.
        folder: where the Transformer is.
        pickled: whether the modules' weights are pickles.
        prompts: names of prompts that are asked for; None is what is taken if none is named.
    """

    modules: tuple[Module, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    transformer: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    family: str = "bert"
    lower: bool = True
    maximum: int | None = None
    folder: str = ""
    pickled: bool = False
    prompts: tuple[str | None, ...] = (None,)


def _pooling(**config: Any) -> Module:
    return ("Pooling", {"embedding_dimension": WIDTH, **config})


def _flags(*names: str) -> Module:
    return ("Pooling", {"word_embedding_dimension": WIDTH, **{f"pooling_mode_{name}": True for name in names}})


def _dense(sizes: Mapping[str, int] = SMALLER, activation: str | None = None, **more: Any) -> Module:
    named = {} if activation is None else {"activation_function": f"torch.nn.modules.{activation}"}
    return ("Dense", {**sizes, **named, **more})


_DEFAULT = {"prompts": PROMPTS, "default_prompt_name": "query"}
_WEIGHTED: Module = (
    "WeightedLayerPooling",
    {"word_embedding_dimension": WIDTH, "layer_start": 1, "num_hidden_layers": 2},
)

MODELS: Mapping[str, SentenceModel] = {
    "mean": SentenceModel((MEAN,)),
    "mean, old spelling": SentenceModel((_flags("mean_tokens"),)),
    "cls": SentenceModel((_flags("cls_token"), NORMALIZE)),
    "max": SentenceModel((_pooling(pooling_mode="max"),)),
    "mean over the root": SentenceModel((_flags("mean_sqrt_len_tokens"),)),
    "weighted mean": SentenceModel((_pooling(pooling_mode="weightedmean"), NORMALIZE)),
    "last token": SentenceModel((_flags("lasttoken"),)),
    "joined, old spelling": SentenceModel((_flags("lasttoken", "mean_tokens", "cls_token"),)),
    "joined": SentenceModel((_pooling(pooling_mode=["lasttoken", "weightedmean", "max"]), NORMALIZE)),
    "no mode given": SentenceModel((_pooling(pooling_mode_cls_token=False),)),
    "dense, tanh by default": SentenceModel((MEAN, _dense())),
    "dense, identity": SentenceModel((MEAN, _dense(activation="linear.Identity", bias=False), NORMALIZE)),
    "dense, gelu": SentenceModel((MEAN, _dense(activation="activation.GELU"))),
    "dense, silu and leaky": SentenceModel(
        (MEAN, _dense(SQUARE, "activation.SiLU"), _dense(SMALLER, "activation.LeakyReLU"))
    ),
    "dense, the rest": SentenceModel(
        (
            MEAN,
            _dense(SQUARE, "activation.ELU"),
            _dense(SQUARE, "activation.Sigmoid"),
            _dense(SQUARE, "activation.ReLU6"),
            _dense(SQUARE, "activation.ReLU"),
            _dense(SMALLER, "activation.Hardtanh"),
        )
    ),
    "dense, residual": SentenceModel((MEAN, _dense(SQUARE, use_residual=True))),
    "dense, residual and smaller": SentenceModel((MEAN, _dense(use_residual=True), NORMALIZE)),
    "dense between norms": SentenceModel((MEAN, NORMALIZE, _dense(SQUARE), NORMALIZE, _dense())),
    "dense, pickled": SentenceModel((MEAN, _dense()), pickled=True),
    "dense of tokens": SentenceModel(
        (_dense(SQUARE, module_input_name="token_embeddings"), _pooling(pooling_mode=["mean", "max"]))
    ),
    "layer norm and dropout": SentenceModel(
        (MEAN, ("Dropout", {"dropout": 0.5}), ("LayerNorm", {"dimension": WIDTH}), ("Dropout", {}))
    ),
    "normal tokens": SentenceModel((("Normalize", {"module_input_name": "token_embeddings"}), MEAN)),
    "weighted layers": SentenceModel((_WEIGHTED, MEAN), config={"output_hidden_states": True}),
    "weighted layers by arguments": SentenceModel(
        (_WEIGHTED, MEAN), transformer={"config_args": {"output_hidden_states": True}}
    ),
    "weighted layers without effect": SentenceModel((_WEIGHTED, MEAN)),
    "cut": SentenceModel((MEAN, NORMALIZE), settings={"truncate_dim": 5, "similarity_fn_name": "dot"}),
    "default prompt": SentenceModel((MEAN,), settings=_DEFAULT, prompts=(None, "document", "passage", "")),
    "named prompts": SentenceModel(
        (MEAN, NORMALIZE), settings={"prompts": PROMPTS}, prompts=(None, "query", "passage")
    ),
    "prompt left out": SentenceModel(
        (_pooling(pooling_mode_mean_tokens=True, include_prompt=False),),
        settings=_DEFAULT,
        prompts=(None, "passage", "document", ""),
    ),
    "prompt left out of all": SentenceModel(
        (
            _pooling(
                pooling_mode=["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"],
                include_prompt=False,
            ),
        ),
        settings=_DEFAULT,
        prompts=(None, "passage", ""),
    ),
    "lower case": SentenceModel((MEAN,), transformer={"max_seq_length": 32, "do_lower_case": True}, lower=False),
    "lower case with a prompt": SentenceModel(
        (MEAN,),
        settings={"prompts": PROMPTS, "default_prompt_name": "passage"},
        transformer={"do_lower_case": True},
        lower=False,
    ),
    "cut at eight tokens": SentenceModel((MEAN,), transformer={"max_seq_length": 8}),
    "cut by arguments": SentenceModel((MEAN,), transformer={"tokenizer_args": {"model_max_length": 9}}),
    "cut by the tokenizer": SentenceModel((MEAN,), maximum=12),
    "cut with a prompt": SentenceModel((MEAN,), settings=_DEFAULT, transformer={"max_seq_length": 10}),
    "roberta": SentenceModel((_flags("cls_token"), _dense(), NORMALIZE), family="roberta"),
    "distilbert in a folder": SentenceModel((MEAN, _dense(SQUARE)), family="distilbert", folder="0_Transformer"),
    "albert": SentenceModel((_flags("max_tokens", "mean_tokens"),), family="albert"),
    "all together": SentenceModel(
        (
            _WEIGHTED,
            _pooling(pooling_mode=["cls", "weightedmean", "lasttoken", "max"], include_prompt=False),
            _dense({"in_features": 4 * WIDTH, "out_features": WIDTH}, "activation.GELU", use_residual=True),
            ("LayerNorm", {"dimension": WIDTH}),
            NORMALIZE,
        ),
        settings={**_DEFAULT, "truncate_dim": 12},
        transformer={"max_seq_length": 24, "do_lower_case": True},
        config={"output_hidden_states": True},
        lower=False,
        prompts=(None, "passage", ""),
    ),
}


def save_sentence_model(root: Path, name: str) -> SentenceModel:
    """Save a model by its name in an empty folder; return how it embeds."""
    import torch
    from safetensors.torch import save_file

    model = MODELS[name]
    folder = root / model.folder
    folder.mkdir(parents=True, exist_ok=True)
    _save_encoder(folder, model)
    if model.transformer:
        (folder / "sentence_bert_config.json").write_text(json.dumps(model.transformer))
    if model.settings:
        (root / "config_sentence_transformers.json").write_text(json.dumps(model.settings))
    listed = [{"idx": 0, "name": "0", "path": model.folder, "type": "sentence_transformers.models.Transformer"}]
    for number, (kind, config) in enumerate(model.modules, start=1):
        path = f"{number}_{kind}"
        listed.append(
            {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        )
        (root / path).mkdir()
        (root / path / "config.json").write_text(json.dumps(config))
        weights = _weights(kind, config, number)
        if weights and model.pickled:
            torch.save(weights, root / path / "pytorch_model.bin")
        elif weights:
            save_file(weights, root / path / "model.safetensors")
    (root / "modules.json").write_text(json.dumps(listed))
    return model


def _weights(kind: str, config: Mapping[str, Any], number: int) -> dict[str, Any]:
    if kind == "LayerNorm":
        return {name: _filled(f"{number}.{name}", (config["dimension"],), 1) for name in ("norm.weight", "norm.bias")}
    if kind == "WeightedLayerPooling":
        return {"layer_weights": _filled("layers", (config["num_hidden_layers"] + 1 - config["layer_start"],), 1).abs()}
    if kind != "Dense":
        return {}
    rows, columns = config["out_features"], config["in_features"]
    shapes = {"linear.weight": (rows, columns)}
    if config.get("bias", True):
        shapes["linear.bias"] = (rows,)
    if config.get("use_residual") and rows != columns:
        shapes["residual.weight"] = (rows, columns)
    return {name: _filled(f"{number}.{name}", shape, 0.4) for name, shape in shapes.items()}


def _filled(name: str, shape: tuple[int, ...], scale: float) -> Any:
    import torch

    values = np.random.default_rng(zlib.crc32(name.encode())).normal(0, scale, shape)
    return torch.from_numpy(values.astype(np.float32))


def _save_encoder(folder: Path, model: SentenceModel) -> None:
    import torch
    import transformers

    count, pad = _save_tokenizer(folder, model)
    common = {"vocab_size": count, "pad_token_id": pad, "max_position_embeddings": POSITIONS, **model.config}
    if model.family == "distilbert":
        config = transformers.DistilBertConfig(dim=WIDTH, hidden_dim=32, n_layers=2, n_heads=2, **common)
    else:
        sizes = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        kinds = {
            "bert": transformers.BertConfig,
            "roberta": transformers.RobertaConfig,
            "albert": transformers.AlbertConfig,
        }
        config = kinds[model.family](**sizes, **({"embedding_size": 8} if model.family == "albert" else {}), **common)
    encoder = transformers.AutoModel.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if parameter.ndim > 1:
                parameter.copy_(_filled(name, tuple(parameter.shape), 0.3))
    encoder.save_pretrained(folder)


def _save_tokenizer(folder: Path, model: SentenceModel) -> tuple[int, int]:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = sorted({word.strip(".,?:") for text in (*TEXTS, *PROMPTS.values()) for word in text.split()})
    signs = [chr(code) for code in range(33, 127)]
    # RoBERTa's positions begin behind its padding token's id.
    start = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"] if model.family == "roberta" else list(SPECIAL.values())
    known = [*start, *signs, *(f"##{sign}" for sign in signs), *words[::2], *(word.lower() for word in words)]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(known))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=model.lower)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(t, vocabulary[t]) for t in ("[CLS]", "[SEP]")]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)
    if model.maximum is not None:
        fast.model_max_length = model.maximum
    fast.save_pretrained(folder)
    return len(vocabulary), vocabulary["[PAD]"]
