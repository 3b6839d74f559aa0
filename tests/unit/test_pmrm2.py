"""The model `pmrm2`: public vectors, every branch of the formula by hand, and laws on generated books."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeper.margin.pmrm2 import evaluate
from keeper.margin.pmrm2_book import Pmrm2Error, VolMove, parse

Json = dict[str, Any]

VECTORS: Json = json.loads((Path(__file__).resolve().parents[1] / "vectors" / "pmrm2.json").read_text())
CASES = [pytest.param(case, id=case["name"]) for case in VECTORS["cases"]]
DAY = 86_400
YEAR = 365 * DAY


def vector_book(case: Json) -> Json:
    """The book of a vector; the file holds each set of parameters once."""
    parameters = VECTORS["parameters"][case["parameters"]]
    return {"model": "pmrm2", "parameters": parameters, "market": case["market"], "positions": case["positions"]}


def scenario(spot: float, vol: str = "none", dampening: float = 1.0) -> Json:
    return {"spot": spot, "vol": vol, "dampening": dampening}


def option(strike: float, amount: float, *, call: bool = True, mark_vol: float = 0.0, expiry: str = "E0") -> Json:
    return {"expiry": expiry, "strike": strike, "call": call, "mark_vol": mark_vol, "amount": amount}


def expiry(**fields: Any) -> Json:
    """One year, forward 100, no rate, full confidence."""
    full = {"forward_confidence": 1.0, "rate_confidence": 1.0, "vol_confidence": 1.0}
    return {"id": "E0", "seconds": YEAR, "forward": 100.0, "rate": 0.0, **full, **fields}


def collateral(**fields: Any) -> Json:
    """100 units at 2 USD, no haircut, full confidence, unmoved by the spot."""
    plain = {"amount": 100.0, "price": 2.0, "confidence": 1.0, "im_haircut": 0.0, "mm_haircut": 0.0}
    return {"asset": "COIN", "offsets_spot": False, **plain, **fields}


def make_book(**changes: Any) -> Json:
    """Spot, perpetual and forward 100, stable 1, nothing held, nothing discounted and nothing charged.

    Changes go by path with __ between the names: `market__spot=90`.
    """
    made: Json = {
        "model": "pmrm2",
        "parameters": {
            "scenarios": [scenario(1.0)],
            "vol_shock": {
                "range_up": 0.5,
                "range_down": 0.25,
                "short_term_power": 0.5,
                "long_term_power": 0.0,
                "dte_floor_days": 1.0,
                "min_vol_up": 0.0,
            },
            # At one year: caps 0.3 − 0.1 = 0.2, reached at |ln(K / F)| = 1 · 1 · (0.5 − 0.3) = 0.2.
            "skew_shock": {
                "linear_c_base": -0.1,
                "linear_cap": 0.3,
                "abs_c_base": -0.1,
                "abs_cap": 0.3,
                "min_k_star": 0.01,
                "min_width_scale": 1.0,
                "vol_param_static": 0.5,
                "vol_param_scale": -0.3,
            },
            "margin": {
                "mm_factor": 0.8,
                "im_factor": 1.0,
                "short_rate_mult": 0.0,
                "long_rate_mult": 0.0,
                "short_rate_add": 0.0,
                "long_rate_add": 0.0,
                "base_discount_long": 1.0,
                "base_discount_short": 1.0,
            },
            "basis": {"spot_up": 1.0, "spot_down": 1.0, "add": 0.0, "mult": 0.0},
            "contingency": {
                "peg_threshold": 0.98,
                "peg_factor": 2.0,
                "confidence_threshold": 0.5,
                "confidence_margin": 0.4,
                "mm_perp": 0.0,
                "im_perp": 0.0,
                "mm_option": 0.0,
                "im_option": 0.0,
            },
        },
        "market": {
            "spot": 100.0,
            "spot_confidence": 1.0,
            "perp_price": 100.0,
            "perp_confidence": 1.0,
            "stable_price": 1.0,
            "expiries": [expiry()],
        },
        "positions": {
            "cash": 0.0,
            "perp": 0.0,
            "unrealised_perp_pnl": 0.0,
            "unrealised_funding": 0.0,
            "options": [],
            "collateral": [],
        },
    }
    for path, value in changes.items():
        *parts, last = path.split("__")
        place = made
        for part in parts:
            place = place[part]
        assert last in place, path
        place[last] = value
    return made


def value_by_hand(strike: float, vol: float, years: float, *, call: bool = True, forward: float = 100.0) -> float:
    """Undiscounted Black-76, from the error function."""
    deviation = vol * math.sqrt(years)
    upper = math.log(forward / strike) / deviation + deviation / 2
    lower = upper - deviation
    normal = [(1 + math.erf(sign * point / math.sqrt(2))) / 2 for point in (upper, lower) for sign in (1, -1)]
    return forward * normal[0] - strike * normal[2] if call else strike * normal[3] - forward * normal[1]


def only_pnl(book: Json) -> float:
    (pnl,) = evaluate(book)["scenario_pnl"]
    return float(pnl)


# The vectors


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


# What is legal, and what is not


def test_the_name_of_the_model_may_be_left_out() -> None:
    book = make_book()
    del book["model"]
    assert evaluate(book)["model"] == "pmrm2"


def test_a_market_without_a_perpetual_has_no_price_of_it() -> None:
    assert evaluate(make_book(market__perp_price=0.0))["initial_margin_balance"] == 0.0


def test_an_expiry_without_options_has_no_part_in_a_margin() -> None:
    report = evaluate(make_book(market__expiries=[expiry(), expiry(id="E1")], positions__options=[option(90.0, 1.0)]))
    assert [e["id"] for e in report["expiries"]] == ["E0"]


def test_parse_reads_every_field() -> None:
    parsed = parse(vector_book(VECTORS["cases"][-1]))
    assert parsed.parameters.scenarios[0].vol is VolMove.UP
    assert parsed.market.expiries[1].id == "E1"
    assert parsed.positions.options[0].strike == 58414.0
    assert len(parsed.positions.collateral) == 2


FULL = make_book(
    positions__options=[option(90.0, 1.0), option(95.0, 1.0)],
    positions__collateral=[collateral()],
    positions__perp=1.0,
)


def broken(path: str, value: Any) -> Json:
    """The full book with one field changed; indices stand between dots, and None removes the field."""
    book = copy.deepcopy(FULL)
    *parts, last = path.split(".")
    place: Any = book
    for part in parts:
        place = place[int(part) if part.isdigit() else part]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return book


def leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """Every field of a book by its path, those within lists with an index."""
    entries = list(value.items()) if isinstance(value, Mapping) else []
    places = [(f"{path}.{name}" if path else name, entry) for name, entry in entries]
    inner = [(f"{path}.{index}", entry) for index, entry in enumerate(value)] if isinstance(value, list) else places
    return [*places, *(leaf for place, entry in inner for leaf in leaves(entry, place))]


def named(path: str) -> str:
    """positions.options.1.strike as messages have it: positions.options[1].strike."""
    return "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in path.split("."))[1:]


FIELDS = [path for path, _ in leaves(FULL) if path != "model"]
NUMBERS = [path for path, value in leaves(FULL) if isinstance(value, int | float) and not isinstance(value, bool)]


def refusal(book: Any) -> str:
    with pytest.raises(Pmrm2Error) as raised:
        evaluate(book)
    return str(raised.value)


@pytest.mark.parametrize("path", FIELDS)
def test_evaluate_RevertWhen_AFieldIsMissing(path: str) -> None:
    assert refusal(broken(path, None)) == f"{named(path)}: missing"


@pytest.mark.parametrize("wrong", ["1", True, [], math.nan, math.inf, -math.inf, 10**400], ids=lambda v: str(v)[:5])
def test_evaluate_RevertWhen_ANumberIsNone(wrong: Any) -> None:
    for path in NUMBERS:
        assert refusal(broken(path, wrong)).startswith(f"{named(path)}: {wrong!r}, wanted a ")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("market.spot", 0.0, "market.spot: 0.0, wanted above 0"),
        ("market.spot", -1.0, "market.spot: -1.0, wanted above 0"),
        ("market.stable_price", 0, "market.stable_price: 0, wanted above 0"),
        ("market.perp_price", 0.0, "market.perp_price: 0.0, wanted above 0"),
        ("market.perp_price", -2.0, "market.perp_price: -2.0, wanted at least 0"),
        ("market.expiries.0.forward", 0.0, "market.expiries[0].forward: 0.0, wanted above 0"),
        ("positions.collateral.0.price", 0.0, "positions.collateral[0].price: 0.0, wanted above 0"),
        ("positions.options.1.strike", -90.0, "positions.options[1].strike: -90.0, wanted above 0"),
        ("positions.options.1.strike", 0.0, "positions.options[1].strike: 0.0, wanted above 0"),
        ("positions.options.1.mark_vol", -0.1, "positions.options[1].mark_vol: -0.1, wanted at least 0"),
        ("positions.options.1.expiry", "E7", "positions.options[1].expiry: 'E7', not an expiry of the market"),
        ("positions.options.1.call", 1, "positions.options[1].call: 1, wanted true or false"),
        ("positions.collateral.0.offsets_spot", "yes", "positions.collateral[0].offsets_spot: 'yes', wanted true"),
        ("positions.collateral.0.asset", 3, "positions.collateral[0].asset: 3, wanted a text"),
        ("market.expiries", [expiry(), expiry()], "market.expiries[1].id: 'E0', listed twice"),
        ("market.expiries", {}, "market.expiries: {}, wanted a list"),
        ("positions.options", "none", "positions.options: 'none', wanted a list"),
        ("positions.options", [7], "positions.options[0]: 7, wanted an object"),
        ("parameters.margin", [1.0], "parameters.margin: [1.0], wanted an object"),
        ("parameters.scenarios.0.spot", -0.1, "parameters.scenarios[0].spot: -0.1, wanted at least 0"),
        ("parameters.scenarios.0.vol", "sideways", "parameters.scenarios[0].vol: 'sideways', wanted one of up, down"),
        ("parameters.scenarios.0.vol", 1, "parameters.scenarios[0].vol: 1, wanted a text"),
        ("parameters.basis.spot_down", -0.1, "parameters.basis.spot_down: -0.1, wanted at least 0"),
        ("model", "pmrm", "model: 'pmrm', wanted 'pmrm2'"),
        ("marktet", {}, "marktet: {}, no field of a book"),
        ("market.sport", 1.0, "market.sport: 1.0, no field of a book"),
        ("positions.options.1.vega", 1.0, "positions.options[1].vega: 1.0, no field of a book"),
        ("parameters.vol_shock.floor", 1.0, "parameters.vol_shock.floor: 1.0, no field of a book"),
    ],
)
def test_evaluate_RevertWhen_AFieldHasNoMeaning(path: str, value: Any, message: str) -> None:
    assert refusal(broken(path, value)).startswith(message)


@pytest.mark.parametrize("book", [None, [], "book", 3], ids=repr)
def test_evaluate_RevertWhen_ABookIsNoObject(book: Any) -> None:
    assert refusal(book) == f"book: {book!r}, wanted an object"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("positions.options.0.amount", 1e308),
        ("positions.options.0.mark_vol", 1.7e308),
        ("positions.perp", 1e308),
        ("market.expiries.0.rate", 1e4),
        ("parameters.margin.short_rate_add", 1e6),
        ("parameters.vol_shock.long_term_power", -1e6),
    ],
)
def test_evaluate_RevertWhen_NumbersAreTooLarge(path: str, value: float) -> None:
    book = broken(path, value)
    book["parameters"]["scenarios"] = [scenario(50.0, "up", 50.0)]
    assert refusal(book).startswith("book: its numbers leave the range of a double")


# Laws

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
