"""CM-43, rung by rung: the account's own, the fund; the order of the rungs; and that none breaks anybody.

The last rung, the other side, is in test_deleveraging.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from rungs import GRAIN, RIPE, deleveraged, faults, insolvent, planned, setting
from worlds import BTC, ETH, MAKER, NOW, OTHER, OWNER, STRANGER, WETH, A, B, C, Chains, dollars, report_of, units, usd

from keeper.clearing.waterfall import deficits, fund_cash, inventory_faults, inventory_legs, is_ripe, payments, rung_of
from keeper.state.batch import NO_DEPOSIT_TARGET
from keeper.state.ids import FUND, AccountId, token_id
from keeper.state.live import LegItem
from keeper.state.world import MarginAccount

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
