"""Marks from feeds: conversion by the settlement token's own feed, median over chains, what is left out and named."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeper.market.inputs import FundingInput, MarkInputs, SettledInput, UnderlyingInput, advanced, input_faults
from keeper.market.marks import FeedReading, MarkError, marks_from, median
from keeper.state.batch import UNIT
from keeper.state.ids import Instrument, Kind, instrument_id, perpetual

NOW = 1_800_000_000
SETTLEMENT = {1: "USDC", 2: "USDC", 3: "USDC"}
HEADS = {1: NOW, 2: NOW, 3: NOW}


def reading(price: float, decimals: int = 8, age: int = 0, ok: bool = True) -> FeedReading:
    return FeedReading(round(price * 10**decimals), decimals, NOW - age, ok)


def feeds(*eth: FeedReading, usdc: FeedReading | None = None) -> dict[int, dict[str, FeedReading]]:
    return {chain: {"ETH": e, "USDC": usdc or reading(1)} for chain, e in enumerate(eth, start=1)}


def mark(readings: dict[int, dict[str, FeedReading]]) -> int:
    return marks_from(readings, SETTLEMENT, ["ETH"], HEADS, 60).prices["ETH"]


def test_median_of_three_chains_ignores_an_outlier() -> None:
    assert mark(feeds(reading(3000), reading(9999), reading(3001))) == 3001 * UNIT


def test_prices_are_in_settlement_token_so_a_depeg_moves_prices() -> None:
    # 3000 USD ÷ 0.96 USD per USDC = 3125 USDC
    assert mark(feeds(*[reading(3000)] * 3, usdc=reading(0.96))) == 3125 * UNIT


def test_decimals_of_both_feeds_count_and_division_rounds_down() -> None:
    # 1 ÷ 3 = 0.333…, 18 digits of it
    readings = feeds(*[reading(1, decimals=18)] * 3, usdc=reading(3, decimals=6))
    assert mark(readings) == 333_333_333_333_333_333


@pytest.mark.parametrize(
    ("bad", "names"),
    [
        (reading(0), "ETH at 0"),
        (replace(reading(1), answer=-5), "ETH at -5"),
        (reading(3000, age=61), "ETH is 61 s old, at most 60 s"),
        (reading(3000, age=-1), "after its block's time"),
        (reading(3000, ok=False), "does not answer"),
    ],
)
def test_an_invalid_reading_is_left_out_and_two_are_named(bad: FeedReading, names: str) -> None:
    # With one chain left out two remain: the mean of the two in the middle.
    assert mark(feeds(bad, reading(3000), reading(3002))) == 3001 * UNIT
    with pytest.raises(MarkError, match="no mark for ETH: 1 of 3 chains have a price") as error:
        mark(feeds(bad, bad, reading(3000)))
    assert str(error.value).count(names) == 2
    assert "chain 1:" in str(error.value)
    assert "chain 3:" not in str(error.value)


def test_age_is_measured_at_the_chains_own_head() -> None:
    readings = feeds(*[reading(3000, age=100)] * 3, usdc=reading(1, age=100))
    assert (
        marks_from(readings, SETTLEMENT, ["ETH"], {1: NOW - 50, 2: NOW - 40, 3: NOW}, 60).prices["ETH"] == 3000 * UNIT
    )


def test_a_chain_without_a_valid_settlement_feed_has_no_say() -> None:
    readings = feeds(reading(3000), reading(3000), reading(3500))
    readings[3]["USDC"] = reading(1, ok=False)
    assert mark(readings) == 3000 * UNIT
    del readings[2]
    with pytest.raises(MarkError, match="chain 2: no feed for ETH; chain 3: the feed for USDC does not answer"):
        mark(readings)


def test_a_price_too_small_to_write_is_no_price() -> None:
    with pytest.raises(MarkError, match="worth less than can be written"):
        mark(feeds(*[FeedReading(1, 30, NOW, True)] * 3))


def test_half_of_the_chains_is_no_majority() -> None:
    two = {1: "USDC", 2: "USDC"}
    with pytest.raises(MarkError, match="1 of 2 chains"):
        marks_from(feeds(reading(3000)), two, ["ETH"], {1: NOW, 2: NOW}, 60)


@given(st.lists(st.integers(1, 10**30), min_size=1, max_size=9))
def test_median_lies_between_and_does_not_depend_on_order(prices: list[int]) -> None:
    middle = median(prices)
    assert min(prices) <= middle <= max(prices)
    assert middle == median(list(reversed(prices)))
    # One liar among three or more cannot leave the range of the others.
    if len(prices) >= 3 and len(prices) % 2:
        assert min(prices) <= median([*prices[1:], 10**40]) <= max(prices[1:])


def test_inputs_are_within_tolerance_of_ones_own_and_what_differs_is_named() -> None:
    """25 bp of 4,000 are 10; vols may differ by 2 % of themselves; settlement prices by nothing."""
    call = instrument_id(Instrument(Kind.CALL, "ETH", NOW - 60, 4000 * 10**8))
    own = (
        UnderlyingInput("BTC", 60000 * UNIT, 60000 * UNIT),
        UnderlyingInput("ETH", 4000 * UNIT, 4000 * UNIT, UNIT // 2),
    )

    def found(*given: UnderlyingInput, settled: int = 7) -> list[str]:
        return input_faults(MarkInputs(NOW, given, (), (SettledInput(call, settled),)), own, {call: 7})

    assert found(own[0], UnderlyingInput("ETH", 4010 * UNIT, 3990 * UNIT, UNIT * 51 // 100)) == []
    assert (
        "ETH: index 4010"
        in found(own[0], UnderlyingInput("ETH", 4010 * UNIT + UNIT // 1000, 4000 * UNIT, UNIT // 2))[0]
    )
    assert "ETH: perpetual" in found(own[0], UnderlyingInput("ETH", 4000 * UNIT, 4011 * UNIT, UNIT // 2))[0]
    assert "ETH: vol 0.52" in found(own[0], UnderlyingInput("ETH", 4000 * UNIT, 4000 * UNIT, UNIT * 52 // 100))[0]
    assert [fault.split(":")[0] for fault in found(UnderlyingInput("SOL", UNIT, UNIT))] == ["BTC", "ETH", "SOL"]
    assert "settlement price" in found(*own, settled=8)[0]
    assert "not known yet" in input_faults(MarkInputs(NOW, own, (), (SettledInput(call, 7),)), own, {})[0]


def test_funding_follows_the_premium_and_is_clamped() -> None:
    """A perpetual 0.8 % over the index pays 0.8 % in eight hours; never more than half of what contracts take."""
    eth = perpetual("ETH")
    before = MarkInputs(NOW, (), (FundingInput(eth, 5 * UNIT),), since=1)
    calm = UnderlyingInput("ETH", 3000 * UNIT, 3024 * UNIT)
    hour = advanced(before, [calm], NOW + 3600, 10**13)
    assert hour == (FundingInput(eth, 8 * UNIT),)  # 24 ÷ 8 an hour
    wild = UnderlyingInput("ETH", 3000 * UNIT, 4000 * UNIT)
    # 1e-6 of the index a second, half of it, for an hour: 5.4 USD.
    assert advanced(before, [wild], NOW + 3600, 10**12) == (FundingInput(eth, 5 * UNIT + 54 * UNIT // 10),)
    low = UnderlyingInput("ETH", 3000 * UNIT, 1000 * UNIT)
    assert advanced(before, [low], NOW + 3600, 10**12) == (FundingInput(eth, 5 * UNIT - 54 * UNIT // 10),)
    assert advanced(None, [wild], NOW, 10**12) == (FundingInput(eth, 0),)


@given(st.integers(1, 10**6), st.integers(-(10**6), 10**6), st.integers(0, 100), st.integers(0, 100))
def test_sequence_20_funding_does_not_depend_on_when_batches_were(
    index: int, premium: int, one: int, other: int
) -> None:
    """Rate × time since the last post would make who is flat across chains pay or earn: the index is one for all
    chains, and carrying it on in two steps gives what one step gives, up to a rounding each."""
    eth = UnderlyingInput("ETH", (index + 10**6) * UNIT, (index + 10**6 + premium) * UNIT)
    start = MarkInputs(NOW, (eth,), (FundingInput(perpetual("ETH"), 0),))
    middle = replace(start, time=NOW + one, funding=advanced(start, [eth], NOW + one, 10**13))
    stepwise = advanced(middle, [eth], NOW + one + other, 10**13)[0].index
    at_once = advanced(start, [eth], NOW + one + other, 10**13)[0].index
    assert abs(stepwise - at_once) <= 2
