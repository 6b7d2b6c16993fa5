"""What a cache holds is told as it is, and what was not used for longest goes first."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastserve.cache.cache import Cache
from fastserve.cache.contents import KeptEntry, kept_entries, remove_entries, superfluous
from fastserve.cache.records import ENTRY
from fastserve.progress import SilentReporter

KEY = {"job": {"format": "onnx", "precision": "int4"}, "source": {"task": "feature-extraction"}}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """Three entries of 1000, 2000 and 3000 bytes, used one after the other."""
    with Cache(tmp_path / "cache") as cache:
        for number in (1, 2, 3):
            made = cache.make("artifact", {**KEY, "number": number}, lambda folder, n=number: fill(folder, n * 1000))
            os.utime(made.folder / ENTRY, (number * 1000, number * 1000))
    return cache


def fill(folder: Path, size: int) -> None:
    (folder / "model.onnx").write_bytes(bytes(size))


def test_entries_are_told_those_used_last_first(cache: Cache) -> None:
    entries = kept_entries(cache)
    assert [round(e.bytes, -3) // 1000 for e in entries] in ([3, 2, 1], [4, 3, 2])
    assert {(e.stage, e.about, e.is_damaged) for e in entries} == {("artifact", "feature-extraction onnx int4", False)}
    document = entries[0].as_document()
    assert document["last_used"] == "1970-01-01T00:50:00+00:00"
    assert document["key"] == entries[0].folder.name
    assert kept_entries(Cache(cache.root / "nowhere")) == []


def test_using_an_entry_makes_it_the_last_used(cache: Cache) -> None:
    with cache:
        assert cache.find("artifact", {**KEY, "number": 1}) is not None
    assert kept_entries(cache)[0].bytes < 2000


def test_a_damaged_record_is_told_and_goes_first(cache: Cache) -> None:
    damaged = kept_entries(cache)[0].folder
    (damaged / ENTRY).write_text("{")
    entries = kept_entries(cache)
    assert [e.folder for e in entries if e.is_damaged] == [damaged]
    assert [e.folder for e in superfluous(entries, max_bytes=10**9)] == [damaged]


def entry(number: int, size: int, used: float, *, damaged: bool = False) -> KeptEntry:
    return KeptEntry("artifact", f"{number:064x}", Path("x"), size, None if damaged else 1.0, used, "")


@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 20), st.booleans()), max_size=8),
    st.none() | st.integers(0, 300),
    st.none() | st.integers(1, 20),
)
def test_what_stays_fits_and_nothing_goes_needlessly(made, max_bytes: int | None, max_age: int | None) -> None:
    entries = [entry(n, size, used, damaged=d) for n, (size, used, d) in enumerate(made)]
    going = superfluous(entries, max_bytes=max_bytes, max_age=max_age, now=20)
    staying = [e for e in entries if e not in going]
    assert not any(e.is_damaged for e in staying)
    assert max_age is None or all(e.used >= 20 - max_age for e in staying)
    if max_bytes is not None:
        total = sum(e.bytes for e in staying)
        assert total <= max_bytes
    needless = [e for e in going if not e.is_damaged and (max_age is None or e.used >= 20 - max_age)]
    if needless:
        # The last one to go was too much, and nothing that stays was used before it.
        assert max_bytes is not None
        assert sum(e.bytes for e in staying) + needless[-1].bytes > max_bytes
        assert all(e.used >= needless[-1].used for e in staying)


def test_removed_entries_are_gone_and_those_in_use_stay(cache: Cache) -> None:
    entries = kept_entries(cache)
    with Cache(cache.root) as running:
        used = running.find("artifact", {**KEY, "number": 2})
        assert used is not None
        gone, kept = remove_entries(cache, entries, SilentReporter())
        assert [e.folder for e in kept] == [used.folder]
        assert (used.folder / "model.onnx").stat().st_size == 2000
    cache.close()
    assert [e.folder for e in kept_entries(cache)] == [used.folder]
    assert not any(e.folder.exists() for e in gone)


def test_an_entry_that_goes_meanwhile_counts_as_gone(cache: Cache) -> None:
    entries = kept_entries(cache)
    missing = replace(entries[0], folder=entries[0].folder.with_name("0" * 64))
    assert remove_entries(cache, [missing], SilentReporter()) == ([missing], [])
