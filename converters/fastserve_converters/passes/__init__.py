"""Passes: steps that change the model before it is exported, such as distilling or pruning; none is built in yet.

Third parties add theirs by the entry-point group `fastserve.passes`. A pass is a frozen dataclass of settings with a
method `apply(model, checkpoint) -> model`; a recipe lists them in order.
"""

from fastserve_runtime.plugins import PartFolder

PASSES = PartFolder("fastserve_converters.passes", "fastserve.passes", "pass")
