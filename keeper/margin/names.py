"""Instruments by name, as people and files write them.

ETH-PERP; ETH-20261225, a future; ETH-20261225-3000-C and -P, options. A date is 08:00 UTC of that day; any other time
is written in unix seconds in its place. Strikes have up to eight decimals.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from keeper.state.ids import AssetId, IdError, Instrument, Kind, instrument_id, is_token, parse_instrument, parse_token

_HOUR = 8


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
    underlying, *rest = name.strip().split("-")
    try:
        if rest == ["PERP"]:
            return instrument_id(Instrument(Kind.PERPETUAL, underlying))
        if len(rest) == 1:
            return instrument_id(Instrument(Kind.FUTURE, underlying, parse_expiry(rest[0])))
        if len(rest) == 3 and rest[2] in ("C", "P"):
            strike = Decimal(rest[1]) * 10**8
            if strike != int(strike):
                raise UnknownName(f"{name!r}: a strike has up to eight decimals")
            kind = Kind.CALL if rest[2] == "C" else Kind.PUT
            return instrument_id(Instrument(kind, underlying, parse_expiry(rest[0]), int(strike)))
    except (IdError, UnknownName, InvalidOperation, OverflowError) as error:
        raise UnknownName(f"{name!r} is no instrument: {error}") from None
    raise UnknownName(f"{name!r} is no instrument: wanted like ETH-PERP, ETH-20261225 or ETH-20261225-3000-C")


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
    digits = text.strip()
    try:
        if digits.isdigit() and len(digits) == 8:
            return _day(datetime.strptime(digits, "%Y%m%d").replace(tzinfo=UTC))
        if digits.isdigit():
            return int(digits)
        when = datetime.fromisoformat(digits)
        if len(digits) == 10:
            return _day(when.replace(tzinfo=UTC))
        return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())
    except ValueError:
        raise UnknownName(f"{text!r} is no date: wanted 20261225, 2026-12-25, an ISO time or unix seconds") from None


def _day(when: datetime) -> int:
    return int(when.replace(hour=_HOUR).timestamp())
