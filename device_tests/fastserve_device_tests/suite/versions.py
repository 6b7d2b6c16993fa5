"""Which versions a target computes with, asked in the process and the environment that it computes in.

    python -m fastserve_device_tests.suite.versions BUNDLE TARGET

Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

from fastserve_device_tests.processes.limited_process import begin_answer, run_module
from fastserve_device_tests.targets import Target, is_for, load_target
from fastserve_runtime.bundle.reader import open_bundle
from fastserve_runtime.errors import FastServeError


def target_versions(bundle: Path, target: Target) -> dict[str, str]:
    """Return engine or package → version, of what checks a bundle's variants on a target; empty where nothing can."""
    needs = target.needs()
    if needs.missing():
        return {}
    ended = run_module(needs, "suite.versions", str(bundle), target.NAME)
    try:
        found: dict[str, str] = json.loads(ended.output)
    except ValueError:
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


def main(arguments: list[str]) -> None:
    """Answer for one target."""
    answer = begin_answer()
    location, target = arguments
    answer.write(json.dumps(versions_here(Path(location), load_target(target))))
    answer.close()


if __name__ == "__main__":
    main(sys.argv[1:])
