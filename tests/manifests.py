"""Manifests and small bundles that tests make by hand, without exporting anything."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

WORDS = ["a", "b", "c", "d", "e", "f"]
VOCABULARY = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, **{word: 4 + i for i, word in enumerate(WORDS)}}
LENGTH = 8
WIDTH = 4
LABELS = ["bad", "middling", "good", "splendid"]
MODEL = "variants/first/model.onnx"
TOKENIZER = "preprocessing/tokenizer.json"
GOLDEN = "golden/first.npz"
CHECKS = ("quality", "executor", "determinism", "padding invariance", "repeated calls", "placement")
"""What `conform` checks of an encoder that takes one sample at a time."""
CHECKS_OF_EXPORTS = {*CHECKS, "task metric"}
"""What it checks where the bundle has evaluation samples, as exported ones have."""

Document = dict[str, Any]
Contents = dict[str, bytes]


def tensor(name: str, dtype: str, *dims: int | Document) -> Document:
    return {"name": name, "dtype": dtype, "dims": list(dims)}


def variant(variant_id: str = "first", **changes: Any) -> Document:
    """A variant with every field; graph `main` lies in MODEL."""
    graph = {
        "file": MODEL,
        "entry": "main",
        "inputs": [tensor("input_ids", "int32", 1, LENGTH), tensor("attention_mask", "float32", 1, LENGTH)],
        "outputs": [tensor("sentence_embedding", "float32", 1, WIDTH)],
    }
    return {
        "id": variant_id,
        "recipe": {"format": "onnx", "precision": "fp32", "passes": []},
        "format": "onnx",
        "precision": "fp32",
        "files": [MODEL],
        "golden": GOLDEN,
        "graphs": {"main": graph},
        "state": [],
        "operators": [{"domain": "ai.onnx", "name": "Gather", "version": 17, "count": 1}],
        "expected_placement": {"processor": "cpu", "backend": "CPUExecutionProvider", "delegated": 3, "total": 3},
        "requires": {"engine": "onnxruntime", "min_version": "1.18", "backends": [], "platforms": []},
        "target": None,
        **changes,
    }


def valid_manifest() -> Document:
    """A manifest of two variants that uses every kind of field; its files have made-up digests."""
    length = {"symbol": "length", "min": 1, "max": 64}
    second = variant(
        "second",
        format="tflite",
        golden=None,
        state=[{**tensor("cache", "float32", 1, length), "reset": "sequence"}],
        expected_placement={"processor": "npu", "backend": "XNNPACK", "delegated": None, "total": None},
        requires={"engine": "litert", "min_version": "2.0", "backends": ["XNNPACK"], "platforms": ["linux"]},
        target="board",
    )
    second["graphs"]["main"]["inputs"] = [tensor("input_ids", "int32", 1, length)]
    roles = {MODEL: "model", TOKENIZER: "preprocessing", GOLDEN: "golden"}
    return {
        "schema_version": "1.0",
        "task": "feature-extraction",
        "task_settings": {"pooling": ["mean"]},
        "files": {path: {"sha256": "0" * 64, "bytes": 7, "role": role} for path, role in roles.items()},
        "preprocessing": {
            "kind": "tokenizer",
            "files": [TOKENIZER],
            "settings": {"sequence_length": LENGTH, "pad_id": 0, "pad_token": "[PAD]", "add_special_tokens": True},
        },
        "variants": [variant(), second],
        "chosen": "first",
        "source": {"name": "maker/model", "revision": "abc", "weights_sha256": "1" * 64, "licence": "apache-2.0"},
    }


def file_entries(contents: Mapping[str, bytes], role: str = "model") -> Document:
    """The manifest's `files` for these contents."""
    return {
        path: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "role": role}
        for path, content in contents.items()
    }


def small_bundle() -> tuple[Document, Contents]:
    """A manifest and contents that fit it; the contents are no real model."""
    contents = {MODEL: b"a model", TOKENIZER: b"a tokenizer", GOLDEN: b""}
    return {**valid_manifest(), "files": file_entries(contents)}, contents


def write_directory(location: Path, document: Any, contents: Mapping[str, bytes]) -> Path:
    for path, content in {"manifest.json": encoded(document), **contents}.items():
        file = location / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return location


