"""The layer map of a decoder names tensors that hold what the common form computes over a whole sequence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from fastserve_converters.diagnosis.program_nodes import nodes_of_program
from fastserve_converters.formats.onnx import files
from fastserve_converters.formats.onnx.decoder_graph import signature, write_graph
from fastserve_converters.formats.onnx.decoder_layer_map import write_decoder_layer_map
from fastserve_converters.layer_map import LAYER_MAP, ProgramNode, read_intermediates
from fastserve_converters.models.cached_part import CachedPart
from fastserve_converters.models.decoder.form import DecoderForm, whole_logits
from fastserve_converters.models.decoder.reading import read_decoder
from fastserve_runtime.generation.shared_cache import whole_call
from random_decoders import CONFIGS, heads_of, random_decoder, random_tokens

CONTEXT, TOKENS = 32, 9
FORMS = ["llama-tied-biased", "qwen-3", "gemma-2", "gpt-2", "padded heads"]
"""Of every kind of norm, of feed-forward layer, of embedding and of attention."""


def form_of(name: str) -> DecoderForm:
    if name == "padded heads":
        return read_decoder(random_decoder(heads_of(20)), CONTEXT)
    config = CONFIGS[name]()
    config.num_hidden_layers = 2
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:2]
    return read_decoder(random_decoder(config), CONTEXT)


@pytest.fixture(scope="module", params=FORMS)
def form(request: pytest.FixtureRequest) -> DecoderForm:
    return form_of(request.param)


def values_of_program(form: DecoderForm, tokens: torch.Tensor) -> tuple[dict[ProgramNode, Any], Any]:
    module: Any = CachedPart(form).program.module(check_guards=False)
    nodes = nodes_of_program(module, [name for name, _ in form.named_modules()])
    found: dict[ProgramNode, Any] = {}

    class Reading(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> Any:
            value = super().run_node(n)
            if n in nodes:
                found[nodes[n]] = value.numpy()
            return value

    with torch.no_grad():
        Reading(module).run(tokens, enable_io_processing=False)
        (logits,) = module(input_ids=tokens).values()
    return found, logits


def test_every_tensor_holds_what_its_node_of_the_program_gives(form: DecoderForm, tmp_path: Path) -> None:
    model = write_graph(form)
    files.save(model, tmp_path)
    write_decoder_layer_map(tmp_path, model, form)
    intermediates = read_intermediates(tmp_path)
    proto = onnx.load(str(tmp_path / files.MODEL))
    own = {output.name for output in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=i.tensor) for i in intermediates if i.tensor not in own)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    tokens = random_tokens(TOKENS)
    expected, logits = values_of_program(form, tokens)
    torch.testing.assert_close(logits[0, 0], whole_logits(form, tokens)[-1], rtol=1e-5, atol=1e-5)
    names = [i.tensor for i in intermediates]
    values = session.run(names, whole_call(signature(form), tokens[0].tolist()))
    assert len({i.program_node for i in intermediates}) == len(intermediates)
    for intermediate, value in zip(intermediates, values, strict=True):
        wanted = expected[intermediate.program_node]
        np.testing.assert_allclose(
            value.reshape(wanted.shape), wanted, rtol=1e-3, atol=1e-3, err_msg=str(intermediate.program_node)
        )
    blocks = len(form.layers)
    kinds = [i.program_node.operator for i in intermediates]
    assert kinds.count("einsum") == blocks, "what attention gives"
    assert sum(node.program_node.module.endswith(".down") for node in intermediates) == blocks


def test_its_constants_belong_to_modules(tmp_path: Path) -> None:
    form = form_of("llama-tied-biased")
    model = write_graph(form)
    files.save(model, tmp_path)
    write_decoder_layer_map(tmp_path, model, form)
    modules = json.loads((tmp_path / LAYER_MAP).read_text())["modules"]
    assert "blocks.1.attention.qkv.bias" in modules["blocks.1.attention.qkv"]
    assert "norm.weight" in modules["norm"]
    assert set(modules) <= {name for name, _ in form.named_modules()}
