from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from fastserve_runtime.errors import UsageError
from fastserve_runtime.loading import load
from fastserve_runtime.serving.models import check_served, model_name, opened_models
from manifests import text_bundle, write_directory


@pytest.mark.parametrize(
    ("bundle", "name"),
    [
        ("my-model.fsb", "my-model"),
        ("some/where/my-model.fsb/", "my-model"),
        ("my-model.fsb.zip", "my-model"),
        ("v1.2.fsb", "v1.2"),
        ("plain", "plain"),
    ],
)
def test_a_model_is_named_by_its_bundle(bundle, name) -> None:
    assert model_name(Path(bundle)) == name


def test_bundles_are_opened_and_closed(tmp_path) -> None:
    bundles = [write_directory(tmp_path / f"{name}.fsb", *text_bundle()) for name in ("one", "two")]
    with opened_models(bundles, load, waiting=1) as models:
        assert [(model.name, model.task) for model in models] == [
            ("one", "feature-extraction"),
            ("two", "feature-extraction"),
        ]
        pipeline = models[0].pipeline
        assert pipeline("a").shape == (4,)
    with pytest.raises(UsageError, match="closed"):
        pipeline("a")


def test_what_cannot_be_served_is_refused_and_all_is_closed(tmp_path, monkeypatch) -> None:
    good = write_directory(tmp_path / "good.fsb", *text_bundle())
    opened = []

    def remembered(bundle):
        opened.append(load(bundle))
        return opened[-1]

    other = write_directory(tmp_path / "other.fsb", *text_bundle("last_hidden_state"))
    with pytest.raises(UsageError, match="hidden states"), opened_models([good, other], remembered, waiting=1):
        pass
    monkeypatch.delattr("fastserve_runtime.pipelines.tensor_to_tensor.ROUTE")
    with pytest.raises(UsageError, match=r"of the task tensor-to-tensor; only .*feature-extraction.* are served"):
        check_served("tensors", SimpleNamespace(task="tensor-to-tensor"))
    for pipeline in opened:
        with pytest.raises(UsageError, match="closed"):
            pipeline("a")


def test_two_bundles_of_one_name_are_refused(tmp_path) -> None:
    with (
        pytest.raises(UsageError, match="'same'"),
        opened_models([tmp_path / "a" / "same.fsb", tmp_path / "b" / "same.fsb.zip"], load, waiting=1),
    ):
        pass
