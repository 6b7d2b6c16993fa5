"""Decoders as ExecuTorch programs compute what their form does, in our runtime and in ExecuTorch's own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fastserve_converters.formats import ExportJob
from fastserve_converters.formats.executorch import decoder
from fastserve_converters.formats.executorch.decoder_layers import activation_layer
from fastserve_converters.formats.executorch.decoder_program import CachedDecoder
from fastserve_converters.models.cached_part import CachedPart
from fastserve_converters.models.decoder.form import whole_logits
from fastserve_converters.models.decoder.reading import read_decoder
from fastserve_converters.precisions import WeightScheme
from fastserve_converters.quantization.fake_quant import fake_quantized
from fastserve_converters.quantization.layers import quantized_weights
from fastserve_runtime.bundle.tensor_specs import Signature, SymbolicDim, TensorSpec
from fastserve_runtime.engines import executorch as engine
from fastserve_runtime.errors import BundleError, InputError, UsageError
from fastserve_runtime.generation.stateful import StatefulDecoder, keeps_cache_inside
from fastserve_runtime.pipelines.text_generation.pipeline import open_decoder
from random_decoders import CONFIGS, HEAD_SIZES, heads_of, random_decoder, random_tokens

pytestmark = pytest.mark.apart
CONTEXT, CHUNK = 40, 7
VOCABULARY = 8192
"""Of models whose table is the larger part of their file."""
TOKENS = random_tokens(30)
STEPS = [7, 1, 1, 12, 1, 8]


def small_form(name, vocabulary=256):
    """A decoder of few layers, of each kind that the model has."""
    config = CONFIGS[name]()
    config.vocab_size = vocabulary
    kinds = getattr(config, "layer_types", None)
    config.num_hidden_layers = 1 if kinds is None else 2
    if kinds is not None:
        config.layer_types = [kinds[0], kinds[-1]]
    return read_decoder(random_decoder(config), CONTEXT)


def whole(form, tokens=TOKENS):
    with torch.no_grad():
        return whole_logits(form, tokens).numpy()


def quantized(form, linear, embedding):
    part = CachedPart(form)
    schemes = {name: embedding if kind == "embedding" else linear for name, kind in part.layers.items()}
    return quantized_weights(part, schemes)


def exported(form, out, precision="fp32", weights=None):
    """The artifact, and a session of it; prompts are cut into several chunks."""
    out.mkdir(exist_ok=True)
    prompts = {"beginning": 1, "ends": (2, 3)}
    precision_spec = decoder.PRECISIONS[precision]
    job = ExportJob(CachedPart(form), precision, precision_spec, weights or {}, {}, {}, None, out, prompts=prompts)
    return decoder.export(job)


def opened(artifact, out):
    return engine.open_session(out / "model.pte", artifact.graphs, threads=1)


def fed(tokens_decoder, tokens=TOKENS, steps=STEPS):
    """Scores behind each step."""
    rows = [tokens_decoder.feed(step.tolist()).copy() for step in tokens[0].split(steps)]
    return np.stack(rows), np.cumsum(steps) - 1


@pytest.fixture(scope="module")
def short_chunks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder, "CHUNK", CHUNK)
        yield


@pytest.fixture(scope="module")
def llama(short_chunks, tmp_path_factory):
    """A form, its artifact, and the folder of its file."""
    form, out = small_form("llama-tied-biased", VOCABULARY), tmp_path_factory.mktemp("llama")
    return form, exported(form, out), out


@pytest.fixture
def session(llama):
    _, artifact, out = llama
    with opened(artifact, out) as session:
        yield session


@pytest.mark.parametrize("name", CONFIGS)
def test_the_layers_written_for_xnnpack_compute_what_the_form_does(name) -> None:
    import executorch.extension.llm.custom_ops.custom_ops  # noqa: F401

    form = read_decoder(random_decoder(CONFIGS[name]()), CONTEXT)
    module = CachedDecoder(form, {}).eval()
    start, expected = 0, whole(form)
    for step in TOKENS.split(STEPS, dim=1):
        with torch.no_grad():
            scores = module(step, torch.tensor([start]))[0].numpy()
        start += step.shape[1]
        np.testing.assert_allclose(scores, expected[start - 1], atol=1e-5)


@pytest.mark.parametrize("name", ["gemma-2", pytest.param("gemma-3", marks=pytest.mark.slow)])
def test_prompts_and_single_tokens_give_what_the_whole_sequence_gives(name, short_chunks, tmp_path) -> None:
    form = small_form(name)
    with opened(exported(form, tmp_path), tmp_path) as session:
        scores, ends = fed(open_decoder(session))
    np.testing.assert_allclose(scores, whole(form)[ends], atol=1e-5)


@pytest.mark.parametrize("size", [*HEAD_SIZES[:1], *(pytest.param(n, marks=pytest.mark.slow) for n in HEAD_SIZES[1:])])
def test_heads_of_any_size_give_what_transformers_gives(size, short_chunks, tmp_path) -> None:
    model = random_decoder(heads_of(size))
    with opened(exported(read_decoder(model, CONTEXT), tmp_path), tmp_path) as session:
        scores, ends = fed(open_decoder(session))
    with torch.no_grad():
        np.testing.assert_allclose(scores, model(input_ids=TOKENS).logits[0].numpy()[ends], atol=2e-5, rtol=1e-5)


def test_a_prompt_is_what_its_tokens_are_one_by_one(llama, session) -> None:
    form, _, _ = llama
    scores, _ = fed(StatefulDecoder(session), steps=[1] * 30)
    np.testing.assert_allclose(scores, whole(form), atol=1e-5)
    scores, ends = fed(StatefulDecoder(session))
    np.testing.assert_allclose(scores, whole(form)[ends], atol=1e-5)


def test_tokens_are_forgotten_from_a_position_on(llama, session) -> None:
    form, _, _ = llama
    tokens_decoder = StatefulDecoder(session)
    tokens_decoder.feed(TOKENS[0, :20].tolist())
    tokens_decoder.rewind(10)
    other = torch.cat([TOKENS[:, :10], TOKENS[:, 25:]], 1)
    np.testing.assert_allclose(tokens_decoder.feed(TOKENS[0, 25:].tolist()), whole(form, other)[-1], atol=1e-5)
    assert tokens_decoder.position == 15
    with pytest.raises(UsageError, match="holds 15 tokens and cannot go back to 16"):
        tokens_decoder.rewind(16)


def test_the_cache_is_not_given_away(session) -> None:
    tokens_decoder = StatefulDecoder(session)
    tokens_decoder.feed([5, 6])
    assert tokens_decoder.cached() == {}
    with pytest.raises(InputError, match="Feed the tokens again"):
        tokens_decoder.restore({}, 2)
    assert tokens_decoder.position == 2
    tokens_decoder.restore({}, 0)
    assert tokens_decoder.position == 0


def test_too_many_tokens_and_none_are_refused_and_spoil_nothing(llama, session) -> None:
    tokens_decoder = StatefulDecoder(session)
    assert tokens_decoder.context == CONTEXT
    tokens_decoder.feed(TOKENS[0, :29].tolist())
    with pytest.raises(InputError, match="12 tokens behind 29 are more than the context of 40"):
        tokens_decoder.feed([1] * 12)
    with pytest.raises(InputError, match="no tokens"):
        tokens_decoder.feed([])
    np.testing.assert_allclose(tokens_decoder.feed(TOKENS[0, 29:].tolist()), whole(llama[0])[-1], atol=1e-5)


def test_less_than_the_whole_cache_may_be_used_and_not_more(session) -> None:
    with pytest.raises(InputError, match="context of 20 takes"):
        StatefulDecoder(session, context=20).feed([1] * 21)
    with pytest.raises(UsageError, match="Take from 2 to 40"):
        StatefulDecoder(session, context=41)


def test_other_models_are_refused(llama) -> None:
    _, _, out = llama
    # Without the names that the manifest gives its inputs.
    with engine.open_session(out / "model.pte", None, threads=1) as session:
        assert not any(map(keeps_cache_inside, session.graphs.values()))
        with pytest.raises(BundleError, match="keeps a cache of keys and values"):
            StatefulDecoder(session)


def test_everything_but_attention_is_delegated(llama) -> None:
    form, artifact, _ = llama
    counts = {o.name: o.count for o in artifact.operators}
    layers = len(form.layers)
    assert counts["XnnpackBackend"] == layers + 1
    assert (counts["custom_sdpa.out"], counts["update_cache.out"]) == (layers, 2 * layers)
    others = counts.keys() - {"XnnpackBackend", "custom_sdpa.out", "update_cache.out"}
    assert sum(counts[name] for name in others) <= 11
    assert artifact.expected_placement.delegated > 0.6 * artifact.expected_placement.total


def test_the_artifact_says_what_it_is(llama) -> None:
    _, artifact, _ = llama
    main = artifact.graphs["main"]
    assert main.signature == Signature(
        (
            TensorSpec("input_ids", "int64", (1, SymbolicDim("tokens", 1, CHUNK)), ("batch", "tokens")),
            TensorSpec("position", "int64", (1,), ("batch",)),
        ),
        (TensorSpec("logits", "float32", (1, VOCABULARY), ("batch", "vocabulary")),),
    )
    assert [s.tensor for s in artifact.state] == [
        TensorSpec("keys.0", "float32", (2, CONTEXT, 16), ("heads", "positions", "channels")),
        TensorSpec("values.0", "float32", (2, CONTEXT, 16), ("heads", "positions", "channels")),
    ]
    assert artifact.as_document()["state"][0]["reset"]
    assert engine.lacking(SimpleNamespace(operators=artifact.operators)) == []


def test_a_context_of_too_few_tokens_is_refused(tmp_path) -> None:
    form = read_decoder(random_decoder(CONFIGS["llama"]()), 2)
    with pytest.raises(UsageError, match="context of 2 tokens is too small"):
        exported(form, tmp_path)


@pytest.mark.slow
def test_the_file_runs_in_the_official_runtime_too(llama) -> None:
    form, _, out = llama
    np.savez(out / "expected.npz", tokens=TOKENS.numpy(), scores=whole(form))
    code = """
        import sys
        import numpy as np
        import torch
        from executorch.extension.llm.custom_ops import custom_ops
        from executorch.runtime import Runtime
        program = Runtime.get().load_program(sys.argv[1] + "/model.pte")
        method, given, start = program.load_method("forward"), np.load(sys.argv[1] + "/expected.npz"), 0
        for step in (7, 1, 2, 7, 6, 7):
            tokens = torch.from_numpy(given["tokens"][:, start : start + step].copy())
            (scores,) = method.execute([tokens, torch.tensor([start])])
            start += step
            np.testing.assert_allclose(scores[0].numpy(), given["scores"][start - 1], atol=1e-5)
        assert program.load_method("get_max_context_len").execute([]) == [40]
        assert program.load_method("get_eos_ids").execute([]) == [2, 3]
        assert "fastserve_executorch" not in sys.modules
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


