"""Placement is read from ONNX Runtime's profile; what is missing is told with the command that installs it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from fastserve_device_tests.executors.onnx_plugin_provider import PluginProvider, nodes_of_providers
from fastserve_runtime.errors import EnvironmentFailure

CPU, GPU = "CPUExecutionProvider", "WebGpuExecutionProvider"


def node(name: str, provider: str, category: str = "Node") -> dict[str, Any]:
    return {"cat": category, "name": name, "args": {"provider": provider, "op_name": "Add"}}


def test_each_node_counts_once_however_often_it_ran() -> None:
    events = [node("add_kernel_time", GPU), node("mul_kernel_time", GPU), node("cast_kernel_time", CPU)]
    assert nodes_of_providers(events * 3) == {GPU: 2, CPU: 1}


def test_nodes_of_the_same_name_in_two_providers_are_two() -> None:
    assert nodes_of_providers([node("add_kernel_time", GPU), node("add_kernel_time", CPU)]) == {GPU: 1, CPU: 1}


def test_only_the_run_of_a_nodes_kernel_counts() -> None:
    events = [
        node("add_fence_before", GPU),
        node("add_fence_after", GPU),
        node("add_kernel_time", GPU, category="Session"),
        {"cat": "Session", "name": "model_run", "args": {}},
        {"cat": "Node", "name": "add_fence_before", "args": {"op_name": "Add"}},
        {"name": "process_name", "ph": "M"},
    ]
    assert nodes_of_providers(events) == {}


def test_nothing_ran_gives_nothing() -> None:
    assert nodes_of_providers([]) == {}


@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="ONNX Runtime is not installed")
def test_a_package_that_is_not_there_names_the_command_that_installs_it() -> None:
    engine = PluginProvider("ONNX Runtime on nothing", "NoExecutionProvider", "a_module_that_nobody_made", "pip it")
    with pytest.raises(EnvironmentFailure, match="ONNX Runtime on nothing cannot be loaded") as failure:
        engine.import_library()
    assert failure.value.remedy == "pip it"
