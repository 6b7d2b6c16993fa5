"""A model as all formats take it: named parts, each in one of two forms.

A *traced* part is a module that `torch.export` takes: an encoder, a vision model, any module. A *cached* part is
autoregressive: it sees one token after another, and the format decides how it attends and keeps its cache. A model of
texts alone has one part; one that reads an input once and then generates has a part of each form.

What is done with a part, such as scoring its layers, rounding them, or comparing an artifact, asks the part for what it
needs and not what kind of model it is of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from fastserve_converters.models.traced_part import TracedPart
from fastserve_runtime.errors import UsageError

if TYPE_CHECKING:
    from fastserve_converters.models.cached_part import CachedPart

__all__ = ["TRACED_ALONE", "Form", "Model", "Part", "TracedPart", "check_takes"]

Form = Literal["traced", "cached"]

TRACED_ALONE: tuple[Form, ...] = ("traced",)
"""What is taken by whatever needs a torch program."""

_MEANING: Mapping[Form, str] = {
    "traced": "it is one torch program",
    "cached": "it generates with a cache of keys and values, which each format keeps in a way of its own",
}
_FOUND_IN: Mapping[Form, str] = {"traced": "encoders", "cached": "decoders of text"}

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


def check_takes(what: str, taken: Sequence[Form], form: Form) -> None:
    """Refuse a part in a form that something does not take.

    Args:
        what: what it is, for the message: `The target onnx:qnn-htp`.
        taken: the forms that it takes.
        form: the part's.

    Raises:
        UsageError: the part's form is none of them.
    """
    if form not in taken:
        raise UsageError(
            f"{what} takes no {form} part, and the model's is one: {_MEANING[form]}.",
            f"It takes {' and '.join(f'{each} parts, such as those of {_FOUND_IN[each]}' for each in taken)}.",
        )
