"""Putting what a shipped file has in another way into another export."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from fastserve.bisecting.transplanting import transplanted


def noise(seed: int, count: int = 400) -> bytes:
    return random.Random(seed).randbytes(count)


def changed(content: bytes, start: int, end: int) -> bytes:
    return content[:start] + bytes(255 - b for b in content[start:end]) + content[end:]


def test_a_changed_constant_takes_its_place_in_a_file_of_another_order() -> None:
    first, second = noise(1), noise(2)
    fresh, other = first + second, b"head" + second + b"between" + first
    wrong = changed(first, 100, 140)
    found = transplanted(wrong + second, fresh, other)
    assert found is not None
    assert found.content == b"head" + second + b"between" + wrong
    assert (found.stretches, found.missing) == (1, 0)


def test_neighbours_that_were_both_changed_are_parted() -> None:
    first, second = noise(1), noise(2)
    fresh, other = first + second, second + b"between" + first
    wrong_first, wrong_second = changed(first, 0, 400), changed(second, 0, 400)
    found = transplanted(wrong_first + wrong_second, fresh, other)
    assert found is not None
    assert found.content == wrong_second + b"between" + wrong_first


def test_what_has_no_certain_place_is_counted() -> None:
    fresh = bytes(400) + noise(3)
    found = transplanted(b"\1" * 20 + fresh[20:], fresh, bytes(800))
    assert found is not None
    assert found.content == bytes(800)
    assert found.missing == 1


def test_files_of_other_lengths_are_not_compared() -> None:
    assert transplanted(b"ab", b"abc", b"abc") is None


@given(st.integers(0, 300), st.integers(1, 99))
def test_a_file_that_is_changed_anywhere_is_the_shipped_one_where_the_other_is_the_fresh_one(
    start: int, length: int
) -> None:
    fresh = noise(4)
    shipped = changed(fresh, start, start + length)
    found = transplanted(shipped, fresh, fresh)
    assert found is not None
    assert found.content == shipped
