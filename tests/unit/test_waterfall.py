"""CM-43, rung by rung: the account's own, the fund, the other side; what each costs, and that none comes early."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from immutables import Map
from worlds import (
    BTC,
    DEPLOYMENT,
    ETH,
    LISTING,
    MAKER,
    MODEL,
    NOW,
    OTHER,
    OWNER,
    STRANGER,
    WETH,
    A,
    B,
    C,
    Chains,
    dollars,
    granted,
    leg_filled,
    marks,
    refused,
    report_of,
    takeover,
    trade,
    units,
    usd,
    withdraw,
)

from keeper.attest.batch import reports_at
from keeper.clearing.check import check_legs
from keeper.clearing.deleverage import ranked, shortfall
from keeper.clearing.legs import leaves_of
from keeper.clearing.plan import plan_legs
from keeper.clearing.sale import Setting, sale_of
from keeper.clearing.waterfall import (
    Waterfall,
    deficits,
    fund_cash,
    inventory_faults,
    inventory_legs,
    is_ripe,
    payments,
    rung_of,
)
from keeper.market.marks import Marks
from keeper.state.batch import NO_DEPOSIT_TARGET, LiquidationLeaf
from keeper.state.ids import FUND, ZERO32, AccountId, token_id
from keeper.state.live import LegItem, LiveItem
from keeper.state.world import MarginAccount, World

PROFILE = DEPLOYMENT.profile
RIPE = NOW - 2 * PROFILE.ramp_seconds
"""An auction that began then has had its time."""
GRAIN = 10**12


def setting(chains: Chains, prices: Marks | None = None) -> Setting:
    return Setting(chains.world, prices or marks(), MODEL, LISTING, PROFILE, NOW)


def waterfall(chains: Chains, prices: Marks | None = None, live: list[LiveItem] | None = None) -> Waterfall:
    reports = reports_at(chains.world, prices or marks(), MODEL, LISTING)
    return Waterfall(setting(chains, prices), {report.account: report for report in reports}, live or [])


def planned(
    chains: Chains,
    started: int = RIPE,
    account: AccountId = OWNER,
    chain_id: int = B,
    live: list[LiveItem] | None = None,
    prices: Marks | None = None,
) -> list[LiquidationLeaf]:
    """The legs of one account, checked as a signer does."""
    at, rungs = setting(chains, prices), waterfall(chains, prices, live)
    own = [item for item in live or [] if account in item.accounts]
    sale = rungs.offer(sale_of(chains.account(account, chain_id), at, own), started)
    legs = leaves_of(plan_legs(sale), sale, at, started)
    assert faults(chains, legs, started, live, prices) == []
    return legs


def faults(
    chains: Chains,
    legs: list[LiquidationLeaf],
    started: int = RIPE,
    live: list[LiveItem] | None = None,
    prices: Marks | None = None,
) -> list[str]:
    at, rungs = setting(chains, prices), waterfall(chains, prices, live)
    if not legs:
        return []
    account = chains.account(legs[0].account_id, legs[0].chain_id)
    rungs.note(legs)
    own = [item for item in live or [] if account.account_id in item.accounts]
    sale = sale_of(account, at, own)
    found = check_legs(legs, account, at, own, gains=rungs.gains(sale, legs))
    for leaf in legs:
        found += rungs.faults(leaf, sale, started)
    return found


def insolvent(equity: float = -500, fund: float = 0) -> Chains:
    """5 ETH long on B at 3,000, MM 2,100; OTHER has sold them, MAKER 1 of his own, to STRANGER."""
    chains = Chains().size(OWNER, B, 5).cash(OWNER, B, equity - 15_000)
    chains.size(OTHER, B, -5).cash(OTHER, B, 15_000 + 10_000)
    chains.size(MAKER, B, -1).cash(MAKER, B, 3_000 + 10_000).size(STRANGER, B, 1).cash(STRANGER, B, 0)
    return chains.cash(FUND, B, fund) if fund else chains


# --- rung 1: the account's own --------------------------------------------------------------------------------------


def test_cm_43_rung_1_an_insolvent_account_is_auctioned_at_the_funds_cost() -> None:
    """CM-43: up to a tenth of the standalone maintenance margin, 42 a unit, though the account cannot pay it."""
    (leaf,) = planned(insolvent(fund=100_000), started=NOW - 5)
    assert rung_of(leaf) == "auction"
    assert dollars(leaf.close_limit) == 5
    assert dollars(leaf.max_concession) == 42
    assert leaf.mark_price == usd(3000)


def test_cm_43_collateral_goes_with_the_positions_where_those_do_not_restore() -> None:
    """CM-43: the account's own first, all of it: 5 ETH long and 1 WETH, equity −500."""
    chains = insolvent().weth(OWNER, B, 1).cash(OWNER, B, -500 - 2_910 - 15_000)
    legs = {leaf.asset: leaf for leaf in planned(chains, started=NOW - 5)}
    assert set(legs) == {ETH, token_id(B, WETH)}
    assert dollars(legs[token_id(B, WETH)].close_limit) == 1


