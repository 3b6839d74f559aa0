"""pmrm2 as the model of a deployment: what it requires is what `pmrm2.evaluate` says of the same holdings."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import (
    BTC,
    ETH,
    MAKER,
    NOW,
    OWNER,
    WETH,
    A,
    Chains,
    granted,
    make_deployment,
    marks,
    refused,
    report_of,
    trade,
    usd,
)

from keeper.clearing.check import check_legs
from keeper.clearing.legs import leaves_of
from keeper.clearing.plan import plan_legs
from keeper.clearing.sale import Setting, sale_of
from keeper.margin.listing import Listing, UnknownAsset
from keeper.margin.model import Floats, NotConvex, require_convex
from keeper.margin.names import expiry_name
from keeper.margin.parameter_file import default_parameters
from keeper.margin.parameters import MarginParameters, ParameterError
from keeper.margin.pmrm2 import evaluate
from keeper.margin.pmrm2_book import Scenario, VolMove
from keeper.margin.pmrm2_model import Pmrm2
from keeper.margin.portfolio import Portfolio
from keeper.margin.valuation import EXACT, Valuation
from keeper.margin.xpm import Xpm
from keeper.market.marks import Curve, Expiry, MarkError, Marks
from keeper.market.surface import YEAR, AtmSkew
from keeper.state.batch import UNIT
from keeper.state.deployment import Profile
from keeper.state.ids import AssetId, Instrument, Kind, instrument_id, parse_instrument, token_id
from keeper.state.world import MarginAccount

SHIPPED = default_parameters("pmrm2")
assert SHIPPED.pmrm2 is not None
BOOK = SHIPPED.pmrm2.book
PERPETUALS = Listing.of(make_deployment(("ETH",)))
LISTING = replace(PERPETUALS, kinds=frozenset(Kind) - {Kind.TOKEN}, dated=None)
TOKEN = token_id(A, WETH)
DAY = 86_400
TIMES = (NOW - 60, NOW + 900, NOW + 9 * DAY, NOW + 180 * DAY)
OPTIONS = tuple(
    instrument_id(Instrument(kind, "ETH", at, strike * 10**8))
    for at in TIMES
    for kind in (Kind.CALL, Kind.PUT)
    for strike in (2_400, 3_000, 3_600)
)
ASSETS: tuple[AssetId, ...] = tuple(sorted((ETH, TOKEN, *OPTIONS)))
ACCOUNT = MarginAccount(OWNER, (A,))


def with_book(**changes: Any) -> MarginParameters:
    """The shipped parameters with parts of [pmrm2] changed."""
    assert SHIPPED.pmrm2 is not None
    return replace(SHIPPED, pmrm2=replace(SHIPPED.pmrm2, book=replace(BOOK, **changes)))


MODEL = Pmrm2(SHIPPED, LISTING)
SURE = replace(BOOK.contingency, confidence_margin=0.0)
LAWFUL = Pmrm2(
    with_book(
        scenarios=tuple(scenario for scenario in BOOK.scenarios if scenario.vol not in (VolMove.LINEAR, VolMove.ABS)),
        contingency=SURE,
    ),
    LISTING,
)
"""Without skews and confidences: convex, with options."""

PLAIN = replace(
    BOOK.margin,
    base_discount_long=1.0,
    base_discount_short=1.0,
    short_rate_mult=0.0,
    long_rate_mult=0.0,
    short_rate_add=0.0,
    long_rate_add=0.0,
)
UNDISCOUNTED = Pmrm2(with_book(margin=PLAIN, contingency=SURE), LISTING)
"""With skews, and without discounts: convex too."""

shares = st.floats(0, 1, allow_subnormal=False)


@st.composite
def markets(draw: st.DrawFn) -> Marks:
    expiries = {
        at: Expiry(
            forward=draw(st.floats(2_700, 3_300)),
            rate=draw(st.floats(-0.1, 0.2)),
            smile=AtmSkew(draw(st.floats(0.2, 1.2)), draw(st.floats(-0.1, 0.1)), 0.1),
            forward_confidence=draw(shares),
            rate_confidence=draw(shares),
            vol_confidence=draw(shares),
        )
        for at in TIMES
    }
    curve = Curve(expiries, draw(shares), draw(shares))
    return Marks({"ETH": usd(draw(st.floats(2_900, 3_100)))}, {"ETH": curve}, NOW, draw(st.floats(0.9, 1.1)))


sizes = st.floats(-50, 50, allow_subnormal=False)
holdings = st.dictionaries(st.sampled_from(OPTIONS), sizes, max_size=8)


def as_file(prices: Marks, perpetual: float, token: float, options: dict[AssetId, float], cash: float) -> Any:
    """The same holdings as a book of the model's own."""
    spot, curve = prices.prices["ETH"] / UNIT, prices.curves["ETH"]
    assert SHIPPED.pmrm2 is not None
    entries = []
    for asset, size in options.items():
        what = parse_instrument(asset)
        quote, strike = curve.expiries[what.expiry], what.strike / 1e8
        smile = quote.smile
        assert smile is not None
        years = max(what.expiry - prices.time, 0) / YEAR
        vol = float(smile.vol(np.array([math.log(strike / quote.forward)]), years)[0])
        entries.append(
            {
                "expiry": expiry_name(what.expiry),
                "strike": strike,
                "call": what.kind is Kind.CALL,
                "mark_vol": vol,
                "amount": size,
            }
        )
    return {
        "parameters": asdict(BOOK),
        "market": {
            "spot": spot,
            "spot_confidence": curve.spot_confidence,
            "perp_price": spot,
            "perp_confidence": curve.perpetual_confidence,
            "stable_price": prices.stable,
            "expiries": [
                {
                    "id": expiry_name(at),
                    "seconds": at - prices.time,
                    **{name: value for name, value in asdict(quote).items() if name != "smile"},
                }
                for at, quote in curve.expiries.items()
            ],
        },
        "positions": {
            # In the deployment a position's worth is in equity, in the book what it gained.
            "cash": cash + perpetual * spot,
            "perp": perpetual,
            "unrealised_perp_pnl": 0.0,
            "unrealised_funding": 0.0,
            "options": entries,
            "collateral": [
                {
                    "asset": "WETH",
                    "amount": token,
                    "price": spot * prices.stable,
                    "confidence": 1.0,
                    "mm_haircut": SHIPPED.underlyings["ETH"].haircut / 1e4,
                    "im_haircut": SHIPPED.pmrm2.initial_haircuts["ETH"] / 1e4,
                    "offsets_spot": True,
                }
            ],
        },
    }


