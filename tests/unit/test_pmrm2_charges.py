"""The model `pmrm2` by hand: discounts, basis, the worst of all, and what is charged beside scenarios."""

from __future__ import annotations

import math

import pytest
from pmrm2_books import (
    YEAR,
    Json,
    collateral,
    expiry,
    make_book,
    only_pnl,
    option,
    scenario,
    value_by_hand,
)

from keeper.margin.pmrm2 import evaluate

# Discounts


def discounted(rate: float, **margin: float) -> Json:
    """A call at 50 without vol: 50 · exp(−rate) per unit, one year."""
    book = make_book(market__expiries=[expiry(rate=rate)], positions__options=[option(50.0, 1.0)])
    book["parameters"]["margin"] |= margin
    return book


def test_a_long_expiry_is_discounted() -> None:
    book = discounted(0.1, base_discount_long=0.96, long_rate_mult=1.5, long_rate_add=0.09)
    value = 50 * math.exp(-0.1)
    assert evaluate(book)["mark_to_market"] == pytest.approx(value, rel=1e-12)
    assert only_pnl(book) == pytest.approx(value * (0.96 * math.exp(-0.15 - 0.09) - 1), rel=1e-12)


def test_a_short_expiry_grows() -> None:
    book = discounted(0.1, base_discount_short=1.01, short_rate_mult=0.5, short_rate_add=0.02)
    book["positions"]["options"][0]["amount"] = -1.0
    # 1.01 · exp(0.07) is below 1 / D = exp(0.1).
    assert only_pnl(book) == pytest.approx(-50 * math.exp(-0.1) * (1.01 * math.exp(0.07) - 1), rel=1e-12)


def test_a_short_expiry_grows_to_what_is_owed_and_no_further() -> None:
    book = discounted(0.1, base_discount_short=1.03, short_rate_mult=0.5, short_rate_add=0.07)
    book["positions"]["options"][0]["amount"] = -1.0
    # 1.03 · exp(0.12) is above exp(0.1): the loss is 50 − 50 · exp(−0.1).
    assert only_pnl(book) == pytest.approx(-50 * (1 - math.exp(-0.1)), rel=1e-12)


def test_a_negative_rate_counts_as_none() -> None:
    book = discounted(-0.1, base_discount_long=0.96, long_rate_mult=1.0, base_discount_short=1.03, short_rate_mult=1.0)
    assert evaluate(book)["mark_to_market"] == 50.0
    assert only_pnl(book) == pytest.approx(50 * (0.96 - 1), rel=1e-12)
    book["positions"]["options"][0]["amount"] = -1.0
    # min(1, 1.03): nothing left to grow.
    assert only_pnl(book) == 0.0


def test_the_shocked_value_chooses_the_discount() -> None:
    # Long the call at 50 and short 4 at 120: at 100 worth 50, at 150 worth 100 − 120.
    book = discounted(0.0, base_discount_long=0.9, base_discount_short=0.8)
    book["positions"]["options"].append(option(120.0, -4.0))
    book["parameters"]["scenarios"] = [scenario(1.0), scenario(1.5)]
    assert evaluate(book)["scenario_pnl"] == pytest.approx([50 * 0.9 - 50, -20 * 0.8 - 50], rel=1e-12)


# Basis


def test_basis_is_the_worse_move_of_each_expiry_weighted_with_time() -> None:
    book = make_book(
        market__expiries=[expiry(rate=0.1), expiry(id="E1", seconds=2 * YEAR)],
        positions__options=[option(50.0, 1.0), option(50.0, -1.0, expiry="E1")],
    )
    book["parameters"]["basis"] |= {"spot_up": 1.04, "spot_down": 0.97, "add": 0.5, "mult": 1.8}
    report = evaluate(book)
    # Long loses 3 · exp(−0.1) on the way down, short 4 on the way up; weights 0.5 + 1.8 · T.
    first, second = -3 * math.exp(-0.1) * 2.3, -4 * 4.1
    assert [e["basis_contingency"] for e in report["expiries"]] == pytest.approx([first, second], rel=1e-12)
    assert report["basis_contingency"] == pytest.approx(first + second, rel=1e-12)
    # No scenario moves the spot, so basis is the worst.
    assert report["worst_scenario"] == "basis"
    assert report["worst_loss"] == report["basis_contingency"]
    assert report["maintenance_margin_balance"] == pytest.approx(
        0.8 * (first + second) + report["mark_to_market"], rel=1e-12
    )


def test_basis_is_neither_dampened_nor_discounted_and_moves_no_vol() -> None:
    book = make_book(
        parameters__scenarios=[scenario(0.5, "up", 0.0)],
        market__expiries=[expiry(rate=0.1)],
        positions__options=[option(110.0, 1.0, mark_vol=0.6)],
    )
    book["parameters"]["basis"] |= {"spot_up": 1.04, "spot_down": 0.96, "add": 1.0}
    book["parameters"]["margin"]["base_discount_long"] = 0.5
    change = value_by_hand(110.0, 0.6, 1.0, forward=96.0) - value_by_hand(110.0, 0.6, 1.0)
    assert evaluate(book)["basis_contingency"] == pytest.approx(change * math.exp(-0.1), rel=1e-9)


