"""What a liquidator bids: the profit by hand, never a loss, within its margin, and never less for a riper leg."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import (
    DEPLOYMENT,
    ETH,
    LISTING,
    MODEL,
    NOW,
    OTHER,
    OWNER,
    UNIT,
    WETH,
    A,
    B,
    Chains,
    leg,
    marks,
    takeover,
    units,
    usd,
)

from keeper.clearing.bidding import (
    Bid,
    Candidate,
    Impact,
    Rule,
    affordable,
    choose,
    concession_now,
    hedge_cost,
    hedged,
    impacts,
    open_size,
    sizes,
    sold,
)
from keeper.clearing.exposure import Exposure, live_effects
from keeper.margin.portfolio import portfolio
from keeper.margin.report import evaluate
from keeper.margin.valuation import Valuation
from keeper.state.batch import LiquidationLeaf
from keeper.state.ids import AssetId, token_id
from keeper.state.live import LiveItem

PROFILE = DEPLOYMENT.profile
RAMP = PROFILE.ramp_seconds
AT_ONCE = Rule(min_profit=0, patience=0.0, hedge=0, capital=0)
TOKEN = token_id(A, WETH)

LEAF = leg(10, OTHER, concession=30).leaf
"""10 ETH at 3,000 USD, from nothing to 30 USD a unit in twenty seconds from NOW on."""


def received(leaf: LiquidationLeaf, size: int, concession: int) -> int:
    """What the clearing house adds to a taker's cash, USD 1e18, by its own roundings."""
    long = leaf.close_limit > 0
    price = leaf.mark_price - concession if long else leaf.mark_price + concession
    exchanged = (-size * price) // UNIT if long else size * price // UNIT
    fee = PROFILE.flat_fee * size // abs(leaf.close_limit)
    to_fund = (size * concession // UNIT) * PROFILE.fund_share // UNIT
    return exchanged + fee - to_fund


def chosen(leaf: LiquidationLeaf, candidates: list[Candidate], gas: int = 0, after: int = RAMP, **rule: float) -> Bid:
    found = choose(leaf, candidates, gas, NOW + after, PROFILE, replace(AT_ONCE, **rule))  # type: ignore[arg-type]
    assert found is not None
    return found


# --- by hand --------------------------------------------------------------------------------------------------------


def test_the_profit_is_concession_less_the_funds_share_and_a_flat_fee_less_gas_and_hedge() -> None:
    """Half ripe: 15 USD · 10 · 0.8 + 1 USD of fee − 4 USD gas − 20 USD of worth."""
    bid = chosen(LEAF, [Candidate(units(10), -usd(20))], usd(4), after=RAMP // 2)
    assert bid.concession == usd(15)
    assert bid.profit == usd(120 + 1 - 4 - 20) - 2
    assert bid.ready


def test_a_part_of_the_leg_gets_its_part_of_the_flat_fee() -> None:
    bid = chosen(LEAF, [Candidate(units(2.5), 0)], after=0)
    assert bid.profit == usd(0.25) - 2


def test_hedging_costs_nothing_where_it_offsets_what_the_bidder_holds() -> None:
    rule = Rule(0, hedge=5, capital=2)
    # 4 ETH of 12,000 USD that require 1,800 alone: two basis points of the margin, five of the notional.
    alone = hedge_cost(Impact(units(4), 0, 0, usd(1_800)), usd(3_000), usd(450), rule)
    assert alone == usd(1_800 * 0.0002 + 12_000 * 0.0005)
    assert hedge_cost(Impact(units(4), 0, 0, usd(900)), usd(3_000), usd(450), rule) == alone // 2
    assert hedge_cost(Impact(units(4), 0, 0, 0), usd(3_000), usd(450), rule) == 0
    assert hedge_cost(Impact(units(4), 0, 0, -usd(1_800)), usd(3_000), usd(450), rule) == 0
    # What requires nothing alone is hedged in full.
    assert hedge_cost(Impact(units(4), 0, 0, usd(1)), usd(3_000), 0, rule) == usd(0.0002 + 6)


@pytest.mark.parametrize(("limit", "mark", "worth"), [(10, 2_990, -20), (-10, 2_990, 20), (10, 3_010, 20)])
def test_an_instrument_is_worth_what_the_mark_has_moved(limit: float, mark: float, worth: float) -> None:
    """A leg's mark is up to a minute old: a long that fell since is a loss that the concession must cover first."""
    leaf = leg(limit, OTHER, concession=30).leaf
    impact = Impact(units(2), 0, 0, 0)
    assert hedged(impact, leaf, usd(mark), usd(450), AT_ONCE) == Candidate(units(2), usd(worth))


def test_a_token_is_worth_what_a_pool_pays_for_it() -> None:
    leaf = leg(10, OTHER, concession=30, asset=TOKEN).leaf
    assert sold(units(2), leaf, usd(5_950)) == Candidate(units(2), -usd(50))
    bid = chosen(leaf, [sold(units(2), leaf, usd(5_950))])
    assert bid.profit == usd(2 * 30 * 0.8 + 0.2 - 50) - 2
    assert bid.wait  # −1.80 USD


def test_of_sizes_that_pay_the_most_profitable_is_bid_for() -> None:
    """A pool that pays less for more: 24 USD a unit kept, the worth of 4, 8 and 10 falls off."""
    found = chosen(
        LEAF, [Candidate(units(4), -usd(10)), Candidate(units(8), -usd(60)), Candidate(units(10), -usd(130))]
    )
    assert found.size == units(8)
    assert found.profit == usd(8 * 24 + 0.8 - 60) - 2


def test_it_waits_below_the_least_profit_and_says_so() -> None:
    bid = chosen(LEAF, [Candidate(units(10), -usd(240))], min_profit=usd(5))
    assert not bid.ready
    assert bid.wait == "1.00 USD is below the least of 5.00 USD"
    assert choose(LEAF, [], 0, NOW, PROFILE, AT_ONCE) is None


def test_patience_waits_about_so_long_after_it_begins_to_pay() -> None:
    """10 ETH gain 12 USD a second: at 60 USD of costs they pay after five, and patience adds as many as it says."""
    candidates = [Candidate(units(10), -usd(60.99))]
    for patience in (0, 2, 6):
        ready = [t for t in range(RAMP + 5) if chosen(LEAF, candidates, after=t, patience=patience).ready]
        assert ready == list(range(5 + patience, RAMP + 5))
    # Once the concession stands still there is nothing to wait for.
    assert chosen(LEAF, candidates, after=RAMP, patience=1e9).ready


def test_haste_sets_bidders_of_one_rule_apart() -> None:
    rule, candidates = replace(AT_ONCE, patience=4.0), [Candidate(units(10), 0)]

    def first(haste: float) -> int:
        bids = ((t, choose(LEAF, candidates, 0, NOW + t, PROFILE, rule, haste=haste)) for t in range(RAMP))
        return next(t for t, bid in bids if bid is not None and bid.ready)

    assert first(0.5) > first(1.0) > first(1.5)


def test_the_clock_is_the_chains_where_it_starts_later() -> None:
    """After a time without batches a chain starts auctions again: what it concedes is not what the leg says."""
    assert concession_now(LEAF, NOW + 10, 0, PROFILE) == usd(15)
    assert concession_now(LEAF, NOW + 10, NOW + 8, PROFILE) == usd(3)
    assert concession_now(LEAF, NOW + 10, NOW + 30, PROFILE) == 0
    assert concession_now(leg(10, OTHER, mark=2, concession=30).leaf, NOW + 20, 0, PROFILE) == usd(2)  # costs nothing
    assert concession_now(leg(-10, OTHER, mark=2, concession=30).leaf, NOW + 20, 0, PROFILE) == usd(30)


def test_open_is_what_limit_and_position_leave_on_the_legs_side() -> None:
    chains = Chains().size(OTHER, A, 6).closed(OTHER, A, 3).weth(OTHER, A, 2)
    state = chains.world[A]
    for limit, left in ((10, 6), (5, 2), (3, 0), (2, 0), (-10, 0)):
        assert open_size(leg(limit, OTHER).leaf, state, LISTING) == units(left)
    assert open_size(leg(1.5, OTHER, asset=TOKEN).leaf, state, LISTING) == units(1.5)
    assert open_size(leg(5, OTHER, asset=TOKEN).leaf, state, LISTING) == units(2)
    assert open_size(leg(5, OWNER).leaf, state, LISTING) == 0


# --- the bidder's own account ---------------------------------------------------------------------------------------


def exposure(chains: Chains, live: list[LiveItem] | None = None, asset: AssetId = ETH) -> Exposure:
    account = chains.account(OWNER)
    book = portfolio(chains.world, LISTING, account)
    prices = {ETH: (3_000 * UNIT,)}
    effects = [e.effect for e in live_effects(account, live or [], chains.world, LISTING, PROFILE, prices)]
    return Exposure.of(book, effects, Valuation.of(marks(), MODEL, {*book.assets, asset, ETH}))


def test_impacts_are_those_of_the_account_after_the_take_over() -> None:
    chains = Chains().cash(OWNER, A, 10_000).size(OWNER, B, -4).linked(OWNER, [A, B])
    found = impacts(exposure(chains), LEAF, LEAF.mark_price, [units(2), units(4), units(10)])
    before = chains.report()
    for impact in found:
        size = impact.size / UNIT
        after = Chains(dict(chains.world)).size(OWNER, A, size).cash(OWNER, A, 10_000 - 3_000 * size).report()
        assert impact.free == after.free
        assert impact.added == after.initial_margin - before.initial_margin
    assert [impact.added < 0 for impact in found] == [True, True, False]  # 4 ETH offset what is short on B


def test_only_what_margin_is_free_for_is_affordable() -> None:
    chains = Chains().cash(OWNER, A, 2_000)
    tried = sizes(units(10), 10**12)
    possible = affordable(impacts(exposure(chains), LEAF, LEAF.mark_price, tried), False)
    refused = impacts(exposure(chains), LEAF, LEAF.mark_price, [tried[len(possible)]])
    assert 0 < len(possible) < len(tried)
    assert [impact.size for impact in possible] == tried[: len(possible)]
    assert refused[0].free < 0 <= possible[-1].free


def test_own_permits_that_are_not_used_yet_count() -> None:
    chains = Chains().cash(OWNER, A, 2_000).size(OTHER, A, 50)
    other = leg(50, OTHER)
    free = impacts(exposure(chains), LEAF, LEAF.mark_price, [units(1)])[0].free
    less = impacts(exposure(chains, [takeover(3), other]), LEAF, LEAF.mark_price, [units(1)])[0].free
    assert less < free - usd(3 * 300)


def test_tokens_are_bought_with_cash_that_is_there() -> None:
    """CM-21 as the attestors keep it: 2 WETH cost 6,000 USD, whatever margin there is."""
    chains = Chains().cash(OWNER, A, 5_000)
    leaf = leg(10, OTHER, asset=TOKEN).leaf
    found = impacts(exposure(chains, asset=TOKEN), leaf, leaf.mark_price, [units(1), units(2)])
    assert [impact.cash_left for impact in found] == [usd(2_000), -usd(1_000)]
    assert [impact.size for impact in affordable(found, True)] == [units(1)]


def test_without_any_free_margin_nothing_is_affordable() -> None:
    found = impacts(exposure(Chains()), LEAF, LEAF.mark_price, sizes(units(10), 10**12))
    assert affordable(found, False) == []


# --- laws -----------------------------------------------------------------------------------------------------------

amounts = st.integers(1, 10**24)
money = st.integers(-(10**22), 10**22)
rules = st.builds(Rule, st.integers(0, 10**20), st.floats(0, 60), st.integers(0, 100), st.integers(0, 100))


@st.composite
def auctions(draw: st.DrawFn) -> tuple[LiquidationLeaf, list[Candidate]]:
    """A leg of either side and whatever sizes of it are worth."""
    limit = draw(amounts)
    mark, concession = draw(st.integers(1, 10**23)), draw(st.integers(0, 10**22))
    side = draw(st.sampled_from([1, -1]))
    leaf = LiquidationLeaf(OTHER, A, ETH, side * limit, mark, concession, NOW)
    tried = draw(st.lists(st.tuples(st.integers(1, limit), money), max_size=8, unique_by=lambda each: each[0]))
    return leaf, [Candidate(*each) for each in tried]


@given(auctions(), st.integers(0, 10**20), st.integers(-5, RAMP + 5), rules, st.floats(0.5, 1.5))
def test_it_never_bids_at_a_loss_nor_for_more_than_it_can(
    auction: tuple[LiquidationLeaf, list[Candidate]], gas: int, after: int, rule: Rule, haste: float
) -> None:
    """What the clearing house leaves, by its own roundings, less gas and what the size is worth, is what was reckoned
    with at least; and a bid is never below the least profit."""
    leaf, candidates = auction
    bid = choose(leaf, candidates, gas, NOW + after, PROFILE, rule, haste=haste)
    if bid is None:
        assert candidates == []
        return
    worth = {candidate.size: candidate.worth for candidate in candidates}
    concession = leaf.max_concession * min(max(0, after), RAMP) // RAMP
    concession = min(concession, leaf.mark_price) if leaf.close_limit > 0 else concession
    assert bid.concession == concession
    side = 1 if leaf.close_limit > 0 else -1
    against_the_mark = received(leaf, bid.size, concession) * UNIT + side * leaf.mark_price * bid.size
    assert against_the_mark >= (bid.profit + gas - worth[bid.size]) * UNIT
    if bid.ready:
        assert bid.profit >= rule.min_profit >= 0


@given(auctions(), st.integers(0, 10**20), st.integers(-5, RAMP), st.integers(0, RAMP), rules, st.floats(0.5, 1.5))
def test_a_riper_leg_never_lowers_the_bid(
    auction: tuple[LiquidationLeaf, list[Candidate]], gas: int, after: int, later: int, rule: Rule, haste: float
) -> None:
    leaf, candidates = auction
    now, then = (choose(leaf, candidates, gas, NOW + t, PROFILE, rule, haste=haste) for t in (after, after + later))
    if now is None or not now.ready:
        return
    assert then is not None
    assert then.ready
    assert then.size >= now.size
    assert then.profit >= now.profit


@given(st.integers(0, 10**24), st.sampled_from([1, 10**10, 10**12]))
def test_sizes_tried_are_within_what_is_open(most: int, step: int) -> None:
    tried = sizes(most, step)
    assert tried == sorted(set(tried))
    assert all(0 < size <= most and (size % step == 0 or size == most) for size in tried)
    assert most == 0 or tried[-1] == most


@given(st.integers(100, 40_000), st.integers(-20, 20), st.integers(1, 40))
def test_a_bid_within_its_margin_leaves_the_bidder_at_its_initial_margin(cash: int, held: int, limit: int) -> None:
    """Whatever it holds: the account after the take-over at the mark, as reports have it, is not below."""
    chains = Chains().cash(OWNER, A, cash - 3_000 * held).size(OWNER, A, held)
    leaf = leg(limit, OTHER, concession=30).leaf
    possible = affordable(impacts(exposure(chains), leaf, leaf.mark_price, sizes(units(limit), 10**12)), False)
    if not possible:
        return
    alone = usd(450)
    bid = choose(leaf, [hedged(i, leaf, usd(3_000), alone, Rule(0)) for i in possible], 0, NOW + RAMP, PROFILE, Rule(0))
    assert bid is not None
    size = bid.size / UNIT
    taker = Chains(dict(chains.world)).size(OWNER, A, held + size).cash(OWNER, A, cash - 3_000 * (held + size))
    report = evaluate([portfolio(taker.world, LISTING, taker.account(OWNER))], marks(), MODEL)[0]
    assert report.free >= -(10**12)
