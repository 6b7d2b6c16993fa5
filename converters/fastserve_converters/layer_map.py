"""Which exported tensors belong to which torch module: what a search for a wrong layer needs."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

LAYER_MAP = "layer_map.json"
_CONTAINERS = {"ModuleList", "Sequential", "ModuleDict"}
_CLASS_AND_ATTRIBUTE = re.compile(r"[\w.<>]*\.[A-Z][A-Za-z0-9]*_(\w+)$")


def write_layer_map(folder: Path, tensors: Mapping[str, Iterable[str]]) -> None:
    """Write torch module name → names of exported tensors, beside the artifact."""
    document = {module: sorted(set(names)) for module, names in sorted(tensors.items())}
    (folder / LAYER_MAP).write_text(json.dumps(document, indent=1))


def innermost_module(scopes: Iterable[str], modules: Iterable[str]) -> str | None:
    """Return the last of the scopes that names a module, or None."""
    known = set(modules)
    inside = [scope for scope in scopes if scope in known]
    return inside[-1] if inside else None


class ModulePaths:
    """Finds torch modules from the class paths that LiteRT's converter writes into tensor names.

    Such a name is `pkg.Model_model/pkg.Encoder_encoder/pkg.Layer_5/torch.nn.modules.linear.Linear_dense;…`: one part a
    module, its class and its attribute, without the containers between (`encoder.layer.5`: `Encoder_encoder/Layer_5`).
    """

    def __init__(self, modules: Iterable[tuple[str, str]]) -> None:
        """Index the modules.

        Args:
            modules: name and class name of every module, as from `named_modules`.
        """
        listed = list(modules)
        containers = {name for name, kind in listed if kind in _CONTAINERS}
        self._by_path: dict[tuple[str, ...], str] = {}
        for name in (n for n, _ in listed if n not in containers):
            parts = name.split(".")
            kept = tuple(p for i, p in enumerate(parts) if ".".join(parts[: i + 1]) not in containers)
            self._by_path[kept] = name

    def find(self, tensor: str) -> str | None:
        """Return the module that a tensor name tells of, or None."""
        path = re.split(r";", tensor)[0].rstrip("/")
        # The root module has no attribute name, so its part holds a class alone and is passed over.
        attributes = [m.group(1) for part in path.split("/") if (m := _CLASS_AND_ATTRIBUTE.match(part))]
        while attributes:
            if tuple(attributes) in self._by_path:
                return self._by_path[tuple(attributes)]
            attributes.pop()
        return None


def group_by_module(pairs: Iterable[tuple[str | None, str]]) -> dict[str, list[str]]:
    """Collect (module or None, tensor) pairs; tensors of no module are left out."""
    grouped: dict[str, list[str]] = defaultdict(list)
    for module, tensor in pairs:
        if module is not None:
            grouped[module].append(tensor)
    return dict(grouped)