def test_collateral_is_kept_where_a_position_restores() -> None:
    chains = Chains().size(OWNER, B, 5).weth(OWNER, B, 1).cash(OWNER, B, 2_300 - 2_910 - 15_000)
    assert report_of(chains.world, OWNER, B).status == "liquidatable"
    assert [leaf.asset for leaf in planned(chains, started=NOW - 5)] == [ETH]


# --- rung 2: the fund -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("waited", "rung"), [(0, "auction"), (20, "auction"), (39, "auction"), (40, "fund")])
def test_cm_43_rung_2_the_fund_takes_what_nobody_bid_for(waited: int, rung: str) -> None:
    """CM-43: after the ramp and as long again; at the mark, without concession or fee."""
    (leaf,) = planned(insolvent(fund=10_000), started=NOW - waited)
    assert rung_of(leaf) == rung
    assert dollars(leaf.close_limit) == 5
    assert is_ripe(NOW - waited, setting(insolvent())) == (rung == "fund")
    if rung == "fund":
        assert (leaf.mark_price, leaf.max_concession, leaf.auction_start) == (usd(3000), 0, NOW - waited)


def test_cm_43_the_fund_takes_no_more_than_its_cash_carries() -> None:
    """CM-43: 534 of initial margin a unit, beside the 500 that it will have to pay for the account."""
    (leaf,) = planned(insolvent(fund=500 + 3 * 534 + 1))
    assert rung_of(leaf) == "fund"
    assert dollars(leaf.close_limit) == pytest.approx(3.001, abs=1e-3)
    # What another account was promised in the same batch, or in one that lives, counts.
    chains = insolvent(fund=500 + 3 * 534 + 1)
    other = replace(leaf, account_id=STRANGER, close_limit=units(2))
    (less,) = planned(chains.size(STRANGER, B, 2).cash(STRANGER, B, 2_000), live=[LegItem(other, NOW - 30)])
    assert dollars(less.close_limit) == pytest.approx(1.001, abs=1e-3)


def test_cm_43_the_fund_frees_an_account_too_poor_to_be_auctioned() -> None:
    """CM-43: with 0.5 of equity not even the flat fee may be paid, so nobody can ever bid; the fund takes no fee."""
    chains = insolvent(0.5, fund=10_000)
    assert planned(chains, started=NOW - 5) == []
    (leaf,) = planned(chains)
    assert rung_of(leaf) == "fund"


def test_cm_43_rung_2_the_fund_pays_what_is_left_owing() -> None:
    """CM-43: an account with nothing left to sell. Smallest first; where it owes most, then on its other chains."""
    chains = Chains().linked(OWNER, (A, B)).cash(OWNER, B, -300).cash(OWNER, A, 100)
    chains.cash(OTHER, C, -50).cash(MAKER, C, 70).cash(STRANGER, A, -10).size(STRANGER, A, 1)
    owed = deficits(setting(chains))
    assert owed == {chains.account(OWNER): usd(200), chains.account(OTHER, C): usd(50)}
    everything = {A: usd(500), B: usd(150), C: usd(40)}
    paid, unpaid = payments(owed, chains.world, everything)
    assert paid == [(OTHER, C, usd(40)), (OWNER, B, usd(150)), (OWNER, A, usd(50))]
    assert unpaid == {chains.account(OTHER, C): usd(10)}
    # A hedge that may not be stripped: the fund pays, where the planner found nothing.
    hedged = Chains().size(OWNER, A, 5).size(OWNER, B, -5).cash(OWNER, A, -100).linked(OWNER, (A, B))
    assert planned(hedged, chain_id=A) == []
    assert deficits(setting(hedged)) == {}
    assert deficits(setting(hedged), [hedged.account(OWNER)]) == {hedged.account(OWNER): usd(100)}
    assert fund_cash(insolvent(fund=7).world) == {A: 0, B: usd(7), C: 0}


