"""The settlement price of what expires: an average over the last minutes of one chain's feed, from final data alone.

Every attestor that reads the same rounds computes the same integer, so there is one settlement price per instrument.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keeper.state.batch import UNIT
from keeper.state.ids import Instrument, Kind

from .marks import MarkError

GRAIN = 10**10
"""Settlement prices are whole multiples of 1e-8 USD."""


@dataclass(frozen=True, slots=True)
class Round:
    """One answer of a feed, scaled by 10**decimals, and when it was given (unix seconds)."""

    answer: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class Average:
    """A time-weighted sum of answers and the seconds that it is over; their quotient is the average."""

    weighted: int
    seconds: int
    decimals: int


def average(rounds: Sequence[Round], decimals: int, start: int, end: int) -> Average:
    """The answers in force from `start` to `end`, each weighted by its seconds.

    An answer is in force from its own time to the next one's. A feed whose first known answer is later than `start`
    counts from there. Rounds may come in any order; of two at one time the later in the sequence that was sorted by
    time counts for no seconds. Answers that are not positive are left out, the one before them stays in force.

    Raises:
        MarkError: no positive answer before `end`.
    """
    known = sorted((r for r in rounds if r.answer > 0 and r.updated_at < end), key=lambda r: r.updated_at)
    if not known:
        raise MarkError(f"no answer of the feed between {start} and {end}")
    weighted = seconds = 0
    for number, entry in enumerate(known):
        until = known[number + 1].updated_at if number + 1 < len(known) else end
        length = max(0, until - max(entry.updated_at, start))
        weighted += entry.answer * length
        seconds += length
    return Average(weighted, seconds, decimals)


def settlement_price(underlying: Average, stable: Average) -> int:
    """The underlying's average in units of the settlement token's, USD 1e18, rounded down to 1e-8."""
    numerator = underlying.weighted * stable.seconds * 10**stable.decimals * UNIT
    denominator = stable.weighted * underlying.seconds * 10**underlying.decimals
    return int(numerator // denominator // GRAIN * GRAIN)


def settlement_value(instrument: Instrument, price: int) -> int:
    """What one unit of an expired instrument is worth at the settlement price of its underlying, USD 1e18.

    Raises:
        ValueError: a perpetual does not expire.
    """
    strike = instrument.strike * 10**10
    if instrument.kind is Kind.FUTURE:
        return price
    if instrument.kind is Kind.CALL:
        return max(0, price - strike)
    if instrument.kind is Kind.PUT:
        return max(0, strike - price)
    raise ValueError(f"a {instrument.kind.name.lower()} does not expire")
