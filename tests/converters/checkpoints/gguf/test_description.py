"""What GGUF files say of themselves, and that damage is told as such."""

from __future__ import annotations

import random
from pathlib import Path

import gguf
import pytest
import torch

from decoder_checkpoints import save_decoder_checkpoint
from fastserve_converters.checkpoints.gguf.description import read_gguf_description
from fastserve_converters.checkpoints.gguf.finding import find_gguf
from fastserve_converters.checkpoints.gguf.header import read_header
from fastserve_converters.checkpoints.gguf.model import load_gguf_model
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_runtime.errors import EnvironmentFailure, UsageError
from gguf_writing import Kind, gguf_model, tokenizer_metadata, write_gguf


@pytest.fixture(scope="module")
def model():
    return gguf_model("llama")


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    more = {
        **tokenizer_metadata("gpt-2"),
        "general.name": "Tiny",
        "general.license": "mit",
        "tokenizer.ggml.eot_token_id": 7,
        "tokenizer.ggml.scores": [0.5] * 2000,
        "general.tags": ["a", "b"],
        "general.sizes": [1, 2],
    }
    folder = tmp_path_factory.mktemp("gguf")
    return write_gguf(folder / "model.gguf", model, "llama", lambda _: Kind.Q4_1, more)


def test_a_file_is_described(file) -> None:
    found = read_gguf_description(file)
    assert (found.name, found.licence, found.chat_template) == ("Tiny", "mit", "{{ messages[0].content }}")
    assert found.types == ("Q4_1", "F32")
    assert found.config["eos_token_id"] == [0, 7]  # that which ends a text, and that which ends a turn
    assert found.config["pad_token_id"] is None
    assert found.config["vocab_size"] == 256


def test_long_arrays_are_read_only_where_asked_for(file) -> None:
    assert "tokenizer.ggml.scores" not in read_header(file).metadata
    assert "general.tags" not in read_header(file).metadata
    assert read_header(file).metadata["general.sizes"] == (1, 2)
    asked = read_header(file, arrays={"tokenizer.ggml.scores", "general.tags"}).metadata
    assert asked["tokenizer.ggml.scores"] == (0.5,) * 2000
    assert asked["general.tags"] == ("a", "b")


def test_a_file_cut_off_anywhere_is_refused(file, tmp_path) -> None:
    content = file.read_bytes()
    cut = tmp_path / "cut.gguf"
    generator = random.Random(0)
    end = min(t.start for t in read_header(file).tensors.values())
    lengths = [0, 3, 4, 5, 23, 24, end, len(content) - 1, *(generator.randrange(end) for _ in range(120))]
    for length in lengths:
        cut.write_bytes(content[:length])
        with pytest.raises(UsageError, match=r"damaged|not a GGUF"):
            read_gguf_description(cut)


def test_a_flipped_byte_is_refused_or_harmless(file, tmp_path) -> None:
    content = bytearray(file.read_bytes())
    end = min(t.start for t in read_header(file).tensors.values())
    damaged = tmp_path / "damaged.gguf"
    generator = random.Random(1)
    refused = 0
    for _ in range(400):
        at = generator.randrange(end)
        kept, content[at] = content[at], content[at] ^ generator.choice([1, 0x80, 0xFF])
        damaged.write_bytes(content)
        content[at] = kept
        try:
            read_gguf_description(damaged)
        except UsageError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"llama.block_count": 900_000_000}, "says that there are 900000000"),
        ({"llama.embedding_length": 0}, "no usable number as 'llama.embedding_length'"),
        ({"llama.attention.head_count": [4, 4]}, "no usable number as 'llama.attention.head_count'"),
        ({"llama.attention.layer_norm_rms_epsilon": "small"}, "no usable number"),
        ({"llama.expert_count": 8}, "experts"),
        ({"llama.rope.scaling.type": "yarn"}, "'yarn'"),
        ({"llama.rope.dimension_count": 8}, "turns 8 of the 16"),
        ({"general.type": "adapter"}, "'adapter'"),
    ],
)
def test_what_cannot_be_exported_is_refused(more, problem, model, tmp_path) -> None:
    with pytest.raises(UsageError, match=problem):
        read_gguf_description(write_gguf(tmp_path / "model.gguf", model, "llama", more=more))


