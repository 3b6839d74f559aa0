"""Marks: the price of every underlying in units of the settlement token, from the feeds of several chains.

All in integers: attestors that saw the same readings compute the same price.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from keeper.state.batch import UNIT
from keeper.state.ids import AssetId

from .surface import VolSlice


class MarkError(ValueError):
    """No mark can be formed; the message names the underlying and, chain by chain, what is wrong with its reading."""


@dataclass(frozen=True, slots=True)
class FeedReading:
    """One answer of an AggregatorV3 feed, `answer` scaled by 10**decimals; `ok` False where the call failed."""

    answer: int
    decimals: int
    updated_at: int
    ok: bool


@dataclass(frozen=True, slots=True)
class Expiry:
    """One expiry of an underlying: its forward in USD, the rate that discounts it, its smile; confidences 0 to 1."""

    forward: float
    rate: float = 0.0
    smile: VolSlice | None = None
    forward_confidence: float = 1.0
    rate_confidence: float = 1.0
    vol_confidence: float = 1.0


@dataclass(frozen=True, slots=True)
class Curve:
    """What is known of an underlying beside its index: expiries by unix seconds, confidences, the next funding.

    `funding` is what a long of one unit pays at the next payment, USD; a short receives it.
    """

    expiries: Mapping[int, Expiry] = field(default_factory=dict)
    spot_confidence: float = 1.0
    perpetual_confidence: float = 1.0
    funding: float = 0.0


@dataclass(frozen=True, slots=True)
class Marks:
    """Underlying → price of a whole unit, USD 1e18; for dated instruments the curves, at `time` (unix seconds).

    `stable` is the price of the settlement token in USD. `funding` is the cumulative index of each perpetual, what a
    long of one unit has paid in total, USD 1e18; `settled` the final price of each expired instrument that has one.
    """

    prices: Mapping[str, int]
    curves: Mapping[str, Curve] = field(default_factory=dict)
    time: int = 0
    stable: float = 1.0
    funding: Mapping[AssetId, int] = field(default_factory=dict)
    settled: Mapping[AssetId, int] = field(default_factory=dict)


def marks_from(
    readings: Mapping[int, Mapping[str, FeedReading]],
    settlement: Mapping[int, str],
    underlyings: Iterable[str],
    head_times: Mapping[int, int],
    max_age: int,
) -> Marks:
    """The median over chains of each underlying's price.

    A chain's price is its feed's answer ÷ the answer of its own settlement token's feed, rounded down: a depeg moves
    prices, never cash. Readings that failed, are not positive, are older than `max_age` seconds at the head they were
    read at, or carry a time after it, are left out together with the chain.

    Args:
        readings: chain id → symbol → reading, for underlyings and settlement tokens.
        settlement: chain id → symbol of its settlement token; the chains that have a say.
        underlyings: what needs a mark.
        head_times: chain id → time of the block that the feeds were read at, unix seconds.
        max_age: seconds.

    Raises:
        MarkError: an underlying has a valid price on no more than half of the chains.
    """
    return Marks({name: price_from(readings, settlement, name, head_times, max_age) for name in underlyings})


def price_from(
    readings: Mapping[int, Mapping[str, FeedReading]],
    settlement: Mapping[int, str],
    symbol: str,
    head_times: Mapping[int, int],
    max_age: int,
) -> int:
    """The median over chains of one feed in units of the settlement token, USD 1e18; as `marks_from`."""
    found: list[int] = []
    faults: list[str] = []
    for chain_id in sorted(settlement):
        feeds = readings.get(chain_id, {})
        fault = _fault(feeds, symbol, head_times[chain_id], max_age) or _fault(
            feeds, settlement[chain_id], head_times[chain_id], max_age
        )
        price = 0 if fault else _price(feeds[symbol], feeds[settlement[chain_id]])
        if price > 0:
            found.append(price)
        else:
            faults.append(f"chain {chain_id}: {fault or f'{symbol} is worth less than can be written'}")
    return _agreed(symbol, found, faults, len(settlement))


def vol_from(
    readings: Mapping[int, Mapping[str, FeedReading]], symbol: str, head_times: Mapping[int, int], max_age: int
) -> int:
    """The median over chains of a feed of implied vols, per year, 1e18. Raises MarkError as `marks_from` does."""
    found: list[int] = []
    faults: list[str] = []
    for chain_id in sorted(head_times):
        feeds = readings.get(chain_id, {})
        fault = _fault(feeds, symbol, head_times[chain_id], max_age)
        if fault:
            faults.append(f"chain {chain_id}: {fault}")
        else:
            found.append(feeds[symbol].answer * UNIT // 10 ** feeds[symbol].decimals)
    return _agreed(symbol, found, faults, len(head_times))


def _agreed(symbol: str, found: Sequence[int], faults: Sequence[str], chains: int) -> int:
    if 2 * len(found) <= chains:
        raise MarkError(
            f"no mark for {symbol}: {len(found)} of {chains} chains have a price, "
            f"more than half are wanted; {'; '.join(faults)}"
        )
    return median(found)


def median(prices: Sequence[int]) -> int:
    """The middle price, or the mean of the two in the middle, rounded down."""
    ordered = sorted(prices)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) // 2


def _fault(feeds: Mapping[str, FeedReading], symbol: str, head_time: int, max_age: int) -> str:
    reading = feeds.get(symbol)
    if reading is None:
        return f"no feed for {symbol}"
    if not reading.ok:
        return f"the feed for {symbol} does not answer"
    if reading.answer <= 0:
        return f"{symbol} at {reading.answer}"
    if reading.updated_at > head_time:
        return f"{symbol} of {reading.updated_at}, after its block's time {head_time}"
    if head_time - reading.updated_at > max_age:
        return f"{symbol} is {head_time - reading.updated_at} s old, at most {max_age} s are accepted"
    return ""


def _price(feed: FeedReading, settlement: FeedReading) -> int:
    scale: int = UNIT * 10**settlement.decimals
    unit: int = 10**feed.decimals
    return feed.answer * scale // (settlement.answer * unit)
