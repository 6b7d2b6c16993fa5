"""Where the command `fastserve` begins: a Ctrl-C while its libraries are imported ends it like a later one."""

from __future__ import annotations

from fastserve_runtime.processes.leaving import leave_on_ctrl_c


def main() -> None:
    """Run the command line."""
    leave_on_ctrl_c()
    from fastserve.cli import main as run

    run()