def test_basis_that_gains_either_way_is_nothing() -> None:
    # A straddle of no vol gains both ways.
    book = make_book(positions__options=[option(100.0, 1.0), option(100.0, 1.0, call=False)])
    book["parameters"]["basis"] |= {"spot_up": 1.04, "spot_down": 0.96, "add": 1.0}
    assert evaluate(book)["basis_contingency"] == 0.0


# The worst


def test_the_first_of_equal_scenarios_is_the_worst() -> None:
    book = make_book(
        parameters__scenarios=[scenario(1.1), scenario(0.9, "down"), scenario(0.9), scenario(0.8, "up", 0.5)],
        positions__perp=2.0,
    )
    report = evaluate(book)
    assert report["worst_scenario"] == 1
    assert report["worst_loss"] == pytest.approx(-20, rel=1e-12)


def test_basis_wins_only_strictly() -> None:
    # 10 down is the scenario's loss, and with weight 1 that of basis; a little more weight and basis is the worse.
    book = make_book(parameters__scenarios=[scenario(1.1), scenario(0.9)], positions__options=[option(50.0, 1.0)])
    book["parameters"]["basis"] |= {"spot_down": 0.9, "add": 1.0}
    assert (evaluate(book)["worst_scenario"], evaluate(book)["worst_loss"]) == (1, -10.0)
    book["parameters"]["basis"]["add"] = 1.001
    assert evaluate(book)["worst_scenario"] == "basis"


def test_a_gain_in_every_scenario_is_not_counted() -> None:
    book = make_book(parameters__scenarios=[scenario(1.1)], positions__perp=1.0)
    report = evaluate(book)
    assert (report["worst_scenario"], report["worst_loss"]) == ("basis", 0.0)
    assert report["initial_margin_balance"] == 0.0


def test_without_scenarios_basis_is_the_worst() -> None:
    report = evaluate(make_book(parameters__scenarios=[], positions__perp=5.0, positions__cash=7.0))
    assert (report["worst_scenario"], report["scenario_pnl"]) == ("basis", [])
    assert report["initial_margin_balance"] == 7.0


# Contingencies


@pytest.mark.parametrize(
    ("calls", "puts", "naked"),
    [
        (-3.0, 0.0, 3.0),
        (0.0, -3.0, 3.0),
        (-3.0, -2.0, 5.0),
        (-3.0, 2.0, 1.0),
        (-2.0, 3.0, 0.0),
        (3.0, -2.0, 0.0),
        (2.0, -3.0, 1.0),
        (-2.0, 2.0, 0.0),
        (3.0, 2.0, 0.0),
        (0.0, 0.0, 0.0),
    ],
)
def test_naked_shorts_of_a_strike(calls: float, puts: float, naked: float) -> None:
    book = make_book(positions__options=[option(90.0, calls), option(90.0, puts, call=False)], market__spot=110.0)
    book["parameters"]["contingency"] |= {"mm_option": 0.01, "im_option": 0.02}
    report = evaluate(book)
    assert report["expiries"][0]["naked_shorts"] == naked
    assert report["maintenance_contingency"] == pytest.approx(naked * 110 * 0.01, rel=1e-12)
    assert report["initial_contingency"] == pytest.approx(naked * 110 * 0.02, rel=1e-12)


def test_longs_cover_neither_another_strike_nor_another_expiry() -> None:
    book = make_book(
        market__expiries=[expiry(), expiry(id="E1")],
        positions__options=[option(90.0, -1.0), option(91.0, 5.0), option(90.0, 5.0, expiry="E1")],
    )
    assert [e["naked_shorts"] for e in evaluate(book)["expiries"]] == [1.0, 0.0]


def test_the_perpetual_by_hand() -> None:
    # Short 3 at a spot of 110, perpetual 105. Worst: +20 % of 105 · 3 = −63.
    book = make_book(
        parameters__scenarios=[scenario(0.9), scenario(1.2), scenario(2.0, "up", 0.1)],
        market__spot=110.0,
        market__perp_price=105.0,
        market__perp_confidence=0.3,
        positions__perp=-3.0,
        positions__unrealised_perp_pnl=12.0,
        positions__unrealised_funding=-2.0,
        positions__cash=200.0,
    )
    book["parameters"]["contingency"] |= {"mm_perp": 0.02, "im_perp": 0.01}
    report = evaluate(book)
    assert report["scenario_pnl"] == pytest.approx([31.5, -63, -31.5], rel=1e-12)
    assert report["mark_to_market"] == 10.0
    # MM: 0.8 · −63 − 2 % of 330 + 10 + 200; IM: −63 − 3 % of 330 − (1 − 0.3) · 0.4 · 330 + 210.
    assert report["maintenance_margin_balance"] == pytest.approx(-50.4 - 6.6 + 210, rel=1e-12)
    assert report["initial_margin_balance"] == pytest.approx(-63 - 9.9 - 92.4 + 210, rel=1e-12)