def write_zip(location: Path, document: Any, contents: Mapping[str, bytes]) -> Path:
    location.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(location, "w", zipfile.ZIP_STORED) as file:
        for path, content in {"manifest.json": encoded(document), **contents}.items():
            file.writestr(path, content)
    return location


def encoded(document: Any) -> bytes:
    return document if isinstance(document, bytes) else json.dumps(document).encode()


def tokenizer_json() -> bytes:
    """A tokenizer that knows WORDS and puts [CLS] and [SEP] around every text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    specials = [(token, VOCABULARY[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=specials)
    return tokenizer.to_str().encode()


def word_vectors() -> np.ndarray:
    """One vector a token, shape [vocabulary, WIDTH]: the weights of `text_model`."""
    return np.random.default_rng(5).normal(size=(len(VOCABULARY), WIDTH)).astype(np.float32)


def text_model(output: str = "sentence_embedding", *, rows: int = len(VOCABULARY)) -> bytes:
    """An ONNX model of token ids and mask.

    It sums the vectors of all tokens; as `last_hidden_state` it returns each token's vector instead. With fewer rows
    than the vocabulary has, it fails for the tokens beyond them.
    """
    from onnx import TensorProto, helper, numpy_helper

    is_pooled = output != "last_hidden_state"
    nodes = [
        helper.make_node("Gather", ["vectors", "input_ids"], ["rows"]),
        helper.make_node("Unsqueeze", ["attention_mask", "last"], ["mask"]),
        helper.make_node("Mul", ["rows", "mask"], ["masked" if is_pooled else output]),
    ]
    if is_pooled:
        nodes.append(helper.make_node("ReduceSum", ["masked", "middle"], [output], keepdims=0))
    dims = [1, WIDTH] if is_pooled else [1, LENGTH, WIDTH]
    graph = helper.make_graph(
        nodes,
        "text",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT32, [1, LENGTH]),
            helper.make_tensor_value_info("attention_mask", TensorProto.FLOAT, [1, LENGTH]),
        ],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, dims)],
        [
            numpy_helper.from_array(word_vectors()[:rows], "vectors"),
            numpy_helper.from_array(np.array([2]), "last"),
            numpy_helper.from_array(np.array([1]), "middle"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def token_ids(text: str) -> list[int]:
    """The ids of a text by the tokenizer above, padded to LENGTH; for texts that are short enough."""
    ids = [VOCABULARY["[CLS]"], *(VOCABULARY.get(word, 1) for word in text.split()), VOCABULARY["[SEP]"]]
    return ids + [0] * (LENGTH - len(ids))


def expected_embeddings(texts: list[str]) -> np.ndarray:
    """What `text_model` gives for texts."""
    return np.stack([word_vectors()[[i for i in token_ids(text) if i]].sum(axis=0) for text in texts])


def text_bundle(output: str = "sentence_embedding") -> tuple[Document, Contents]:
    """A bundle of `text_model` that runs, with a golden of three samples."""
    from fastserve_runtime.bundle.golden import Golden, write_golden

    texts = ["a b", "c", "d e f"]
    ids = np.array([token_ids(text) for text in texts], np.int32)
    hidden = word_vectors()[ids] * (ids != 0)[..., None].astype(np.float32)
    outputs = {output: hidden if output == "last_hidden_state" else hidden.sum(axis=1)}
    golden = Golden(
        texts=np.array(texts),
        kinds=np.array(["short", "short", "padded"]),
        realistic=np.array([True, True, False]),
        inputs={"input_ids": ids, "attention_mask": (ids != 0).astype(np.float32)},
        reference=outputs,
        artifact=outputs,
    )
    contents = {MODEL: text_model(output), TOKENIZER: tokenizer_json(), GOLDEN: write_golden(golden)}
    document = valid_manifest()
    document["variants"] = [variant()]
    dims = [1, LENGTH, WIDTH] if output == "last_hidden_state" else [1, WIDTH]
    document["variants"][0]["graphs"]["main"]["outputs"] = [tensor(output, "float32", *dims)]
    if output == "logits":
        document |= {"task": "text-classification", "task_settings": {"labels": LABELS}}
    document["files"] = file_entries(contents)
    return document, contents
