"""Amounts as people write them, to the integers that contracts take: exactly, or refused."""

from __future__ import annotations

import re
from decimal import Decimal

from ._errors import BadArgument

Amount = int | str | Decimal
"""An integer counts the smallest unit; a decimal string or Decimal counts whole units: `1_000_000`, `"1"` and
`Decimal(1)` are one USDC."""

_DECIMAL = re.compile(r"([+-]?)([0-9]{1,60})(?:\.([0-9]{1,60}))?", re.ASCII)
_LIMIT = 2**128
"""Nothing in the protocol is as large."""


def exact(value: Amount, decimals: int, field: str, unit: str, *, signed: bool = False) -> int:
    """`value` in units of 10**-`decimals`.

    Raises:
        BadArgument: a float (0.1 has no exact value), an exponent, more decimals than there are, a sign that is not
            taken, zero, or 2**128 and more.
    """
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise BadArgument(field, value, "an integer of the smallest unit, or a decimal string of whole units", unit)
    units = value if isinstance(value, int) else _units(value, decimals, field, unit)
    if not 0 < abs(units) < _LIMIT:
        raise BadArgument(field, value, "more than zero and less than 2**128 of the smallest unit", unit)
    if units < 0 and not signed:
        raise BadArgument(field, value, "an amount above zero", unit)
    return units


def _units(value: str | Decimal, decimals: int, field: str, unit: str) -> int:
    text = value
    if isinstance(value, Decimal):
        exponent = value.as_tuple().exponent
        if not isinstance(exponent, int) or abs(exponent) > 60:
            raise BadArgument(field, str(value), "a finite number of at most 60 digits", unit)
        text = f"{value:f}"
    found = _DECIMAL.fullmatch(str(text))
    if found is None:
        raise BadArgument(field, value, "decimal digits with at most one point, like 1250.5", unit)
    sign, whole, fraction = found.group(1), found.group(2), (found.group(3) or "").rstrip("0")
    if len(fraction) > decimals:
        raise BadArgument(field, str(value), f"at most {decimals} decimals", unit)
    return int(sign + whole + fraction.ljust(decimals, "0"))