def test_other_architectures_and_versions_are_refused(file, model, tmp_path) -> None:
    other = tmp_path / "other.gguf"
    content = file.read_bytes()
    other.write_bytes(content.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0mamba", 1))
    with pytest.raises(UsageError, match="'mamba'"):
        read_gguf_description(other)
    other.write_bytes(content[:4] + b"\x01" + content[5:])
    with pytest.raises(UsageError, match="version 1"):
        read_gguf_description(other)
    other.write_bytes(content[:4] + b"\0\0\0\x03" + content[8:])
    with pytest.raises(UsageError, match="big-endian"):
        read_gguf_description(other)
    lacking = write_gguf(other, model, "llama", more={"llama.context_length": 0})
    other.write_bytes(lacking.read_bytes().replace(b"llama.context_length", b"llama.context_lengtX"))
    with pytest.raises(UsageError, match=r"lacks 'llama.context_length'"):
        read_gguf_description(other)
    with pytest.raises(EnvironmentFailure):
        read_gguf_description(tmp_path / "none.gguf")


def test_linear_scaling_of_old_files_is_read(model, tmp_path) -> None:
    found = read_gguf_description(
        write_gguf(tmp_path / "model.gguf", model, "llama", more={"llama.rope.scale_linear": 2.0})
    )
    assert found.config["rope_parameters"]["factor"] == 2.0


def test_gguf_checkpoints_are_found(tmp_path) -> None:
    first, second = tmp_path / "a.gguf", tmp_path / "b.gguf"
    assert find_gguf(first) is None
    assert find_gguf(tmp_path) is None
    first.touch()
    assert find_gguf(first) == find_gguf(tmp_path) == first
    second.touch()
    with pytest.raises(UsageError, match=r"2 GGUF files: a.gguf, b.gguf"):
        find_gguf(tmp_path)
    assert find_gguf(second) == second
    second.unlink()
    (tmp_path / "config.json").touch()  # as repositories of GGUF files have it
    assert find_gguf(tmp_path) == first
    (tmp_path / "model.safetensors").touch()
    assert find_gguf(tmp_path) is None
    assert find_gguf(first) == first


def test_parts_of_a_checkpoint_are_read_as_one(model, tmp_path) -> None:
    whole = write_gguf(tmp_path / "whole.gguf", model, "llama", more=tokenizer_metadata("gpt-2"))
    folder = tmp_path / "parts"
    folder.mkdir()
    parts = [folder / f"m-0000{i}-of-00002.gguf" for i in (1, 2)]
    _split(whole, parts)
    assert find_gguf(folder) == find_gguf(parts[1]) == parts[0]
    header, expected = read_header(parts[0]), read_header(whole)
    assert header.tensors.keys() == expected.tensors.keys()
    assert {tensor.file for tensor in header.tensors.values()} == set(parts)
    checkpoint = read_checkpoint(folder)
    assert checkpoint.weights == tuple(part.name for part in parts)
    assert set(parts) <= set(checkpoint.files())
    loaded = load_gguf_model(parts[0])
    for key, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value, rtol=0, atol=0)
    other = parts[1].rename(folder / "other")
    with pytest.raises(UsageError, match=r"one of 2 parts.*'m-00002-of-00002.gguf' is not beside it"):
        find_gguf(parts[0])
    parts[1].write_bytes(parts[0].read_bytes())
    with pytest.raises(UsageError, match="is not part 2 of"):
        read_header(parts[0])
    other.rename(parts[1])
    renamed = parts[0].rename(folder / "m.gguf")
    with pytest.raises(UsageError, match="has 2 parts; by its name there are 1"):
        read_header(renamed)


