"""What a bundle's manifest must say for its task: one module a task, by the task's name.

They stand apart from the pipelines, which need numpy, since looking at a bundle needs nothing but the standard library.
A task of another package offers `check_manifest` in its pipeline's module instead.
"""

from __future__ import annotations

from fastserve_runtime.plugins import PartFolder

TASK_MANIFESTS = PartFolder("fastserve_runtime.bundle.task_manifests", "fastserve_runtime.task_manifests", "task")
