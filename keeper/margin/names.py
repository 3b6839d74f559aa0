"""Instruments by name, as people and files write them.

ETH-PERP; ETH-20261225, a future; ETH-20261225-3000-C and -P, options. A date is 08:00 UTC of that day; any other time
is written in unix seconds in its place. Strikes have up to eight decimals.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal

from keeper.state.exact import InexactError, decimal, literal, scaled, shown
from keeper.state.ids import AssetId, IdError, Instrument, Kind, instrument_id, is_token, parse_instrument, parse_token

_HOUR = 8
_END_OF_TIME = 2**40
_FINER = ((10**17, "nanoseconds", 10**9), (10**14, "microseconds", 10**6), (0, "milliseconds", 1000))
_DAY = re.compile(r"(\d{4})(-?)(\d{2})\2(\d{2})", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:?\d{2})?", re.ASCII)
_WANTED_TIME = "wanted 20261225, 2026-12-25, 2026-12-25T08:00:00Z or unix seconds"


class UnknownName(ValueError):
    """A name that is no instrument's; the message carries it."""


def name_of(asset: AssetId) -> str:
    """An instrument's name; a token's as TOKEN-<chain>-0x<address>."""
    if is_token(asset):
        chain_id, token = parse_token(asset)
        return f"TOKEN-{chain_id}-0x{token.hex()}"
    instrument = parse_instrument(asset)
    if instrument.kind is Kind.PERPETUAL:
        return f"{instrument.underlying}-PERP"
    dated = f"{instrument.underlying}-{expiry_name(instrument.expiry)}"
    if instrument.kind is Kind.FUTURE:
        return dated
    strike = f"{Decimal(instrument.strike) / 10**8:f}"
    strike = strike.rstrip("0").rstrip(".") if "." in strike else strike
    return f"{dated}-{strike}-{'C' if instrument.kind is Kind.CALL else 'P'}"


def parse_name(name: str) -> AssetId:
    """The instrument of a name. Raises UnknownName for anything else."""
    try:
        if (found := _instrument(name)) is not None:
            return instrument_id(found)
    except (IdError, InexactError, UnknownName) as error:
        raise UnknownName(f"{shown(name)} is no instrument: {error}") from None
    if name != name.upper() and _in_capitals(name.upper()):
        raise UnknownName(f"{shown(name)} is no instrument: names are in capitals, {name.upper()}?")
    raise UnknownName(f"{shown(name)} is no instrument: wanted like ETH-PERP, ETH-20261225 or ETH-20261225-3000-C")


def _instrument(name: str) -> Instrument | None:
    """What a name says, None where it is not made like one; raises what its parts raise."""
    underlying, *rest = name.strip().split("-")
    match rest:
        case ["PERP"]:
            return Instrument(Kind.PERPETUAL, underlying)
        case [expiry] if expiry.isdecimal():
            return Instrument(Kind.FUTURE, underlying, parse_expiry(expiry))
        case [expiry, strike, "C" | "P" as side]:
            try:
                price = scaled(literal(strike), 8, 2**128)
            except InexactError as error:
                raise UnknownName(f"strike {shown(strike)}: {error}") from None
            return Instrument(Kind.CALL if side == "C" else Kind.PUT, underlying, parse_expiry(expiry), price)
        case _:
            return None


def _in_capitals(name: str) -> bool:
    try:
        return (found := _instrument(name)) is not None and bool(instrument_id(found))
    except ValueError:
        return False


def expiry_name(expiry: int) -> str:
    """20261225 where it is 08:00 UTC of that day, else the seconds."""
    try:
        when = datetime.fromtimestamp(expiry, UTC)
    except (ValueError, OverflowError, OSError):
        return str(expiry)
    at_hour = (when.hour, when.minute, when.second) == (_HOUR, 0, 0)
    return when.strftime("%Y%m%d") if at_hour and when.year >= 1000 else str(expiry)


def parse_expiry(text: str) -> int:
    """Unix seconds of 20261225, 2026-12-25 (08:00 UTC), an ISO time, or seconds. Raises UnknownName."""
    text = text.strip()
    try:
        if day := _DAY.fullmatch(text):
            year, month, date = int(day[1]), int(day[3]), int(day[4])
            return _in_range(text, int(datetime(year, month, date, _HOUR, tzinfo=UTC).timestamp()))
        if _MOMENT.fullmatch(text):
            when = datetime.fromisoformat(text)
            return _in_range(text, int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()))
        if text.isascii() and text.isdecimal() and len(text) <= 20:
            return _in_range(text, int(text))
    except (ValueError, OverflowError) as error:
        if isinstance(error, UnknownName):
            raise
    raise UnknownName(f"{shown(text)} is no date: {_WANTED_TIME}")


def parse_time(value: object) -> int:
    """Unix seconds of a document's time: such a number, or a text as `parse_expiry` reads. Raises UnknownName."""
    if isinstance(value, str):
        return parse_expiry(value)
    try:
        number = decimal(value)
    except InexactError:
        raise UnknownName(f"{shown(value)} is no time: {_WANTED_TIME}") from None
    if number != number.to_integral_value():
        raise UnknownName(f"{shown(value)}: wanted whole seconds")
    seconds = int(number)
    if _DAY.fullmatch(f"{seconds}") and _is_date(f"{seconds}"):
        raise UnknownName(f'{seconds} reads as a date: wanted it in quotes, "{seconds}"')
    return _in_range(value, seconds)


def _is_date(digits: str) -> bool:
    try:
        datetime(int(digits[:4]), int(digits[4:6]), int(digits[6:]), tzinfo=UTC)
    except ValueError:
        return False
    return digits[:2] in ("19", "20", "21")


def _in_range(given: object, seconds: int) -> int:
    if seconds >= _END_OF_TIME:
        name, each = next((name, each) for least, name, each in _FINER if seconds >= least)
        raise UnknownName(f"{shown(given)}: wanted unix seconds; as {name} it is {seconds // each}")
    if seconds < 0:
        raise UnknownName(f"{shown(given)}: wanted a time from 1970 on")
    return seconds
