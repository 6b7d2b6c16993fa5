"""Parquet, by pyarrow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fastserve_converters.data.table import Table, Value, as_value, unreadable
from fastserve_runtime.errors import EnvironmentFailure, one_line


def read(file: Path) -> Table:
    """Read a Parquet file; of its columns, only those that are asked for.

    Raises:
        UsageError: it is no Parquet, or bytes in a column are not UTF-8.
        EnvironmentFailure: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise EnvironmentFailure(
            f"The data file '{file.name}' is Parquet, which needs pyarrow.", "Install it, or save the data as CSV."
        ) from error
    try:
        with ParquetFile(file) as opened:
            names = tuple(opened.schema_arrow.names)
            count = opened.metadata.num_rows
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise unreadable(file, "Parquet", one_line(error)) from error

    def values_of(column: int) -> Sequence[Value]:
        try:
            with ParquetFile(file) as opened:
                found = opened.read(columns=[names[column]]).column(names[column]).to_pylist()
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise unreadable(file, "Parquet", one_line(error)) from error
        values: list[Value] = []
        for row, value in enumerate(found, 1):
            try:
                values.append(as_value(value))
            except UnicodeDecodeError as error:
                reason = f"the bytes of the column '{names[column]}' are not UTF-8 in row {row}"
                raise unreadable(file, "Parquet", reason) from error
        return values

    return Table(file, tuple(name.strip() for name in names), "row", range(1, count + 1), values_of)
