"""Arm's VGF, graphs for GPUs with neural accelerators, on Arm's emulation of Vulkan's ML extensions by lavapipe.

Lavapipe is Mesa's Vulkan driver that computes on the CPU; the emulation layer gives it the extensions. Debian 12's
loader of Vulkan puts the layers in the wrong order, whatever one asks for; Chromium brings a newer one. Programs are
lowered by `export --target executorch:vgf`; one that is made for XNNPACK has nothing for it.
"""

from __future__ import annotations

import os
from pathlib import Path

from fastserve_device_tests.executors import executorch_vgf
from fastserve_device_tests.needs import Needs, first_that_exists
from fastserve_runtime.bundle.manifest import Variant
from fastserve_runtime.distributions import module_folder
from fastserve_runtime.sessions.session import Engine

NAME = "executorch:vgf"
PROCESSOR = "gpu"
EXECUTED_BY = "software driver"
FORMAT = "executorch"
BACKEND = executorch_vgf.BACKEND
PRECISIONS = {name: name for name in ("fp32", "int8-static")}
OWN_ARTIFACT = True

_LAYERS = "VK_LAYER_ML_Graph_Emulation:VK_LAYER_ML_Tensor_Emulation"


def needs() -> Needs:
    """Return Arm's packages and the driver."""
    driver = first_that_exists("/usr/share/vulkan/icd.d/lvp_icd.x86_64.json", "/usr/share/vulkan/icd.d/lvp_icd.json")
    layers = Path(module_folder("emulation_layer") or "-") / "deploy"
    converter = Path(module_folder("model_converter") or "-") / "binaries" / "bin" / "model-converter"
    loader = first_that_exists("/usr/lib/chromium/libvulkan.so.1")
    places = ("" if loader is None else str(loader.parent), str(layers / "lib"), os.environ.get("LD_LIBRARY_PATH"))
    return Needs(
        modules={
            "scenario_runner": executorch_vgf.INSTALL,
            "vgf_lib": executorch_vgf.INSTALL_LIBRARY,
            "emulation_layer": "pip install --no-deps ai-ml-emulation-layer-for-vulkan==0.11.0",
            "model_converter": "pip install --no-deps ai-ml-sdk-model-converter==0.11.0",
            "flatbuffers": "pip install flatbuffers",
        },
        files=(
            (driver, "the Vulkan driver lavapipe", "apt-get install mesa-vulkan-drivers"),
            (loader, "a new loader of Vulkan", "apt-get install chromium"),
        ),
        environment={
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, places)),
            "VK_LAYER_PATH": str(layers / "share" / "vulkan" / "explicit_layer.d"),
            "VK_INSTANCE_LAYERS": _LAYERS,
            "VK_DRIVER_FILES": str(driver),
            "VK_ICD_FILENAMES": str(driver),  # its name in older loaders of Vulkan
            "MODEL_CONVERTER_PATH": str(converter),
        },
    )


def engine(variant: Variant) -> Engine:  # noqa: ARG001 -- the same for every one
    """Return the scenario runner."""
    return executorch_vgf
