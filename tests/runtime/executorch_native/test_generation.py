"""Programs for text generation: attention over a cache that they keep, with the operators that this package adds."""

import platform
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest

fse = pytest.importorskip("fastserve_executorch", reason="fastserve-executorch is not installed")
torch = pytest.importorskip("torch", reason="PyTorch, to compare with, is not installed")
pytest.importorskip("executorch", reason="the official executorch package, which makes the programs, is not installed")

CAPACITY = 160


@pytest.fixture
def pool_of_two():
    """The pool of threads has two, whatever the computer has."""
    before = fse.get_threads()
    fse.set_threads(2)
    yield
    fse.set_threads(before)


def texts(shape, tokens=CAPACITY, batch=1):
    heads, key_heads, dim = (int(part) for part in shape.split("_")[:3])
    chance = np.random.default_rng(dim)
    return [
        chance.standard_normal((batch, tokens, count, dim), dtype=np.float32) for count in (heads, key_heads, key_heads)
    ]


def attention(query, key, value, *, mask=None, causal=True, scale=None):
    """PyTorch's, in float64."""
    query, key, value = (torch.from_numpy(array.astype(np.float64)).transpose(1, 2) for array in (query, key, value))
    result = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=None if mask is None else torch.from_numpy(mask.astype(np.float64)),
        is_causal=causal, scale=scale, enable_gqa=True,
    )  # fmt: skip
    return result.transpose(1, 2).numpy()


def generate(program, arrays, steps):
    """Runs the arrays through the program, so many tokens at a time; returns the outputs as one."""
    outputs, position = [], 0
    for step in steps:
        part = [array[:, position : position + step] for array in arrays]
        outputs += program.run("forward", [*part, np.array([position])])
        position += step
    assert position == arrays[0].shape[1]
    return np.concatenate(outputs, axis=1)


@pytest.mark.parametrize("threads", [1, None])
def test_prefill_then_steps_are_one_causal_attention(generation, shape, threads):
    arrays = texts(shape)
    wanted = attention(*arrays, scale=0.3 if shape.endswith("_0.3") else None)
    with fse.Program(generation / f"{shape}.pte", threads=threads) as program:
        for steps in ([140, 1, 1, 3, 15], [1] * 5 + [2, 9, 64, 80], [70, 65, 1, 8, 16]):
            program.reset()
            np.testing.assert_allclose(generate(program, arrays, steps), wanted, rtol=0, atol=3e-6)


def test_threads_do_not_change_the_numbers(generation, shape, pool_of_two):
    arrays = texts(shape)
    results = []
    for threads in (1, 2):
        with fse.Program(generation / f"{shape}.pte", threads=threads) as program:
            results.append(generate(program, arrays, [140, 17, 1, 1, 1]))
    np.testing.assert_array_equal(*results)


def test_batches_have_caches_of_their_own(generation):
    arrays = texts("4_2_16", tokens=40, batch=3)
    with fse.Program(generation / "batch.pte") as program:
        found = generate(program, arrays, [30, 9, 1])
    np.testing.assert_allclose(found, attention(*arrays), rtol=0, atol=3e-6)


def test_large_scores_do_not_overflow_and_those_that_are_no_numbers_show(generation):
    query, key, value = texts("9_3_64", tokens=20)
    with fse.Program(generation / "9_3_64.pte") as program:
        (found,) = program.run("forward", [query * 300, key, value, np.array([0])])
        np.testing.assert_allclose(found, attention(query * 300, key, value), rtol=0, atol=1e-4)
        query[0, 7, 4, 2] = np.nan
        (found,) = program.run("forward", [query, key, value, np.array([0])])
    assert np.isnan(found[0, 7, 4]).all()
    found[0, 7, 4] = 0
    assert np.isfinite(found).all()


def test_without_causality_every_token_sees_all_that_are_there(generation):
    arrays = texts("4_2_16", tokens=30)
    with fse.Program(generation / "unmasked.pte") as program:
        found = generate(program, arrays, [20, 10])
    query, key, value = arrays
    for first, end in ((0, 20), (20, 30)):
        wanted = attention(query[:, first:end], key[:, :end], value[:, :end], causal=False)
        np.testing.assert_allclose(found[:, first:end], wanted, rtol=0, atol=3e-6)


