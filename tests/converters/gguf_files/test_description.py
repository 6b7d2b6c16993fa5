"""What GGUF files say of themselves, and that damage is told as such."""

from __future__ import annotations

import random

import pytest

from fastserve_converters.gguf_files.description import read_gguf_description
from fastserve_converters.gguf_files.finding import find_gguf
from fastserve_converters.gguf_files.header import read_header
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
    (tmp_path / "config.json").touch()
    assert find_gguf(tmp_path) is None
    assert find_gguf(second) == second


def test_parts_of_checkpoints_are_refused(tmp_path) -> None:
    for part in (1, 2):
        (tmp_path / f"model-0000{part}-of-00002.gguf").touch()
    with pytest.raises(UsageError, match="one of 2 parts"):
        find_gguf(tmp_path)
    with pytest.raises(UsageError, match="one of 2 parts"):
        find_gguf(tmp_path / "model-00002-of-00002.gguf")
    whole = tmp_path / "model-00001-of-00001.gguf"
    whole.touch()
    assert find_gguf(whole) == whole