@given(
    owed=st.lists(st.tuples(st.sampled_from([OWNER, OTHER, MAKER]), st.integers(0, 500)), max_size=3),
    fund=st.tuples(*[st.integers(0, 400)] * 3),
)
def test_payments_never_exceed_the_deficit_or_the_fund(
    owed: list[tuple[AccountId, int]], fund: tuple[int, int, int]
) -> None:
    """CM-43: what is paid and what is missing are exactly what is owed; no chain's fund becomes negative."""
    accounts = {MarginAccount(account, (A, B)): usd(amount) for account, amount in owed}
    cash = {chain: usd(amount) for chain, amount in zip((A, B, C), fund, strict=True)}
    paid, unpaid = payments(accounts, Chains().world, cash)
    for chain, amount in cash.items():
        assert sum(part for _, there, part in paid if there == chain) <= amount
    for account, amount in accounts.items():
        got = sum(part for who, _, part in paid if who == account.account_id)
        assert got + unpaid.get(account, 0) == amount
        if unpaid.get(account):
            assert sum(part for _, there, part in paid if there in (A, B)) == cash[A] + cash[B]


def test_the_fund_sells_what_it_took_always_and_for_no_more_than_a_tenth() -> None:
    """CM-43: whoever holds the fund's account has no requirement; its inventory is auctioned as anybody's."""
    chains = Chains().size(FUND, B, 3).size(FUND, B, -0.5, BTC).weth(FUND, B, 2).cash(FUND, B, 100)
    at = setting(chains)
    starts = {ETH: NOW - 7}
    legs = inventory_legs(at, B, starts)
    by_asset = {leaf.asset: leaf for leaf in legs}
    assert set(by_asset) == {ETH, BTC, token_id(B, WETH)}
    assert dollars(by_asset[BTC].close_limit) == -0.5
    assert dollars(by_asset[ETH].max_concession) == 42
    assert (by_asset[ETH].auction_start, by_asset[ETH].deposit_target) == (NOW - 7, NO_DEPOSIT_TARGET)
    assert by_asset[token_id(B, WETH)].auction_start == NOW
    assert inventory_faults(legs, at) == []
    for change in ({"max_concession": usd(43)}, {"close_limit": units(4)}, {"mark_price": usd(2990)}, {"chain_id": A}):
        assert inventory_faults([replace(by_asset[ETH], **change)], at) != []  # type: ignore[arg-type]
    assert inventory_legs(at, A, {}) == []


# --- rung 3: the other side -----------------------------------------------------------------------------------------


def test_cm_43_rung_3_the_other_side_closes_at_the_bankruptcy_price() -> None:
    """CM-43: with an empty fund, 5 long owing 500: at 3,000 + 100 the account ends at exactly nothing."""
    chains = insolvent()
    (leaf,) = planned(chains)
    assert rung_of(leaf) == "deleverage"
    assert leaf.counterparty == OTHER
    assert (dollars(leaf.mark_price), leaf.max_concession, dollars(leaf.close_limit)) == (3100, 0, 5)
    after = Chains(deleveraged(chains, leaf))
    assert report_of(after.world, OWNER, B).equity == 0
    assert report_of(after.world, OTHER, B).equity == usd(10_000 - 500)
    assert OTHER not in after.world[B].sizes or ETH not in after.world[B].sizes[OTHER]


def deleveraged(chains: Chains, leaf: LiquidationLeaf) -> World:
    size = abs(leaf.close_limit)
    world = leg_filled(chains.world, LegItem(leaf, NOW), size, 0, AccountId(leaf.counterparty))
    # `leg_filled` pays the taker of an auction its flat fee, which a named counterparty does not get.
    fee = PROFILE.flat_fee * size // abs(leaf.close_limit)
    state = world[leaf.chain_id]
    cash = state.cash.set(leaf.account_id, state.cash.get(leaf.account_id, 0) + fee)
    other = AccountId(leaf.counterparty)
    cash = cash.set(other, cash.get(other, 0) - fee)
    return {**world, leaf.chain_id: replace(state, cash=cash)}


