"""xpm: figures derived by hand, and the laws that its requirements keep."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from option_books import (
    EXPIRIES,
    LAWFUL,
    LAWFUL_SCENARIOS,
    LISTING,
    MARKS,
    NAMES,
    PARAMETERS,
    SCENARIOS,
    SPOT,
    UNIVERSE,
    XPM,
    books,
    future,
    market,
    option,
    vector,
)
from worlds import BTC, ETH, MODEL, WETH, A, B, make_deployment, marks
from worlds import PARAMETERS as PLAIN

from keeper.margin import black76
from keeper.margin.history import expected_shortfall, filtered, stressed
from keeper.margin.listing import Listing, UnknownAsset
from keeper.margin.model import Floats
from keeper.margin.names import expiry_name
from keeper.margin.parameters import ParameterError
from keeper.margin.reference import concentration
from keeper.margin.xpm import Xpm
from keeper.market.marks import Curve, Expiry, MarkError, Marks
from keeper.market.surface import AtmSkew
from keeper.state.ids import Kind, perpetual, token_id

ASSETS = (token_id(A, WETH), token_id(B, WETH), ETH, BTC)
LINEAR = MODEL.scenarios(marks(), ASSETS)
THREE = Xpm(PLAIN, Listing.of(make_deployment(NAMES)))

sizes = st.lists(st.floats(-1000, 1000, allow_subnormal=False), min_size=4, max_size=4)


def pnl_of(*amounts: float) -> Floats:
    """Vector of amounts of ASSETS."""
    return np.array(amounts) @ LINEAR.pnl


def required(*amounts: float) -> tuple[float, float]:
    initial, maintenance = LINEAR.requirements(pnl_of(*amounts))
    return float(initial), float(maintenance)


# --- linear books by hand -------------------------------------------------------------------------------------------


def test_long_five_eth_by_hand() -> None:
    # The worst cell is −15 % of 15,000 = −2,250, alone and jointly: S = 0.5 · 2,250 + 0.5 · 2,250 = 2,250.
    # IM = 1.0 · 2,250 + 2.8 % · 15,000 = 2,250 + 420 = 2,670;  MM = 0.8 · 2,250 + 2 % · 15,000 = 1,800 + 300 = 2,100.
    assert required(0, 0, 5, 0) == pytest.approx((2670, 2100), rel=1e-12)
    assert required(0, 0, -5, 0) == pytest.approx((2670, 2100), rel=1e-12)


def test_weth_held_against_a_short_perpetual_is_a_hedge() -> None:
    # No scenario loses; only the contingency of the perpetual's notional remains: 2.8 % and 2 % of 15,000. The WETH
    # lies on two chains.
    assert required(2, 3, -5, 0) == pytest.approx((420, 300), rel=1e-12)
    # Collateral alone: 15 % of 15,000 and no perpetual. 0.8 of it is maintenance.
    assert required(5, 0, 0, 0) == pytest.approx((2250, 1800), rel=1e-12)


def test_two_underlyings_against_each_other_by_hand() -> None:
    # Long 1 BTC (60,000), short 10 ETH (30,000). Singly −9,000 and −4,500; jointly BTC −7.5 %, ETH +7.5 %: −6,750.
    # S = 0.5 · (9,000 + 4,500) + 0.5 · 6,750 = 10,125; IM = 10,125 + 2.8 % · 90,000 = 12,645.
    assert required(0, 0, -10, 1)[0] == pytest.approx(12645, rel=1e-12)
    # Long both, the joint scenario is −15 % of both: S = 0.5 · 13,500 + 0.5 · 13,500, a third more.
    assert required(0, 0, 10, 1)[0] == pytest.approx(16020, rel=1e-12)


def test_a_market_that_moves_as_one_counts_for_half() -> None:
    # A vector that gains in every joint scenario what it loses in one grid: only d · Σ worst cells remains.
    labels = [(label.block, label.move) for label in LINEAR.labels]
    v = np.zeros(len(labels))
    v[labels.index(("ETH", "−15 %"))] = -1000.0
    initial, maintenance = LINEAR.requirements(v)
    assert (float(initial), float(maintenance)) == pytest.approx((500, 400), rel=1e-12)


def test_sol_moves_twenty_percent() -> None:
    # 1 SOL at 100: S = 20; IM = 20 + 2.8; MM = 16 + 2.
    scenarios = THREE.scenarios(Marks({**marks().prices, "SOL": 100 * 10**18}), [perpetual("SOL")])
    initial, maintenance = scenarios.requirements(scenarios.pnl[0])
    assert (float(initial), float(maintenance)) == pytest.approx((22.8, 18), rel=1e-12)


def test_the_tails_of_a_linear_book_pay_about_its_range() -> None:
    # −30 % × 0.5, +30 % × 0.5, −60 % × 0.25, +100 % × 0.15: each 15 %.
    tails = [
        gain
        for label, gain in zip(LINEAR.labels, LINEAR.pnl[2], strict=True)
        if label.block == "ETH" and "×" in label.move
    ]
    assert tails == pytest.approx([-450, 450, -450, 450])


def test_columns_are_each_named_once() -> None:
    for scenarios in (LINEAR, SCENARIOS):
        assert len(set(scenarios.labels)) == len(scenarios.labels) == scenarios.pnl.shape[1]
    # Per underlying 9 nodes × 3 vols and 4 tails.
    assert LINEAR.layout.cells == 31
    # Jointly those 31, and of the eight sign patterns the six that are not among them.
    assert sum(label.block == "joint" for label in SCENARIOS.labels) == SCENARIOS.layout.joint == 31 + 6
    assert (SCENARIOS.layout.recent, SCENARIOS.layout.stress) == (500, 250)


def test_three_underlyings_are_tried_in_all_eight_directions() -> None:
    labels = [label.move for label in THREE.scenarios(Marks({}), []).labels if label.block == "joint"]
    patterns = {
        tuple(part.split()[1][0] for part in move.replace(", vol", " vol").split(", "))
        for move in labels
        if "×" not in move
    }
    assert {p for p in patterns if "0" not in p} == {(a, b, c) for a in "+−" for b in "+−" for c in "+−"}


# --- options --------------------------------------------------------------------------------------------------------


def test_one_long_call_by_hand() -> None:
    """At spot −15 % with vol down, a call of 30 days: each number of the cell is computed here by itself."""
    call = option("ETH", Kind.CALL, 2, 1.0)
    forward, years = 3_000 * 1.006, 30 / 365
    expiry = MARKS.curves["ETH"].expiries[EXPIRIES[2]]
    assert expiry.smile is not None
    vol = float(expiry.smile.vol(math.log(3_000 / forward), years))
    shocked = vol * (1 - 0.30)  # z = (30 / 30)^0.30 = 1
    value = math.exp(-0.03 * years) * float(black76.price(forward, 3_000, vol, years, True))
    after = math.exp(-0.03 * years) * float(black76.price(forward * 0.85, 3_000, shocked, years, True))
    scenarios = XPM.scenarios(MARKS, [call])
    labels = [(label.block, label.move) for label in scenarios.labels]
    assert scenarios.pnl[0][labels.index(("ETH", "−15 %, vol down"))] == pytest.approx(after - value, rel=1e-12)
    # Up, the vol is at least 0.40; this one is above it: × 1.5.
    up = math.exp(-0.03 * years) * float(black76.price(forward * 1.15, 3_000, vol * 1.5, years, True))
    assert vol * 1.5 > 0.4
    assert scenarios.pnl[0][labels.index(("ETH", "+15 %, vol up"))] == pytest.approx(up - value, rel=1e-12)
    # A long option can lose its value and no more.
    assert float(scenarios.requirements(scenarios.pnl)[0][0]) <= value + 0.04 * forward


@pytest.mark.parametrize(("expiry", "z"), [(0, 15**0.30), (2, 1.0), (3, (30 / 180) ** 0.13)])
def test_vol_shocks_scale_with_the_time_that_is_left(expiry: int, z: float) -> None:
    call = option("BTC", Kind.CALL, expiry, 1.0)
    e = MARKS.curves["BTC"].expiries[EXPIRIES[expiry]]
    years = (EXPIRIES[expiry] - MARKS.time) / 86_400 / 365
    assert e.smile is not None
    vol = float(e.smile.vol(math.log(60_000 / e.forward), years))
    discount = math.exp(-0.03 * years)
    wanted = discount * float(
        black76.price(e.forward, 60_000, max(0.4, vol * (1 + 0.5 * z)), years, True)
    ) - discount * float(black76.price(e.forward, 60_000, vol, years, True))
    scenarios = XPM.scenarios(MARKS, [call])
    column = [(label.block, label.move) for label in scenarios.labels].index(("BTC", "0 %, vol up"))
    assert scenarios.pnl[0][column] == pytest.approx(wanted, rel=1e-9)


def test_a_book_of_straddles_pays_its_whole_worst_cell() -> None:
    """With one underlying the joint scenarios hold every cell of the grid, the skews too: nothing is halved."""
    one = Xpm(
        replace(PARAMETERS, returns=None),
        replace(Listing.of(make_deployment(("ETH",))), kinds=LISTING.kinds, dated=None),
    )
    for straddle in (-1.0, 1.0):
        legs = [option("ETH", kind, 2, 1.0) for kind in (Kind.CALL, Kind.PUT)]
        scenarios = one.scenarios(MARKS, legs)
        v = straddle * (scenarios.pnl[0] + scenarios.pnl[1])
        parts = {part.block: part for part in scenarios.parts(v)}
        assert parts["joint"].pnl == pytest.approx(parts["ETH"].pnl, rel=1e-12)
        scan = parts["joint"].requirement.initial + parts["ETH"].requirement.initial
        assert scan == pytest.approx(-parts["ETH"].pnl, rel=1e-12)
        assert -parts["ETH"].pnl >= -float(v[: scenarios.layout.cells].min()) * (1 - 1e-12)


def test_a_long_of_one_kind_covers_a_short_of_the_other() -> None:
    call, put = option("ETH", Kind.CALL, 2, 1.0), option("ETH", Kind.PUT, 2, 1.0)
    scenarios = XPM.scenarios(MARKS, [call, put])

    def naked(calls: float, puts: float) -> float:
        v = calls * scenarios.pnl[0] + puts * scenarios.pnl[1]
        found = [p.requirement.initial for p in scenarios.parts(v) if p.block.startswith("ETH options")]
        return sum(found)

    unit = 3_000 * 0.007  # 0.4 % and 0.3 % of spot
    # Both short: their sum. Opposite: short beyond long. Both long: none.
    assert naked(-2, -3) == pytest.approx(5 * unit)
    assert naked(-3, 1) == pytest.approx(2 * unit)
    assert naked(1, -3) == pytest.approx(2 * unit)
    assert naked(-1, 3) == naked(2, 1) == 0


def test_a_future_against_the_perpetual_pays_for_the_basis() -> None:
    # +1 future of 180 days, −1 perpetual: scenarios move both alike but for the forward's premium of 3.6 %: 15 % of
    # 3,108 less 15 % of 3,000 is 16.2. Basis: 4 % of 3,108 · (0.5 + 1.8 · 180/365).
    scenarios = LAWFUL.scenarios(MARKS, [perpetual("ETH"), future("ETH", 3)])
    v = scenarios.pnl[1] - scenarios.pnl[0]
    parts = {part.block: part.requirement.initial for part in scenarios.parts(v)}
    assert parts[f"ETH basis {expiry_name(EXPIRIES[3])}"] == pytest.approx(0.04 * 3_108 * (0.5 + 1.8 * 180 / 365))
    assert parts["ETH perpetual"] == pytest.approx(0.028 * 3_000)
    assert parts["ETH"] + parts["joint"] == pytest.approx(0.15 * 108)


# --- contingencies --------------------------------------------------------------------------------------------------


def test_a_feed_of_little_confidence_costs_initial_margin() -> None:
    # Below 0.55: (1 − 0.5) · 0.9 of the notional. At 0.55 nothing.
    for confidence, wanted in ((0.5, 0.45 * 3_000), (0.55, 0.0)):
        scenarios = XPM.scenarios(market(perpetual_confidence=confidence), [perpetual("ETH")])
        plain = SCENARIOS.requirements(SCENARIOS.pnl[UNIVERSE.index(perpetual("ETH"))])
        initial, maintenance = scenarios.requirements(scenarios.pnl[0])
        assert float(initial - plain[0]) == pytest.approx(wanted, abs=1e-9)
        assert float(maintenance) == pytest.approx(float(plain[1]))


def test_a_settlement_token_below_its_peg_raises_initial_margin() -> None:
    # 0.985 − 0.965 = 0.02, × 2.5: five percent of the scenario requirement.
    scenarios = LAWFUL.scenarios(replace(MARKS, stable=0.965), [perpetual("BTC")])
    before, after = LAWFUL_SCENARIOS, scenarios
    v = before.pnl[UNIVERSE.index(perpetual("BTC"))]
    scan = float(before.requirements(v)[0]) - 0.028 * 60_000
    assert float(after.requirements(after.pnl[0])[0]) == pytest.approx(scan * 1.05 + 0.028 * 60_000)
    assert float(after.requirements(after.pnl[0])[1]) == pytest.approx(float(before.requirements(v)[1]))


def test_funding_owed_to_the_next_payment() -> None:
    scenarios = XPM.scenarios(market(funding=4.0), [perpetual("ETH")])
    plain = SCENARIOS.pnl[UNIVERSE.index(perpetual("ETH"))]
    for side, owed in ((1.0, 4.0), (-1.0, 0.0)):
        more = scenarios.requirements(side * scenarios.pnl[0])[0] - SCENARIOS.requirements(side * plain)[0]
        assert float(more) == pytest.approx(owed, abs=1e-9)


def test_concentration_by_hand() -> None:
    # 100,000 ETH at 3,000: N = 300 million, A = 100 million: 0.05 · N · (3 − 1) = 30 million, long or short.
    eth = UNIVERSE.index(perpetual("ETH"))
    for size in (100_000.0, -100_000.0):
        v = vector({eth: size}, SCENARIOS)
        charge = [p.requirement.initial for p in SCENARIOS.parts(v) if p.block == "ETH concentration"]
        assert charge == pytest.approx([30e6])
        added = SCENARIOS.requirements(v)[0] - LAWFUL_SCENARIOS.requirements(vector({eth: size}))[0]
        assert float(added) == pytest.approx(30e6)
    # Half of it here, half in another account of the owner: each pays half.
    v = vector({eth: 50_000.0}, SCENARIOS)
    v[SCENARIOS.layout.concentration + 3 * NAMES.index("ETH") + 2] = -150e6
    charge = [p.requirement.initial for p in SCENARIOS.parts(v) if p.block == "ETH concentration"]
    assert charge == pytest.approx([15e6])


@given(st.floats(0, 1e10), st.floats(0, 1e10), st.floats(0, 1e10))
def test_concentration_is_convex_and_never_more_than_what_is_held(one: float, other: float, elsewhere: float) -> None:
    def charge(held: float) -> float:
        return concentration(held, elsewhere, 1e8, 0.05)

    assert 0 <= charge(one) <= one
    assert charge((one + other) / 2) <= (charge(one) + charge(other)) / 2 * (1 + 1e-12) + 1e-6


# --- history --------------------------------------------------------------------------------------------------------


def test_history_binds_where_correlations_were_worse_than_the_grid() -> None:
    """Long BTC against short ETH, as in the past: V is the blend of both tails, of the book's own returns."""
    returns = PARAMETERS.returns
    assert returns is not None
    v = vector({UNIVERSE.index(perpetual("SOL")): -1000.0, UNIVERSE.index(perpetual("BTC")): 0.001})
    recent, stress = filtered(returns, NAMES, PARAMETERS.history), stressed(returns, NAMES, PARAMETERS.history)

    def shortfall(spot: Floats) -> float:
        moved = np.expm1(spot)
        return expected_shortfall(60_000 * 0.001 * moved[:, 0] - 150 * 1000.0 * moved[:, 2])

    blend = 0.75 * shortfall(recent.spot) + 0.25 * shortfall(stress.spot)
    layout = LAWFUL_SCENARIOS.layout
    assert layout.tails.tolist() == [12, 0.5, 6, 0.25]
    only_history = v.copy()
    only_history[: layout.common + layout.joint] = 0.0
    only_history[layout.skew :] = 0.0
    assert float(LAWFUL_SCENARIOS.requirements(only_history)[0]) == pytest.approx(blend, rel=1e-12)
    assert float(LAWFUL_SCENARIOS.requirements(only_history)[1]) == pytest.approx(0.8 * blend, rel=1e-12)


