"""Numbers and values that people or strangers wrote: read exactly or refused, and shown in messages within bounds.

A number is decimal digits with an optional sign, point and exponent; blanks, underscores, digits of other scripts, NaN
and Infinity are none. Bounds are checked before anything is computed, so 1e999999 costs what 1 does.
"""

from __future__ import annotations

import math
import re
import reprlib
from decimal import Decimal
from typing import Any

LARGEST = 1e15
"""Beyond it no double is taken: products of a few such numbers stay finite."""
_SMALLEST = 1e-300
_DIGITS = 100
_EXPONENT = 200
_DECIMAL = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d{1,4})?", re.ASCII | re.IGNORECASE)
_WHOLE = re.compile(r"0|-?[1-9]\d*", re.ASCII)
_SHOWN = 60
_SHOWN_KEY = 40


class InexactError(ValueError):
    """A number that cannot be taken; the message says what is wanted, the caller adds where and what was got."""


class Unreadable:
    """What stands in a document in place of a number that is none or is out of bounds; readers refuse it by path."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text if len(self._text) <= _SHOWN else f"{self._text[: _SHOWN - 3]}..."


class _Echo(reprlib.Repr):
    """As repr, at most some sixty characters deep and wide, numbers as people write them."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxdict = 2, 3, 3
        self.maxstring = self.maxother = _SHOWN

    def repr_int(self, value: int, level: int) -> str:
        # Python refuses to write an integer of thousands of digits.
        return _cut(str(value)) if value.bit_length() < 10_000 else f"a whole number of {value.bit_length()} bits"

    def repr_bool(self, value: bool, level: int) -> str:
        return str(value)

    def repr_Decimal(self, value: Decimal, level: int) -> str:  # noqa: N802 - reprlib asks by the type's name
        return _cut(str(value))

    def repr_bytes(self, value: bytes, level: int) -> str:
        return _cut(f"0x{value[:_SHOWN].hex()}")


_ECHO = _Echo()


def shown(value: object) -> str:
    """A value for a message: one line, bounded, the same for what is written and what was read."""
    return _cut(_ECHO.repr(value), 2 * _SHOWN)


def joined(path: str, key: object) -> str:
    """The path of a member; keys that are long or hold what cannot be printed are shown as values are."""
    plain = isinstance(key, str) and key.isprintable() and 0 < len(key) <= _SHOWN_KEY
    name = f"{key}" if plain else _cut(_ECHO.repr(key))
    return f"{path}.{name}" if path else name


def literal(text: str) -> Decimal:
    """The number that a text is. Raises InexactError: it is none, or is out of the bounds of `decimal`."""
    if len(text) > 2 * _DIGITS or not _DECIMAL.fullmatch(text):
        raise InexactError("wanted a number")
    return decimal(Decimal(text))


def decimal(value: object) -> Decimal:
    """A number of a document (int, Decimal or double).

    Raises:
        InexactError: anything else, more than 100 digits, or an exponent beyond 200.
    """
    if isinstance(value, float):
        value = Decimal(repr(value))
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise InexactError("wanted a number")
    if isinstance(value, int):
        if abs(value) >= 10**_DIGITS:
            raise InexactError(f"wanted a number of at most {_DIGITS} digits")
        return Decimal(value)
    if not value.is_finite():
        raise InexactError("wanted a finite number")
    if abs(value.adjusted()) > _EXPONENT or len(value.as_tuple().digits) > _DIGITS:
        raise InexactError(f"wanted a number of at most {_DIGITS} digits and an exponent of at most {_EXPONENT}")
    return value


def scaled(value: object, decimals: int, below: int) -> int:
    """A number times 10**decimals, exactly.

    Raises:
        InexactError: as `decimal`; finer than 10**-decimals; or the product is not between -below and below.
    """
    sign, digits, exponent = decimal(value).as_tuple()
    assert isinstance(exponent, int)
    whole: int = int("".join(map(str, digits)))
    shift = exponent + decimals
    if shift < 0 and whole % 10**-shift:
        raise InexactError(f"wanted at most {decimals} decimals")
    whole = whole // 10**-shift if shift < 0 else whole * 10 ** max(shift, 0)
    if whole >= below:
        raise InexactError(f"wanted less than {Decimal(below).scaleb(-decimals):.4g}")
    return -whole if sign else whole


def double(value: object, least: float = -LARGEST, most: float = LARGEST) -> float:
    """A number as the nearest double, which is finite, within bounds, and 0 only where the number is.

    Raises:
        InexactError: as `decimal`, out of bounds, or closer to 0 than 1e-300.
    """
    exact = decimal(value)
    number = float(exact)
    if exact and abs(number) < _SMALLEST:
        raise InexactError(f"wanted 0 or at least {_SMALLEST:g} away from it")
    if not math.isfinite(number) or not least <= number <= most:
        raise InexactError(f"wanted {least:g} to {most:g}")
    return number


def whole_number(text: str, digits: int = 78) -> int:
    """The integer that a text is, in its one spelling: no blanks, plus signs, leading zeros, other scripts.

    Raises:
        InexactError: no such text, or more digits.
    """
    if len(text) > digits + 1 or not _WHOLE.fullmatch(text):
        raise InexactError(f"wanted a whole number of at most {digits} digits")
    return int(text)


def parsed_decimal(text: str) -> Decimal | Unreadable:
    """For parsers of documents: the number of a literal, or what is refused by its path later on."""
    try:
        return literal(text)
    except InexactError:
        return Unreadable(text)


def parsed_integer(text: str) -> int | Unreadable:
    return int(text) if len(text) <= _DIGITS else Unreadable(text)


def floats(value: Any) -> Any:
    """A parsed document with its decimals as doubles; those that no double holds stay to be refused by their path."""
    if isinstance(value, dict):
        return {key: floats(each) for key, each in value.items()}
    if isinstance(value, list):
        return [floats(each) for each in value]
    if isinstance(value, Decimal):
        number = float(value)
        return number if math.isfinite(number) and (number or not value) else Unreadable(str(value))
    return value


def _cut(text: str, most: int = _SHOWN) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
