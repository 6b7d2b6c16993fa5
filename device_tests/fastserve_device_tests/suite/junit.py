"""Verdicts as JUnit XML, which CI systems show: a suite for each target, a case for each check of each variant.

The elements are those that pytest writes and that Jenkins and GitLab read
(https://github.com/testmoapp/junitxml describes them).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from xml.etree import ElementTree

from fastserve_runtime.conformance.verdict import Outcome, Verdict

NAME = "fastserve conform"
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 does not allow; an engine's message may have a terminal's escapes in it."""

Seconds = Mapping[tuple[str, str], float]
"""Variant and target → how long all its checks took."""


def junit_xml(verdicts: Sequence[Verdict], seconds: Seconds | None = None) -> bytes:
    """Return verdicts as one document.

    A verdict that is a failure becomes `failure` with the outcome as its type, a NOT_RUN becomes `skipped`, and figures
    become properties of the case. What is known of times is how long a variant took on a target: the suites have it.

    Args:
        verdicts: of all targets.
        seconds: how long each variant took on each target.
    """
    known = seconds or {}
    root = ElementTree.Element("testsuites", {"name": NAME, **_counts(verdicts), **_time(known.values())})
    for target in dict.fromkeys(v.target for v in verdicts):
        own = [v for v in verdicts if v.target == target]
        times = {variant: known[variant, of] for variant, of in known if of == target}
        attributes = {"name": _clean(target), **_counts(own), **_time(times.values())}
        suite = ElementTree.SubElement(root, "testsuite", attributes)
        _properties(suite, {f"seconds of {variant}": f"{value:.3f}" for variant, value in times.items()})
        seen: Counter[tuple[str, str]] = Counter()
        for verdict in own:
            seen[verdict.variant, verdict.check] += 1
            _case(suite, verdict, seen[verdict.variant, verdict.check])
    ElementTree.indent(root)
    content: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _case(suite: ElementTree.Element, verdict: Verdict, number: int) -> None:
    """Add a verdict; a check that looks at several outputs has one for each, told apart by its number."""
    name = verdict.check if number == 1 else f"{verdict.check} ({number})"
    group = f"{verdict.target}.{verdict.variant}"
    case = ElementTree.SubElement(suite, "testcase", classname=_clean(group), name=_clean(name))
    _properties(case, {key: _figure(value) for key, value in verdict.figures.items()})
    message = _clean(verdict.message)
    if verdict.outcome.is_failure:
        failure = ElementTree.SubElement(case, "failure", type=verdict.outcome.value, message=message)
        failure.text = _clean(verdict.detail)
    elif verdict.outcome is Outcome.NOT_RUN:
        ElementTree.SubElement(case, "skipped", message=message)
    elif message:
        ElementTree.SubElement(case, "system-out").text = message


def _properties(parent: ElementTree.Element, values: Mapping[str, str]) -> None:
    if values:
        properties = ElementTree.SubElement(parent, "properties")
        for key, value in values.items():
            ElementTree.SubElement(properties, "property", name=_clean(key), value=value)


def _counts(verdicts: Sequence[Verdict]) -> dict[str, str]:
    failures = sum(v.outcome.is_failure for v in verdicts)
    skipped = sum(v.outcome is Outcome.NOT_RUN for v in verdicts)
    return {"tests": str(len(verdicts)), "failures": str(failures), "errors": "0", "skipped": str(skipped)}


def _time(seconds: Iterable[float]) -> dict[str, str]:
    known = list(seconds)
    return {"time": f"{sum(known):.3f}"} if known else {}


def _figure(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else str(value)


def _clean(text: str) -> str:
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)