@given(markets(), st.one_of(st.just(0.0), sizes), st.floats(0, 50), holdings)
@settings(max_examples=150, deadline=None)
def test_balances_are_those_of_the_formula(
    prices: Marks, perpetual: float, token: float, options: dict[AssetId, float]
) -> None:
    """To 1e-9 of what is held, for both margins."""
    amounts = {asset: round(size * UNIT) for asset, size in {ETH: perpetual, **options}.items() if round(size * UNIT)}
    held = round(token * UNIT)
    book = Portfolio(ACCOUNT, usd(1_000), dict(sorted(amounts.items())), {TOKEN: held} if held else {})
    valuation = Valuation.of(prices, MODEL, book.assets)
    initial, maintenance = (float(r[0]) for r in valuation.scenarios.requirements(valuation.scenario_pnl([book])))
    equity = valuation.equity(book) / (EXACT * UNIT)
    exact = {asset: size / UNIT for asset, size in amounts.items() if asset != ETH}
    said = evaluate(as_file(prices, amounts.get(ETH, 0) / UNIT, held / UNIT, exact, 1_000.0))
    gross = 1 + valuation.gross_notional(book) / (EXACT * UNIT)
    assert equity - initial == pytest.approx(said["initial_margin_balance"], rel=1e-9, abs=1e-9 * gross)
    assert equity - maintenance == pytest.approx(said["maintenance_margin_balance"], rel=1e-9, abs=1e-9 * gross)


def test_a_perpetual_and_its_hedge_by_hand() -> None:
    # 5 ETH at 3,000: −16 % of 15,000 = −2,400, the dampened tail 0.3 · −60 % of 15,000 = −2,700.
    # IM = 2,700 + 2.8 % · 15,000 = 3,120, MM = 0.8 · 2,700 + 2 % · 15,000 = 2,460.
    scenarios = Pmrm2(SHIPPED, PERPETUALS).scenarios(Marks({"ETH": usd(3_000)}), (TOKEN, ETH))
    initial, maintenance = scenarios.requirements(np.array([0.0, 5.0]) @ scenarios.pnl)
    assert (float(initial), float(maintenance)) == pytest.approx((3_120, 2_460))
    # WETH against a short perpetual: nothing but contingencies and 1 % of the collateral in the initial margin.
    initial, maintenance = scenarios.requirements(np.array([5.0, -5.0]) @ scenarios.pnl)
    assert (float(initial), float(maintenance)) == pytest.approx((420 + 150, 300))


