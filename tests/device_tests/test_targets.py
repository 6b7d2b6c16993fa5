"""Targets are found by the names that users write."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastserve_converters.formats import FORMATS
from fastserve_converters.lowerings import lowering_targets
from fastserve_device_tests.needs import Needs
from fastserve_device_tests.suite.compiling import compiler_versions
from fastserve_device_tests.targets import (
    COMPILE_ONLY,
    PROCESSORS,
    as_computed,
    chosen_targets,
    compiler_of,
    compiles,
    is_for,
    load_target,
    takes,
    target_names,
)
from fastserve_runtime.bundle.manifest import parse_variant
from fastserve_runtime.conformance.widths import HALF_ARITHMETIC, width_of
from fastserve_runtime.errors import UsageError
from fastserve_runtime.parsing import Fields
from manifests import variant

ON_THE_CPU = ["executorch:xnnpack", "onnx:cpu", "tflite:xnnpack"]


def test_the_built_in_targets_are_named_with_a_colon() -> None:
    assert {*ON_THE_CPU, "onnx:webgpu", "onnx:qnn-htp"} <= set(target_names())


@pytest.mark.parametrize("name", target_names())
def test_a_target_is_what_its_name_says(name: str) -> None:
    target = load_target(name)
    assert name == target.NAME
    assert name.partition(":")[0] == target.FORMAT
    assert target.FORMAT in FORMATS.built_in() or name in lowering_targets()
    assert target.PROCESSOR in PROCESSORS
    others = {"simulator", "software driver", "reference model", "browser", COMPILE_ONLY}
    assert target.EXECUTED_BY in {"hardware", *others}
    assert isinstance(target.needs(), Needs)


@pytest.mark.parametrize("name", [n for n in target_names() if compiles(load_target(n))])
def test_a_target_that_compiles_tells_by_what_and_for_which_precisions(name: str) -> None:
    target = compiler_of(load_target(name))
    assert target.COMPILED_BY
    assert target.PRECISIONS
    if not target.needs().missing():
        assert set(compiler_versions(target)) == set(target.COMPILED_BY)


def test_a_target_without_a_compiler_is_refused_as_one() -> None:
    assert not compiles(load_target("onnx:cpu"))
    with pytest.raises(UsageError, match="onnx:cpu has no compiler"):
        compiler_of(load_target("onnx:cpu"))


def test_a_portable_variant_is_for_all_targets_of_its_format_and_one_that_was_made_for_a_target_for_it_alone() -> None:
    portable = parse_variant(Fields(variant(), "the variant"))
    own = replace(portable, format="rknn", target="onnx:rk3588")
    names = ["onnx:cpu", "onnx:rk3588", "tflite:xnnpack"]
    assert [is_for(load_target(n), portable) for n in names] == [True, True, False]
    assert [is_for(load_target(n), own) for n in names] == [False, True, False]


def test_a_variant_is_judged_as_the_target_computes_it() -> None:
    portable = parse_variant(Fields(variant(format="onnx", precision="fp32"), "the variant"))
    assert as_computed(load_target("onnx:cpu"), portable) == portable
    assert width_of(as_computed(load_target("onnx:qnn-htp"), portable)) == HALF_ARITHMETIC
    own = replace(portable, target="onnx:qnn-htp", precision="int4")
    assert as_computed(load_target("onnx:qnn-htp"), own) == own


def test_a_target_takes_the_precisions_that_it_says() -> None:
    portable = parse_variant(Fields(variant(format="onnx", precision="fp32"), "the variant"))
    target = load_target("onnx:qnn-htp")
    assert takes(target, portable)
    assert not takes(target, replace(portable, precision="int4"))
    assert not takes(target, replace(portable, format="tflite"))
    assert takes(target, replace(portable, precision="int4", target=target.NAME))
    assert not takes(load_target("executorch:tosa"), replace(portable, target=target.NAME))


@pytest.mark.parametrize("name", ["onnx:gpu", "onnx-cpu", "onnx_cpu", "onnx", "", ":", "onnx:cpu:0", "os:path"])
def test_an_unknown_target_names_those_there_are_as_users_write_them(name: str) -> None:
    with pytest.raises(UsageError) as failure:
        load_target(name)
    assert f"'{name}'" in failure.value.problem
    assert f"There are: {', '.join(target_names())}; cpu, gpu, npu; all." in failure.value.remedy


def test_an_unknown_target_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'onnx:webgpu'"):
        load_target("onnx:web-gpu")


def test_targets_are_chosen_by_name_and_by_class_each_once() -> None:
    assert [t.NAME for t in chosen_targets(None)] == ON_THE_CPU
    assert {t.NAME for t in chosen_targets(["cpu"])} > set(ON_THE_CPU)
    twice = [t.NAME for t in chosen_targets(["tflite:xnnpack", "onnx:cpu", "tflite:xnnpack"])]
    assert twice == ["tflite:xnnpack", "onnx:cpu"]
    assert sorted(t.NAME for t in chosen_targets(["all", "gpu"])) == sorted(target_names())
    assert {t.PROCESSOR for t in chosen_targets(["gpu", "npu"])} == {"gpu", "npu"}
    assert chosen_targets([]) == []