@pytest.mark.parametrize("tokens", [2, 90])
def test_masks_are_added_to_the_scores(generation, tokens):
    query, key, value = texts("4_2_16", tokens=tokens)
    mask = np.random.default_rng(0).standard_normal((tokens, CAPACITY), dtype=np.float32)
    mask[:, ::3] = -np.inf
    with fse.Program(generation / "masked.pte") as program:
        (found,) = program.run("forward", [query, key, value, np.array([0]), mask])
        wanted = attention(query, key, value, mask=mask[:, :tokens], causal=False)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-6)
        mask[1] = -np.inf  # sees nothing
        (found,) = program.run("forward", [query, key, value, np.array([0]), mask])
        np.testing.assert_array_equal(found[0, 1], 0)
        np.testing.assert_allclose(found[0, 0], wanted[0, 0], rtol=0, atol=3e-6)


def test_the_cache_is_written_in_place_and_empty_after_a_reset(generation):
    query, key, value = texts("2_2_8", tokens=4)
    with fse.Program(generation / "2_2_8.pte") as program:
        calls = program.methods["forward"].calls
        assert calls["llama::update_cache.out"] == 2
        assert not [name for name in calls if "copy" in name and not name.startswith("aten::select_copy")]
        (first,) = program.run("forward", [query, key, value, np.array([0])])
        (later,) = program.run("forward", [query, key, value, np.array([4])])
        assert np.abs(later - first).max() > 0.01
        program.reset()
        (found,) = program.run("forward", [query, key, value, np.array([4])])
        zeros = np.zeros_like(key)
        wanted = attention(*(np.concatenate([a, b], 1) for a, b in ((query, query), (zeros, key), (zeros, value))))
        np.testing.assert_allclose(found, wanted[:, 4:], rtol=0, atol=3e-6)


@pytest.mark.parametrize("dtype", ["float32", "int8", "float16"])
def test_caches_of_any_type_are_written(generation, dtype):
    value = np.arange(1, 33).reshape(2, 2, 2, 4).astype(dtype)
    wanted = np.zeros((2, 6, 2, 4), dtype)
    with fse.Program(generation / "writes.pte") as program:
        for position in (3, 0, 4):
            wanted[:, position : position + 2] = value + position
            np.testing.assert_array_equal(program.run(dtype, [value + position, np.array([position])])[0], wanted)
        for position in (-1, 5, 6, 2**62):
            with pytest.raises(fse.ExecutorchError, match="the cache has room for 6: begin anew"):
                program.run(dtype, [value, np.array([position])])
        wanted[:, 1:3] = value
        np.testing.assert_array_equal(program.run(dtype, [value, np.array([1])])[0], wanted)


@pytest.mark.parametrize("position", [-1, CAPACITY - 3, CAPACITY, 2**40, -(2**63), 2**63 - 1])
def test_a_position_out_of_the_cache_is_refused_and_does_no_harm(generation, position):
    arrays = texts("9_3_64", tokens=4)
    with fse.Program(generation / "9_3_64.pte") as program:
        before = program.run("forward", [*arrays, np.array([0])])
        with pytest.raises(fse.ExecutorchError, match=f"4 tokens at position {position}, and the cache has room for"):
            program.run("forward", [*arrays, np.array([position])])
        np.testing.assert_array_equal(program.run("forward", [*arrays, np.array([0])]), before)
        program.run("forward", [*arrays, np.array([CAPACITY - 4])])


@pytest.mark.parametrize(
    ("method", "position", "message"),
    [
        ("right", -1, "2 tokens at position -1, and the cache has room for 5"),
        ("right", 4, "2 tokens at position 4, and the cache has room for 5"),
        ("half", 0, "a query that is not float32: export the model with float32 attention"),
        ("ratio", 0, "3 heads of queries for 2 of keys: give it a multiple of these"),
        ("dims", 0, r"queries and keys that differ in dimension 3 \(6 and 8\): make them agree"),
        ("batches", 0, r"queries and keys that differ in dimension 0 \(2 and 1\): make them agree"),
        ("both", 0, "both attn_mask and is_causal: export the model with one of the two"),
        ("mask", 4, "2 tokens at position 4"),
        ("narrow", 0, "an attn_mask of 2 by 1: give it 2 by 2 or more"),
        ("short", 0, "an attn_mask of 1 by 5: give it 2 by 2 or more"),
    ],
)
def test_what_attention_cannot_compute_is_said(generation, method, position, message):
    with fse.Program(generation / "wrong" / "bare.pte") as program:
        inputs = [np.ones(value.shape, value.dtype) for value in program.methods[method].inputs]
        inputs[3][:] = position
        with pytest.raises(fse.ExecutorchError, match=f"llama::custom_sdpa got {message}") as caught:
            program.run(method, inputs)
        assert caught.value.name == "InvalidArgument"
        right = [np.ones(value.shape, value.dtype) for value in program.methods["right"].inputs]
        np.testing.assert_allclose(program.run("right", right)[0], 1, rtol=1e-6)


