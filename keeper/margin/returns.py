"""Series of daily joint log returns, of spots and of 30-day at-the-money vols: the past that margins look at.

A file has a column `date` (2026-12-25, ascending, every date once) and for every underlying X either `X` and `X_vol`,
daily log returns of its spot and of its vol, or `X_close` and `X_iv`, their levels, of which the returns are taken and
the first day is spent. Returns are kept to 1e-9 and lie within ±10. CSV, or parquet where pyarrow is installed.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
from eth_hash.backends.pysha3 import keccak256
from numpy.typing import NDArray

from keeper.state.documents import DocumentError, read_bytes, text_of
from keeper.state.exact import InexactError, double, joined, literal, shown
from keeper.state.ids import IdError, perpetual

_LARGEST_RETURN = 10.0
_DATE = re.compile(r"^(\d{4}-\d{2}-\d{2})([T ]00:00(:00(\.0+)?)?(Z|\+00:00)?)?$", re.ASCII)


class ReturnsError(ValueError):
    """A series that cannot be used; the message names the file, the column and the value."""


@dataclass(frozen=True, slots=True, eq=False)
class Returns:
    """`spot[t, u]` and `vol[t, u]`: log returns of day t, ascending in time, of `underlyings[u]` (sorted)."""

    underlyings: tuple[str, ...]
    dates: tuple[str, ...]
    spot: NDArray[np.float64]
    vol: NDArray[np.float64]

    @property
    def days(self) -> int:
        return len(self.dates)

    @property
    def digest(self) -> bytes:
        """keccak-256 of the series as CSV, rounded to 1e-9: the same for one series in any file format."""
        return keccak256(self.to_csv().encode("ascii"))

    def to_csv(self) -> str:
        lines = [",".join(["date", *(f"{u}{kind}" for u in self.underlyings for kind in ("", "_vol"))])]
        for row, day in enumerate(self.dates):
            values = (x for u in range(len(self.underlyings)) for x in (self.spot[row, u], self.vol[row, u]))
            lines.append(",".join([day, *(f"{value + 0.0:.9f}" for value in values)]))
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class _Column:
    """What a file has under one heading, as text, and where each value stands: a line of CSV, a row of parquet."""

    texts: list[str]
    places: list[str]


def load_returns(path: Path) -> Returns:
    """Read a series.

    Raises:
        ReturnsError: no such file, neither CSV nor parquet, a column that is missing, unknown or there twice, a date
            twice or out of order, a level that is not positive, a value that is no number or is out of bounds.
    """
    try:
        raw = read_bytes(path)
        columns = _parquet(raw) if raw[:4] == b"PAR1" else _csv(text_of(raw))
        return _returns(columns)
    except (DocumentError, ReturnsError) as error:
        raise ReturnsError(f"{path}: {error}") from None


def _csv(text: str) -> dict[str, _Column]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if any(cells):
                rows.append((reader.line_num, cells))
    except csv.Error as error:
        raise ReturnsError(f"line {reader.line_num}: no CSV: {error}") from None
    if len(rows) < 2:
        raise ReturnsError("no rows: wanted a heading and a line for each day")
    heading = rows[0][1]
    if len(heading) == 1 and (other := next((each for each in ";\t|" if each in heading[0]), None)):
        raise ReturnsError(f"line {rows[0][0]}: fields are parted by {shown(other)}, wanted commas")
    _check_headings(heading)
    for line, row in rows[1:]:
        if len(row) != len(heading):
            raise ReturnsError(f"line {line} has {len(row)} fields, the heading {len(heading)}")
    places = [f"line {line}" for line, _ in rows[1:]]
    return {name: _Column([row[i] for _, row in rows[1:]], places) for i, name in enumerate(heading)}


def _parquet(raw: bytes) -> dict[str, _Column]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise ReturnsError("a parquet file wants pyarrow: pip install 'keeper[parquet]'") from None
    try:
        table = parquet.read_table(io.BytesIO(raw))
    except (OSError, ValueError) as error:
        raise ReturnsError(f"not readable as parquet: {' '.join(str(error).split())[:200]}") from None
    _check_headings(table.column_names)
    places = [f"row {number}" for number in range(1, table.num_rows + 1)]
    return {
        name: _Column(["" if value is None else str(value) for value in table[name].to_pylist()], places)
        for name in table.column_names
    }


def _check_headings(names: list[str]) -> None:
    for number, name in enumerate(names):
        if name in names[:number]:
            raise ReturnsError(f"column {shown(name)} is there twice, wanted once")


def _returns(columns: Mapping[str, _Column]) -> Returns:
    if "date" not in columns:
        raise ReturnsError(f"no column date, there are {_listed(columns)}")
    dates = _dates(columns["date"])
    values = {name: _numbers(name, column) for name, column in columns.items() if name != "date"}
    levels = any(name.endswith(("_close", "_iv")) for name in values)
    spot_end, vol_end = ("_close", "_iv") if levels else ("", "_vol")
    spots = [name for name in values if not name.endswith(vol_end)]
    underlyings = sorted(name.removesuffix(spot_end) if spot_end else name for name in spots)
    wanted = {u + end for u in underlyings for end in (spot_end, vol_end)}
    if not underlyings or wanted != set(values):
        odd = sorted(wanted ^ set(values)) or ["any underlying"]
        raise ReturnsError(f"missing or unknown columns: {_listed(odd)}")
    for name in underlyings:
        try:
            perpetual(name)
        except IdError as error:
            raise ReturnsError(f"column {shown(name + spot_end)}: {error}") from None
    if levels:
        if len(dates) < 2:
            raise ReturnsError("one day of levels: wanted two or more, a return is between two")
        values = {name: _between(name, series, columns[name]) for name, series in values.items()}
        dates = dates[1:]
    for name, series in values.items():
        places = columns[name].places[1:] if levels else columns[name].places
        if len(far := np.flatnonzero(np.abs(series) > _LARGEST_RETURN)):
            at = int(far[0])
            raise ReturnsError(f"{places[at]}, {name}: a log return of {series[at]:g}, wanted -10 to 10")
    spot = np.column_stack([values[u + spot_end] for u in underlyings])
    vol = np.column_stack([values[u + vol_end] for u in underlyings])
    return Returns(tuple(underlyings), tuple(dates), np.round(spot, 9), np.round(vol, 9))


def _between(name: str, series: NDArray[np.float64], column: _Column) -> NDArray[np.float64]:
    """The log returns of levels."""
    if len(low := np.flatnonzero(series <= 0)):
        at = int(low[0])
        raise ReturnsError(f"{column.places[at]}, {name}: {series[at]:g}, a level is positive")
    return np.asarray(np.diff(np.log(series)), dtype=np.float64)


def _dates(column: _Column) -> list[str]:
    dates: list[str] = []
    for text, place in zip(column.texts, column.places, strict=True):
        try:
            dates.append(date.fromisoformat(_DATE.sub(r"\1", text)).isoformat())
        except ValueError:
            raise ReturnsError(f"{place}: {shown(text)} is no date: wanted like 2026-12-25") from None
    for number, (before, after) in enumerate(pairwise(dates), start=1):
        if after <= before:
            raise ReturnsError(f"{column.places[number]}: date {after} after {before}: dates ascend, each once")
    return dates


def _numbers(name: str, column: _Column) -> NDArray[np.float64]:
    values: list[float] = []
    for text, place in zip(column.texts, column.places, strict=True):
        try:
            values.append(double(literal(text)))
        except InexactError as error:
            got = shown(text) if text else "empty"
            raise ReturnsError(f"{place}, {joined('', name)}: {got}, {error}") from None
    return np.array(values)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(joined("", name) for name in islice(names, 10))
