"""Identifiers, files and pages use the words of docs/glossary.md, and not others for the same."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("sdk", "converters", "runtimes", "device_tests", "tests", "benchmarks", "examples", "scripts")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GLOSSARY = ROOT / "docs" / "glossary.md"

PARTS = {
    **dict.fromkeys(("twin", "twins"), "fake_quant_reference"),
    **dict.fromkeys(("tap", "taps", "tapped"), "intermediate output"),
    **dict.fromkeys(("doubt", "doubts", "doubtful", "doubted"), "warnings"),
    **dict.fromkeys(("thought", "thoughts"), "log_probabilities"),
    "grid": "quantization parameters",
    "grids": "quantized weights",
    "least": "min",
    "most": "max",
    "restoration": "kept_in_float",
}
"""Parts of identifiers, and what is said instead."""
NAMES = {
    "edge_form": "exportable_model",
    "EdgeForm": "ExportableModel",
    "stand_in": "fallback",
    "integers": "quantized weights",
    "plan": "precision_spec",
    "Place": "ProgramNode",
    "program_places": "nodes_of_program",
    "Recent": "LruCache",
}
"""Identifiers, and what is said instead; `integers` and `plan` in the converters alone, where nothing else is meant."""
CONVERTERS_ALONE = {"integers", "plan", "Place"}
FOREIGN = {"most_common", "least_squares"}
"""Names of other people's libraries."""
PHRASES = (r"\bedge forms?\b", r"\btwins?\b", r"\btap(s|ped)?\b", r"\bdoubts\b", r"\bstand-in\b", r"\bthoughts\b")


def modules() -> Iterator[Path]:
    for room in ROOMS:
        yield from (p for p in sorted((ROOT / room).rglob("*.py")) if p != Path(__file__))


def parts_of(name: str) -> list[str]:
    return [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def old_words(name: str, *, in_converters: bool) -> Iterator[str]:
    """Yield what should be said instead of an identifier's words; a test's own name is a sentence."""
    if name in FOREIGN:
        return
    for old, new in NAMES.items():
        if (name == old or (old in {"edge_form", "EdgeForm"} and old in name)) and (
            in_converters or old not in CONVERTERS_ALONE
        ):
            yield new
    if in_converters and name != "integers" and "integers" in parts_of(name):
        yield NAMES["integers"]
    is_sentence = name.startswith(("test_", "Test"))
    yield from (
        new for old, new in PARTS.items() if old in parts_of(name) and not (is_sentence and old in {"least", "most"})
    )


@pytest.mark.parametrize("room", ROOMS)
def test_identifiers_use_the_glossarys_words(room: str) -> None:
    found = []
    for file in sorted((ROOT / room).rglob("*.py")):
        if file == Path(__file__):
            continue
        tokens = list(tokenize.generate_tokens(io.StringIO(file.read_text(encoding="utf-8")).readline))
        for before, token in zip([None, *tokens], tokens, strict=False):
            if token.type != tokenize.NAME or (
                token.string in {"integers", "plan"} and before and before.string == "."
            ):
                continue
            where = f"{file.relative_to(ROOT)}:{token.start[0]}: {token.string}"
            found += [f"{where}: say {new}" for new in old_words(token.string, in_converters=room == "converters")]
    assert not found, "\n".join(found[:40])


def test_files_are_called_by_the_glossarys_words() -> None:
    found = [str(file.relative_to(ROOT)) for file in modules() if list(old_words(file.stem, in_converters=True))]
    assert not found


@pytest.mark.parametrize("page", [p for p in PAGES if p != GLOSSARY], ids=lambda p: p.name)
def test_pages_use_the_glossarys_words(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not [m.group() for phrase in PHRASES for m in re.finditer(phrase, text)]


def test_comments_and_messages_use_the_glossarys_words() -> None:
    found = []
    for file in modules():
        for token in tokenize.generate_tokens(io.StringIO(file.read_text(encoding="utf-8")).readline):
            if token.type in {tokenize.COMMENT, tokenize.STRING}:
                found += [
                    f"{file.relative_to(ROOT)}:{token.start[0]}: {m.group()}"
                    for phrase in PHRASES
                    for m in re.finditer(phrase, token.string)
                ]
    assert not [f for f in found if "bundle/older_names.py" not in f and "test_older_names.py" not in f]