# --- laws -----------------------------------------------------------------------------------------------------------


@given(books, books)
def test_law_requirements_are_subadditive(one: dict[int, float], other: dict[int, float]) -> None:
    a, b = vector(one), vector(other)
    whole, first, second = (np.array(LAWFUL_SCENARIOS.requirements(v)) for v in (a + b, a, b))
    assert (whole <= (first + second) * (1 + 1e-12) + 1e-9).all()


@given(books, st.floats(0, 100))
def test_law_requirements_are_homogeneous(book: dict[int, float], factor: float) -> None:
    one, scaled = (np.array(LAWFUL_SCENARIOS.requirements(v)) for v in (vector(book), factor * vector(book)))
    assert scaled.tolist() == pytest.approx((factor * one).tolist(), rel=1e-9, abs=1e-9)


@given(books, books, st.floats(0, 1))
def test_law_requirements_are_convex_with_concentration(
    one: dict[int, float], other: dict[int, float], share: float
) -> None:
    a, b = 10_000 * vector(one, SCENARIOS), 10_000 * vector(other, SCENARIOS)
    between, first, second = (np.array(SCENARIOS.requirements(v)) for v in (share * a + (1 - share) * b, a, b))
    assert (between <= (share * first + (1 - share) * second) * (1 + 1e-12) + 1e-6).all()


