"""The page on architecture shows the folders that there are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = {
    "fastserve": "sdk",
    "fastserve_converters": "converters",
    "fastserve_device_tests": "device_tests",
    "fastserve_runtime": "runtimes",
}


def test_every_folder_is_shown_in_its_room() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    picture = page.split("## Folders")[1].split("```")[1]
    shown: dict[str, set[str]] = {}
    for indent, name in re.findall(r"^( *)(\w+)/", picture, re.MULTILINE):
        if indent:
            shown[list(shown)[-1]].add(name)
        else:
            shown[name] = set()
    there = {
        package: {f.parent.name for f in (ROOT / room / package).glob("*/__init__.py")}
        for package, room in ROOMS.items()
    }
    assert shown == there
