"""Series of daily joint log returns, of spots and of 30-day at-the-money vols: the past that margins look at.

A file has a column `date` (ISO, ascending, every date once) and for every underlying X either `X` and `X_vol`, daily
log returns of its spot and of its vol, or `X_close` and `X_iv`, their levels, of which the returns are taken and the
first day is spent. CSV, or parquet where pyarrow is installed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
from eth_hash.backends.pysha3 import keccak256
from numpy.typing import NDArray


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


def load_returns(path: Path) -> Returns:
    """Read a series.

    Raises:
        ReturnsError: no such file, neither CSV nor parquet, a missing or unknown column, a date twice or out of order,
            a level that is not positive, a value that is no number.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ReturnsError(f"{path}: {error.strerror}") from None
    columns = _parquet(path, raw) if raw[:4] == b"PAR1" else _csv(path, raw)
    return _returns(path, columns)


def _csv(path: Path, raw: bytes) -> dict[str, list[str]]:
    try:
        rows = list(csv.reader(io.StringIO(raw.decode("utf-8"))))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ReturnsError(f"{path}: neither parquet nor CSV: {error}") from None
    if not rows or len(rows) < 2:
        raise ReturnsError(f"{path}: no rows")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise ReturnsError(f"{path}: line {number} has {len(row)} fields, the heading {len(rows[0])}")
    return {name.strip(): [row[i] for row in rows[1:]] for i, name in enumerate(rows[0])}


def _parquet(path: Path, raw: bytes) -> dict[str, list[str]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise ReturnsError(f"{path}: a parquet file wants pyarrow: pip install 'keeper[parquet]'") from None
    try:
        table = parquet.read_table(io.BytesIO(raw))
    except (OSError, ValueError) as error:
        raise ReturnsError(f"{path}: not readable as parquet: {error}") from None
    return {name: [str(value) for value in table[name].to_pylist()] for name in table.column_names}


def _returns(path: Path, columns: Mapping[str, list[str]]) -> Returns:
    if "date" not in columns:
        raise ReturnsError(f"{path}: no column date, there are {', '.join(columns)}")
    dates = [_date(path, text) for text in columns["date"]]
    for before, after in pairwise(dates):
        if after <= before:
            raise ReturnsError(f"{path}: date {after} after {before}: dates ascend, each once")
    values = {name: _numbers(path, name, texts) for name, texts in columns.items() if name != "date"}
    levels = any(name.endswith(("_close", "_iv")) for name in values)
    spot_end, vol_end = ("_close", "_iv") if levels else ("", "_vol")
    spots = [name for name in values if not name.endswith(vol_end)]
    underlyings = sorted(name.removesuffix(spot_end) if spot_end else name for name in spots)
    wanted = {u + end for u in underlyings for end in (spot_end, vol_end)}
    if not underlyings or wanted != set(values):
        odd = sorted(wanted ^ set(values)) or ["any underlying"]
        raise ReturnsError(f"{path}: missing or unknown columns: {', '.join(odd)}")
    spot = np.column_stack([values[u + spot_end] for u in underlyings])
    vol = np.column_stack([values[u + vol_end] for u in underlyings])
    if levels:
        for name, series in values.items():
            if not (series > 0).all():
                raise ReturnsError(f"{path}: {name} is {series[series <= 0][0]:g}: a level is positive")
        spot, vol, dates = np.diff(np.log(spot), axis=0), np.diff(np.log(vol), axis=0), dates[1:]
    return Returns(tuple(underlyings), tuple(dates), np.round(spot, 9), np.round(vol, 9))


def _date(path: Path, text: str) -> str:
    try:
        return date.fromisoformat(text.strip()[:10]).isoformat()
    except ValueError:
        raise ReturnsError(f"{path}: {text!r} is no date") from None


def _numbers(path: Path, name: str, texts: list[str]) -> NDArray[np.float64]:
    try:
        values = np.array([float(text) for text in texts])
    except ValueError as error:
        raise ReturnsError(f"{path}: {name}: {error}") from None
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ReturnsError(f"{path}: {name} of row {row + 1} is {texts[row]!r}")
    return values