@given(books, st.integers(0, 2**32 - 1))
def test_law_a_smaller_profit_never_lowers_a_requirement(book: dict[int, float], seed: int) -> None:
    v = vector(book, SCENARIOS)
    losses = np.random.default_rng(seed).uniform(0, 500, len(v))
    less, more = (np.array(SCENARIOS.requirements(w)) for w in (v, v - losses))
    assert (more >= less).all()


@given(books)
def test_law_initial_is_at_least_maintenance_which_is_not_negative(book: dict[int, float]) -> None:
    initial, maintenance = SCENARIOS.requirements(vector(book, SCENARIOS))
    assert initial >= maintenance
    assert maintenance >= 0


@given(books)
def test_parts_add_up_to_the_requirement_and_columns_to_their_part(book: dict[int, float]) -> None:
    v = vector(book, SCENARIOS)
    parts = SCENARIOS.parts(v)
    initial, maintenance = SCENARIOS.requirements(v)
    assert sum(p.requirement.initial for p in parts) == pytest.approx(float(initial), rel=1e-9, abs=1e-9)
    assert sum(p.requirement.maintenance for p in parts) == pytest.approx(float(maintenance), rel=1e-9, abs=1e-9)
    for part in parts:
        assert sum(v[column] * weight for column, weight in part.columns) == pytest.approx(part.pnl, rel=1e-9, abs=1e-9)


