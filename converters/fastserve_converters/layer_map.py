"""Which exported tensors belong to which torch module, and which hold what the torch program computes.

A search for a wrong layer reads the second: an intermediate output is a tensor of the
file with the node of the torch program that gives the same values. A node is named by its module, its operator and the
number of the call, since a program's own names change with the version of PyTorch.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

LAYER_MAP = "layer_map.json"
_CONTAINERS = {"ModuleList", "Sequential", "ModuleDict"}
_CLASS_AND_ATTRIBUTE = re.compile(r"[\w.<>]*\.[A-Z][A-Za-z0-9]*_(\w+)$")


@dataclass(frozen=True, order=True)
class ProgramNode:
    """An operator of a torch program.

    Attributes:
        module: the innermost torch module that it is in; empty for the model itself.
        operator: PyTorch's name for it, such as `linear`, without overload.
        call: which one of that name in that module, from 0.
    """

    module: str
    operator: str
    call: int

    def __str__(self) -> str:
        return f"{self.module or '(model)'}: {self.operator}" + (f" {self.call + 1}" if self.call else "")


@dataclass(frozen=True)
class IntermediateOutput:
    """A tensor of an exported file that holds what an operator of the torch program gives.

    Attributes:
        program_node: the operator in the torch program.
        tensor: the tensor's name in the file.
        exported: what the file calls the operator that gives it.
        factor: what the file's values are multiplied with, where the exporter scaled them.
    """

    program_node: ProgramNode
    tensor: str
    exported: str
    factor: float = 1.0

    def as_document(self) -> dict[str, Any]:
        """Return it as JSON; `intermediate_of` reads it back."""
        program_node = self.program_node
        return {
            "module": program_node.module,
            "operator": program_node.operator,
            "call": program_node.call,
            "tensor": self.tensor,
            "exported": self.exported,
            "factor": self.factor,
        }


def intermediate_of(document: Mapping[str, Any]) -> IntermediateOutput:
    """Read an intermediate output."""
    program_node = ProgramNode(document["module"], document["operator"], document["call"])
    return IntermediateOutput(program_node, document["tensor"], document["exported"], document["factor"])


def write_layer_map(
    folder: Path, tensors: Mapping[str, Iterable[str]], intermediates: Iterable[IntermediateOutput] = ()
) -> None:
    """Write the layer map beside the artifact.

    Args:
        folder: the artifact's.
        tensors: torch module name → names of exported tensors that belong to it.
        intermediates: what can be compared with the torch program, in its order.
    """
    modules = {module: sorted(set(names)) for module, names in sorted(tensors.items())}
    document = {"modules": modules, "intermediates": [intermediate.as_document() for intermediate in intermediates]}
    (folder / LAYER_MAP).write_text(json.dumps(document, indent=1))


def read_modules(folder: Path) -> dict[str, list[str]]:
    """Return torch module name → names of exported tensors, from the layer map beside an artifact."""
    modules: dict[str, list[str]] = json.loads((folder / LAYER_MAP).read_text())["modules"]
    return modules


def read_intermediates(folder: Path) -> list[IntermediateOutput]:
    """Return the intermediate outputs of the layer map beside an artifact."""
    return [intermediate_of(document) for document in json.loads((folder / LAYER_MAP).read_text())["intermediates"]]


def kept_intermediates(
    intermediates: Iterable[IntermediateOutput], exported: Mapping[str, str]
) -> list[IntermediateOutput]:
    """Return those whose tensors a later form of the file still has, with the operators that give them there.

    Args:
        intermediates: of the earlier form.
        exported: tensor → operator, of the later one.
    """
    return [
        replace(intermediate, exported=exported[intermediate.tensor])
        for intermediate in intermediates
        if intermediate.tensor in exported
    ]


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
