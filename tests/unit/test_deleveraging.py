"""CM-43, the last rung: who on the other side closes, at which price, how much, and what a liar may not alter."""

from __future__ import annotations

from dataclasses import replace

import pytest
from immutables import Map
from rungs import RIPE, deleveraged, faults, insolvent, planned, setting, waterfall
from worlds import (
    BTC,
    ETH,
    MAKER,
    NOW,
    OTHER,
    OWNER,
    STRANGER,
    A,
    B,
    Chains,
    dollars,
    granted,
    refused,
    report_of,
    takeover,
    trade,
    units,
    usd,
    withdraw,
)

from keeper.clearing.deleverage import ranked, shortfall
from keeper.clearing.legs import leaves_of
from keeper.clearing.plan import plan_legs
from keeper.clearing.sale import sale_of
from keeper.clearing.waterfall import rung_of
from keeper.state.batch import LiquidationLeaf
from keeper.state.ids import FUND, ZERO32, AccountId
from keeper.state.live import LegItem


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
