"""Decoders written as TFLite graphs compute the same in LiteRT, chunk by chunk and token by token."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from ai_edge_litert.interpreter import Interpreter

from fastserve_converters.formats import ExportJob
from fastserve_converters.formats.tflite.decoder import MODEL, PRECISIONS, export
from fastserve_converters.formats.tflite.decoder_graph import GRAPH, decoder_model, signature
from fastserve_converters.models.cached_part import CachedPart
from fastserve_converters.models.decoder.form import whole_logits
from fastserve_converters.models.decoder.reading import read_decoder
from fastserve_converters.precisions import WeightScheme
from fastserve_converters.quantization.fake_quant import fake_quantized
from fastserve_converters.quantization.layers import assignment, quantized_weights
from fastserve_runtime.bundle.manifest import Graph
from fastserve_runtime.engines import litert, tflite_runtime
from fastserve_runtime.errors import EnvironmentFailure
from fastserve_runtime.generation.sliced_cache import SlicedCacheDecoder
from random_decoders import COMMON, CONFIGS, HEAD_SIZES, heads_of, random_decoder, random_tokens

CONTEXT = 48
CHUNKS = [7, 1, 1, 12, 1, 8]
INTEGERS = ["int8", "int4", "int4-embedding-int8"]


def form_of(name):
    return read_decoder(random_decoder(CONFIGS[name]()), CONTEXT)


def quantized_of(form, precision):
    part = CachedPart(form)
    return quantized_weights(part, assignment(part, PRECISIONS[precision]))


def logits_of(form, weights=None, *, chunks=CHUNKS) -> dict[int, np.ndarray]:
    """Scores behind each chunk, by position."""
    content = memoryview(decoder_model(form, weights).content())
    graphs = {GRAPH: Graph(MODEL, GRAPH, signature(form))}
    found = {}
    with litert.open_session(content, graphs, threads=1) as session:
        decoder = SlicedCacheDecoder(session)
        assert decoder.context == CONTEXT
        for chunk in random_tokens(sum(chunks))[0].split(chunks):
            scores = decoder.feed(chunk.tolist())
            found[decoder.position - 1] = scores.copy()
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_chunks_and_single_tokens_give_what_the_whole_sequence_gives(name) -> None:
    form = form_of(name)
    with torch.no_grad():
        expected = whole_logits(form, random_tokens(sum(CHUNKS))).numpy()
    for position, logits in logits_of(form).items():
        assert logits.shape == (256,)
        np.testing.assert_allclose(logits, expected[position], atol=5e-6)


@pytest.mark.parametrize("size", HEAD_SIZES)
def test_heads_of_any_size_give_what_transformers_gives(size) -> None:
    model = random_decoder(heads_of(size))
    with torch.no_grad():
        expected = model(input_ids=random_tokens(sum(CHUNKS))).logits[0].numpy()
    for position, logits in logits_of(read_decoder(model, CONTEXT)).items():
        np.testing.assert_allclose(logits, expected[position], atol=2e-5, rtol=1e-5)


def gpt_2_with(activation):
    return transformers.GPT2Config(
        vocab_size=256, n_embd=64, n_layer=2, n_head=4, n_positions=128, activation_function=activation
    )


def gemma_2_with_low_caps():
    caps = {"attn_logit_softcapping": 0.2, "final_logit_softcapping": 0.3}
    return transformers.Gemma2Config(**COMMON, sliding_window=8, query_pre_attn_scalar=1, **caps)


@pytest.mark.parametrize("config", [gpt_2_with("gelu"), gpt_2_with("relu"), gemma_2_with_low_caps()])
def test_activations_and_caps_are_those_of_the_model(config) -> None:
    model = random_decoder(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 3  # so that a bend shows
    form = read_decoder(model, CONTEXT)
    with torch.no_grad():
        expected = whole_logits(form, random_tokens(sum(CHUNKS))).numpy()
    for position, logits in logits_of(form).items():
        np.testing.assert_allclose(logits, expected[position], atol=2e-5 * np.abs(expected).max())


def test_heads_may_be_turned_in_part() -> None:
    form = form_of("llama")
    form.cosine_0, form.sine_0 = form.cosine_0[:, :5].contiguous(), form.sine_0[:, :5].contiguous()
    with torch.no_grad():
        expected = whole_logits(form, random_tokens(sum(CHUNKS))).numpy()
    for position, logits in logits_of(form).items():
        np.testing.assert_allclose(logits, expected[position], atol=5e-6)


@pytest.mark.parametrize("name", ["llama-tied-biased", "llama", "gemma-2", "gpt-2"])
@pytest.mark.parametrize("precision", INTEGERS)
def test_quantized_weights_are_multiplied_as_they_say(name, precision) -> None:
    form = form_of(name)
    weights = quantized_of(form, precision)
    tokens = random_tokens(sum(CHUNKS))
    with torch.no_grad():
        original = whole_logits(form, tokens).numpy()
        head = form.head.weight
        with fake_quantized(form, weights, "dynamic-int8"):
            if "head" not in weights:
                form.head.weight = form.embedding.weight
            fake_quant_reference = whole_logits(form, tokens).numpy()
            form.head.weight = head
    actual = logits_of(form, weights)
    wrong = sum(np.square(logits - fake_quant_reference[position]).sum() for position, logits in actual.items())
    assert (
        wrong
        < 0.2 * sum(np.square(original[p] - fake_quant_reference[p]).sum() for p in actual)
        + 1e-4 * np.square(fake_quant_reference).sum()
    )


def test_quantized_weights_with_zero_points_are_refused() -> None:
    form = form_of("llama")
    weights = quantized_weights(CachedPart(form), {"blocks.0.attention.qkv": WeightScheme(8, symmetric=False)})
    with pytest.raises(EnvironmentFailure, match="take no zero points"):
        decoder_model(form, weights)


@pytest.mark.parametrize("precision", ["fp32", *INTEGERS])
def test_a_tied_embedding_is_stored_once(precision) -> None:
    form = form_of("llama-tied-biased")
    assert form.is_tied
    weights = quantized_of(form, precision) if precision != "fp32" else {}
    stored = sum(w.values.size * w.scheme.bits // 8 + 4 * w.scale.size for w in weights.values())
    floats = {n: p for n, p in form.named_parameters() if n.removesuffix(".weight") not in weights}
    stored += sum(4 * p.numel() for p in floats.values())  # each shared one counts once
    # Beside the weights, some hundred operators with names.
    assert stored < len(decoder_model(form, weights).content()) < stored + 110_000


@pytest.mark.parametrize("name", CONFIGS)
def test_all_but_looking_up_and_converting_is_one_partition_of_xnnpack(name) -> None:
    form = form_of(name)
    weights = quantized_of(form, "int8") if name == "qwen-3" else {}
    interpreter = Interpreter(model_content=decoder_model(form, weights).content(), num_threads=1)
    interpreter.allocate_tensors()
    operators = interpreter._get_ops_details()
    counts = Counter(o["op_name"] for o in operators)
    placed = litert.placed_operators(operators)
    assert counts["DELEGATE"] == 1
    assert placed["LiteRT kernels"] == sum(counts[kind] for kind in ("GATHER", "CAST", "EMBEDDING_LOOKUP"))
    assert placed["XNNPACK"] > 100


def test_the_same_model_gives_the_same_bytes() -> None:
    first, second = (decoder_model(form_of("qwen-3")).content() for _ in range(2))
    assert first == second


@pytest.mark.parametrize(("precision", "minimum"), [("fp32", "1.4.0"), ("int8", "1.4.0"), ("int4", "2.1.0")])
def test_an_artifact_says_what_it_is(tmp_path, precision, minimum) -> None:
    form = form_of("llama-tied-biased")
    weights = quantized_of(form, precision) if precision != "fp32" else {}
    artifact = export(ExportJob(CachedPart(form), precision, PRECISIONS[precision], weights, {}, {}, None, tmp_path))
    assert artifact.files == (MODEL,)
    assert artifact.requires.engine == "litert"
    assert artifact.requires.min_version == minimum
    placement = artifact.expected_placement
    assert placement.total - placement.delegated == 5
    assert sum(o.count for o in artifact.operators) == placement.total
    assert '"blocks.3.feed_forward.gate": [' in (tmp_path / "layer_map.json").read_text()
    # The file's own signature has the same tensors; how far its sizes go is left open there.
    with litert.open_session(tmp_path / MODEL, None, threads=1) as session:
        own = session.graphs[GRAPH]
    wanted = artifact.graphs[GRAPH].signature
    for ours, theirs in ((wanted.inputs, own.inputs), (wanted.outputs, own.outputs)):
        sizes = {t.name: (t.dtype, [d if isinstance(d, int) else "open" for d in t.dims]) for t in theirs}
        assert {t.name: (t.dtype, [d if isinstance(d, int) else "open" for d in t.dims]) for t in ours} == sizes


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_tflite_runtime_is_known_to_lack_something(tmp_path, precision) -> None:
    form = form_of("llama-tied-biased")
    weights = quantized_of(form, precision) if precision != "fp32" else {}
    artifact = export(ExportJob(CachedPart(form), precision, PRECISIONS[precision], weights, {}, {}, None, tmp_path))
    assert "EMBEDDING_LOOKUP version 4" in tflite_runtime.lacking(
        SimpleNamespace(precision=precision, operators=artifact.operators)
    )
