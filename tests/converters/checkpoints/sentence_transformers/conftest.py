"""Folders of sentence-transformers, written by hand: their config files, without weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

OLD = "sentence_transformers.models."


@pytest.fixture
def sentence_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a folder from modules of (kind, folder, config) behind a Transformer, and other files by name."""

    def make(*modules: tuple[str, str, Any], files: dict[str, Any] | None = None, prefix: str = OLD) -> Path:
        everything = [("Transformer", "", None), *modules]
        listed = [{"idx": i, "name": str(i), "path": f, "type": prefix + k} for i, (k, f, _) in enumerate(everything)]
        (tmp_path / "modules.json").write_text(json.dumps(listed))
        for kind, folder, config in modules:
            (tmp_path / folder).mkdir(exist_ok=True)
            if config is not None:
                (tmp_path / folder / "config.json").write_text(json.dumps(config))
            if kind in ("Dense", "LayerNorm", "WeightedLayerPooling"):
                (tmp_path / folder / "model.safetensors").write_bytes(b"")
        for name, content in (files or {}).items():
            (tmp_path / name).write_text(json.dumps(content))
        return tmp_path

    return make
