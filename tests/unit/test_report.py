"""Reports: equity exact, margins rounded against the account, netting over chains shown, leaves and explanations."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import (
    BTC,
    ETH,
    LISTING,
    MODEL,
    NOW,
    OTHER,
    OWNER,
    PARAMETERS,
    WETH,
    A,
    B,
    C,
    Chains,
    dollars,
    marks,
    units,
    usd,
)

from keeper.margin.explain import explain
from keeper.margin.listing import UnknownAsset
from keeper.margin.portfolio import Portfolio, per_chain, portfolio
from keeper.margin.report import AccountReport, evaluate, mark_leaves
from keeper.margin.xpm import Xpm
from keeper.market.marks import Marks
from keeper.state.batch import UNIT
from keeper.state.ids import perpetual, token_id
from keeper.state.world import MarginAccount

ACCOUNT = MarginAccount(OWNER, (A, B, C))
WETH_A = token_id(A, WETH)
GRAIN = 10**12

whole = st.integers(-(10**24), 10**24)


def book(cash: int = 0, eth: int = 0, btc: int = 0, weth: int = 0, reserved: int = 0) -> Portfolio:
    positions = {asset: size for asset, size in ((ETH, eth), (BTC, btc)) if size}
    return Portfolio(ACCOUNT, cash, dict(sorted(positions.items())), {WETH_A: weth} if weth else {}, reserved)


def report(portfolio_: Portfolio, prices: Marks | None = None) -> AccountReport:
    return evaluate([portfolio_], prices or marks(), MODEL)[0]


def test_long_on_one_chain_and_short_on_another_requires_nothing() -> None:
    """Netting: +5 ETH on B and −5 on C, at a mark of 3,000, with 10,000 USDC on A."""
    chains = Chains().cash(OWNER, A, 10_000).linked(OWNER, (A, B, C))
    # A fill books size and −size × price: 5 bought and 5 sold at 3,000.
    chains.size(OWNER, B, 5).cash(OWNER, B, -15_000)
    one_leg = chains.report()
    # One leg alone: 15 % · 15,000 + 2.8 % · 15,000 = 2,250 + 420.
    assert dollars(one_leg.initial_margin) == pytest.approx(2670, abs=1.1e-6)
    assert dollars(one_leg.maintenance_margin) == pytest.approx(2100, abs=1.1e-6)
    assert dollars(one_leg.equity) == 10_000
    chains.size(OWNER, C, -5).cash(OWNER, C, 15_000)
    both = chains.report()
    assert (both.initial_margin, both.maintenance_margin) == (0, 0)
    assert dollars(both.equity) == 10_000
    assert dollars(both.free) == 10_000
    # Whatever the price does, the pair is worth what it was.
    assert chains.report(prices=marks(eth=30)).equity == both.equity


def test_equity_is_cash_mark_to_market_and_collateral_after_its_haircut() -> None:
    # 1,000 + 2 · 3,000 − 0.5 · 60,000 + 10 · 3,000 · 0.97 = 1,000 + 6,000 − 30,000 + 29,100 = 6,100
    found = report(book(usd(1000), units(2), units(-0.5), units(10)))
    assert dollars(found.equity) == 6100
    assert dollars(found.net_cash) == 1000 + 6000 - 30000
    assert dollars(found.gross_notional) == 6000 + 30000 + 30000


def test_reservations_count_in_full_in_both_margins() -> None:
    """CM-15 (reserving and lapsing)."""
    bare, reserved = report(book(usd(5000), units(5))), report(book(usd(5000), units(5), reserved=usd(400)))
    assert reserved.initial_margin - bare.initial_margin == usd(400)
    assert reserved.maintenance_margin - bare.maintenance_margin == usd(400)
    assert reserved.free == bare.free - usd(400)
    assert reserved.equity == bare.equity


@pytest.mark.parametrize(
    ("cash", "status"),
    [
        (2671 - 15_000, "healthy"),
        (2669 - 15_000, "at_risk"),
        (2101 - 15_000, "at_risk"),
        (2099 - 15_000, "liquidatable"),
    ],
)
def test_status_by_the_two_margins_of_five_eth(cash: float, status: str) -> None:
    # Equity is 15,000 and the cash: 2,671, 2,669, 2,101, 2,099, against 2,670 and 2,100.
    assert report(book(usd(cash), units(5))).status == status


def test_at_exactly_a_margin_the_better_status_holds() -> None:
    base = report(book(usd(10_000), units(5)))
    assert replace(base, equity=base.initial_margin).status == "healthy"
    assert replace(base, equity=base.maintenance_margin).status == "at_risk"
    assert replace(base, equity=base.maintenance_margin - 1).status == "liquidatable"


def test_worse_than_compares_cover_without_division() -> None:
    thin, thick = report(book(usd(-13_000), units(5))), report(book(usd(-12_000), units(5)))
    assert thin.worse_than(thick)
    assert not thick.worse_than(thin)
    assert not thin.worse_than(thin)


def test_figures_are_rounded_to_a_millionth_against_the_account() -> None:
    # Equity of one 1e-18 less than a millionth is 0, of one owed is −1e-6; a margin of any trace is 1e-6.
    assert report(book(GRAIN - 1)).equity == 0
    assert report(book(-1)).equity == -GRAIN
    trace = report(book(0, 1))
    assert (trace.initial_margin, trace.equity) == (GRAIN, 0)


@given(whole, whole, whole, st.integers(0, 10**24), st.integers(-(10**12), 10**12))
def test_law_cash_adds_exactly(cash: int, eth: int, btc: int, weth: int, more: int) -> None:
    one, other = report(book(cash, eth, btc, weth)), report(book(cash + more * GRAIN, eth, btc, weth))
    assert other.equity - one.equity == more * GRAIN
    assert other.net_cash - one.net_cash == more * GRAIN
    assert (other.initial_margin, other.maintenance_margin) == (one.initial_margin, one.maintenance_margin)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(-(10**9), 10**9)), max_size=6))
def test_law_splitting_over_chains_changes_nothing(parts: list[tuple[int, int]]) -> None:
    """Sizes in millionths, each part on some chain, against the same in one lump."""
    split, lump = Chains().linked(OWNER, (A, B, C)), Chains().linked(OWNER, (A, B, C))
    for chain_id in (A, B, C):
        size = sum(size for chain, size in parts if chain == chain_id)
        split.size(OWNER, chain_id, size / 10**6).cash(OWNER, chain_id, 7)
    lump.size(OWNER, B, sum(size for _, size in parts) / 10**6).cash(OWNER, A, 21)
    assert split.report() == lump.report()


@settings(max_examples=50)
@given(whole, whole, whole, whole, whole)
def test_law_free_margin_is_superadditive(c1: int, e1: int, e2: int, b1: int, b2: int) -> None:
    # Without the charge for concentration, which grows faster than what is held.
    contingencies = replace(PARAMETERS.contingencies, concentration=0)
    model = Xpm(replace(PARAMETERS, contingencies=contingencies), LISTING)
    books = [book(c1, e1 + e2, b1 + b2), book(c1, e1, b1), book(0, e2, b2)]
    together, *parts = evaluate(books, marks(), model)
    apart = sum(part.free for part in parts)
    # Three roundings of at most 1e-6 each, and doubles of up to 1e12 in the sums.
    assert together.free >= apart - 6 * GRAIN - abs(e1) // 10**9 - abs(e2) // 10**9 - abs(b1 * 60) // 10**9


@given(st.lists(st.tuples(whole, whole, st.integers(0, 10**22)), min_size=1, max_size=8))
def test_each_report_is_its_own_accounts_alone_and_the_same_bytes_each_time(
    holdings: list[tuple[int, int, int]],
) -> None:
    books = [book(cash, eth, 0, weth) for cash, eth, weth in holdings]
    together = evaluate(books, marks(), MODEL)
    assert together == [report(b) for b in books]
    assert list(reversed(together)) == evaluate(list(reversed(books)), marks(), MODEL)


def test_no_portfolios_give_no_reports() -> None:
    assert evaluate([], marks(), MODEL) == []


def test_what_is_not_listed_is_refused_by_name() -> None:
    with pytest.raises(UnknownAsset, match="SOL"):
        evaluate([Portfolio(ACCOUNT, 0, {perpetual("SOL"): UNIT}, {})], marks(), MODEL)


def test_mark_leaves_carry_standalone_requirements() -> None:
    eth, weth = mark_leaves(marks(), MODEL, [ETH, WETH_A])
    assert (eth.asset, eth.price) == (ETH, 3000 * UNIT)
    # One ETH perpetual: 450 + 2.8 % · 3,000 = 534 either way.
    assert dollars(eth.long_requirement) == pytest.approx(534, abs=1.1e-6)
    assert dollars(eth.short_requirement) == pytest.approx(534, abs=1.1e-6)
    # One WETH: haircut 3 % · 3,000 = 90, and 15 % of 3,000 = 450; being short of it, 450.
    assert dollars(weth.long_requirement) == pytest.approx(540, abs=1.1e-6)
    assert dollars(weth.short_requirement) == pytest.approx(450, abs=1.1e-6)
    assert (eth.funding_index, eth.settled_at) == (0, 0)


def test_explain_shows_the_netting_benefit_by_chain_and_what_binds() -> None:
    chains = Chains().cash(OWNER, A, 10_000).linked(OWNER, (A, B, C)).size(OWNER, B, 5).size(OWNER, C, -5)
    whole_book = portfolio(chains.world, LISTING, chains.account())
    told = explain(whole_book, marks(), MODEL, per_chain(chains.world, LISTING, chains.account()))
    netting = told["netting"]
    alone = {f"chain {A}": 0, f"chain {B}": 2670, f"chain {C}": 2670}
    assert netting["standalone"] == pytest.approx(alone, abs=1.1e-6)
    assert netting["standaloneSum"] == pytest.approx(5340, abs=3e-6)
    assert netting["portfolio"] == 0
    assert netting["benefit"] == pytest.approx(5340, abs=3e-6)
    assert told["binding"] is None
    assert told["terms"] == []
    json.dumps(told)


def test_explain_of_a_short_hedged_by_collateral() -> None:
    told = explain(book(usd(15_000), units(-5), 0, units(5)), marks(), MODEL)
    assert told["equity"] == pytest.approx(
        {"total": 14_550, "cash": 15_000, "markToMarket": -15_000, "collateral": 14_550}
    )
    assert [term["term"] for term in told["terms"]] == ["ETH perpetual"]
    assert told["terms"][0]["initial"] == pytest.approx(420)
    assert told["binding"] == "notional, short"
    # Alone: the perpetual 2,670, the collateral 2,250; together 420.
    assert told["netting"]["benefit"] == pytest.approx(2670 + 2250 - 420, abs=1e-5)
    assert told["model"] == "xpm"
    json.dumps(told)


def test_explain_names_pnl_by_position_in_the_binding_scenario() -> None:
    told = explain(book(usd(50_000), units(10), units(1)), marks(), MODEL)
    joint = next(term for term in told["terms"] if term["term"] == "joint")
    assert joint["scenario"] == "BTC −15 %, ETH −15 %"
    assert joint["byPosition"] == pytest.approx({"+10 ETH perpetual": -4500, "+1 BTC perpetual": -9000})
    assert told["binding"] == "BTC −15 %, ETH −15 %"


def test_a_thousand_portfolios_at_once_are_each_what_they_are_alone() -> None:
    books = [book(usd(1000 + i), units(i / 10 - 50), units(i % 7 - 3), units(i % 3)) for i in range(1000)]
    together = evaluate(books, marks(), MODEL)
    assert len(together) == 1000
    for i in range(0, 1000, 37):
        assert evaluate([books[i]], marks(), MODEL) == [together[i]]


def test_the_world_of_tests_has_lapsing_reservations() -> None:
    chains = Chains().cash(OTHER, A, 100).reserved(OTHER, A, 40, until=NOW)
    assert dollars(chains.report(OTHER).free) == 60
    chains.time(A, NOW + 1)
    assert dollars(chains.report(OTHER).free) == 100
