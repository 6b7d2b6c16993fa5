"""The options by which pytest runs the conformance suite; `test_bundle` has the tests.

    pytest --pyargs fastserve_device_tests --fastserve-bundle BUNDLE --fastserve-target all

pytest loads this module in every run of an environment that FastServe is installed in, so it imports nothing of
FastServe and does nothing but add the options.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

BUNDLE = "fastserve_bundle"
TARGET = "fastserve_target"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("fastserve", "conformance of a FastServe bundle (--pyargs fastserve_device_tests)")
    group.addoption("--fastserve-bundle", dest=BUNDLE, metavar="BUNDLE", help="A bundle: its directory or .zip file.")
    group.addoption(
        "--fastserve-target",
        dest=TARGET,
        action="append",
        metavar="TARGET",
        help="Names such as onnx:webgpu, or cpu, gpu, npu, all; several with commas. What this machine's own "
        "processor executes if left out.",
    )
