"""Figures for people: as many digits as say something, never wider than sixteen characters, and tables of them."""

from __future__ import annotations

import math
from decimal import Decimal

from rich.table import Table

_WIDE = 1e12
_NO_CENTS = 1e9
_LEAST = 1e-10


def usd(value: float, sign: str = "") -> str:
    """An amount with two decimals; below 1 with three significant digits, from 1e9 without cents, then in powers."""
    return _figure(value, 3, sign)


def price(value: float) -> str:
    """A price with at least two decimals, and six significant digits."""
    return _figure(value, 6)


def whole(value: float) -> str:
    """An amount without cents, where it has a hundred or more."""
    return f"{value:,.0f}" if 100 <= abs(value) < _WIDE else usd(value)


def units(amount: int, decimals: int = 18, sign: str = "") -> str:
    """An integer scaled by 10**decimals with every digit it has."""
    text = f"{Decimal(amount).scaleb(-decimals):{sign},f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _figure(value: float, significant: int, sign: str = "") -> str:
    size = abs(value)
    if size and not _LEAST <= size < _WIDE:
        return f"{value:{sign}.{significant + 2}e}"
    if size >= _NO_CENTS:
        return f"{value:{sign},.0f}"
    places = significant - 1 - math.floor(math.log10(size)) if size else 2
    text = f"{value:{sign},.{max(2, places)}f}"
    least = text.index(".") + 3
    return text[:least] + text[least:].rstrip("0")


def table(*columns: str, texts: int = 1, title: str | None = None) -> Table:
    """A table whose first `texts` columns are words, wrapped where they must be; the others are figures, never cut."""
    made = Table(*columns, title=title, title_justify="left", box=None)
    for number, column in enumerate(made.columns):
        column.overflow = "fold"
        if number >= texts:
            column.justify, column.no_wrap = "right", True
    return made
