"""Which versions a target computes with, asked in the process and the environment that it computes in."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastserve_device_tests.processes.target_child import ask_target
from fastserve_device_tests.targets import Target, is_for, load_target
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.errors import FastServeError
from fastserve_runtime.processes.answering import answer_requests
from fastserve_runtime.processes.child import ChildEnded

if TYPE_CHECKING:
    from fastserve_runtime.sessions.session import Tensors


def target_versions(bundle: Path, target: Target) -> dict[str, str]:
    """Return engine or package → version, of what checks a bundle's variants on a target; empty where nothing can."""
    needs = target.needs()
    if needs.missing():
        return {}
    request = {"bundle": str(bundle.absolute()), "target": target.NAME}
    try:
        found: dict[str, str] = ask_target(needs, "suite.versions", request)["versions"]
    except (ChildEnded, FastServeError):
        return {}
    return found


def versions_here(bundle: Path, target: Target) -> dict[str, str]:
    """Return the versions in this process: of the engines of the variants that the target takes, and of its packages.

    Imports no engine.
    """
    with open_bundle(bundle) as source:
        variants = [v for v in source.manifest.variants if is_for(target, v)]
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for variant in variants:
        try:
            engine = target.engine(variant)
            installed = engine.version()
        except FastServeError:  # its verdict tells
            continue
        if installed is not None:
            found[engine.NAME] = installed
    distributions = packages_distributions()
    for module in target.needs().modules:
        for distribution in distributions.get(module, ()):
            try:
                found[distribution] = version(distribution)
            except PackageNotFoundError:
                continue
    return dict(sorted(found.items()))


def answer(request: Mapping[str, Any], arrays: Tensors) -> tuple[dict[str, Any], Tensors]:  # noqa: ARG001 -- has none
    """Answer for one target."""
    return {"versions": versions_here(Path(request["bundle"]), load_target(request["target"]))}, {}


if __name__ == "__main__":
    sys.exit(answer_requests(answer))
