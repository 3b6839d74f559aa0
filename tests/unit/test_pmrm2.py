"""The model `pmrm2`: public vectors, and every scenario of the formula by hand."""

from __future__ import annotations

import json
import math

import pytest
from pmrm2_books import (
    CASES,
    DAY,
    VECTORS,
    YEAR,
    Json,
    expiry,
    make_book,
    only_pnl,
    option,
    scenario,
    value_by_hand,
    vector_book,
)

from keeper.margin.pmrm2 import evaluate


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_vector(case: Json) -> None:
    report, expected = evaluate(vector_book(case)), dict(case["expected"])
    assert report["worst_scenario"] == expected.pop("worst_scenario")
    for name, value in expected.items():
        assert report[name] == pytest.approx(value, rel=1e-9, abs=0), name


def test_the_report_is_plain_json() -> None:
    report = evaluate(vector_book(VECTORS["cases"][-1]))
    assert json.loads(json.dumps(report, allow_nan=False)) == report


@pytest.mark.parametrize("case", CASES)
def test_the_parts_explain_the_balances(case: Json) -> None:
    report = evaluate(vector_book(case))
    parts = [report["perpetual"], *report["expiries"], *report["collateral"]]
    assert report["mark_to_market"] == pytest.approx(sum(p["mark_to_market"] for p in parts), rel=1e-9)
    assert report["maintenance_contingency"] == pytest.approx(sum(p["maintenance_contingency"] for p in parts))
    initial = sum(p["initial_contingency"] + p["confidence_contingency"] for p in parts)
    assert report["initial_contingency"] == pytest.approx(initial)
    assert report["basis_contingency"] == pytest.approx(sum(e["basis_contingency"] for e in report["expiries"]))
    maintenance = report["worst_loss"] * report["maintenance_factor"] - report["maintenance_contingency"]
    assert report["maintenance_margin_balance"] == pytest.approx(
        maintenance + report["mark_to_market"] + report["cash"], rel=1e-9
    )
    charges = report["maintenance_contingency"] + report["initial_contingency"]
    assert report["initial_margin_balance"] == pytest.approx(
        report["worst_loss"] * report["initial_factor"] - charges + report["mark_to_market"] + report["cash"], rel=1e-9
    )


# Scenarios


@pytest.mark.parametrize(
    ("seconds", "moved"),
    [
        (-1, 0.0),
        (0, 0.0),
        (450, 5.0),  # three quarters fixed: 25 of the forward rise by a fifth
        (900, 10.0),
        (1799, 20.0 * 1799 / 1800),
        (1800, 20.0),  # the window has not begun
        (1801, 20.0),
    ],
)
def test_what_is_observed_of_the_settlement_price_does_not_move(seconds: float, moved: float) -> None:
    # A call at 50 without vol is worth F − 50.
    book = make_book(
        parameters__scenarios=[scenario(1.2)],
        market__expiries=[expiry(seconds=seconds)],
        positions__options=[option(50.0, 1.0)],
    )
    assert only_pnl(book) == pytest.approx(moved, rel=1e-12, abs=1e-12)
    # The basis moves the same share: half of the fall counts by `add`.
    book["parameters"]["basis"] |= {"spot_up": 1.2, "spot_down": 0.8, "add": 0.5}
    assert evaluate(book)["basis_contingency"] == pytest.approx(-0.5 * moved, rel=1e-12, abs=1e-12)


def test_an_expired_option_is_worth_its_intrinsic_value_and_is_still_charged() -> None:
    book = make_book(
        parameters__scenarios=[scenario(1.5, "up"), scenario(0.5, "down"), scenario(1.0, "linear")],
        market__expiries=[expiry(seconds=-60, rate=0.5, vol_confidence=0.2)],
        positions__options=[option(90.0, -2.0, mark_vol=0.8)],
        positions__cash=50.0,
    )
    book["parameters"]["contingency"] |= {"mm_option": 0.01, "im_option": 0.02}
    book["parameters"]["basis"] |= {"spot_up": 1.5, "add": 1.0, "mult": 1.0}
    report = evaluate(book)
    # Mark −2 · 10; naked 2 · 100 USD: MM 1 %, IM 2 % more; confidence (1 − 0.2) · 0.4 of 200 = 64.
    assert report["scenario_pnl"] == [0.0, 0.0, 0.0]
    assert report["mark_to_market"] == -20.0
    assert report["basis_contingency"] == 0.0
    assert report["maintenance_margin_balance"] == pytest.approx(50 - 20 - 2, rel=1e-12)
    assert report["initial_margin_balance"] == pytest.approx(50 - 20 - 2 - 4 - 64, rel=1e-12)


def test_an_expired_option_needs_no_floor_of_days() -> None:
    book = make_book(
        parameters__scenarios=[scenario(1.2, "up"), scenario(0.8, "down")],
        parameters__vol_shock__dte_floor_days=0.0,
        market__expiries=[expiry(seconds=0)],
        positions__options=[option(90.0, 1.0, mark_vol=0.8)],
    )
    assert evaluate(book)["scenario_pnl"] == [0.0, 0.0]


