"""Which kernel of a traced file gives which intermediate output of the program."""

from __future__ import annotations

from fastserve.bisecting.re_exporting import kernels_and_intermediates
from fastserve_converters.layer_map import IntermediateOutput, ProgramNode


def intermediates(*operators: str) -> list[IntermediateOutput]:
    return [IntermediateOutput(ProgramNode("", operator, 0), f"t{n}", operator) for n, operator in enumerate(operators)]


def test_kernels_are_paired_with_intermediates_of_their_kind_in_order() -> None:
    kernels = ["native_layer_norm.out", "mul.out", "native_layer_norm.out"]
    assert kernels_and_intermediates(kernels, intermediates("layer_norm", "linear", "layer_norm", "mul")) == {
        0: 0,
        2: 2,
        1: 3,
    }


def test_kinds_that_do_not_occur_equally_often_are_left_out() -> None:
    assert kernels_and_intermediates(["mul.out", "add.out"], intermediates("mul", "mul", "add")) == {1: 2}


def test_sums_may_come_in_another_order_and_are_left_out() -> None:
    assert kernels_and_intermediates(["sum.IntList_out"], intermediates("sum")) == {}
