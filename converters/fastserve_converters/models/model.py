"""A model as all formats take it: named parts, each in one of two forms.

A *traced* part is a module that `torch.export` takes: an encoder, a vision model, any module. A *cached* part is
autoregressive: it sees one token after another, and the format decides how it attends and keeps its cache. A model of
texts alone has one part; one that reads an input once and then generates has a part of each form.

What is done with a part, such as scoring its layers, rounding them, or comparing an artifact, asks the part for what it
needs and not what kind of model it is of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from fastserve_converters.models.traced_part import TracedPart

if TYPE_CHECKING:
    from fastserve_converters.models.cached_part import CachedPart

__all__ = ["Form", "Model", "Part", "TracedPart"]

Form = Literal["traced", "cached"]

Part: TypeAlias = "TracedPart | CachedPart"
"""A part in either form."""


@dataclass(frozen=True)
class Model:
    """What is exported.

    Attributes:
        parts: by name, in the order in which they run.
    """

    parts: Mapping[str, Part]

    @property
    def only_part(self) -> Part:
        """The part of a model that has one."""
        (part,) = self.parts.values()
        return part