_INT4 = WeightScheme(4, 32, scale="bfloat16")


@pytest.mark.parametrize(
    ("name", "linear", "embedding"),
    [
        ("llama-tied-biased", WeightScheme(8), WeightScheme(8)),
        pytest.param("llama-tied-biased", _INT4, _INT4, marks=pytest.mark.slow),
        ("gpt-2", _INT4, WeightScheme(8)),
    ],
)
def test_quantized_weights_are_multiplied_as_they_say(name, linear, embedding, short_chunks, tmp_path) -> None:
    form = small_form(name, VOCABULARY)
    weights = quantized(form, linear, embedding)
    with opened(exported(form, tmp_path, "int8", weights), tmp_path) as session:
        scores, ends = fed(open_decoder(session))
    if form.is_tied and "llama" in name:
        assert_table_is_stored_once(tmp_path, embedding.bits)
    original = whole(form)[ends]
    head = form.head.weight
    with fake_quantized(form, weights, "dynamic-int8"):
        if "head" not in weights:
            form.head.weight = form.embedding.weight
        fake_quant_reference = whole(form)[ends]
    form.head.weight = head
    # What is left is the input of the head in 8 bits, and roundings that fall the other way.
    assert (
        np.square(scores - fake_quant_reference).sum()
        < 0.1 * np.square(original - fake_quant_reference).sum() + 1e-3 * np.square(fake_quant_reference).sum()
    )


def assert_table_is_stored_once(folder, bits) -> None:
    assert (folder / "model.pte").stat().st_size < 1.5 * VOCABULARY * 64 * bits / 8 + 220_000


def test_a_tied_embedding_is_stored_once(llama) -> None:
    assert_table_is_stored_once(llama[2], 32)


def test_a_scheme_that_xnnpack_lacks_is_refused(tmp_path) -> None:
    form = small_form("llama")
    odd = WeightScheme(4, 32, symmetric=False)
    with pytest.raises(UsageError, match="XNNPACK has no linear layer with int4-g32-asymmetric weights"):
        exported(form, tmp_path, "int8", quantized(form, odd, odd))


@pytest.mark.parametrize("function", [torch.nn.functional.silu, torch.nn.functional.gelu, torch.nn.functional.relu])
def test_activations(function) -> None:
    x = torch.linspace(-6, 6, 101)
    torch.testing.assert_close(activation_layer(function)(x), function(x))
