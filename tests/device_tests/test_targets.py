"""Targets are found by the names that users write."""

from __future__ import annotations

import pytest

from fastserve_converters.formats import FORMATS
from fastserve_device_tests.needs import Needs
from fastserve_device_tests.targets import PROCESSORS, chosen_targets, load_target, target_names
from fastserve_runtime.errors import UsageError

ON_THE_CPU = ["executorch:xnnpack", "onnx:cpu", "tflite:xnnpack"]


def test_the_built_in_targets_are_named_with_a_colon() -> None:
    assert {*ON_THE_CPU, "onnx:webgpu", "onnx:qnn-htp"} <= set(target_names())


@pytest.mark.parametrize("name", target_names())
def test_a_target_is_what_its_name_says(name: str) -> None:
    target = load_target(name)
    assert name == target.NAME
    assert name.partition(":")[0] == target.FORMAT
    assert target.FORMAT in FORMATS.built_in()
    assert target.PROCESSOR in PROCESSORS
    assert target.EXECUTED_BY in {"hardware", "simulator", "software driver", "reference model"}
    assert isinstance(target.needs(), Needs)


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