@settings(max_examples=50)
@given(books, st.floats(1.0, 1.5))
def test_law_greater_shocks_never_lower_a_requirement(book: dict[int, float], more: float) -> None:
    """Every scenario's profit and loss grows with what moves it, where it is linear: so does the requirement."""
    linear = {a: size for a, size in book.items() if UNIVERSE[a] in {perpetual(n) for n in NAMES}}
    eth = PARAMETERS.underlyings["ETH"]
    wider = replace(eth, largest_move=round(eth.largest_move * more))
    model = Xpm(replace(PARAMETERS, underlyings={**PARAMETERS.underlyings, "ETH": wider}), LISTING)
    scenarios = model.scenarios(MARKS, UNIVERSE)
    less = np.array(SCENARIOS.requirements(vector(linear, SCENARIOS)))
    assert (np.array(scenarios.requirements(vector(linear, scenarios))) >= less * (1 - 1e-12)).all()


def test_what_cannot_be_priced_is_named() -> None:
    with pytest.raises(ParameterError, match="PEPE"):
        Xpm(PARAMETERS, Listing.of(make_deployment(("ETH", "PEPE"))))
    with pytest.raises(MarkError, match="no price for BTC"):
        MODEL.scenarios(Marks({"ETH": 1}), [BTC])
    call = option("ETH", Kind.CALL, 0, 1.0)
    with pytest.raises(UnknownAsset, match="call on ETH"):
        MODEL.price(call, MARKS)
    with pytest.raises(MarkError, match="no forward for ETH at expiry 20270117"):
        XPM.price(call, marks())
    without = Marks(MARKS.prices, {"ETH": Curve({EXPIRIES[0]: Expiry(3_000.0)})}, MARKS.time)
    with pytest.raises(MarkError, match="no vol for ETH"):
        XPM.price(call, without)
    smile = Marks(MARKS.prices, {"ETH": Curve({EXPIRIES[0]: Expiry(SPOT["ETH"], smile=AtmSkew(0.5))})}, MARKS.time)
    assert XPM.price(call, smile) > 0
