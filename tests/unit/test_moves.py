"""Isolated and cross: what is moved between an owner's accounts is judged for both, and one's failure is its own."""

from __future__ import annotations

import pytest
from worlds import (
    DEPLOYMENT,
    ETH,
    LISTING,
    MAKER,
    MODEL,
    OTHER,
    OWNER,
    SUB,
    A,
    B,
    C,
    Chains,
    dollars,
    executed,
    granted,
    marks,
    move,
    refused,
    report_of,
    reserve,
    trade,
    usd,
    withdraw,
)

from keeper.attest.requests import RequestError, check_item, permit_for
from keeper.clearing.effects import TakeoverTerms, effect_of
from keeper.clearing.plan import plan_legs
from keeper.clearing.sale import Setting, sale_of
from keeper.margin.portfolio import portfolio
from keeper.state.actions import Move
from keeper.state.batch import UNIT
from keeper.state.deployment import Profile
from keeper.state.ids import ZERO32
from keeper.state.live import PermitItem
from keeper.state.world import component_of


def test_cash_within_free_margin_moves_and_is_counted_once() -> None:
    context = Chains().cash(OWNER, A, 1_000).context()
    live = move(600)
    assert dollars(granted(live, [], context).free_after) == 400
    refusal = refused(move(401), [live], context, "insufficient_free_margin")
    assert refusal.account == OWNER
    refused(withdraw(401), [live], context, "insufficient_free_margin")


def test_what_the_receiver_cannot_bear_is_refused_for_it() -> None:
    """5 ETH want 2,670: a sub-account with 1,000 may not take them, whatever the owner's cross account has."""
    context = Chains().cash(OWNER, A, -15_000 + 50_000).size(OWNER, A, 5).cash(SUB, A, 1_000).context()
    refusal = refused(move(5, ETH), [], context, "insufficient_free_margin")
    assert refusal.account == SUB
    assert granted(move(1, ETH), [], context).free_after == usd(1_000 - 534)


def test_a_move_that_frees_margin_is_permitted_below_initial_margin() -> None:
    """5 long with equity 2,300: moving 0.5 to a funded sub-account relieves 267 of 2,670 at no loss."""
    context = Chains().size(OWNER, A, 5).cash(OWNER, A, 2_300 - 15_000).cash(SUB, A, 5_000).context()
    assert granted(move(0.5, ETH), [], context).reducing
    refused(move(-0.5, ETH), [], context, "insufficient_free_margin")


@pytest.mark.cm("CM-21")
def test_cm_21_cash_backed_by_collateral_alone_does_not_leave_through_a_sub_account() -> None:
    """Nobody borrows other people's settlement token against ETH, not by way of another account either."""
    context = Chains().weth(OWNER, A, 10).cash(SUB, A, 10).context()
    assert dollars(report_of(context.world, OWNER).free) > 20_000
    assert refused(move(1_000), [], context, "net_cash").account == OWNER
    refused(withdraw(1_000), [], context, "net_cash")


def test_a_position_is_judged_at_the_worst_of_the_marks_it_may_move_at() -> None:
    """At 2,900 and 3,100: who receives a long pays at most the higher, who gives it gets at least the lower."""
    item = move(2, ETH)
    account, target = (component_of(Chains().world, who, A) for who in (OWNER, SUB))
    gives = effect_of(item, account, LISTING, Profile(), TakeoverTerms(1, usd(2_900)))
    takes = effect_of(item, target, LISTING, Profile(), TakeoverTerms(1, usd(3_100)))
    assert (gives.cash, gives.positions) == (usd(5_800), {ETH: -2 * UNIT})
    assert (takes.cash, takes.positions) == (usd(-6_200), {ETH: 2 * UNIT})
    # Equity 1,600 of the receiver: 2 ETH want 1,068 at 3,000, and 200 may be lost on the way, with the buffer of 2 %.
    chains = Chains().size(OWNER, A, 2).cash(OWNER, A, 10_000).cash(SUB, A, 1_330)
    granted(item, [], chains.context(marks(3_000)))
    assert refused(item, [], chains.context(marks(2_900), marks(3_100)), "insufficient_free_margin").account == SUB


def test_moves_are_between_accounts_of_one_owner() -> None:
    context = Chains().cash(OWNER, A, 1_000).context()
    refused(move(1, target=OTHER), [], context, "not_one_owner")
    refused(move(1, target=OWNER), [], context, "not_one_owner")
    refused(move(-1), [], context, "bad_amount")
    action = Move(OWNER, OTHER, ZERO32, UNIT)
    item = PermitItem(A, permit_for(DEPLOYMENT, action, 1, 1), action, (bytes(65),))
    with pytest.raises(RequestError, match="one owner"):
        check_item(item, DEPLOYMENT)
    assert item.permit.counterparty_id == OTHER


def test_an_isolated_account_that_fails_costs_its_owners_others_nothing() -> None:
    """Contagion, measured: the sub-account falls to any depth and is liquidated; the cross account is the same to the
    last digit at every price, and so is what may be withdrawn of it."""
    chains = Chains().cash(OWNER, A, 5_000).linked(OWNER, (A, B)).size(OWNER, B, 1)
    failing = Chains(dict(chains.world)).size(SUB, B, 50).cash(SUB, B, 20_000 - 150_000).linked(SUB, (B, C))
    lost = []
    for price in (3_000, 2_700, 2_400, 1_500):
        alone, beside = (report_of(c.world, OWNER, prices=marks(price)) for c in (chains, failing))
        assert alone == beside
        lost.append(alone.equity - beside.equity)
        sub = report_of(failing.world, SUB, B, marks(price))
        account = component_of(failing.world, SUB, B)
        sale = sale_of(account, Setting(failing.world, marks(price), MODEL, LISTING, Profile(), 0))
        assert sale.due == (sub.equity < sub.maintenance_margin)
        assert bool(plan_legs(sale).legs) == sale.due
    assert lost == [0, 0, 0, 0]
    assert report_of(failing.world, SUB, B, marks(1_500)).equity < -50_000
    # In one cross account the same positions would have taken all of it.
    own = portfolio(failing.world, LISTING, component_of(failing.world, OWNER, A))
    assert own.cash / UNIT + 1_500 + 20_000 - 150_000 + 50 * 1_500 < 0


def test_cash_moves_back_from_an_isolated_account_only_while_it_is_free() -> None:
    context = Chains().cash(SUB, A, 3_000 - 15_000).size(SUB, A, 5).cash(OWNER, A, 0).context()
    back = move(270, source=SUB, target=OWNER)
    granted(back, [], context)
    refused(move(300, source=SUB, target=OWNER), [], context, "insufficient_free_margin")
    refused(reserve(200, account=SUB), [back], context, "insufficient_free_margin")


def test_a_live_move_counts_against_both_accounts() -> None:
    context = Chains().cash(OWNER, A, 20_000).cash(SUB, A, 1_000).cash(MAKER, A, 10**6).size(OWNER, A, 2).context()
    live = move(1, ETH)
    # Of 1,000 the move will take 534; another ETH wants as much again, and its fee.
    refused(trade(1, account=SUB), [live], context, "insufficient_free_margin")
    granted(trade(0.8, account=SUB), [live], context)
    world = executed(context.world, live)
    assert report_of(world, SUB).free == usd(466)
