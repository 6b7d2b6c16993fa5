"""A bundle for pairs of texts that is made by hand: a score of a query and a document."""

from __future__ import annotations

from typing import Any

import numpy as np

from manifests import (
    GOLDEN,
    LENGTH,
    MODEL,
    TOKENIZER,
    VOCABULARY,
    Contents,
    Document,
    file_entries,
    tensor,
    tokenizer_json,
    valid_manifest,
    variant,
)

PAIRS = [("a b", "c"), ("d", "e f"), ("", "a")]
_VALUES = np.random.default_rng(6).normal(size=(len(VOCABULARY), 1)).astype(np.float32)


def pair_tokenizer_json() -> bytes:
    """The tokenizer of single texts with a template for pairs."""
    from tokenizers import Tokenizer, processors

    tokenizer = Tokenizer.from_buffer(tokenizer_json())
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, VOCABULARY[token]) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer.to_str().encode()


def pair_tensors(pairs: list[tuple[str, str]]) -> dict[str, np.ndarray]:
    """What a model is given for pairs that are short enough."""
    ids, types = np.zeros((len(pairs), LENGTH), np.int32), np.zeros((len(pairs), LENGTH), np.int32)
    for row, (first, second) in enumerate(pairs):
        left = ["[CLS]", *first.split(), "[SEP]"]
        right = [*second.split(), "[SEP]"]
        ids[row, : len(left) + len(right)] = [VOCABULARY[token] for token in left + right]
        types[row, len(left) : len(left) + len(right)] = 1
    return {"input_ids": ids, "attention_mask": (ids != 0).astype(np.float32), "token_type_ids": types}


def expected_logits(pairs: list[tuple[str, str]]) -> np.ndarray:
    """What `pair_model` gives, shape [n]: the sum of all tokens' values, those of the second text counted thrice."""
    tensors = pair_tensors(pairs)
    weights = tensors["attention_mask"] * (1 + 2 * tensors["token_type_ids"])
    return np.asarray((_VALUES[tensors["input_ids"], 0] * weights).sum(1))


def pair_model() -> bytes:
    """An ONNX model of ids, mask and token types with one logit."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Gather", ["values", "input_ids"], ["rows"]),
        helper.make_node("Squeeze", ["rows", "last"], ["row"]),
        helper.make_node("Cast", ["token_type_ids"], ["types"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["types", "two"], ["twice"]),
        helper.make_node("Add", ["twice", "one"], ["weights"]),
        helper.make_node("Mul", ["row", "weights"], ["weighted"]),
        helper.make_node("Mul", ["weighted", "attention_mask"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "axis"], ["logits"], keepdims=1),
    ]
    kinds = {"input_ids": TensorProto.INT32, "attention_mask": TensorProto.FLOAT, "token_type_ids": TensorProto.INT32}
    graph = helper.make_graph(
        nodes,
        "pairs",
        [helper.make_tensor_value_info(name, kind, [1, LENGTH]) for name, kind in kinds.items()],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1])],
        [
            numpy_helper.from_array(_VALUES, "values"),
            numpy_helper.from_array(np.array([2]), "last"),
            numpy_helper.from_array(np.array([1]), "axis"),
            numpy_helper.from_array(np.array(2, np.float32), "two"),
            numpy_helper.from_array(np.array(1, np.float32), "one"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def pair_bundle(task: str = "text-ranking", **settings: Any) -> tuple[Document, Contents]:
    """A bundle of `pair_model` that runs, with a golden of three pairs."""
    from fastserve_runtime.bundle.golden import Golden, write_golden

    outputs = {"logits": expected_logits(PAIRS).astype(np.float32)[:, None]}
    golden = Golden(
        texts=np.array([first for first, _ in PAIRS]),
        kinds=np.array(["short", "short", "empty"]),
        realistic=np.array([True, True, False]),
        inputs=pair_tensors(PAIRS),
        reference=outputs,
        artifact=outputs,
        pair_texts=np.array([second for _, second in PAIRS]),
    )
    contents = {MODEL: pair_model(), TOKENIZER: pair_tokenizer_json(), GOLDEN: write_golden(golden)}
    document = valid_manifest()
    graph = {
        "file": MODEL,
        "entry": "main",
        "inputs": [
            tensor("input_ids", "int32", 1, LENGTH),
            tensor("attention_mask", "float32", 1, LENGTH),
            tensor("token_type_ids", "int32", 1, LENGTH),
        ],
        "outputs": [tensor("logits", "float32", 1, 1)],
    }
    document["variants"] = [variant(graphs={"main": graph})]
    document |= {"task": task, "task_settings": settings}
    document["preprocessing"]["kind"] = "text-pair"
    document["preprocessing"]["settings"]["token_types"] = True
    document["files"] = file_entries(contents)
    return document, contents
