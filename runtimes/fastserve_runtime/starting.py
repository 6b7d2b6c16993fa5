"""Where the command `fastserve-runtime` begins: a Ctrl-C while its libraries are imported ends it like a later one."""

from __future__ import annotations

from fastserve_runtime.processes.leaving import leave_on_ctrl_c


def main() -> int:
    """Run the command line and return its exit code."""
    leave_on_ctrl_c()
    from fastserve_runtime.cli import main as run

    return run()
