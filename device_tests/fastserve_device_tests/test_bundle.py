"""The conformance suite as tests for pytest: one for each variant and target, a subtest for each verdict.

pytest --pyargs fastserve_device_tests --fastserve-bundle BUNDLE --fastserve-target all
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fastserve_device_tests.pytest_plugin import BUNDLE, TARGET
from fastserve_device_tests.suite.suite import Pairing, check_pairing, pairings
from fastserve_runtime.cli.listed_words import listed_words
from fastserve_runtime.conformance.verdict import Outcome, Verdict
from fastserve_runtime.errors import FastServeError


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test for each variant and target that the options ask for; without a bundle, one that is skipped."""
    given = metafunc.config.getoption(BUNDLE, None)
    if given is None:
        none = pytest.param(None, None, marks=pytest.mark.skip(reason="no --fastserve-bundle was given"))
        metafunc.parametrize(("bundle", "pairing"), [none], ids=["no-bundle"])
        return
    bundle = metafunc.config.invocation_params.dir / given
    try:
        found = pairings(bundle, listed_words(metafunc.config.getoption(TARGET)))
    except FastServeError as error:
        raise pytest.Collector.CollectError(str(error)) from error
    ids = [f"{p.variant}-{p.target.NAME}" for p in found]
    metafunc.parametrize(("bundle", "pairing"), [(bundle, p) for p in found], ids=ids)


def test_variant_on_target(
    bundle: Path,
    pairing: Pairing,
    subtests: pytest.Subtests,
    record_property: Callable[[str, object], None],
) -> None:
    """Every check passes. What could not be checked here is skipped with the reason."""
    verdicts = check_pairing(bundle, pairing)
    if all(v.outcome is Outcome.NOT_RUN for v in verdicts):
        pytest.skip("; ".join(dict.fromkeys(v.message for v in verdicts)))
    for verdict in verdicts:
        for name, value in verdict.figures.items():
            record_property(f"{verdict.check}: {name}", value)
        with subtests.test(verdict.check):
            report(verdict)


def report(verdict: Verdict) -> None:
    """End a test as a verdict did."""
    if verdict.outcome is Outcome.NOT_RUN:
        pytest.skip(verdict.message)
    if verdict.outcome.is_failure:
        pytest.fail(f"{verdict.outcome.value}: {verdict.detail}", pytrace=False)
