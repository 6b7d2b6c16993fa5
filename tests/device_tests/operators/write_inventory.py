"""Exports small models of every family in every precision and writes down their operators; run as a script.

    python tests/device_tests/operators/write_inventory.py

It takes a quarter of an hour. The tests compare exports with `inventory.json`, and the cases of the sweeps with it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from device_tests.operators.exports import FORMATS, all_exports, exported
from device_tests.operators.signatures import SIGNATURES

INVENTORY = Path(__file__).with_name("inventory.json")


def operators_of_exports(format_name: str, folder: Path) -> set[str]:
    """Return the operators of everything that a format exports."""
    found: set[str] = set()
    for kind, name, precision in all_exports(format_name):
        found |= SIGNATURES[format_name](exported(format_name, kind, name, precision, folder))
    return found


def main() -> None:
    """Write the inventory of all formats."""
    with tempfile.TemporaryDirectory() as folder:
        document = {name: sorted(operators_of_exports(name, Path(folder))) for name in FORMATS}
    INVENTORY.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
