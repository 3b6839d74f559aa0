"""span as the model of a deployment: its arrays by hand, and `span.evaluate` of the same holdings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from option_books import LISTING, MARKS, UNIVERSE, future, option
from worlds import BTC, ETH, NOW, OWNER, WETH, A, Chains, make_deployment, marks

from keeper.clearing.sale import Sale, Setting, sale_of
from keeper.margin.listing import Listing
from keeper.margin.model import Floats, NotConvex, require_convex
from keeper.margin.names import expiry_name
from keeper.margin.parameter_file import default_parameters
from keeper.margin.parameters import ParameterError
from keeper.margin.portfolio import portfolio
from keeper.margin.report import evaluate as reports
from keeper.margin.span import evaluate
from keeper.margin.span_model import Span
from keeper.margin.valuation import Valuation
from keeper.market.marks import MarkError, Marks
from keeper.state.batch import UNIT
from keeper.state.deployment import Profile
from keeper.state.ids import Kind, is_token, parse_instrument, token_id

SHIPPED = default_parameters("span")
assert SHIPPED.span is not None
MODEL = Span(SHIPPED, LISTING)
SCENARIOS = MODEL.scenarios(MARKS, UNIVERSE)
NAMES = LISTING.underlyings
COUNT = len(UNIVERSE)

books = st.dictionaries(
    st.integers(0, COUNT - 1), st.floats(-50, 50, allow_subnormal=False).filter(bool), min_size=1, max_size=8
)


def vector(book: dict[int, float]) -> Floats:
    sizes = np.zeros(COUNT)
    sizes[list(book)] = list(book.values())
    return np.asarray(sizes @ SCENARIOS.pnl)


def as_file(book: dict[int, float]) -> dict[str, Any]:
    """The same holdings as a book of SPAN's own, from the model's arrays; deltas and values from its contracts."""
    commodities = []
    for number, name in enumerate(NAMES):
        rows = [row for row, asset in enumerate(UNIVERSE) if LISTING.underlying_of(asset) == name]
        contracts: dict[str, Any] = {}
        arrays = {}
        for row in rows:
            asset = UNIVERSE[row]
            own = next(c for c in SCENARIOS.book.commodities[number].contracts if c.name == asset.hex())
            what = None if is_token(asset) else parse_instrument(asset)
            month = expiry_name(what.expiry) if what and what.expiry else "spot"
            contracts[asset.hex()] = {"kind": "future", "month": month}
            if what and what.strike:
                kind = "call" if what.kind is Kind.CALL else "put"
                worth = {"price": SCENARIOS.prices[row] / UNIT, "multiplier": 1, "delta": own.delta}
                contracts[asset.hex()] = {"kind": kind, "month": month, **worth}
            arrays[asset.hex()] = SCENARIOS.pnl[row, 16 * number : 16 * number + 16].tolist()
        spot = MARKS.prices[name] / UNIT
        months = list(dict.fromkeys(c["month"] for c in contracts.values()))
        commodities.append(
            {
                "commodity": name,
                "contracts": contracts,
                "risk_arrays": arrays,
                "positions": [{"contract": UNIVERSE[r].hex(), "quantity": book[r]} for r in rows if r in book],
                "short_option_minimum": 0.01 * spot,
                "tiers": {"all": months},
                "spreads": [{"legs": [{"tier": "all", "ratio": 1, "side": s} for s in "AB"], "charge": 0.01 * spot}],
            }
        )
    legs = [
        {"commodity": name, "delta_ratio": ratio, "side": side}
        for name, ratio, side in (("BTC", 1, "A"), ("ETH", 20, "B"))
    ]
    return {
        "commodities": commodities,
        "inter_commodity_spreads": [{"legs": legs, "rate": 0.5}],
        "initial_to_maintenance": 1.1,
    }


@given(books)
@settings(max_examples=120, deadline=None)
def test_what_is_free_is_what_span_leaves_of_the_cash(book: dict[int, float]) -> None:
    """Requirement less option value, of which the equity has the mark, to 1e-9 of what is held."""
    said = evaluate(as_file(book))
    initial, maintenance = (float(value) for value in SCENARIOS.requirements(vector(book)))
    value = said["net_option_value"]
    gross = sum(abs(size) * SCENARIOS.prices[row] / UNIT for row, size in book.items())
    assert maintenance - value == pytest.approx(said["maintenance_margin"], rel=1e-9, abs=1e-9 * gross)
    assert initial - value == pytest.approx(said["initial_margin"], rel=1e-9, abs=1e-9 * gross)


def test_arrays_by_hand() -> None:
    # ETH moves 15 % of 3,000: thirds of 450, and twice that at 35 % in the extremes.
    own = SCENARIOS.pnl[UNIVERSE.index(ETH), 16 * NAMES.index("ETH") : 16 * NAMES.index("ETH") + 16]
    assert own == pytest.approx(
        [0, 0, 150, 150, -150, -150, 300, 300, -300, -300, 450, 450, -450, -450, 315, -315], abs=1e-9
    )
    call = UNIVERSE.index(option("ETH", Kind.CALL, 2, 1.0))
    gains = SCENARIOS.pnl[call, 16 * NAMES.index("ETH") : 16 * NAMES.index("ETH") + 16]
    # Vol up is worth more than vol down at every price; the composite delta of a call at the money is about a half.
    assert (gains[:14:2] > gains[1:14:2]).all()
    deltas = [
        c.delta for c in SCENARIOS.book.commodities[NAMES.index("ETH")].contracts if c.name == UNIVERSE[call].hex()
    ]
    assert deltas == pytest.approx([0.53], abs=0.03)


def test_a_perpetual_a_calendar_spread_and_a_credit_by_hand() -> None:
    sizes = {UNIVERSE.index(ETH): 5.0}
    # 5 · 450, and 1.1 times that.
    initial, maintenance = SCENARIOS.requirements(vector(sizes))
    assert (float(initial), float(maintenance)) == pytest.approx((2_475, 2_250))
    # Against a future of the same size: 5 spreads at 1 % of 3,000, and what the forward moves more by.
    dated = future("ETH", 3)
    forward = MODEL.price(dated, MARKS) / UNIT
    _, maintenance = SCENARIOS.requirements(vector(sizes | {UNIVERSE.index(dated): -5.0}))
    assert float(maintenance) == pytest.approx(5 * 30 + 5 * 0.15 * (forward - 3_000))
    # 1 BTC against 20 ETH: half of both price risks, 9,000 each, is credited.
    pair = {UNIVERSE.index(BTC): 1.0, UNIVERSE.index(ETH): -20.0}
    assert float(SCENARIOS.requirements(vector(pair))[1]) == pytest.approx(9_000)


@given(st.lists(books, min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_law_requirements_are_not_negative_and_parts_sum_to_them(several: list[dict[int, float]]) -> None:
    vectors = np.array([vector(book) for book in several])
    initial, maintenance = SCENARIOS.requirements(vectors)
    for row, v in enumerate(vectors):
        assert -1e-9 <= maintenance[row] <= initial[row] + 1e-9
        parts = SCENARIOS.parts(v)
        assert sum(p.requirement.initial for p in parts) == pytest.approx(float(initial[row]), rel=1e-9, abs=1e-6)
        assert [p.pnl for p in parts] == [sum(float(v[c]) * w for c, w in p.columns) for p in parts]
    assert len(set(SCENARIOS.labels)) == len(SCENARIOS.labels) == SCENARIOS.pnl.shape[1]


def test_half_of_a_trade_may_require_more_than_the_mean_of_all_and_nothing_of_it() -> None:
    """Why nobody signs by it: a charge for the lesser of two sides is not convex, so corners bound nothing."""
    rich = replace(SHIPPED, span=replace(SHIPPED.span, calendar_charge=4_000))
    scenarios = Span(rich, LISTING).scenarios(MARKS, UNIVERSE)
    near, far = UNIVERSE.index(ETH), UNIVERSE.index(future("ETH", 3))

    def required(size: float) -> float:
        sizes = np.zeros(COUNT)
        sizes[near], sizes[far] = 5.0, -size
        return float(scenarios.requirements(sizes @ scenarios.pnl)[1])

    # 5 spreads at 40 % of 3,000; nothing sold, 5 · 450; 10 sold, both.
    assert required(5) == pytest.approx(6_000, rel=0.02)
    assert required(5) > (required(0) + required(10)) / 2 + 500
    assert not MODEL.convex
    with pytest.raises(NotConvex, match="lesser of two sides"):
        require_convex(MODEL)


def test_nothing_is_judged_or_planned_by_it() -> None:
    listing = Listing.of(make_deployment())
    model = Span(SHIPPED, listing)
    chains = Chains().size(OWNER, A, 5).cash(OWNER, A, 1_000 - 15_000)
    # It is reported.
    book = portfolio(chains.world, listing, chains.account())
    assert reports([book], marks(), model)[0].status == "liquidatable"
    with pytest.raises(NotConvex):
        chains.context(model=model)
    with pytest.raises(NotConvex):
        sale_of(chains.account(), Setting(chains.world, marks(), model, listing, Profile(), NOW))
    with pytest.raises(NotConvex):
        Sale(book, (), Valuation.of(marks(), model, book.assets), 1_000, 0)


def test_what_it_cannot_price_is_refused() -> None:
    with pytest.raises(MarkError, match="no price for ETH"):
        MODEL.price(ETH, Marks({}))
    with pytest.raises(ParameterError, match="parameters of the model xpm"):
        Span(default_parameters(), LISTING)
    # A credit with what is not listed cannot form.
    one = Span(SHIPPED, Listing.of(make_deployment(("ETH",)))).scenarios(marks(), (token_id(A, WETH), ETH))
    assert one.book.spreads == ()
    assert float(one.requirements(one.pnl[1])[1]) == pytest.approx(450)
