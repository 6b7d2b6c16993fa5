"""Where things are kept between runs."""

from __future__ import annotations

from report import ROOT

EXPORTS = ROOT / "build" / "benchmarks"
"""The cache of our exports, which other benchmarks share."""

OWN = EXPORTS / "quantization"
"""Peers, texts, outputs and the classifier, of this benchmark alone."""

LOGS = OWN / "logs"