def test_underlyings_do_not_net() -> None:
    listing = Listing.of(make_deployment(("BTC", "ETH")))
    scenarios = Pmrm2(SHIPPED, listing).scenarios(marks(), sorted((ETH, BTC)))
    alone = scenarios.requirements(np.array([[20.0, 0.0], [0.0, -1.0], [20.0, -1.0]]) @ scenarios.pnl)[0]
    assert alone[2] == pytest.approx(alone[0] + alone[1])


# --- laws -----------------------------------------------------------------------------------------------------------

QUOTED = Marks(
    {"ETH": usd(3_000)},
    {"ETH": Curve({at: Expiry(3_010.0, 0.03, AtmSkew(0.6, -0.1, 0.1)) for at in TIMES}, 0.5, 0.4)},
    NOW,
    0.97,
)
PRICED = {model: model.scenarios(QUOTED, ASSETS) for model in (MODEL, LAWFUL, UNDISCOUNTED)}
amounts = st.lists(st.floats(-20, 20, allow_subnormal=False), min_size=len(ASSETS), max_size=len(ASSETS)).map(np.array)


def near(value: Floats) -> float:
    return 1e-9 * (1 + float(np.abs(value).max()))


@given(amounts, st.sampled_from([MODEL, LAWFUL, UNDISCOUNTED]), st.data())
@settings(max_examples=150, deadline=None)
def test_law_requirements_are_not_negative_and_grow_with_every_loss(
    a: Floats, model: Pmrm2, data: st.DataObject
) -> None:
    scenarios = PRICED[model]
    vector = a @ scenarios.pnl
    initial, maintenance = scenarios.requirements(vector)
    assert 0 <= float(maintenance) <= float(initial)
    # Also of vectors that no account has: of each pair of columns the lesser counts.
    column = data.draw(st.integers(0, len(vector) - 1))
    worse = vector.copy()
    worse[column] -= data.draw(st.floats(0, 1e5))
    for before, after in zip(scenarios.requirements(vector), scenarios.requirements(worse), strict=True):
        assert float(after) >= float(before) - near(vector)
    bound = np.minimum(vector, np.roll(a, 1) @ scenarios.pnl)
    for before, after in zip(scenarios.requirements(vector), scenarios.requirements(bound), strict=True):
        assert float(after) >= float(before) - near(vector)


@given(amounts, amounts, st.floats(0, 1), st.sampled_from([LAWFUL, UNDISCOUNTED]))
@settings(max_examples=200, deadline=None)
def test_law_requirements_are_convex_where_the_model_says_so(a: Floats, b: Floats, share: float, model: Pmrm2) -> None:
    assert model.convex
    scenarios = PRICED[model]
    one, other = a @ scenarios.pnl, b @ scenarios.pnl
    for r in (0, 1):
        mixed = float(scenarios.requirements(share * one + (1 - share) * other)[r])
        ends = share * float(scenarios.requirements(one)[r]) + (1 - share) * float(scenarios.requirements(other)[r])
        assert mixed <= ends + near(np.abs(one) + np.abs(other))


@given(amounts)
@settings(max_examples=60, deadline=None)
def test_law_parts_sum_to_the_requirement_and_columns_to_their_losses(a: Floats) -> None:
    for scenarios in PRICED.values():
        vector = a @ scenarios.pnl
        parts = scenarios.parts(vector)
        initial, maintenance = scenarios.requirements(vector)
        assert sum(part.requirement.initial for part in parts) == pytest.approx(float(initial), rel=1e-9, abs=1e-6)
        assert sum(p.requirement.maintenance for p in parts) == pytest.approx(float(maintenance), rel=1e-9, abs=1e-6)
        for part in parts:
            of_columns = sum(float(vector[column]) * weight for column, weight in part.columns)
            assert of_columns == pytest.approx(part.pnl, rel=1e-9, abs=near(vector))
        assert len(set(scenarios.labels)) == len(scenarios.labels) == len(vector)


# --- where it is not convex -----------------------------------------------------------------------------------------


