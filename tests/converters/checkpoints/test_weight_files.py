"""The files that weights are read from are those that Transformers reads; others are named."""

from __future__ import annotations

import json

import pytest

from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_runtime.errors import UsageError

INDEX = "model.safetensors.index.json"
SHARDS = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
MAP = {"weight_map": {"a": SHARDS[1], "b": SHARDS[0], "c": SHARDS[1]}}


def test_an_index_names_the_files(folder) -> None:
    root = folder({INDEX: MAP, SHARDS[1]: "x", "model-00003-of-00003.safetensors": "x"}, weights=SHARDS[0])
    checkpoint = read_checkpoint(root)
    assert checkpoint.weights == tuple(SHARDS)
    assert checkpoint.notes == (
        "The checkpoint has more weights, which were not read: model-00003-of-00003.safetensors.",
    )


def test_parts_without_an_index_are_refused_since_nobody_would_find_them(folder) -> None:
    with pytest.raises(UsageError, match=rf"weights in '{SHARDS[0]}', and neither .* nor '{INDEX}'"):
        read_checkpoint(folder({SHARDS[1]: "x"}, weights=SHARDS[0]))


def test_a_pointer_of_git_lfs_is_not_taken_for_weights(folder) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 90\n"
    root = folder({"model.safetensors": pointer}, weights=None)
    with pytest.raises(UsageError, match=r"'model\.safetensors' is a pointer of Git LFS") as failure:
        read_checkpoint(root)
    assert "git lfs pull" in failure.value.remedy


def test_a_whole_file_goes_before_an_index(folder) -> None:
    assert read_checkpoint(folder({INDEX: MAP})).weights == ("model.safetensors",)


def test_a_part_that_is_missing_is_named(folder) -> None:
    with pytest.raises(UsageError, match=f"lacks '{SHARDS[1]}'"):
        read_checkpoint(folder({INDEX: MAP}, weights=SHARDS[0]))


@pytest.mark.parametrize("content", [[], {}, {"weight_map": {}}, {"weight_map": ["a"]}, {"weight_map": {"a": 1}}])
def test_an_index_that_says_nothing_is_refused(folder, content: object) -> None:
    with pytest.raises(UsageError, match="does not say which file"):
        read_checkpoint(folder({INDEX: json.dumps(content)}, weights=SHARDS[0]))


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "sub/model.safetensors"])
def test_an_index_names_no_files_elsewhere(folder, name: str) -> None:
    with pytest.raises(UsageError, match="is not beside it"):
        read_checkpoint(folder({INDEX: {"weight_map": {"a": name}}}, weights=SHARDS[0]))


def test_copies_for_other_frameworks_are_no_news(folder) -> None:
    root = folder({"pytorch_model.bin": "x", "tf_model.h5": "x", "flax_model.msgpack": "x", "optimizer.pt": "x"})
    assert read_checkpoint(root).notes == ()


def test_other_safetensors_are_named(folder) -> None:
    root = folder({"consolidated.safetensors": "x", "model.fp16.safetensors": "x"})
    assert read_checkpoint(root).notes == (
        "The checkpoint has more weights, which were not read: consolidated.safetensors, model.fp16.safetensors.",
    )