def _split(whole: Path, parts: list[Path]) -> None:
    """Write a file as the parts that llama-gguf-split makes of it."""
    reader = gguf.GGUFReader(whole)
    share = -(-len(reader.tensors) // len(parts))
    for number, part in enumerate(parts):
        writer = gguf.GGUFWriter(part, "llama")
        for name, field in reader.fields.items() if number == 0 else ():
            if not name.startswith("GGUF.") and name != "general.architecture":
                kind = field.types[0]
                writer.add_key_value(name, field.contents(), kind, field.types[-1] if len(field.types) > 1 else None)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", len(parts))
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for tensor in reader.tensors[number * share : (number + 1) * share]:
            writer.add_tensor(tensor.name, tensor.data)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def test_weights_beside_gguf_files_are_exported_with_a_note(tmp_path) -> None:
    save_decoder_checkpoint(tmp_path)
    (tmp_path / "b.gguf").touch()
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.gguf is None
    assert any("also has GGUF files (b.gguf), which were not read" in note for note in checkpoint.notes)


@pytest.mark.parametrize(
    ("tokens", "more", "ends"),
    [
        (["<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "a"], {}, [0, 1, 2]),
        (["<s>", "</s>", "<|im_end|>", "<|endoftext|>"], {}, [0, 1, 2, 3]),
        (["x", "<end_of_turn>", "_<EOT>", "<EOT>"], {}, [0, 1, 2, 3]),
        (["x", "a", "b", "c"], {"tokenizer.ggml.eot_token_id": 2, "tokenizer.ggml.eom_token_id": 3}, [0, 2, 3]),
        (["x", "a", "b", "c"], {}, 0),
        (["<|return|>", "<|call|>", "<|end|>", "c"], {}, [0, 1]),
        (["x", "<|tool_response>", "</s>", "<turn|>"], {}, [0, 1, 3]),
        (["x", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"], {"tokenizer.ggml.fim_pad_token_id": 3}, [0, 2, 3]),
    ],
)
def test_texts_end_where_llama_cpp_ends_them(tokens, more, ends, model, tmp_path) -> None:
    metadata = {**tokenizer_metadata("gpt-2"), "tokenizer.ggml.tokens": tokens, **more}
    found = read_gguf_description(write_gguf(tmp_path / "m.gguf", model, "llama", more=metadata))
    assert found.config["eos_token_id"] == found.generation["eos_token_id"] == ends


def test_advice_on_sampling_is_taken_or_named(model, tmp_path) -> None:
    keys = {"temp": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.05, "penalty_repeat": 1.1, "penalty_last_n": 64}
    more = {**tokenizer_metadata("gpt-2"), **{f"general.sampling.{k}": v for k, v in keys.items()}}
    found = read_gguf_description(write_gguf(tmp_path / "m.gguf", model, "llama", more=more))
    advice = {"temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.05, "repetition_penalty": 1.1}
    assert found.generation == {"eos_token_id": 0, **advice, "do_sample": True}
    (note,) = found.notes
    assert "general.sampling.penalty_last_n (64)" in note
    more |= {"general.sampling.temp": 0.0, "general.sampling.mirostat": 2, "general.sampling.top_p": 1.5}
    found = read_gguf_description(write_gguf(tmp_path / "n.gguf", model, "llama", more=more))
    assert found.generation == {"eos_token_id": 0, "repetition_penalty": 1.1}
    assert "mirostat (2)" in found.notes[0]
    assert "top_p (1.5)" in found.notes[0]


def test_keys_of_the_architecture_that_nobody_reads_are_named(model, tmp_path) -> None:
    silent = {"llama.vocab_size": 9, "llama.attention.causal": True, "llama.rope.scaling.finetuned": False}
    plain = {**tokenizer_metadata("gpt-2"), **silent}
    assert read_gguf_description(write_gguf(tmp_path / "m.gguf", model, "llama", more=plain)).notes == ()
    more = {"llama.attention.scale": 0.5, "llama.attention.causal": False, "llama.new_switch": "on"}
    (note,) = read_gguf_description(write_gguf(tmp_path / "n.gguf", model, "llama", more=plain | more)).notes
    assert "has llama.attention.causal (False), llama.attention.scale (0.5), llama.new_switch ('on'), which" in note


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("rope.dimension_count", "turns 8 of the 16 dimensions"),
        ("attention.value_length", "of 16 dimensions with values of 8"),
    ],
)
def test_heads_of_other_shapes_are_refused(key, words, model, tmp_path) -> None:
    more = {**tokenizer_metadata("gpt-2"), f"llama.{key}": 8}
    with pytest.raises(UsageError, match=words):
        read_gguf_description(write_gguf(tmp_path / "m.gguf", model, "llama", more=more))


def test_a_split_that_is_not_named_is_noted(model, tmp_path) -> None:
    more = {**tokenizer_metadata("gpt-2"), "tokenizer.ggml.pre": ""}
    found = read_gguf_description(write_gguf(tmp_path / "m.gguf", model, "llama", more=more))
    assert "does not say how its tokenizer splits" in found.notes[0]
