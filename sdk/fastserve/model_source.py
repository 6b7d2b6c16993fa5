"""Where a model comes from: a directory, or the Hugging Face Hub when it is named as `hf:organisation/name`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from fastserve_converters.formats import installation_hint
from fastserve_converters.programs.archive import SUFFIX
from fastserve_runtime.errors import EnvironmentFailure, UsageError

HUB_PREFIX = "hf:"
_HUB_ID = re.compile(r"([\w.-]+/)?[\w.-]+(@[\w./-]+)?")
# Weights in the formats that are read, configs, tokenizers, licences and cards; not the copies for other frameworks.
_WANTED = [
    "*.json",
    "*.txt",
    "*.model",
    "*.safetensors",
    "LICENSE*",
    "LICENCE*",
    "README.md",
    "*/config.json",
    "*.jinja",
]
_PICKLES = ["*.bin"]
_CODE = ["*.py"]


@dataclass(frozen=True)
class ModelSource:
    """A checkpoint on this machine.

    Attributes:
        directory: where it is; a GGUF file for a checkpoint that is one.
        name: the hub id, or the name of the directory or file; goes into the manifest, so it is never a path.
        revision: the hub's commit, or None.
    """

    directory: Path
    name: str
    revision: str | None


def is_program(model: str) -> bool:
    """Whether what the user named is a program of `torch.export`, by its ending."""
    return Path(model).suffix == SUFFIX


def find_model(model: str, *, allow_pickle: bool = False, trust_remote_code: bool = False) -> ModelSource:
    """Resolve what the user named. The network is used for `hf:` names only.

    Raises:
        UsageError: the name is not a hub id, or the hub has no such model.
        EnvironmentFailure: the hub cannot be reached.
    """
    if not model.startswith(HUB_PREFIX):
        directory = Path(model).expanduser()
        resolved = directory.resolve()
        return ModelSource(directory, resolved.stem if resolved.suffix in {".gguf", ".pt2"} else resolved.name, None)
    name = model.removeprefix(HUB_PREFIX)
    if not _HUB_ID.fullmatch(name):
        raise UsageError(
            f"'{model}' is not a hub name.", "Write hf:organisation/name or hf:organisation/name@revision."
        )
    identifier, _, revision = name.partition("@")
    patterns = _WANTED + (_PICKLES if allow_pickle else []) + (_CODE if trust_remote_code else [])
    return _download(identifier, revision or None, patterns)


def _download(identifier: str, revision: str | None, patterns: list[str]) -> ModelSource:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError as error:
        raise EnvironmentFailure(
            "Models on the hub need the package huggingface_hub, which is not installed.",
            f"Install a converter: {installation_hint('onnx')}.",
        ) from error
    try:
        folder = Path(snapshot_download(identifier, revision=revision, allow_patterns=patterns))
    except HFValidationError as error:
        raise UsageError(f"'{HUB_PREFIX}{identifier}' is not a hub name: {_first_line(error)}") from error
    except RepositoryNotFoundError as error:
        raise UsageError(f"The hub has no model '{identifier}' that you may read.", "Check the name.") from error
    except RevisionNotFoundError as error:
        raise UsageError(f"The hub's model '{identifier}' has no revision '{revision}'.", "Check the name.") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise EnvironmentFailure(
            f"The model '{identifier}' cannot be downloaded from the hub: {_first_line(error)}",
            "Check the network, or download it elsewhere and name its directory.",
        ) from error
    # A snapshot's folder is named by its commit.
    return ModelSource(folder, identifier, folder.name)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
