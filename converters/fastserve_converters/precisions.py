"""How numbers are stored and multiplied in an artifact: the words that every format uses for it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from fastserve_runtime.conformance.widths import Width
from fastserve_runtime.errors import UsageError

Activations = Literal["float32", "float16", "dynamic-int8", "int8", "int16"]
"""What layers multiply with: floats, integers whose scale each call finds, or integers of a scale set beforehand."""

RangeMethod = Literal["min-max", "percentile", "mse"]
"""How the range of an activation is found on calibration data: from the least to the largest value (of
each sample, averaged, where the tool does so), without the outermost ten-thousandth of them, or where the squared error
of rounding is least."""
RANGE_METHODS: tuple[RangeMethod, ...] = get_args(RangeMethod)


@dataclass(frozen=True)
class WeightScheme:
    """How a layer's weight matrix is stored: as integers, with scales along its rows.

    A row is an output channel of a linear layer, or one entry of an embedding.

    Attributes:
        bits: of one integer, 8 or 4.
        group: so many neighbouring columns share a scale; None where the whole row does.
        symmetric: whether zero is in the middle; else there is a zero point beside each scale.
        scale: the type that scales are stored in.
        minimum: whether a real number of that type is added to each group, as some GGUF files have it.
        pair_limit: the most that the integers of two neighbouring columns, the first and the second, the third and the
            fourth, may add up to, whatever the sign; None for any. Scales are as much larger as that takes.
    """

    bits: int
    group: int | None = None
    symmetric: bool = True
    scale: Literal["float32", "float16", "bfloat16"] = "float32"
    minimum: bool = False
    pair_limit: int | None = None

    def as_document(self) -> dict[str, Any]:
        """Return its fields for a manifest; a limit that it does not have is left out."""
        return {name: value for name, value in asdict(self).items() if name != "pair_limit" or value is not None}

    @property
    def name(self) -> str:
        """The scheme in short, such as `int4-g32-asymmetric`."""
        group = "" if self.group is None else f"-g{self.group}"
        zero = "" if self.symmetric else "-asymmetric"
        pairs = "" if self.pair_limit is None else f"-pairs{self.pair_limit}"
        return f"int{self.bits}{group}{zero}{'-minimum' if self.minimum else ''}{pairs}"


INT8 = WeightScheme(8)


@dataclass(frozen=True)
class Choices:
    """The schemes that a mixed precision may give to each layer; None leaves a layer in float."""

    linear: tuple[WeightScheme | None, ...]
    embedding: tuple[WeightScheme | None, ...]


@dataclass(frozen=True)
class Precision:
    """One named way of storing and multiplying a model's numbers, as one format does it.

    Attributes:
        linear: the scheme of linear layers; None leaves them in float.
        embedding: the scheme of embeddings; likewise.
        activations: what layers multiply with.
        base: the precision whose artifact this one is made from, if any.
        has_dynamic_length: whether the graph takes any number of tokens up to its length, rather than just that many.
        rounding: `nearest`, or `gptq` (arXiv 2210.17323) where rounding to nearest loses too much; `source` keeps the
            integers that the checkpoint itself has.
        calibration: what the format makes of calibration data itself, in a few words for the recipe.
        choices: what the schemes of a mixed precision are chosen from, layer by layer; None where they are not.
        range_methods: how the format can find the ranges of activations; the first one where it lacks the wanted one.
        floats: as what the numbers are stored that are no integers.
    """

    linear: WeightScheme | None
    embedding: WeightScheme | None
    activations: Activations
    base: str | None = None
    has_dynamic_length: bool = False
    rounding: Literal["nearest", "gptq", "source"] = "nearest"
    calibration: str | None = None
    choices: Choices | None = None
    range_methods: tuple[RangeMethod, ...] = ("min-max",)
    floats: Literal["float32", "float16"] = "float32"

    @property
    def schemes(self) -> tuple[WeightScheme, ...]:
        """All that a weight of it may have."""
        own = (self.linear, self.embedding)
        may_have = own if self.choices is None else (*own, *self.choices.linear, *self.choices.embedding)
        return tuple(scheme for scheme in may_have if scheme is not None)

    @property
    def width(self) -> Width:
        """How exact it is: by whose limits its artifacts are judged, wherever they run.

        Raises:
            UsageError: it has weights that there are no limits for.
        """
        sizes = {scheme.bits for scheme in self.schemes}
        foreign = sizes - {8, 4}
        if foreign:
            raise UsageError(
                f"There are no limits to judge weights of {min(foreign)} bits by.", "Take a precision of 8 or 4 bits."
            )
        if 4 in sizes or self.rounding == "source":  # a checkpoint's own may be of 4 bits
            return "int4"
        if self.activations == "int16":
            return "int16"
        if sizes or self.has_static_ranges or self.activations == "dynamic-int8":
            return "int8"
        return "fp16" if "float16" in {self.floats, self.activations} else "fp32"

    @property
    def needs_calibration(self) -> bool:
        """Whether it looks at calibration data: to set the scales of activations, to round, or to choose."""
        return bool(self.calibration_uses)

    @property
    def can_do_without_calibration(self) -> bool:
        """Whether calibration data only makes it better."""
        return not self.has_static_ranges and self.rounding != "gptq" and self.choices is None

    def range_method(self, wanted: str) -> RangeMethod:
        """Return the method that is wanted where the format has it, else its first."""
        return next((method for method in self.range_methods if method == wanted), self.range_methods[0])

    @property
    def has_static_ranges(self) -> bool:
        """Whether the scales of activations are set beforehand."""
        return self.activations in {"int8", "int16"}

    @property
    def looks_at_samples(self) -> bool:
        """Whether its artifact's evidence comes from running it on a few inputs: wherever something is rounded."""
        return self.activations != "float32" or has_fake_quant_reference(self)

    @property
    def calibration_uses(self) -> tuple[str, ...]:
        """What calibration data is used for, in a few words each."""
        uses = {
            "ranges of activations": self.has_static_ranges,
            "GPTQ": self.rounding == "gptq",
            "sensitivity of layers": self.choices is not None,
            self.calibration or "": self.calibration is not None,
        }
        return tuple(use for use, is_made in uses.items() if is_made)


FP32 = Precision(linear=None, embedding=None, activations="float32")


def has_fake_quant_reference(precision_spec: Precision) -> bool:
    """Whether it has quantized weights, so that the same quantized model can be computed elsewhere."""
    return (
        precision_spec.choices is not None or precision_spec.linear is not None or precision_spec.embedding is not None
    )


def decoder_precisions(int8: WeightScheme, int4: WeightScheme, *tables: WeightScheme) -> dict[str, Precision]:
    """Return the precisions that formats have for decoders of text, each with schemes of its own.

    Args:
        int8: the scheme of 8 bits.
        int4: the scheme of 4 bits.
        tables: what a mixed precision may give to the embedding and the head.
    """
    mixed = Precision(None, None, "dynamic-int8", rounding="gptq", choices=Choices((int8, int4), tables))
    return {
        "fp32": FP32,
        "int8": Precision(int8, int8, "dynamic-int8"),
        "int4": Precision(int4, int4, "dynamic-int8", rounding="gptq"),
        "int4-embedding-int8": Precision(int4, int8, "dynamic-int8", rounding="gptq"),
        "mixed": mixed,
    }
