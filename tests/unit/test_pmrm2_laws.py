"""Laws of the model `pmrm2` on generated books."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pmrm2_books import (
    DAY,
    VECTORS,
    YEAR,
    Json,
    collateral,
    expiry,
    make_book,
    option,
)

from keeper.margin.pmrm2 import evaluate

amounts = st.floats(-50, 50, allow_subnormal=False)
shares = st.floats(0, 1, allow_subnormal=False)


@st.composite
def books(draw: st.DrawFn) -> Json:
    """Books with the parameters of the vectors, up to eight options over three expiries, also expired ones."""
    seconds = draw(st.lists(st.sampled_from([-60, 0, 900, 7 * DAY, 30 * DAY, YEAR]), min_size=3, max_size=3))
    expiries = [
        expiry(
            id=f"E{index}",
            seconds=time,
            forward=draw(st.floats(90, 110)),
            rate=draw(st.floats(-0.1, 0.2)),
            forward_confidence=draw(shares),
            rate_confidence=draw(shares),
            vol_confidence=draw(shares),
        )
        for index, time in enumerate(seconds)
    ]
    options = draw(
        st.lists(
            st.builds(
                lambda strike, amount, call, vol, index: option(
                    strike, amount, call=call, mark_vol=vol, expiry=f"E{index}"
                ),
                st.sampled_from([60.0, 95.0, 100.0, 105.0, 170.0]),
                amounts,
                st.booleans(),
                st.floats(0.1, 1.2),
                st.integers(0, 2),
            ),
            min_size=1,
            max_size=8,
        )
    )
    tokens = draw(
        st.lists(
            st.builds(
                lambda amount, confidence, haircut, offsets: collateral(
                    amount=amount, confidence=confidence, mm_haircut=haircut, im_haircut=0.05, offsets_spot=offsets
                ),
                st.floats(0, 1000),
                shares,
                st.floats(0, 0.3),
                st.booleans(),
            ),
            max_size=3,
        )
    )
    book = make_book(
        market__expiries=expiries,
        market__spot_confidence=draw(shares),
        market__perp_confidence=draw(shares),
        market__stable_price=draw(st.floats(0.9, 1.1)),
        positions__cash=draw(st.floats(-1000, 1000)),
        positions__perp=draw(st.one_of(st.just(0.0), amounts)),
        positions__options=options,
        positions__collateral=tokens,
    )
    book["parameters"] = VECTORS["parameters"][0]
    return book


def assert_same_margin(first: Json, second: Json) -> None:
    """Equal to 1e-9 of what is held: a balance may be the small difference of large parts."""
    gross = 1 + sum(abs(part["mark_to_market"]) for part in [*first["expiries"], *first["collateral"]])
    for name in ("initial_margin_balance", "maintenance_margin_balance", "mark_to_market", "worst_loss"):
        assert second[name] == pytest.approx(first[name], rel=1e-9, abs=1e-9 * gross), name


@given(books(), st.floats(-1e6, 1e6))
def test_cash_raises_both_balances_by_itself(book: Json, cash: float) -> None:
    before = evaluate(book)
    book["positions"]["cash"] += cash
    after = evaluate(book)
    for name in ("initial_margin_balance", "maintenance_margin_balance"):
        assert after[name] - before[name] == pytest.approx(cash, rel=1e-9, abs=1e-8)
    assert after["worst_loss"] == before["worst_loss"]


@given(books())
def test_the_initial_balance_is_never_above_the_maintenance_balance(book: Json) -> None:
    report = evaluate(book)
    assert report["worst_loss"] <= 0
    assert report["initial_margin_balance"] <= report["maintenance_margin_balance"]


@given(books(), shares, st.integers(0, 7))
def test_an_option_in_two_entries_is_the_same_option(book: Json, share: float, index: int) -> None:
    whole = evaluate(book)
    options = book["positions"]["options"]
    entry = options[index % len(options)]
    rest = entry["amount"] * share
    options.append(entry | {"amount": rest})
    entry["amount"] -= rest
    assert_same_margin(whole, evaluate(book))


@given(books(), st.randoms(use_true_random=False))
def test_the_order_of_entries_is_irrelevant(book: Json, random: Any) -> None:
    before = evaluate(book)
    for entries in (book["positions"]["options"], book["positions"]["collateral"], book["market"]["expiries"]):
        random.shuffle(entries)
    after = evaluate(book)
    # Not only nearly: sums are exact before they are rounded.
    for name in ("initial_margin_balance", "maintenance_margin_balance", "mark_to_market", "scenario_pnl"):
        assert after[name] == before[name], name
    assert after["worst_scenario"] == before["worst_scenario"]


@given(books())
def test_a_book_is_left_as_it_was(book: Json) -> None:
    kept = copy.deepcopy(book)
    assert evaluate(book) == evaluate(book)
    assert book == kept