@pytest.mark.parametrize("amount", [3.0, -3.0])
@pytest.mark.parametrize(
    ("move", "moneyness", "multiplier"),
    [
        ("linear", 0.1, 1.1),
        ("linear", 0.5, 1.2),  # the cap
        ("linear", -0.1, 0.9),
        ("linear", -0.5, 0.8),
        ("linear", 0.0, 1.0),
        ("abs", 0.1, 1.1),
        ("abs", 0.5, 1.2),
        ("abs", -0.1, 1.1),
        ("abs", -0.5, 1.2),
        ("abs", 0.0, 1.0),
    ],
)
def test_skew_scenarios_tilt_vols_and_take_the_worse_sign(
    move: str, moneyness: float, multiplier: float, amount: float
) -> None:
    strike = 100 * math.exp(moneyness)
    # The spot of a skew scenario moves no option.
    book = make_book(
        parameters__scenarios=[scenario(1.3, move, 0.5)],
        positions__options=[option(strike, amount, mark_vol=0.6)],
    )
    change = value_by_hand(strike, 0.6 * multiplier, 1.0) - value_by_hand(strike, 0.6, 1.0)
    assert only_pnl(book) == pytest.approx(-abs(3 * change) * 0.5, rel=1e-9, abs=1e-12)


def test_a_skew_scenario_takes_the_worse_sign_of_each_expiry_by_itself() -> None:
    # Equal and opposite: nothing at stake in the sum, twice the loss in the scenario.
    book = make_book(
        parameters__scenarios=[scenario(1.0, "linear")],
        market__expiries=[expiry(), expiry(id="E1")],
        positions__options=[option(150.0, 1.0, mark_vol=0.6), option(150.0, -1.0, mark_vol=0.6, expiry="E1")],
    )
    change = value_by_hand(150.0, 0.72, 1.0) - value_by_hand(150.0, 0.6, 1.0)
    assert only_pnl(book) == pytest.approx(-2 * change, rel=1e-9)


def test_linear_and_abs_have_parameters_of_their_own() -> None:
    book = make_book(
        parameters__scenarios=[scenario(1.0, "linear"), scenario(1.0, "abs")],
        parameters__skew_shock__abs_c_base=0.05,
        parameters__skew_shock__abs_cap=0.35,
        market__expiries=[expiry(seconds=4 * YEAR)],
        positions__options=[option(1000.0, 1.0, mark_vol=0.6)],
    )
    # √T is 2: caps 0.3 − 0.2 = 0.1 and 0.35 + 0.1 = 0.45, both reached.
    now = value_by_hand(1000.0, 0.6, 4.0)
    expected = [-(value_by_hand(1000.0, 0.6 * multiplier, 4.0) - now) for multiplier in (1.1, 1.45)]
    assert evaluate(book)["scenario_pnl"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("floor", "multiplier"),
    [(0.01, 1.1), (0.4, 1.05), (2.0, 1.01)],
)
def test_the_width_of_the_skew_has_a_floor(floor: float, multiplier: float) -> None:
    strike = 100 * math.exp(0.1)
    book = make_book(
        parameters__scenarios=[scenario(1.0, "linear")],
        parameters__skew_shock__min_k_star=floor,
        positions__options=[option(strike, 1.0, mark_vol=0.6)],
    )
    change = value_by_hand(strike, 0.6 * multiplier, 1.0) - value_by_hand(strike, 0.6, 1.0)
    assert only_pnl(book) == pytest.approx(-change, rel=1e-9)


@pytest.mark.parametrize(("moneyness", "multiplier"), [(0.001, 1.2), (-0.001, 0.8), (0.0, 1.0)])
def test_a_skew_without_width_is_at_its_cap_off_the_forward(moneyness: float, multiplier: float) -> None:
    strike = 100 * math.exp(moneyness)
    book = make_book(
        parameters__scenarios=[scenario(1.0, "linear")],
        parameters__skew_shock__min_k_star=0.0,
        parameters__skew_shock__min_width_scale=0.0,
        positions__options=[option(strike, 1.0, mark_vol=0.6)],
    )
    change = value_by_hand(strike, 0.6 * multiplier, 1.0) - value_by_hand(strike, 0.6, 1.0)
    assert only_pnl(book) == pytest.approx(-abs(change), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("moneyness", "multiplier"),
    [(0.1, 0.8), (0.3, 0.7), (-0.1, 1.2), (-0.3, 1.3)],
)
def test_a_cap_below_zero_bounds_each_side_from_the_other(moneyness: float, multiplier: float) -> None:
    # Cap 0.3 − 0.5 = −0.2 at width 0.2. Above the forward min(−k, −0.2), below it max(−k, 0.2).
    strike = 100 * math.exp(moneyness)
    book = make_book(
        parameters__scenarios=[scenario(1.0, "linear")],
        parameters__skew_shock__linear_c_base=-0.5,
        positions__options=[option(strike, 1.0, mark_vol=0.6)],
    )
    change = value_by_hand(strike, 0.6 * multiplier, 1.0) - value_by_hand(strike, 0.6, 1.0)
    assert only_pnl(book) == pytest.approx(-abs(change), rel=1e-9)


