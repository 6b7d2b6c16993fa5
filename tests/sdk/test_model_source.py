"""Where a model comes from; the network is stood for by a function."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from fastserve.model_source import find_model
from fastserve_runtime.errors import EnvironmentFailure, FastServeError, UsageError


class Hub:
    """Stands for the hub: remembers what was asked for and answers with a folder or an error."""

    def __init__(self, answer: Path | BaseException) -> None:
        self.answer = answer
        self.calls: list[dict[str, Any]] = []

    def download(self, identifier: str, **settings: Any) -> str:
        self.calls.append({"identifier": identifier, **settings})
        if isinstance(self.answer, BaseException):
            raise self.answer
        return str(self.answer)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    hub = Hub(tmp_path / "snapshots" / "0123abc")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.download)
    return hub


def with_response(kind: type[HfHubHTTPError], status: int, message: str) -> HfHubHTTPError:
    return kind(message, response=SimpleNamespace(status_code=status, headers={}, request=None))


def test_a_directory_is_named_by_its_last_part_and_never_by_its_path(tmp_path: Path, hub: Hub) -> None:
    source = find_model(str(tmp_path / "my-model"))
    assert source.directory == tmp_path / "my-model"
    assert source.name == "my-model"
    assert source.revision is None
    assert hub.calls == []


@pytest.mark.parametrize("name", [".", "./", "sub/.."])
def test_a_relative_directory_is_named_as_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "my-model" / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "my-model")
    assert find_model(name).name == "my-model"


def test_the_home_directory_may_be_written_as_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_model("~/model").directory == tmp_path / "model"


def test_a_hub_name_is_downloaded_and_named_by_its_commit(hub: Hub) -> None:
    source = find_model("hf:org/model")
    assert source.directory == hub.answer
    assert (source.name, source.revision) == ("org/model", "0123abc")
    (call,) = hub.calls
    assert (call["identifier"], call["revision"]) == ("org/model", None)


@pytest.mark.parametrize(
    ("name", "identifier", "revision"),
    [("hf:model", "model", None), ("hf:a/b@main", "a/b", "main"), ("hf:a/b.c-d@refs/pr/1", "a/b.c-d", "refs/pr/1")],
)
def test_a_hub_name_may_have_a_revision(hub: Hub, name: str, identifier: str, revision: str | None) -> None:
    find_model(name)
    (call,) = hub.calls
    assert (call["identifier"], call["revision"]) == (identifier, revision)


@pytest.mark.parametrize("allow_pickle", [False, True])
def test_pickles_are_downloaded_only_where_they_are_allowed(hub: Hub, allow_pickle: bool) -> None:
    find_model("hf:org/model", allow_pickle=allow_pickle)
    patterns = hub.calls[0]["allow_patterns"]
    assert "*.safetensors" in patterns
    assert "LICENSE*" in patterns
    assert ("*.bin" in patterns) is allow_pickle


@pytest.mark.parametrize("name", ["hf:", "hf:a b", "hf:a/b/c", "hf:https://example.org/a", "hf:a/b@", "hf:/a"])
def test_what_is_no_hub_name_is_refused_without_asking_the_hub(hub: Hub, name: str) -> None:
    with pytest.raises(UsageError, match="is not a hub name") as failure:
        find_model(name)
    assert name in failure.value.problem
    assert hub.calls == []


@pytest.mark.parametrize(
    ("error", "kind", "part"),
    [
        (with_response(RepositoryNotFoundError, 404, "no"), UsageError, "no model 'org/model' that you may read"),
        (with_response(GatedRepoError, 403, "gated"), UsageError, "no model 'org/model' that you may read"),
        (with_response(RevisionNotFoundError, 404, "no"), UsageError, "has no revision 'v9'"),
        (HFValidationError("bad name"), UsageError, "is not a hub name: bad name"),
        (with_response(HfHubHTTPError, 500, "server error\nmore"), EnvironmentFailure, "the hub: server error"),
        (LocalEntryNotFoundError("offline"), EnvironmentFailure, "the hub: offline"),
        (OSError(28, "No space left on device"), EnvironmentFailure, "No space left on device"),
        (ConnectionError(), EnvironmentFailure, "the hub: ConnectionError"),
    ],
)
def test_what_the_hub_answers_with_becomes_a_clear_failure(
    hub: Hub, error: BaseException, kind: type[FastServeError], part: str
) -> None:
    hub.answer = error
    with pytest.raises(kind) as failure:
        find_model("hf:org/model@v9")
    assert part in failure.value.problem
    assert "\n" not in failure.value.problem


def test_a_missing_hub_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(EnvironmentFailure, match="huggingface_hub, which is not installed"):
        find_model("hf:org/model")
