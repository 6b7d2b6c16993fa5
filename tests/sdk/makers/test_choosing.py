"""Which targets an export makes artifacts for, and in which precisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from fastserve.makers.choosing import chosen_for, portable_makers, target_makers
from fastserve.makers.for_target import CompilingMaker, LoweringMaker
from fastserve.makers.portable import PortableMaker
from fastserve_converters.formats.onnx import PRECISIONS as ONNX
from fastserve_converters.formats.tflite import PRECISIONS as TFLITE
from fastserve_device_tests.needs import Needs
from fastserve_device_tests.targets import load_target
from fastserve_runtime.errors import EnvironmentFailure, UsageError

PORTABLE = [PortableMaker("onnx", ONNX), PortableMaker("tflite", TFLITE)]
MISSING = Needs(modules={"no_such_module": "pip install it"})


@dataclass
class Compiling:
    """A target that compiles ONNX files."""

    NAME: str = "onnx:chip"
    FORMAT: str = "onnx"
    PRECISIONS: Mapping[str, str] | None = field(default_factory=lambda: {"fp32": "fp16", "a16w8": "a16w8"})
    own_needs: Needs = field(default_factory=Needs)

    def needs(self) -> Needs:
        return self.own_needs

    def compile_model(self) -> None:
        """Mark it as one that compiles."""


def maker_of(target: Any = None, *, is_named: bool = True) -> CompilingMaker:
    return CompilingMaker(target or Compiling(), ONNX, is_named=is_named)


@pytest.fixture
def chips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the targets be two chips, of which one lacks a package."""
    known = {"onnx:chip": Compiling(), "onnx:far": Compiling("onnx:far", own_needs=MISSING)}

    def chosen(words: tuple[str, ...]) -> list[Any]:
        return [t for n, t in known.items() if n in words or "npu" in words]

    monkeypatch.setattr("fastserve.makers.choosing.chosen_targets", chosen)


def test_a_compiler_takes_those_of_its_precisions_that_the_format_has() -> None:
    assert list(maker_of().precisions) == ["fp32", "a16w8"]
    fixed = [name for name, precision in ONNX.items() if precision.choices is None]
    assert list(maker_of(Compiling(PRECISIONS=None)).precisions) == fixed


def test_portable_bases_are_made_beside_what_was_wanted() -> None:
    alone, _ = chosen_for(PORTABLE, None)
    wanted, notes = chosen_for([*PORTABLE, maker_of()], None)
    assert wanted == {**alone, "onnx:chip": ("fp32",)}, "of the default precisions it takes one"
    assert notes == []
    made, _ = chosen_for([*PORTABLE, maker_of(Compiling(PRECISIONS={"a16w8": "a16w8"}))], None)
    assert "a16w8" in made["onnx"], "it takes none of the default ones, so all that it takes are made"
    assert "a16w8" not in made["tflite"]
    assert "fp32" in made["onnx"]


def test_a_target_that_takes_none_of_the_named_precisions_is_refused_if_it_was_named_itself() -> None:
    with pytest.raises(UsageError, match="onnx:chip takes none of the precisions") as failure:
        chosen_for([*PORTABLE, maker_of()], ("int8-dynamic",))
    assert failure.value.remedy == "It takes: fp32, a16w8."
    made, notes = chosen_for([*PORTABLE, maker_of(is_named=False)], ("int8-dynamic",))
    assert made == {"onnx": ("int8-dynamic",), "tflite": ("int8-dynamic",), "onnx:chip": ()}
    assert notes == ["onnx:chip has none of the precisions that were named."]


@pytest.mark.usefixtures("chips")
def test_what_a_named_target_lacks_is_an_error_and_of_a_class_a_note() -> None:
    (maker,), notes = target_makers(["onnx:chip"], PORTABLE, "traced")
    assert (maker.name, maker.format, maker.is_named, notes) == ("onnx:chip", "onnx", True, [])
    with pytest.raises(EnvironmentFailure, match="onnx:far lacks the package no_such_module"):
        target_makers(["onnx:far"], PORTABLE, "traced")
    (maker,), (note,) = target_makers(["npu"], PORTABLE, "traced")
    assert (maker.name, maker.is_named) == ("onnx:chip", False)
    assert note.startswith("Nothing was made for onnx:far: The target onnx:far lacks the package no_such_module.")