def test_a_skewed_vol_is_never_below_zero() -> None:
    # Cap 3, k = −0.5 / 0.2 · 3 → multiplier 1 − 3: no vol, and the call is worth its intrinsic value.
    strike = 100 * math.exp(-0.5)
    book = make_book(
        parameters__scenarios=[scenario(1.0, "linear")],
        parameters__skew_shock__linear_c_base=2.7,
        positions__options=[option(strike, 1.0, mark_vol=0.6)],
    )
    assert only_pnl(book) == pytest.approx(-(value_by_hand(strike, 0.6, 1.0) - (100 - strike)), rel=1e-9)


def test_the_moneyness_of_the_skew_is_of_the_whole_forward() -> None:
    # Inside the window the forward is partly fixed, and the skew takes no notice.
    strike, years = 100 * math.exp(0.001), 900 / YEAR
    root = math.sqrt(years)
    book = make_book(
        parameters__scenarios=[scenario(1.0, "linear")],
        market__expiries=[expiry(seconds=900)],
        positions__options=[option(strike, 1.0, mark_vol=0.6)],
    )
    cap = 0.3 - 0.1 * root
    multiplier = 1 + 0.001 * cap / 0.01
    change = value_by_hand(strike, 0.6 * multiplier, years) - value_by_hand(strike, 0.6, years)
    assert only_pnl(book) == pytest.approx(-change, rel=1e-9)


@pytest.mark.parametrize(
    ("move", "vol"),
    [
        ("up", 0.4),  # 0.1 · 1.5 is below the floor
        ("down", 0.075),
        ("none", 0.1),
        ("linear", 0.12),
        ("abs", 0.12),
    ],
)
def test_only_vols_moved_up_have_a_floor(move: str, vol: float) -> None:
    book = make_book(
        parameters__scenarios=[scenario(1.0, move)],
        parameters__vol_shock__min_vol_up=0.4,
        positions__options=[option(130.0, -1.0, mark_vol=0.1)],
    )
    change = value_by_hand(130.0, vol, 1.0) - value_by_hand(130.0, 0.1, 1.0)
    # The short gains when vols fall; in a skew scenario it loses either way.
    assert only_pnl(book) == pytest.approx(-change, rel=1e-9, abs=1e-12)


def test_the_floor_is_of_the_shocked_vol() -> None:
    book = make_book(
        parameters__scenarios=[scenario(1.0, "up")],
        parameters__vol_shock__min_vol_up=0.4,
        positions__options=[option(130.0, 1.0, mark_vol=0.3)],
    )
    assert only_pnl(book) == pytest.approx(value_by_hand(130.0, 0.45, 1.0) - value_by_hand(130.0, 0.3, 1.0), rel=1e-9)


def test_a_vol_moved_down_is_never_below_zero() -> None:
    book = make_book(
        parameters__scenarios=[scenario(1.0, "down")],
        parameters__vol_shock__range_down=1.7,
        positions__options=[option(90.0, 1.0, mark_vol=0.6)],
    )
    assert only_pnl(book) == pytest.approx(10 - value_by_hand(90.0, 0.6, 1.0), rel=1e-9)


@pytest.mark.parametrize(
    ("seconds", "floor_days", "scale"),
    [
        (6 * 3600, 1.0, 30**0.5),  # the floor of one day
        (7.5 * DAY, 1.0, 4**0.5),
        (30 * DAY, 60.0, 0.5**0.5),  # to exactly thirty days the short-term power
        (30 * DAY + 1, 60.0, 0.5**2),
        (120 * DAY, 1.0, 0.25**2),
    ],
)
def test_level_shocks_scale_with_time(seconds: float, floor_days: float, scale: float) -> None:
    book = make_book(
        parameters__scenarios=[scenario(1.0, "up"), scenario(1.0, "down")],
        parameters__vol_shock__long_term_power=2.0,
        parameters__vol_shock__range_down=0.1,
        parameters__vol_shock__dte_floor_days=floor_days,
        market__expiries=[expiry(seconds=seconds)],
        positions__options=[option(100.0, 1.0, mark_vol=0.6)],
    )
    years = seconds / YEAR
    now = value_by_hand(100.0, 0.6, years)
    vols = [0.6 * (1 + 0.5 * scale), 0.6 * (1 - 0.1 * scale)]
    expected = [value_by_hand(100.0, vol, years) - now for vol in vols]
    assert evaluate(book)["scenario_pnl"] == pytest.approx(expected, rel=1e-9)


def test_spot_vol_and_dampening_together() -> None:
    book = make_book(
        parameters__scenarios=[scenario(0.9, "up", 0.25)],
        positions__options=[option(110.0, -2.0, mark_vol=0.6, call=False)],
    )
    # Long-term power 0: the whole range, 0.6 · 1.5.
    moved = value_by_hand(110.0, 0.9, 1.0, call=False, forward=90.0)
    expected = -2 * (moved - value_by_hand(110.0, 0.6, 1.0, call=False)) * 0.25
    assert only_pnl(book) == pytest.approx(expected, rel=1e-9)
