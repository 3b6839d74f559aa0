"""What a person sees of a margin: why, where the account is liquidated, what would help, what a trade would change."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from option_books import LAWFUL, MARKS, UNIVERSE, XPM, books, future, option
from worlds import BTC, ETH, LISTING, MODEL, OWNER, SUB, WETH, A, B, C, marks, usd

from keeper.margin.explain import explain, explain_fully, netting, scenario_table
from keeper.margin.liquidation_price import liquidation_prices, moved
from keeper.margin.portfolio import Portfolio
from keeper.margin.report import evaluate
from keeper.margin.valuation import Valuation
from keeper.margin.whatif import Trade, Transfer, changed, whatif
from keeper.state.batch import UNIT
from keeper.state.ids import AssetId, Kind, is_token, perpetual, token_id
from keeper.state.world import MarginAccount

pytestmark = pytest.mark.timeout(400)  # every example prices its options some hundred times

ACCOUNT = MarginAccount(OWNER, (A, B, C))
COLLATERAL = token_id(A, WETH)


def book(cash: float, positions: dict[AssetId, float], collateral: dict[AssetId, float] | None = None) -> Portfolio:
    held = [
        {asset: round(size * 10**6) * 10**12 for asset, size in sorted(side.items()) if size}
        for side in (positions, collateral or {})
    ]
    return Portfolio(ACCOUNT, usd(cash), held[0], held[1])


def of_assets(sizes: dict[int, float], cash: float) -> Portfolio:
    tokens = {UNIVERSE[a]: abs(size) for a, size in sizes.items() if is_token(UNIVERSE[a])}
    return book(cash, {UNIVERSE[a]: s for a, s in sizes.items() if not is_token(UNIVERSE[a])}, tokens)


# --- liquidation prices ---------------------------------------------------------------------------------------------


def test_the_liquidation_price_of_a_long_by_hand() -> None:
    # 5 ETH at 3,000 with equity 4,000. At p: equity 4,000 + 5 (p − 3,000), MM (0.8 · 15 % + 2 %) · 5 p = 0.7 p:
    # 4.3 p = 11,000, p = 2,558.14. Above there is none.
    found = liquidation_prices(book(4_000 - 15_000, {ETH: 5}), marks(), MODEL)["ETH"]
    assert found.price == 3_000
    assert found.below == pytest.approx(11_000 / 4.3, rel=1e-9)
    assert found.above is None
    short = liquidation_prices(book(4_000 + 15_000, {ETH: -5}), marks(), MODEL)["ETH"]
    assert (short.below, short.above) == (None, pytest.approx(19_000 / 5.7, rel=1e-9))


def test_a_hedge_is_in_the_liquidation_price_whatever_holds_it() -> None:
    """5 long and as much of it short elsewhere, or WETH held against a short: it takes four times the price."""
    hedged = book(3_000, {ETH: -5}, {COLLATERAL: 5})
    found = liquidation_prices(hedged, marks(), MODEL)["ETH"]
    # At p only the haircut of 3 % and the notional's 2 % grow: 3,000 − 0.15 p = 0.1 p.
    assert (found.below, found.above) == (None, pytest.approx(12_000, rel=1e-9))
    assert liquidation_prices(book(100, {}, {COLLATERAL: 0.01}), marks(), MODEL)["ETH"].below is None


def test_who_is_liquidatable_already_has_todays_price() -> None:
    found = liquidation_prices(book(100 - 15_000, {ETH: 5}), marks(), MODEL)["ETH"]
    assert (found.below, found.above) == (3_000, 3_000)


@settings(max_examples=25, deadline=None)
@given(books, st.floats(1.05, 3.0))
def test_at_the_liquidation_price_equity_meets_maintenance_margin(sizes: dict[int, float], room: float) -> None:
    """Solved on the whole account, with options priced anew at every price."""
    held = of_assets(sizes, 0)
    report = evaluate([held], MARKS, XPM)[0]
    assume(report.maintenance_margin > 100 * UNIT)
    held = replace(held, cash=int(room * report.maintenance_margin) - report.equity)
    for name, found in liquidation_prices(held, MARKS, XPM).items():
        for price in (found.below, found.above):
            if price is not None:
                at = evaluate([held], moved(MARKS, name, price / found.price), XPM)[0]
                apart = abs(at.equity - at.maintenance_margin)
                assert apart <= 1e-6 * (at.gross_notional + at.maintenance_margin)


# --- explanations ---------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(books)
def test_the_parts_of_an_explanation_add_up(sizes: dict[int, float]) -> None:
    held = of_assets(sizes, 1_000_000)
    told = explain(held, MARKS, XPM)
    report = evaluate([held], MARKS, XPM)[0]
    assert sum(term["initial"] for term in told["terms"]) == pytest.approx(report.initial_margin / UNIT, abs=2e-6)
    assert sum(term["maintenance"] for term in told["terms"]) == pytest.approx(
        report.maintenance_margin / UNIT, abs=2e-6
    )
    for term in told["terms"]:
        assert sum(term["byPosition"].values()) == pytest.approx(term["pnl"], rel=1e-9, abs=1e-6)
    equity = told["equity"]
    parts = equity["cash"] + equity["markToMarket"] + equity["collateral"]
    assert parts == pytest.approx(equity["total"], rel=1e-9, abs=1e-5)
    for row in scenario_table(held, Valuation.of(MARKS, XPM, held.assets))[::50]:
        assert sum(row["byUnderlying"].values()) == pytest.approx(row["pnl"], rel=1e-9, abs=1e-6)


def test_the_netting_benefit_of_a_delta_neutral_book_across_chains_by_hand() -> None:
    """+5 ETH on B and −5 on C: alone 2,670 each, together nothing."""
    pieces = {"B": book(0, {ETH: 5}), "C": book(0, {ETH: -5})}
    whole = book(1_000, {})
    found = netting(whole, marks(), MODEL, pieces)
    assert found["standalone"] == pytest.approx({"B": 2_670, "C": 2_670})
    assert (found["portfolio"], found["benefit"], found["efficiency"]) == (0, pytest.approx(5_340), None)
    # With one ETH left over, its own 534: the two chains alone 2,670 and 2,136.
    found = netting(book(0, {ETH: 1}), marks(), MODEL, {"B": book(0, {ETH: 5}), "C": book(0, {ETH: -4})})
    assert found["portfolio"] == pytest.approx(534)
    assert found["efficiency"] == pytest.approx((2_670 + 2_136) / 534)


def test_what_would_bring_an_account_back_to_health() -> None:
    # 5 ETH long, equity 2,000: 670 short of 2,670. Closing s at the mark relieves 534 s: 1.2547.
    told = explain_fully(book(2_000 - 15_000, {ETH: 5}), marks(), MODEL, {})
    cure = told["cure"]
    assert cure["cashToInitialMargin"] == pytest.approx(670, abs=1e-5)
    assert cure["cashToMaintenanceMargin"] == pytest.approx(100, abs=1e-5)
    assert cure["closing"][0]["close"] == pytest.approx(670 / 534, abs=1e-5)
    assert explain_fully(book(20_000, {ETH: 1}), marks(), MODEL, {})["cure"]["closing"] == []


# --- what if --------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(books, st.integers(-(10**6), 10**6))
def test_adding_cash_raises_equity_by_exactly_that(sizes: dict[int, float], cents: int) -> None:
    held = of_assets(sizes, 5_000)
    answer = whatif(held, MARKS, XPM, transfers=[Transfer(cents * 10**16)])
    assert answer.after.equity - answer.before.equity == cents * 10**16
    assert answer.after.initial_margin == answer.before.initial_margin
    assert answer.change_of_free == cents * 10**16


@settings(max_examples=30, deadline=None)
@given(books, st.floats(0, 1))
def test_how_a_position_is_split_over_chains_changes_nothing(sizes: dict[int, float], share: float) -> None:
    """Netting is the sum: what is bought in two parts, on any chains, is what is bought at once."""
    once = of_assets(sizes, 5_000)
    first = replace(once, positions={asset: int(size * share) for asset, size in once.positions.items()})
    rest = [Trade(asset, size - first.positions[asset], 0) for asset, size in once.positions.items()]
    assert evaluate([changed(first, rest)], MARKS, XPM) == evaluate([once], MARKS, XPM)


def test_a_trade_pays_its_price_rounded_against_the_account() -> None:
    held = book(10_000, {ETH: 1})
    answer = whatif(held, marks(), MODEL, [Trade(ETH, UNIT, usd(3_001), usd(0.6))])
    assert answer.after.equity - answer.before.equity == -usd(1.6)
    assert answer.after.initial_margin == 2 * answer.before.initial_margin
    assert changed(held, [Trade(ETH, 1, 3 * 10**17)]).cash == held.cash - 1


def test_what_is_priced_already_gives_the_same_answer() -> None:
    held = of_assets({i: float(i % 5 - 2) or 1.0 for i in range(20)}, 50_000)
    priced = Valuation.of(MARKS, LAWFUL, UNIVERSE)
    trade = Trade(option("SOL", Kind.PUT, 1, 0.9), 3 * UNIT, usd(5))
    assert whatif(held, MARKS, LAWFUL, [trade], priced=priced) == whatif(held, MARKS, LAWFUL, [trade])
    few = Valuation.of(MARKS, LAWFUL, held.assets)
    assert whatif(held, MARKS, LAWFUL, [trade], priced=few) == whatif(held, MARKS, LAWFUL, [trade])


def test_collateral_comes_in_with_its_haircut() -> None:
    answer = whatif(book(0, {}), marks(), MODEL, transfers=[Transfer(2 * UNIT, COLLATERAL)])
    assert answer.after.equity == usd(6_000 * 0.97)
    assert LISTING.underlying_of(COLLATERAL) == "ETH"


# --- isolated accounts and owners -----------------------------------------------------------------------------------


def test_concentration_counts_what_the_owner_holds_elsewhere() -> None:
    # 50,000 ETH here, as much in another account: 300 million of 100. Each pays 0.05 · 150 million · 2.
    alone = book(0, {perpetual("ETH"): 50_000})
    beside = replace(alone, elsewhere={"ETH": 150_000_000 * UNIT})
    one, other = evaluate([alone, beside], MARKS, XPM)
    assert (one.initial_margin - evaluate([alone], MARKS, LAWFUL)[0].initial_margin) / UNIT == pytest.approx(3_750_000)
    assert (other.initial_margin - one.initial_margin) / UNIT == pytest.approx(15_000_000 - 3_750_000)
    assert SUB[:20] == OWNER[:20]
    assert future("BTC", 1) != BTC
