"""Finding the layers of a shipped artifact whose output goes wrong.

Tensors inside the shipped file are read on the target and compared with the untouched model, each layer led by what the
artifact had before it. The device tests read, in the target's process; the converters compare, in the converter's
process; between them lie files, of which one sample is in memory at a time.
"""

from __future__ import annotations

from fastserve.bisecting.bisector import DEFAULT_SAMPLES, Bisector, bisect
from fastserve.bisecting.layer_judgement import Layer
from fastserve.bisecting.results import Bisection, Suspect

__all__ = ["DEFAULT_SAMPLES", "Bisection", "Bisector", "Layer", "Suspect", "bisect"]