def test_cm_43_a_short_is_bought_back_below_the_mark_and_never_below_zero() -> None:
    chains = Chains().size(OWNER, B, -5).cash(OWNER, B, 15_000 - 500).size(OTHER, B, 5).cash(OTHER, B, 10_000 - 15_000)
    (leaf,) = planned(chains)
    assert (dollars(leaf.close_limit), dollars(leaf.mark_price), leaf.counterparty) == (-5, 2900, OTHER)
    ruined = Chains().size(OWNER, B, -5).cash(OWNER, B, -500).size(OTHER, B, 5).cash(OTHER, B, 50_000)
    (leaf,) = planned(ruined)
    assert leaf.mark_price == 0


def test_cm_43_the_deficit_is_spread_by_requirement_and_counts_collateral_in_full() -> None:
    """CM-43: 5 ETH and 0.5 BTC have requirements 2,100 and 4,200; 1 WETH is worth 3,000 to who owes, not 2,910."""
    chains = Chains().cash(OWNER, B, -15_000 - 30_000 - 900 - 3_000).weth(OWNER, B, 1)
    sizes = Map({ETH: units(5), BTC: units(0.5)})
    chains.world = {**chains.world, B: replace(chains.world[B], sizes=Map({OWNER: sizes}))}
    at = setting(chains)
    sale = sale_of(chains.account(OWNER, B), at)
    assert shortfall(sale.portfolio, at.marks, at.model) == usd(900)
    rungs = waterfall(chains)
    gains = rungs.gains(sale, [LiquidationLeaf(OWNER, B, a, 1, 0, 0, 0, counterparty=OTHER) for a in (ETH, BTC)])
    assert [dollars(gains[(B, asset)]) for asset in (ETH, BTC)] == pytest.approx([300 / 5, 600 / 0.5], abs=1e-5)


def test_cm_43_those_who_won_most_with_most_leverage_are_first() -> None:
    """CM-43: profit on cost × leverage; a loser after every winner; who is due himself, or on another chain, never."""
    ids = [AccountId(bytes([n]) * 20 + bytes(12)) for n in range(0x30, 0x37)]
    winner, levered, loser, due, elsewhere, flat, long = ids
    chains = insolvent()
    for account, equity, cost in (
        (winner, 10_000, 4_000),  # +33 % at 0.3
        (levered, 1_000, 3_600),  # +20 % at 3
        (loser, 1_000, 2_400),
        (flat, 10_000, None),
    ):
        chains.size(account, B, -1).cash(account, B, 3_000 + equity)
        if cost is not None:
            costs = chains.world[B].costs.set((account, ETH), -usd(cost))
            chains.world = {**chains.world, B: replace(chains.world[B], costs=costs)}
    chains.size(due, B, -5).cash(due, B, 15_000 + 100).size(elsewhere, A, -1).cash(elsewhere, A, 10_000)
    chains.size(long, B, 1).cash(long, B, 5_000)
    at, rungs = setting(chains), waterfall(chains)
    found = [each.account.account_id for each in ranked(at, rungs.reports, B, ETH, 1)]
    assert found[:2] == [levered, winner]
    assert found[-1] == loser
    assert not {due, elsewhere, long, OWNER, FUND} & set(found)
    (leaf,) = planned(chains)
    assert (leaf.counterparty, dollars(leaf.close_limit)) == (levered, 1)
    # Naming a friend's enemy instead is found out.
    lie = replace(leaf, counterparty=winner)
    assert any("more profit and leverage" in fault for fault in faults(chains, [lie]))


