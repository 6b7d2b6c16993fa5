"""Passes as users write them."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve_converters.pass_words import asked_pass, parse_pass, parse_passes
from fastserve_converters.passes import PASSES, PassJob, PassReport
from fastserve_converters.recipe import Recipe
from fastserve_runtime.errors import UsageError


@dataclass(frozen=True)
class Shrink:
    """A pass with a setting of each kind."""

    keep: int
    by: float = 0.5
    is_fast: bool = False
    axis: Literal["width", "depth"] = "width"
    corpus: str = ""

    def check(self, checkpoint: object) -> None:
        """Take any."""

    def apply(self, job: PassJob) -> PassReport:
        """Do nothing."""
        return PassReport()


@pytest.fixture(autouse=True)
def _shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(PASS=Shrink, TOOLS=(), READS_SAMPLES=False)
    load = type(PASSES).load
    monkeypatch.setattr(
        type(PASSES), "load", lambda self, name: module if name == "shrink" else load(self, name), raising=True
    )


def test_settings_have_the_kinds_of_their_fields() -> None:
    asked = parse_pass("shrink:keep=3,by=0.25,is-fast=yes,axis=depth,corpus=my texts.txt")
    assert asked.settings == Shrink(3, 0.25, is_fast=True, axis="depth", corpus="my texts.txt")


def test_the_words_leave_out_what_is_usual() -> None:
    assert parse_pass("shrink:by=0.5,keep=3").words == "shrink:keep=3"
    assert parse_pass("shrink:is-fast=true,keep=3").words == "shrink:keep=3,is-fast=yes"


def test_an_id_shows_passes_in_their_order() -> None:
    passes = parse_passes(["shrink:keep=2,by=0.25", "drop-layers:keep=3"])
    words = Recipe("onnx", "fp32", passes=tuple(asked.words for asked in passes)).words
    assert words == "onnx-fp32-after-shrink-keep-2-by-0.25-after-drop-layers-keep-3"


@given(
    keep=st.integers(),
    by=st.floats(allow_nan=False),
    is_fast=st.booleans(),
    axis=st.sampled_from(["width", "depth"]),
    corpus=st.text(alphabet=st.characters(exclude_characters=",", codec="utf-8")),
)
def test_words_and_documents_say_the_same_pass_again(
    keep: int, by: float, is_fast: bool, axis: Literal["width", "depth"], corpus: str
) -> None:
    asked = asked_pass(
        {
            "name": "shrink",
            "settings": {"keep": keep, "by": by, "is-fast": is_fast, "axis": axis, "corpus": corpus},
        }
    )
    assert asked.settings == Shrink(keep, by, is_fast, axis, corpus)
    assert parse_pass(asked.words) == asked
    assert asked_pass(asked.as_document()) == asked


@pytest.mark.parametrize(
    ("words", "problem", "remedy"),
    [
        ("shrnk", "There is no pass 'shrnk'", "There are: "),
        ("drop-layer:keep=2", "There is no pass 'drop-layer'", "Did you mean 'drop-layers'?"),
        ("shrink", "needs the setting 'keep'", "Write shrink:keep=KEEP."),
        ("shrink:", "needs the setting 'keep'", "Write shrink:keep=KEEP."),
        ("shrink:keep", "'keep' is no setting of the pass 'shrink'", "Write shrink:setting=value."),
        ("shrink:keep=1,keep=2", "the setting 'keep' twice", "Give it once."),
        ("shrink:keep=1,width=2", "has no setting 'width'", "It has: keep, by, is-fast, axis, corpus."),
        ("shrink:keep=1.5", "The setting 'keep' of the pass 'shrink' is '1.5'", "It is a whole number."),
        ("shrink:keep=1,by=half", "is 'half'", "It is a number."),
        ("shrink:keep=1,is-fast=maybe", "is 'maybe'", "It is yes or no."),
        ("shrink:keep=1,axis=height", "is 'height'", "Write one of: width, depth."),
        ("drop-layers:keep=0", "was to keep 0 layers", "Keep at least 1."),
    ],
)
def test_what_is_not_understood_is_refused_by_name(words: str, problem: str, remedy: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse_pass(words)
    assert problem in refusal.value.problem
    assert remedy in (refusal.value.remedy or "")
