"""Amounts as people write them, to the integers that contracts take: exactly, or refused."""

from __future__ import annotations

from decimal import Decimal

from keeper.state.exact import InexactError, literal, scaled

from ._errors import BadArgument

Amount = int | str | Decimal
"""An integer counts the smallest unit; a decimal string or Decimal counts whole units: `1_000_000`, `"1"` and
`Decimal(1)` are one USDC."""

USD = "USD"

_LIMIT = 2**128
"""Nothing in the protocol is as large."""


def exact(value: Amount, decimals: int, field: str, unit: str, *, signed: bool = False) -> int:
    """`value` in units of 10**-`decimals`.

    Raises:
        BadArgument: a float (0.1 has no exact value), more decimals than there are, a sign that is not taken, zero,
            or 2**128 and more.
    """
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise BadArgument(field, value, "an integer of the smallest unit, or a decimal string of whole units", unit)
    try:
        number = literal(value) if isinstance(value, str) else value
        units = scaled(number, 0 if isinstance(value, int) else decimals, _LIMIT)
    except InexactError as error:
        raise BadArgument(field, value, str(error).removeprefix("wanted "), unit) from None
    if not units or (units < 0 and not signed):
        raise BadArgument(field, value, "an amount other than zero" if signed else "an amount above zero", unit)
    return units