def test_cm_41_a_counterparty_stays_above_its_maintenance_margin_beside_what_is_live_on_it() -> None:
    """CM-41: what OTHER has been permitted to withdraw may leave before, and then the leg still does not break it."""
    chains = insolvent(-3_000).size(MAKER, B, -0.001)
    chains.cash(OTHER, B, 15_000 + 2_700)
    (whole,) = planned(chains)
    # 600 a unit is lost and 420 of maintenance margin freed: 2,700 − 600 s ≥ 2,100 − 420 s up to s = 600 ÷ 180.
    assert (whole.counterparty, dollars(whole.close_limit)) == (OTHER, pytest.approx(600 / 180, abs=1e-4))
    out = withdraw(300, B, OTHER)
    (less,) = planned(chains, live=[out])
    assert (less.counterparty, dollars(less.close_limit)) == (OTHER, pytest.approx(300 / 180, abs=1e-4))
    assert any("can close" in fault for fault in faults(chains, [whole], live=[out]))


def test_cm_11_a_leg_counts_against_the_counterparty_that_it_names() -> None:
    """CM-11: OTHER takes out all that is free while a leg that costs him 500 is live; then the leg is executed."""
    chains = insolvent()
    (leaf,) = planned(chains)
    live = LegItem(leaf, NOW)
    assert live.accounts == (OWNER, OTHER)
    free = dollars(report_of(chains.world, OTHER, B).free)
    context = chains.context()
    granted(withdraw(free - 60, B, OTHER), [], context)
    # Deleveraged, 2,670 of initial margin are free and 500 gone; before, none is: each case by itself.
    granted(withdraw(free - 60, B, OTHER), [live], context)
    hedge = trade(5, price=3000, chain_id=B, account=OTHER, maker=MAKER)
    chains.cash(MAKER, B, 10**6)
    assert granted(hedge, [], chains.context()).free_after >= usd(9_900)
    # With both he is 5 long at 9,500: the leg is counted, and costs the 500.
    assert granted(hedge, [live], chains.context()).free_after < usd(7_000)
    refused(withdraw(9_490, B, OTHER), [live], chains.context(), "insufficient_free_margin")


def test_nobody_takes_over_by_a_leg_that_names_its_counterparty() -> None:
    """CM-43: it is nobody else's, and its price is no mark."""
    chains = insolvent().cash(MAKER, B, 50_000)
    (leaf,) = planned(chains)
    asked = takeover(1, OWNER, B, MAKER)
    refused(asked, [], chains.context(legs=[LegItem(leaf, NOW)]), "no_leg")
    auctioned = replace(leaf, counterparty=ZERO32, mark_price=usd(3000))
    granted(asked, [], chains.context(legs=[LegItem(auctioned, NOW)]))


# --- the order of the rungs -----------------------------------------------------------------------------------------


def test_cm_43_the_order_of_the_rungs() -> None:
    """CM-43: auction, then the fund where it can take and pay, then the other side; never one before the other."""
    early, late = NOW - 39, RIPE
    rich, poor = insolvent(fund=10_000), insolvent(fund=400)
    seen = [
        rung_of(planned(chains, started=started)[0])
        for chains, started in ((rich, early), (poor, early), (rich, late), (poor, late))
    ]
    assert seen == ["auction", "auction", "fund", "deleverage"]
    by_other = planned(poor)
    assert any("after its auction began" in fault for fault in faults(poor, by_other, started=early))
    assert any("the fund can pay" in fault for fault in faults(rich, by_other))
    by_fund = planned(rich)
    assert any("can not pay" in fault for fault in faults(poor, by_fund))
    assert any("after its auction began" in fault for fault in faults(rich, by_fund, started=early))
    # With equity left nobody's position is closed against his will: the auction goes on.
    solvent = insolvent(300)
    (leaf,) = planned(solvent)
    assert rung_of(leaf) == "auction"
    lie = replace(by_other[0], mark_price=usd(3000), deposit_target=leaf.deposit_target)
    assert any("negative equity" in fault for fault in faults(solvent, [lie]))


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"mark_price": usd(3101)}, "its mark is"),
        ({"mark_price": usd(3000)}, "its mark is"),
        ({"max_concession": usd(1)}, "its concession"),
        ({"counterparty": MAKER}, "more profit and leverage"),
        ({"counterparty": STRANGER}, "profit"),
        ({"counterparty": FUND}, "its mark is"),
        ({"counterparty": ZERO32}, "its mark is"),
    ],
)
def test_a_deleveraging_altered_in_one_thing_is_found_out(change: dict[str, object], names: str) -> None:
    chains = insolvent()
    costs = chains.world[B].costs.set((OTHER, ETH), -usd(20_000))
    chains.world = {**chains.world, B: replace(chains.world[B], costs=costs)}
    (leaf,) = planned(chains)
    found = faults(chains, [replace(leaf, **change)])  # type: ignore[arg-type]
    assert any(names in fault for fault in found), found