def test_four_bit_embeddings(generation):
    wanted = torch.load(generation / "four_bits.pt")
    with fse.Program(generation / "four_bits.pte") as program:
        assert "quantized_decomposed::embedding_4bit.out" in program.methods["forward"].operators
        (found,) = program.run("forward", [wanted["indices"].numpy()])
    np.testing.assert_allclose(found, wanted["rows"].numpy(), rtol=1e-6)


def test_the_operators_are_among_those_available():
    assert {"llama::custom_sdpa.out", "llama::update_cache.out"} <= set(fse.available_operators())


def test_profiles_and_intermediate_values_have_the_operators(generation):
    arrays = texts("2_2_8", tokens=4)
    with fse.Program(generation / "2_2_8.pte", intermediates=True) as program:
        (found,) = program.run("forward", [*arrays, np.array([0])])
        called = [event.operator for event in program.profile() if event.name == "OPERATOR_CALL"]
        assert called.count("llama::update_cache.out") == 2
        between = {value.operator: value.value for value in program.intermediates()}
    np.testing.assert_array_equal(between["llama::custom_sdpa.out"], found)


@pytest.mark.parametrize("first", [pytest.param("ours", marks=pytest.mark.slow), "official"])
def test_the_official_operators_can_be_loaded_too(generation, first):
    """They have the same names: whichever comes first, both run the program, to the same result."""
    code = f"""
        import sys
        import numpy as np

        def ours():
            from fastserve_executorch import Program
            with Program(sys.argv[1]) as program:
                return program.run("forward", [*arrays, np.array([0])])[0]

        def official():
            import torch
            from executorch.extension.llm.custom_ops import custom_ops
            from executorch.runtime import Runtime
            method = Runtime.get().load_program(sys.argv[1]).load_method("forward")
            return method.execute([*map(torch.from_numpy, arrays), torch.tensor([0])])[0].numpy()

        chance = np.random.default_rng(0)
        arrays = [chance.standard_normal((1, 20, heads, 64), dtype=np.float32) for heads in (9, 3, 3)]
        one, other = {"ours(), official()" if first == "ours" else "official(), ours()"}
        assert np.abs(one).max() > 1
        np.testing.assert_allclose(one, other, rtol=0, atol=3e-6)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(generation / "9_3_64.pte")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors have one instruction set here")
@pytest.mark.parametrize("processor", ["Haswell", "Nehalem"])
def test_older_processors_compute_the_same(generation, shape, processor, tmp_path):
    emulator = shutil.which("qemu-x86_64")
    if emulator is None:
        pytest.skip("qemu-x86_64 is not installed (Debian's package qemu-user)")
    arrays = texts(shape, tokens=24)
    np.savez(tmp_path / "arrays.npz", *arrays)
    code = """
        import sys
        import numpy as np
        from fastserve_executorch import Program

        arrays = np.load(sys.argv[2])
        with Program(sys.argv[1], threads=1) as program:
            for first, end in ((0, 20), (20, 21), (21, 24)):
                parts = [arrays[name][:, first:end] for name in arrays.files]
                np.save(f"{sys.argv[3]}/{first}.npy", program.run("forward", [*parts, np.array([first])])[0])
    """
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(code))
    files = generation / f"{shape}.pte", tmp_path / "arrays.npz", tmp_path
    command = [emulator, "-cpu", processor, sys.executable, script, *files]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = np.concatenate([np.load(tmp_path / f"{first}.npy") for first in (0, 20, 21)], axis=1)
    wanted = attention(*arrays, scale=0.3 if shape.endswith("_0.3") else None)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-6)