def test_a_skew_scenario_makes_it_bend_the_wrong_way() -> None:
    """Two sides of a spread whose mark is negative: what tilts its value through 0 gains, and that counts as a loss.

    Long, a value counts at 0.5; short, at 1: |min(x / 2, x) − m| has a kink upwards at x = 0 wherever m < 0.
    """
    plain = replace(PLAIN, base_discount_long=0.5)
    tilt = Pmrm2(with_book(scenarios=(Scenario(1.0, VolMove.LINEAR, 1.0),), margin=plain), LISTING)
    assert "skew scenario" in tilt.not_convex
    scenarios = tilt.scenarios(QUOTED, ASSETS)
    at = TIMES[3]
    low, high = (
        ASSETS.index(instrument_id(Instrument(Kind.CALL, "ETH", at, strike * 10**8))) for strike in (2_400, 3_600)
    )
    rows = scenarios.pnl[[low, high]]
    dated = scenarios.underlyings[0].expiries[3]
    value, mark = rows[:, dated.first], rows[:, dated.marked]
    # A spread worth nothing once tilted, and marked below nothing.
    spread = np.array([1.0, -value[0] / value[1]])
    spread = spread if spread @ mark < 0 else -spread
    bent = 0.001
    sides = [spread + bent * np.array([1.0, 0.0]), spread - bent * np.array([1.0, 0.0])]
    lost = [float(-scenarios._pnl(scenarios.underlyings[0], s @ rows).min()) for s in (spread, *sides)]
    assert lost[0] > sum(lost[1:]) / 2 + 1e-6


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, "skew scenario"),
        ({"margin": replace(BOOK.margin, base_discount_long=1.05, base_discount_short=0.95)}, "long expiry"),
        ({"margin": replace(BOOK.margin, long_rate_add=-0.01)}, "long expiry"),
        ({"scenarios": BOOK.scenarios[:25]}, "first perpetual"),
    ],
)
def test_what_is_signed_by_it_is_of_what_is_convex(changes: dict[str, Any], names: str) -> None:
    model = Pmrm2(with_book(**changes), LISTING)
    assert not model.convex
    with pytest.raises(NotConvex, match=names):
        require_convex(model)
    # Perpetuals and collateral are linear in every scenario.
    require_convex(Pmrm2(with_book(**changes), PERPETUALS))


def test_permits_are_judged_by_it_as_by_any_other() -> None:
    """5 ETH want 3,120 by it, and 2,670 by xpm."""
    both = Listing.of(make_deployment())
    model = Pmrm2(SHIPPED, both)
    context = Chains().cash(OWNER, A, 3_200).cash(MAKER, A, 10**5).context(model=model)
    granted(trade(5), [], context)
    refused(trade(5.2), [], context, "insufficient_free_margin")
    granted(trade(5.2), [], replace(context, model=Xpm(replace(default_parameters(), returns=None), both)))
    chains = Chains().size(OWNER, A, 5).cash(OWNER, A, 2_400 - 15_000)
    report = report_of(chains.world, OWNER, model=model)
    assert (report.initial_margin, report.maintenance_margin) == (usd(3_120), usd(2_460))
    setting = Setting(chains.world, marks(), model, both, Profile(), NOW)
    sale = sale_of(chains.account(), setting)
    legs = leaves_of(plan_legs(sale), sale, setting, NOW)
    assert legs
    assert check_legs(legs, chains.account(), setting) == []


# --- refused --------------------------------------------------------------------------------------------------------


def test_what_it_cannot_price_is_refused() -> None:
    future = instrument_id(Instrument(Kind.FUTURE, "ETH", TIMES[2]))
    with pytest.raises(UnknownAsset, match="no futures"):
        MODEL.scenarios(QUOTED, (future,))
    with pytest.raises(UnknownAsset, match="no futures"):
        MODEL.price(future, QUOTED)
    with pytest.raises(MarkError, match="no price for ETH"):
        MODEL.price(ETH, Marks({}))
    with pytest.raises(MarkError, match="no forward"):
        MODEL.scenarios(Marks({"ETH": usd(3_000)}), OPTIONS[:1])
    with pytest.raises(ParameterError, match="parameters of the model xpm"):
        Pmrm2(default_parameters(), LISTING)
    with pytest.raises(ParameterError, match="PEPE"):
        Pmrm2(SHIPPED, Listing.of(make_deployment(("PEPE",))))


def test_prices_are_marks_of_the_formula() -> None:
    scenarios = PRICED[MODEL]
    assert tuple(MODEL.price(asset, QUOTED) for asset in ASSETS) == scenarios.prices