# --- whatever the books ---------------------------------------------------------------------------------------------

sizes = st.integers(-8_000, 8_000).map(lambda n: n / 1000)


@settings(max_examples=60, deadline=None)
@given(
    own=st.tuples(sizes, sizes),
    others=st.lists(st.tuples(sizes, st.integers(0, 6_000)), min_size=1, max_size=4),
    health=st.floats(-2, 0.9),
    fund=st.sampled_from([0, 300, 2_000, 50_000]),
    ripe=st.booleans(),
    part=st.floats(0, 1),
)
def test_cm_43_no_rung_breaks_anybody(
    own: tuple[float, float],
    others: list[tuple[float, int]],
    health: float,
    fund: int,
    ripe: bool,
    part: float,
) -> None:
    """CM-41, CM-43: filled to any part, a counterparty that was sound stays so, the fund keeps what it may need, the
    account's own shortfall does not grow, and no counterparty buys or sells better than at the mark."""
    chains = Chains().linked(OWNER, (A, B)).size(OWNER, A, own[0]).size(OWNER, B, own[1]).cash(FUND, B, fund)
    people = [AccountId(bytes([0x50 + n]) * 20 + bytes(12)) for n in range(len(others))]
    for account, (size, equity) in zip(people, others, strict=True):
        chains.size(account, B, size).cash(account, B, equity - 3_000 * size)
    bare = report_of(chains.world, OWNER, A)
    assume(bare.maintenance_margin > usd(1))
    chains.cash(OWNER, A, dollars(int(bare.maintenance_margin * health) - bare.equity))
    before = report_of(chains.world, OWNER, A)
    assume(before.status == "liquidatable")
    legs = planned(chains, started=RIPE if ripe else NOW - 5, chain_id=A)
    event(", ".join(sorted(rung_of(leaf) for leaf in legs)) or "nothing")
    for leaf in legs:
        side = 1 if leaf.close_limit > 0 else -1
        if rung_of(leaf) == "auction":
            continue
        assert side * (leaf.mark_price - usd(3000)) >= 0
        size = int(abs(leaf.close_limit) * part) // GRAIN * GRAIN
        if not size:
            continue
        other = AccountId(leaf.counterparty)
        sound = report_of(chains.world, other, B) if other != FUND else None
        after = Chains(deleveraged(chains, replace(leaf, close_limit=side * size)))
        mine = report_of(after.world, OWNER, A)
        grown = (mine.maintenance_margin - mine.equity) - (before.maintenance_margin - before.equity)
        if before.equity < 0:
            assert grown <= 10 * GRAIN
        if sound is not None:
            now = report_of(after.world, other, B)
            assert now.equity - now.maintenance_margin >= min(0, sound.equity - sound.maintenance_margin) - 4 * GRAIN
            assert dollars(mine.equity) <= 1e-3 or before.equity >= 0
        else:
            assert after.report(FUND, B).free >= 0


def test_several_accounts_share_one_counterparty_and_the_fund_without_taking_it_twice() -> None:
    chains = insolvent(-3_000).size(MAKER, B, -0.001)
    chains.size(STRANGER, B, 5).cash(STRANGER, B, -3_000 - 15_000)
    chains.cash(OTHER, B, 15_000 + 2_700)
    rungs, at = waterfall(chains), setting(chains)
    total = 0
    for account in (OWNER, STRANGER):
        live = [item for item in rungs.live if account in item.accounts]
        sale = rungs.offer(sale_of(chains.account(account, B), at, live), RIPE)
        legs = [leaf for leaf in leaves_of(plan_legs(sale), sale, at, RIPE) if leaf.counterparty == OTHER]
        rungs.note(legs)
        total += sum(leaf.close_limit for leaf in legs)
    assert dollars(total) == pytest.approx(600 / 180, abs=1e-4)