def test_a_skew_scenario_moves_the_perpetual_by_its_spot() -> None:
    book = make_book(parameters__scenarios=[scenario(1.1, "abs", 0.5)], positions__perp=1.0)
    assert only_pnl(book) == pytest.approx(5.0, rel=1e-12)


@pytest.mark.parametrize(("confidence", "charge"), [(0.5, 0.0), (0.51, 0.0), (0.49, 0.51 * 0.4 * 300)])
def test_confidence_counts_strictly_below_the_threshold(confidence: float, charge: float) -> None:
    book = make_book(
        market__expiries=[expiry(vol_confidence=confidence)],
        positions__options=[option(90.0, -1.0), option(95.0, 2.0)],
    )
    assert evaluate(book)["initial_contingency"] == pytest.approx(charge, rel=1e-12)


@pytest.mark.parametrize("name", ["spot", "perp", "forward", "rate", "vol"])
def test_an_expiry_is_as_sure_as_the_least_of_five(name: str) -> None:
    book = make_book(positions__options=[option(90.0, 1.0)], positions__perp=1.0)
    place = book["market"] if name in ("spot", "perp") else book["market"]["expiries"][0]
    place[f"{name}_confidence"] = 0.1
    (explained,) = evaluate(book)["expiries"]
    assert explained["confidence"] == 0.1
    assert explained["confidence_contingency"] == pytest.approx(0.9 * 0.4 * 100, rel=1e-12)


def test_the_perpetuals_confidence_matters_only_where_one_is_held() -> None:
    book = make_book(positions__options=[option(90.0, 1.0)], market__perp_confidence=0.1)
    assert evaluate(book)["initial_contingency"] == 0.0


def test_what_is_not_held_is_not_charged() -> None:
    book = make_book(
        market__spot_confidence=0.0,
        positions__options=[option(90.0, 0.0, mark_vol=0.5)],
        positions__collateral=[collateral(amount=0.0, confidence=0.0)],
    )
    report = evaluate(book)
    assert (report["initial_contingency"], report["maintenance_contingency"]) == (0.0, 0.0)
    assert report["initial_margin_balance"] == 0.0


def test_collateral_by_hand() -> None:
    # 100 · 2 / 0.8 = 250 each; the one that offsets the spot loses 10 % of it at half weight.
    book = make_book(
        parameters__scenarios=[scenario(0.9, "none", 0.5)],
        market__stable_price=0.8,
        parameters__contingency__peg_threshold=0.5,
        positions__collateral=[
            collateral(mm_haircut=0.1, im_haircut=0.05),
            collateral(offsets_spot=True, confidence=0.25),
        ],
    )
    report = evaluate(book)
    assert report["mark_to_market"] == 500.0
    assert report["worst_loss"] == pytest.approx(-12.5, rel=1e-12)
    assert report["maintenance_margin_balance"] == pytest.approx(-10 - 25 + 500, rel=1e-12)
    assert report["initial_margin_balance"] == pytest.approx(-12.5 - 25 - 12.5 - 0.75 * 0.4 * 250 + 500, rel=1e-12)


@pytest.mark.parametrize(
    ("own", "spot", "perp", "confidence"),
    [(0.2, 0.9, 0.9, 0.2), (0.9, 0.3, 0.9, 0.3), (0.9, 0.9, 0.1, 0.9), (0.8, 0.9, 0.1, 0.8)],
)
def test_collateral_is_as_sure_as_itself_and_the_spot(own: float, spot: float, perp: float, confidence: float) -> None:
    book = make_book(
        market__spot_confidence=spot,
        market__perp_confidence=perp,
        positions__perp=1.0,
        positions__collateral=[collateral(confidence=own)],
    )
    (explained,) = evaluate(book)["collateral"]
    assert explained["confidence"] == confidence


@pytest.mark.parametrize(("stable", "factor"), [(1.0, 1.0), (0.98, 1.0), (0.97, 1.02), (0.5, 1.96)])
def test_below_its_peg_the_stable_price_raises_the_initial_factor(stable: float, factor: float) -> None:
    book = make_book(parameters__scenarios=[scenario(0.9)], market__stable_price=stable, positions__perp=1.0)
    report = evaluate(book)
    assert report["initial_margin_balance"] == pytest.approx(-10 * factor, rel=1e-12)
    assert report["maintenance_margin_balance"] == pytest.approx(-8, rel=1e-12)


def test_nothing_but_collateral_is_divided_by_the_stable_price() -> None:
    book = make_book(
        market__stable_price=1.25,
        parameters__scenarios=[scenario(0.9)],
        positions__perp=1.0,
        positions__cash=40.0,
        positions__unrealised_perp_pnl=3.0,
        positions__options=[option(50.0, 1.0)],
    )
    report = evaluate(book)
    assert report["mark_to_market"] == pytest.approx(53, rel=1e-12)
    assert report["initial_margin_balance"] == pytest.approx(-20 + 53 + 40, rel=1e-12)
