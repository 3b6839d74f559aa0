"""Settlement prices: a time-weighted average of final data, the same integer whoever computes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeper.market.marks import MarkError
from keeper.market.settlement import GRAIN, Average, Round, average, settlement_price, settlement_value
from keeper.state.batch import UNIT
from keeper.state.ids import Instrument, Kind

START, END = 1_000, 2_800
DOLLAR = Average(10**8 * 1800, 1800, 8)


def test_each_answer_counts_for_the_seconds_it_was_in_force() -> None:
    # 600 s at 3,000, 1,200 s at 3,300: 3,200.
    found = average([Round(3_300 * 10**8, START + 600), Round(3_000 * 10**8, START - 50)], 8, START, END)
    assert (found.weighted, found.seconds) == (3_000 * 10**8 * 600 + 3_300 * 10**8 * 1_200, 1_800)
    assert settlement_price(found, DOLLAR) == 3_200 * UNIT


def test_what_comes_at_the_expiry_or_later_changes_nothing() -> None:
    before = [Round(3_000 * 10**8, START - 1)]
    later = [Round(9 * 10**8, END), Round(10**8, END + 5)]
    assert average(before, 8, START, END) == average([*later, *before], 8, START, END)


def test_a_young_feed_counts_from_its_first_answer_and_bad_answers_are_left_out() -> None:
    found = average([Round(-1, START + 900), Round(10**8, START + 800), Round(0, START + 100)], 8, START, END)
    assert (found.weighted, found.seconds) == (10**8 * 1_000, 1_000)
    with pytest.raises(MarkError, match="no answer"):
        average([Round(0, START), Round(5, END)], 8, START, END)


def test_a_depeg_of_the_settlement_token_raises_the_price_and_all_is_rounded_down() -> None:
    third = average([Round(10**8, START)], 8, START, END)
    assert settlement_price(third, Average(3 * 10**8 * 1800, 1800, 8)) == UNIT // 3 // GRAIN * GRAIN


@given(st.lists(st.tuples(st.integers(1, 10**12), st.integers(0, 4_000)), min_size=1, max_size=12), st.randoms())
def test_sequence_21_any_reader_at_any_later_block_has_the_same_integer(
    rounds: list[tuple[int, int]], random: object
) -> None:
    """Two batches at two prices for one expiry: long on one chain, short on the other, the difference is somebody's.

    The price is a function of the rounds up to the expiry alone: in any order, with any later rounds, it is the same,
    and lies between the least and the greatest answer.
    """
    known = [Round(answer, time) for answer, time in {time: answer for answer, time in rounds}.items()]
    known = [Round(entry.updated_at, entry.answer) for entry in known]
    if not any(entry.updated_at < END for entry in known):
        return
    one = average(known, 8, START, END)
    shuffled = [*known, Round(1, END + 1)]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert average(shuffled, 8, START, END) == one
    answers = [entry.answer for entry in known if entry.updated_at < END]
    if one.seconds:
        assert min(answers) * one.seconds <= one.weighted <= max(answers) * one.seconds


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_call_less_put_is_the_future_less_the_strike(price: int, strike: int) -> None:
    call, put = (Instrument(kind, "ETH", END, strike * 10**8) for kind in (Kind.CALL, Kind.PUT))
    future = settlement_value(Instrument(Kind.FUTURE, "ETH", END), price * UNIT)
    assert settlement_value(call, price * UNIT) - settlement_value(put, price * UNIT) == future - strike * UNIT
    with pytest.raises(ValueError, match="does not expire"):
        settlement_value(Instrument(Kind.PERPETUAL, "ETH"), UNIT)
