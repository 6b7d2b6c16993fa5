import pytest

from fastserve_runtime.quantities import format_size, format_time


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (23_440_000, "23.4 MB"), (5_000_000_000, "5.0 GB")],
)
def test_sizes_are_written_in_a_unit_that_suits_them(size, expected):
    assert format_size(size) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(12.34, "12.3 s"), (1, "1.0 s"), (0.001, "1.0 ms"), (0.0053, "5.3 ms"), (0.000042, "42 µs")],
)
def test_times_are_written_in_a_unit_that_suits_them(seconds, expected):
    assert format_time(seconds) == expected