@pytest.mark.usefixtures("chips")
def test_the_format_that_a_compiler_takes_must_be_exported() -> None:
    with pytest.raises(UsageError, match="onnx:chip is made from onnx, which is not to be exported") as failure:
        target_makers(["onnx:chip"], PORTABLE[1:], "traced")
    assert failure.value.remedy == "Add it: --format tflite,onnx."
    makers, notes = target_makers(["npu"], PORTABLE[1:], "traced")
    assert makers == []
    assert len(notes) == 2


def test_a_target_that_takes_portable_files_needs_nothing_and_says_so_if_it_was_named() -> None:
    assert target_makers(["onnx:cpu"], PORTABLE, "traced") == (
        [],
        ["onnx:cpu needs no artifact of its own: it takes the portable onnx ones."],
    )
    assert target_makers(["cpu"], PORTABLE, "traced") == target_makers(None, PORTABLE, "traced") == ([], [])


def test_an_unknown_target_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'onnx:qnn-htp'"):
        target_makers(["onnx:qnn-http"], PORTABLE, "traced")


def test_an_empty_list_of_targets_is_no_choice() -> None:
    with pytest.raises(UsageError, match="No target was named"):
        target_makers([], PORTABLE, "traced")


@pytest.mark.usefixtures("chips")
def test_a_decoder_is_refused_by_the_part_that_takes_none_and_left_out_of_a_class() -> None:
    with pytest.raises(UsageError, match="The compiler for onnx:chip takes no cached part") as refusal:
        target_makers(["onnx:chip"], PORTABLE, "cached")
    assert refusal.value.remedy == "It takes traced parts, such as those of encoders."
    makers, notes = target_makers(["npu"], PORTABLE, "cached")
    assert makers == []
    assert [note.partition(":")[0] for note in notes] == ["Nothing was made for onnx", "Nothing was made for onnx"]


def test_a_compiler_that_takes_decoders_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class TakesBoth(Compiling):
        COMPILES_PARTS: tuple[str, ...] = ("traced", "cached")

    monkeypatch.setattr("fastserve.makers.choosing.chosen_targets", lambda _: [TakesBoth()])
    (maker,), notes = target_makers(["onnx:chip"], PORTABLE, "cached")
    assert (maker.name, maker.takes_parts, notes) == ("onnx:chip", ("traced", "cached"), [])


def test_a_lowering_says_which_parts_it_takes_before_it_is_looked_for() -> None:
    with pytest.raises(UsageError, match="The lowering for executorch:vulkan takes no cached part"):
        target_makers(["executorch:vulkan"], PORTABLE, "cached")


def test_a_target_of_portable_files_is_as_good_for_decoders() -> None:
    _, (note,) = target_makers(["onnx:cpu"], PORTABLE, "cached")
    assert note == "onnx:cpu needs no artifact of its own: it takes the portable onnx ones."


def test_a_format_takes_the_parts_that_it_has_precisions_for() -> None:
    assert all(maker.takes_parts == ("traced", "cached") for maker in PORTABLE)


def test_a_lowering_has_precisions_of_its_own() -> None:
    maker = LoweringMaker(load_target("onnx:cpu"))
    with pytest.raises(UsageError, match="There is no lowering 'onnx-cpu'"):
        _ = maker.precisions


def test_formats_come_in_the_order_that_was_named_and_the_quickest_first_otherwise() -> None:
    makers, notes = portable_makers(["tflite", "onnx", "tflite"], "traced")
    assert ([m.name for m in makers], notes) == (["tflite", "onnx"], [])
    makers, _ = portable_makers(None, "cached")
    assert makers[0].name == "onnx"
    assert "int4-embedding-int8" in makers[0].precisions
    with pytest.raises(UsageError, match="No format was named"):
        portable_makers([], "traced")
