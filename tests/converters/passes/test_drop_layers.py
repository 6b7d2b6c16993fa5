"""The pass `drop-layers`: what it writes is what Transformers computes with the layers that are kept."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from checkpoints import save_checkpoint
from fastserve_converters.checkpoints.checkpoint import Checkpoint
from fastserve_converters.checkpoints.reading import read_checkpoint
from fastserve_converters.passes import PassJob
from fastserve_converters.passes.drop_layers import DropLayers, evenly_spaced
from fastserve_runtime.errors import UsageError

TEXTS = ["a sentence", "another one, which is longer"]


def dropped(checkpoint: Checkpoint, keep: int, out: Path) -> Path:
    out.mkdir()
    DropLayers(keep).apply(PassJob(checkpoint, (), 32, 0, out))
    return out


@pytest.mark.parametrize(("family", "place"), [("bert", "encoder.layer"), ("distilbert", "transformer.layer")])
def test_transformers_loads_what_the_kept_layers_compute(tmp_path: Path, family: str, place: str) -> None:
    folder = save_checkpoint(tmp_path / "model", family, layers=4, classify=True)
    made = dropped(read_checkpoint(folder), 2, tmp_path / "made")
    auto = transformers.AutoModelForSequenceClassification
    small, report = auto.from_pretrained(made, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    original = auto.from_pretrained(folder)
    layers = original.base_model.get_submodule(place)
    original.base_model.set_submodule(place, torch.nn.ModuleList([layers[0], layers[3]]))
    given = transformers.AutoTokenizer.from_pretrained(made)(TEXTS, padding=True, return_tensors="pt")
    given.pop("token_type_ids", None)
    with torch.inference_mode():
        assert torch.equal(small(**given).logits, original(**given).logits)


def test_everything_else_stays(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "model", layers=3, sentence=True)
    made = dropped(read_checkpoint(folder), 1, tmp_path / "made")
    names = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}
    assert {f.relative_to(made).as_posix() for f in made.rglob("*") if f.is_file()} == names
    before, after = (json.loads((f / "config.json").read_text()) for f in (folder, made))
    assert after == before | {"num_hidden_layers": 1}
    for name in names - {"config.json", "model.safetensors"}:
        assert (made / name).read_bytes() == (folder / name).read_bytes()


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "model", layers=3, sentence=True)
    one, two = (dropped(read_checkpoint(folder), 2, tmp_path / name) for name in ("one", "two"))
    assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()


@given(st.integers(1, 48).flatmap(lambda count: st.tuples(st.just(count), st.integers(1, count))))
def test_kept_layers_are_evenly_spaced(sizes: tuple[int, int]) -> None:
    count, keep = sizes
    kept = evenly_spaced(count, keep)
    assert len(set(kept)) == keep
    assert kept == sorted(kept)
    assert kept[0] == 0
    assert keep == 1 or kept[-1] == count - 1
    distances = {after - before for before, after in itertools.pairwise(kept)}
    assert not distances or max(distances) - min(distances) <= 1


@pytest.mark.parametrize(
    ("family", "keep", "problem"),
    [("bert", 3, "was to keep 3 layers, and the model has 2"), ("albert", 1, "ALBERT models share their weights")],
)
def test_models_that_it_does_not_take(tmp_path: Path, family: str, keep: int, problem: str) -> None:
    checkpoint = read_checkpoint(save_checkpoint(tmp_path / "model", family))
    with pytest.raises(UsageError, match=problem):
        DropLayers(keep).check(checkpoint)
