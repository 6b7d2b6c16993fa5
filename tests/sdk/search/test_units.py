"""Sizes, times and qualities as people write them."""

from __future__ import annotations

import math
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastserve.search.units import parse_quality, parse_size, parse_time
from fastserve_runtime.errors import UsageError
from fastserve_runtime.quantities import format_size, format_time

PARSERS = [parse_size, parse_time, parse_quality]
SIZE_UNITS = {"B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("25000000", 25_000_000),
        ("25MB", 25_000_000),
        ("25 mb", 25_000_000),
        ("  25M ", 25_000_000),
        ("3G", 3_000_000_000),
        ("24MiB", 24 * 2**20),
        ("1.5GB", 1_500_000_000),
        (".5kB", 500),
        ("2.K", 2000),
        ("1e3", 1000),
        ("1e-3GB", 1_000_000),
        ("2GiB", 2 * 2**30),
        ("7B", 7),
    ],
)
def test_sizes_are_read(text: str, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30ms", 0.03),
        ("0.03s", 0.03),
        ("2 S", 2),
        ("1.5min", 90),
        ("5us", 5e-6),
        ("5\u00b5s", 5e-6),
        ("5\u03bcs", 5e-6),
        ("7ns", 7e-9),
    ],
)
def test_times_are_read(text: str, expected: float) -> None:
    assert parse_time(text) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("text", "expected"), [("0.99", 0.99), ("1", 1), ("99%", 0.99), (" 99.5 % ", 0.995)])
def test_qualities_are_read(text: str, expected: float) -> None:
    assert parse_quality(text) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "text", ["", " ", "MB", "25 apples", "-5MB", "25MBs", "0x10", "1e", "nan", "inf", "1,5MB", "5ms"]
)
def test_nonsense_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size") as failure:
        parse_size(text)
    assert f"'{text}'" in failure.value.problem


@pytest.mark.parametrize("text", ["0", "0MB", "0.0GiB", "1e-400", "1e400", "1e308GB", "9" * 400])
def test_a_size_that_nothing_can_have_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="nothing can fit that") as failure:
        parse_size(text)
    assert f"'{text}'" in failure.value.problem


@pytest.mark.parametrize("text", ["0.4", ".5", "0.0001KB"])
def test_less_than_a_byte_is_refused_rather_than_taken_as_no_limit(text: str) -> None:
    with pytest.raises(UsageError, match="less than a byte") as failure:
        parse_size(text)
    assert f"'{text}'" in failure.value.problem


@pytest.mark.parametrize("text", ["30", "0.03", "30MB", "ms", "-1s", "soon", "1h"])
def test_nonsense_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match="is not a time") as failure:
        parse_time(text)
    assert f"'{text}'" in failure.value.problem


@pytest.mark.parametrize("text", ["0s", "1e-400s", "1e400s"])
def test_a_time_that_nothing_can_take_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="nothing can fit that"):
        parse_time(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-0.5",
        "1.01",
        "101%",
        "0%",
        "nan",
        "nan%",
        "inf",
        "%",
        "50%%",
        "good",
        "0.9.9",
        "1_0%",
        "\uff19\uff19%",
    ],
)
def test_nonsense_is_no_quality(text: str) -> None:
    with pytest.raises(UsageError, match="is not a quality") as failure:
        parse_quality(text)
    assert f"'{text}'" in failure.value.problem


@given(st.integers(1, 2**53))
def test_whole_bytes_are_read_exactly(size: int) -> None:
    assert parse_size(str(size)) == size
    assert parse_size(f"{size} B") == size


@given(st.integers(1, 10**6), st.sampled_from(sorted(SIZE_UNITS)), st.booleans())
def test_every_unit_multiplies(count: int, unit: str, upper: bool) -> None:
    assert parse_size(f"{count}{unit.upper() if upper else unit}") == count * SIZE_UNITS[unit]


@given(st.integers(1, 10**15))
def test_a_written_size_reads_as_what_it_was_to_the_last_digit_shown(size: int) -> None:
    last_digit = 1 if size < 1000 else 0.1 * max(f for f in (1e3, 1e6, 1e9) if size >= f)
    assert abs(parse_size(format_size(size)) - size) <= last_digit / 2 + 1


@given(st.floats(1e-6, 1e6))
def test_a_written_time_reads_as_what_it_was_to_the_last_digit_shown(seconds: float) -> None:
    last_digit = 0.1 if seconds >= 1 else 1e-4 if seconds >= 1e-3 else 1e-6
    assert abs(parse_time(format_time(seconds)) - seconds) <= last_digit / 2 * (1 + 1e-9) + seconds * 1e-12


@given(st.sampled_from(PARSERS), st.text(st.characters(exclude_categories=["Nd"]), max_size=20))
def test_a_text_without_a_digit_is_refused_by_name(parse, text: str) -> None:
    with pytest.raises(UsageError) as failure:
        parse(text)
    assert f"'{text}'" in failure.value.problem
    assert failure.value.remedy


@settings(max_examples=300)
@given(st.sampled_from(PARSERS), st.text(string.digits + ".e+-% _µμSMBKGIsmbkgiun\t", max_size=12))
def test_what_looks_like_a_quantity_is_a_usable_number_or_refused_by_name(parse, text: str) -> None:
    value = refused = None
    try:
        value = parse(text)
    except UsageError as error:
        refused = error.problem
    if refused is not None:
        assert f"'{text}'" in refused
    else:
        assert 0 < value < math.inf
        assert parse is not parse_size or isinstance(value, int)
        assert parse is not parse_quality or value <= 1


@given(st.integers(1, 999), st.text(string.ascii_letters, min_size=1, max_size=6))
def test_an_unknown_unit_is_refused_by_name(count: int, unit: str) -> None:
    if unit.upper() in {"B", "KB", "MB", "GB", "K", "M", "G", "KIB", "MIB", "GIB"}:
        assert parse_size(f"{count}{unit}") >= count
        return
    with pytest.raises(UsageError) as failure:
        parse_size(f"{count}{unit}")
    assert f"'{count}{unit}'" in failure.value.problem
