"""Permits, act by act: what is granted, each refusal with its figures, by numbers computed by hand.

At the marks of these tests a whole ETH of perpetual requires 15 % and 2.8 % of 3,000: 534; a WETH counts 2,910 in
equity and requires 450. A match costs 2 bp of its notional, and 2 % of initial margin must stay free.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from worlds import (
    BTC,
    INTEGRATOR,
    MAKER,
    NOW,
    OTHER,
    OWNER,
    WETH,
    A,
    B,
    C,
    Chains,
    dollars,
    executed,
    granted,
    leg,
    marks,
    refused,
    reserve,
    takeover,
    trade,
    usd,
    withdraw,
)

from keeper.attest.permits import CORNER_ITEMS
from keeper.state.live import LiveItem, PermitItem


def long_one() -> Chains:
    """1 ETH bought at 3,000 and 1,000 of equity: IM 534, free 466, of which 10.68 must stay."""
    return Chains().size(OWNER, A, 1).cash(OWNER, A, 1000 - 3000)


def rich(chains: Chains, *accounts: bytes) -> Chains:
    for account in accounts:
        chains.cash(account, A, 1_000_000)  # type: ignore[arg-type]
    return chains


# --- withdrawals ----------------------------------------------------------------------------------------------------


def test_cash_without_positions_may_leave_to_the_last_unit() -> None:
    context = Chains().cash(OWNER, A, 1000).context()
    assert granted(withdraw(1000), [], context).free_after == 0
    refusal = refused(withdraw(1000.000001), [], context, "insufficient_free_margin")
    assert (refusal.free, refusal.asked) == (usd(1000), usd(1000.000001))


def test_free_margin_less_the_buffer_may_leave() -> None:
    context = long_one().context()
    grant = granted(withdraw(455.32), [], context)  # 466 − 2 % of 534
    assert (dollars(grant.free_after), grant.reducing) == (10.68, False)
    refusal = refused(withdraw(455.33), [], context, "insufficient_free_margin")
    assert refusal.figures() == {
        "account": OWNER,
        "live": [],
        "free": str(usd(466)),
        "asked": str(usd(455.33)),
        "equity": str(usd(1000)),
        "initialMargin": str(usd(534)),
        "maintenanceMargin": str(usd(420)),
    }
    assert "free margin would be 10.67 USD, a buffer of 10.68 USD is wanted" in refusal.message
    assert "free 466.00 USD, asked 455.33 USD, 0 other item(s) live" in refusal.message


def test_what_else_is_live_is_named_and_counted() -> None:
    live = [withdraw(100), reserve(50)]
    refusal = refused(withdraw(400), live, long_one().context(), "insufficient_free_margin")
    # The worst subset has both executed: 466 − 100 − 50.
    assert (refusal.free, refusal.asked) == (usd(316), usd(400))
    assert [line.split(" on chain")[0] for line in refusal.live] == [
        "withdrawal of 100 USDC",
        f"reservation of 50 USD for 0x{INTEGRATOR.hex()}",
    ]
    for item, line in zip(live, refusal.live, strict=True):
        assert f"nonce {item.permit.nonce}, until {NOW + 60}" in line


def test_collateral_leaves_at_what_it_counts() -> None:
    # 2 WETH: 5,820 − 900 = 4,920 free, 2,460 each. Of w WETH left 2,460 w − 2 % of 450 w stays positive: all may go.
    context = Chains().weth(OWNER, A, 2).context()
    assert granted(withdraw(2, token=WETH), [], context).free_after == 0
    refused(withdraw(2.000001, token=WETH), [], context, "insufficient_free_margin")
    # With cash enough it is the balance that ends it, also beside what is live.
    context = Chains().weth(OWNER, A, 2).cash(OWNER, A, 10_000).context()
    refused(withdraw(2.000001, token=WETH), [], context, "insufficient_balance")
    granted(withdraw(0.5, token=WETH), [withdraw(1.5, token=WETH)], context)
    refused(withdraw(0.500001, token=WETH), [withdraw(1.5, token=WETH)], context, "insufficient_balance")
    chains = Chains().weth(OWNER, A, 2).cash(OWNER, B, 10_000).linked(OWNER, (A, B))
    refused(withdraw(1, chain_id=B, token=WETH), [], chains.context(), "insufficient_balance")


def test_the_vault_of_the_chain_must_hold_what_leaves() -> None:
    """The account is rich over its chains; chain B holds 500, of which 200 are promised to others."""
    chains = Chains().cash(OWNER, A, 1000).cash(OWNER, B, 1).linked(OWNER, (A, B)).held(B, 500).cash(OTHER, B, 300)
    live = [withdraw(200, chain_id=B, account=OTHER)]
    granted(withdraw(300, chain_id=B), live, chains.context())
    refusal = refused(withdraw(300.01, chain_id=B), live, chains.context(), "vault_short")
    assert f"the vault of chain {B} has 300000000" in refusal.message


# --- CM-21: net cash ------------------------------------------------------------------------------------------------


def test_cm_21_nobody_borrows_cash_against_collateral() -> None:
    """CM-21: 10 WETH are 24,600 of free margin, but settlement token leaves only against the 100 of net cash."""
    context = Chains().weth(OWNER, A, 10).cash(OWNER, A, 100).context()
    granted(withdraw(100), [], context)
    refusal = refused(withdraw(100.01), [], context, "net_cash")
    assert (refusal.free, refusal.asked) == (usd(24_700), usd(100.01))
    assert "would be -0.01 USD" in refusal.message
    granted(withdraw(9, token=WETH), [], context)  # tokens of its own leave against margin alone


@pytest.mark.parametrize(
    ("live", "most"),
    [
        ([withdraw(60)], 40),
        ([withdraw(60), withdraw(15, chain_id=B)], 25),
        ([withdraw(60, account=OTHER)], 100),
        ([reserve(90)], 100),  # without a cash part it takes margin only
        ([reserve(90, cash_part=30)], 70),
        ([trade(1, price=3050)], 49.39),  # 50 above the mark, fee 0.61
        ([trade(-1, price=3050)], 100),  # what it gains may never happen
        ([trade(1, price=3050), trade(-1, price=3050), withdraw(10)], 39.39),
        ([withdraw(10) for _ in range(8)], 20),
    ],
)
def test_cm_21_under_every_subset_of_what_is_live(live: list[LiveItem], most: float) -> None:
    """CM-21: from 100 of cash beside 10 WETH goes what no subset of the live items can eat."""
    chains = Chains().weth(OWNER, A, 10).cash(OWNER, A, 100).linked(OWNER, (A, B))
    granted(withdraw(most), live, chains.context())
    refused(withdraw(most + 0.01), live, chains.context(), "net_cash")


def test_cm_21_counts_what_positions_lost_over_all_linked_chains() -> None:
    """CM-21: cash 1,000 on A, on B 1 ETH bought at 3,000 and marked at 2,900: 900 of net cash."""
    chains = Chains().cash(OWNER, A, 1000).size(OWNER, B, 1).cash(OWNER, B, -3000).weth(OWNER, A, 10)
    chains.linked(OWNER, (A, B))
    granted(withdraw(900), [], chains.context(marks(2900)))
    refused(withdraw(900.01), [], chains.context(marks(2900)), "net_cash")


def test_cm_21_cash_parts_of_reservations_are_as_good_as_gone() -> None:
    """CM-21: of 100 an integrator may claim 80 in cash, until the final block of that chain is past the end."""
    chains = Chains().weth(OWNER, A, 10).cash(OWNER, A, 100).reserved(OWNER, B, 90, until=NOW + 5, cash_part=80)
    chains.linked(OWNER, (A, B))
    granted(withdraw(20), [], chains.context())
    refused(withdraw(20.01), [], chains.context(), "net_cash")
    refused(reserve(30, cash_part=20.01), [], chains.context(), "net_cash")
    refused(withdraw(100), [], chains.time(B, NOW + 5).time(A, NOW + 900).context(), "net_cash")
    granted(withdraw(100), [], chains.time(B, NOW + 6).context())


@pytest.mark.parametrize("collateral", [0.05, 0.15, 5])
def test_cm_21_a_close_out_is_not_held_up_by_a_reservation_under_water(collateral: float) -> None:
    """CM-21: 1 ETH bought at 3,000 is marked at 2,900, against 50 of cash, so net cash is −50 less a cash part of 40.

    Closing takes nothing out but its fee; so too where it restores health altogether, or health was never lost.
    """
    chains = rich(Chains().size(OWNER, A, 1).weth(OWNER, A, collateral), MAKER)
    chains.cash(OWNER, A, 50 - 3000).reserved(OWNER, A, 40, until=NOW + 900, cash_part=40)
    context = chains.context(marks(2900))
    granted(trade(-1, price=2900), [], context)
    code = "net_cash" if collateral == 5 else "insufficient_free_margin"
    refused(trade(0.001, price=2900), [], context, code)
    # With a withdrawal live, though, net cash must be there for it.
    refused(trade(-1, price=2900), [withdraw(1)], context, "net_cash")


# --- reservations ---------------------------------------------------------------------------------------------------


def test_a_reservation_takes_margin_in_full_and_its_buffer() -> None:
    context = Chains().cash(OWNER, A, 1000).context()
    # It is initial margin itself: 1,000 − r ≥ 2 % of r, so r ≤ 980.392156….
    assert dollars(granted(reserve(980.39), [], context).free_after) == pytest.approx(19.61)
    refusal = refused(reserve(980.40), [], context, "insufficient_free_margin")
    assert (refusal.free, refusal.asked) == (usd(1000), usd(980.40))
    granted(reserve(80.39), [withdraw(918)], context)
    refused(reserve(80.40), [withdraw(918)], context, "insufficient_free_margin")  # 82 − 80.40 < 1.608


# --- trades ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("taker", [OWNER, OTHER])
@pytest.mark.parametrize("side", [1, -1])
def test_both_sides_of_a_trade_are_judged(taker: bytes, side: int) -> None:
    """CM-11: 1,000 of equity carry s where 1,000 − 0.6 s − 534 s ≥ 10.68 s: s ≤ 1.83392; the other side is rich."""
    maker = OTHER if taker == OWNER else OWNER
    context = rich(Chains().cash(OWNER, A, 1000), OTHER).context()
    parties = {"account": taker, "maker": maker}
    grant = granted(trade(1.833 * side, **parties), [], context)  # type: ignore[arg-type]
    assert dollars(grant.free_after) == pytest.approx(1000 - 1.833 * 534.6)
    refusal = refused(trade(1.834 * side, **parties), [], context, "insufficient_free_margin")  # type: ignore[arg-type]
    assert refusal.account == OWNER
    assert refusal.asked is not None
    assert dollars(refusal.asked) == pytest.approx(1.834 * 534.6)


def test_the_makers_other_items_count_for_the_maker() -> None:
    context = rich(Chains().cash(MAKER, A, 1000), OWNER).context()
    granted(trade(1.5), [withdraw(180, account=MAKER)], context)  # 1,000 − 180 − 801.9 = 18.1 ≥ 16.02
    refusal = refused(trade(1.5), [withdraw(183, account=MAKER)], context, "insufficient_free_margin")
    assert refusal.account == MAKER
    assert len(refusal.live) == 1
    granted(trade(1.5), [withdraw(183, account=OTHER)], context)


def test_a_price_off_the_mark_is_paid_by_the_side_that_loses() -> None:
    context = rich(Chains().cash(OWNER, A, 1000), MAKER).context()
    # 100 above the mark and 0.62 of fee: 1,000 − 100.62 − 534 = 365.38.
    assert dollars(granted(trade(1, price=3100), [], context).free_after) == 365.38
    assert dollars(granted(trade(-1, price=3100), [], context).free_after) == pytest.approx(1000 + 100 - 0.62 - 534)


def test_an_order_is_not_filled_beyond_its_size() -> None:
    """Of an order of 3, 1 is filled at the final block and 1 is in a live trade; 1 is left."""
    order = bytes([7]) * 32
    chains = rich(Chains().filled(A, order, 1), OWNER, MAKER)
    live = [trade(1, order_size=3, order_hash=order)]
    granted(trade(1, order_size=3, order_hash=order), live, chains.context())
    refusal = refused(trade(1.001, order_size=3, order_hash=order), live, chains.context(), "order_overfilled")
    assert "of 3: 1 filled, 1 live, 1.001 asked" in refusal.message
    dead = [replace(live[0], permit=replace(live[0].permit, deadline=NOW - 1))]
    granted(trade(2, order_size=3, order_hash=order), dead, chains.context())


# --- risk that goes down --------------------------------------------------------------------------------------------


def at_risk() -> Chains:
    """5 ETH long, equity 2,300: IM 2,670, MM 2,100, free −370."""
    return rich(Chains().size(OWNER, A, 5).cash(OWNER, A, 2300 - 15_000), MAKER)


def test_what_reduces_risk_is_granted_below_initial_margin() -> None:
    context = at_risk().context()
    # Selling 0.5: fee 0.3, IM 2,403: free −103.3, still below the buffer, but above −370.
    grant = granted(trade(-0.5), [], context)
    assert (dollars(grant.free_after), grant.reducing) == (-103.3, True)
    refusal = refused(trade(0.001), [], context, "insufficient_free_margin")
    assert (refusal.free, refusal.asked) == (usd(-370), usd(0.5346))
    refused(withdraw(0.01), [], context, "insufficient_free_margin")


def test_exact_corners_grant_what_the_bound_alone_would_refuse() -> None:
    """CM-11: with 2,299.7 against the 2,403 of 4.5 long the bound refuses; each corner is better with the act."""
    live = [trade(-2)]
    grant = granted(trade(-0.5), live, at_risk().context())
    assert (dollars(grant.free_after), grant.reducing) == (-103.3, True)
    small = [trade(-0.1, order_size=1) for _ in range(CORNER_ITEMS)]
    assert granted(trade(-0.5), small, at_risk().context()).reducing
    refusal = refused(trade(-0.5), [*small, trade(-0.1)], at_risk().context(), "too_many_live")
    assert "13 items are live" in refusal.message


def test_beyond_twelve_the_bound_decides_and_needs_no_limit_of_its_own() -> None:
    """CM-11: 40 withdrawals of 10 leave 600 of 1,000."""
    context = Chains().cash(OWNER, A, 1000).context()
    live = [withdraw(10) for _ in range(40)]
    assert granted(withdraw(600), live, context).free_after == 0
    refusal = refused(withdraw(600.01), live, context, "too_many_live")
    assert refusal.free == usd(600)
    refused(withdraw(1000.01), live, context, "insufficient_free_margin")  # not even alone


@pytest.mark.parametrize(
    ("equity", "price", "code"),
    [
        # Selling 1 of 5 relieves 534 of 2,670: at most 53.4 may be lost, fee of 2 bp included.
        (1500, 2948, None),  # 52 + 0.5896
        (1500, 2947, "loss_against_mark"),  # 53 + 0.5894
        (1500, 3100, None),
        (40, 2948, "equity_negative"),  # 40 − 52.5896
        (53, 2948, None),
        (-1, 3000, "equity_negative"),  # the fee is a loss; at 3,001 it is 1 − 0.6002 the other way
        (-1, 3001, None),
    ],
)
def test_reducing_risk_may_cost_a_tenth_of_what_it_relieves(equity: float, price: float, code: str | None) -> None:
    context = rich(Chains().size(OWNER, A, 5).cash(OWNER, A, equity - 15_000), MAKER).context()
    act = trade(-1, price=price)
    if code is None:
        assert granted(act, [], context).reducing
    else:
        refused(act, [], context, code)


def test_cm_11_while_a_leg_is_live_only_what_frees_margin_is_signed() -> None:
    """CM-11: topped up to 20,000 the account could bear anything, were 5 of it not still on sale."""
    chains = rich(Chains().size(OWNER, A, 5).cash(OWNER, A, 20_000 - 15_000), MAKER)
    live: list[LiveItem] = [leg(2, concession=42)]
    for act in (withdraw(1), reserve(1), trade(0.1), trade(1, asset=BTC, price=60_000)):
        refused(act, live, chains.context(), "leg_live")
        refused(act, [], chains.context(legs=[leg(2)]), "leg_live")  # known here, not in the list
        granted(act, [], chains.context())
    assert granted(trade(-3), live, chains.context()).reducing
    # With the leg of 3 filled 2 are left: selling 3.5 would end 1.5 short, selling 4.01 more short than long before.
    granted(trade(-3.5), [leg(3)], chains.context())
    refused(trade(-4.01), [leg(3)], chains.context(), "leg_live")
    granted(withdraw(1), live, chains.closed(OWNER, A, 2).context())  # filled at the final block
    granted(withdraw(1), [leg(4)], chains.time(A, NOW + 61).context())
    refused(withdraw(1), [leg(4)], chains.time(A, NOW + 60).context(), "leg_live")


# --- takeovers ------------------------------------------------------------------------------------------------------


def test_a_takeover_is_judged_for_the_taker_without_any_concession() -> None:
    chains = Chains().cash(OWNER, A, 1000).size(OTHER, A, 5)
    live: list[LiveItem] = [leg(5, OTHER, concession=42)]
    # 1,000 − 534 s ≥ 10.68 s: s ≤ 1.83580.
    assert dollars(granted(takeover(1.835), live, chains.context()).free_after) == pytest.approx(1000 - 1.835 * 534)
    refused(takeover(1.836), live, chains.context(), "insufficient_free_margin")
    granted(takeover(1.835), [], chains.context(legs=[leg(5, OTHER)]))  # a leg that only this node knows will do
    # A leg marked 100 above the judged mark is bought at that: 634 + 10.68 each.
    granted(takeover(1.55), [leg(5, OTHER, mark=3100)], chains.context())
    refused(takeover(1.56), [leg(5, OTHER, mark=3100)], chains.context(), "insufficient_free_margin")


@pytest.mark.parametrize(
    ("act", "names"),
    [
        (takeover(1, chain_id=B), "no live leg names this position"),
        (takeover(1, liquidated=MAKER), "no live leg names this position"),
        (takeover(2.01), "the leg has 2 left, 2.01 asked"),
        (takeover(1, deadline=NOW + 61), f"the leg is live until {NOW + 60}, the permit would be until {NOW + 61}"),
    ],
)
def test_a_takeover_needs_a_live_leg_that_lasts(act: PermitItem, names: str) -> None:
    chains = rich(Chains().size(OTHER, A, 5).closed(OTHER, A, 3), OWNER)
    live = [leg(5, OTHER)]
    granted(takeover(2, deadline=NOW + 60), live, chains.context())
    assert names in refused(act, live, chains.context(), "no_leg").message
    refused(takeover(1), live, chains.time(A, NOW + 61).context(), "no_leg")


# --- what is counted, and for how long ------------------------------------------------------------------------------


def test_cm_09_only_linked_chains_back_an_act() -> None:
    """CM-09: 100 on A, 5,000 on B; a link counts when both chains name each other."""
    chains = Chains().cash(OWNER, A, 100).cash(OWNER, B, 5000)
    refused(withdraw(101), [], chains.context(), "insufficient_free_margin")
    refused(withdraw(101), [], chains.link(OWNER, A, [B]).context(), "insufficient_free_margin")
    granted(withdraw(101), [], chains.link(OWNER, B, [A]).context())
    # What is live on an unlinked chain does not count against A either.
    alone = Chains().cash(OWNER, A, 100).cash(OWNER, B, 5000)
    granted(withdraw(100), [withdraw(5000, chain_id=B)], alone.context())


def test_cm_11_the_same_margin_is_not_promised_twice_and_cm_12_not_before_it_is_free_again() -> None:
    """CM-11, CM-12: 1,000 over two chains; a permit for 700 on B is dead only past its deadline at B's final block."""
    chains = Chains().cash(OWNER, A, 1000).cash(OWNER, B, 0.01).linked(OWNER, (A, B))
    first = withdraw(700, chain_id=B, deadline=NOW + 60)
    granted(first, [], chains.context())
    refused(withdraw(400), [first], chains.context(), "insufficient_free_margin")
    granted(withdraw(300), [first], chains.context())
    granted(first, [first], chains.context())  # asked again, it does not count against itself
    # Hours have passed on A and C, and B stands at the deadline itself: still live.
    chains.time(A, NOW + 9000).time(C, NOW + 9000).time(B, NOW + 60)
    refused(withdraw(400), [first], chains.context(), "insufficient_free_margin")
    granted(withdraw(400), [first], chains.time(B, NOW + 61).context())


def test_what_is_executed_at_a_final_block_counts_as_executed() -> None:
    chains = Chains().cash(OWNER, A, 1000).linked(OWNER, (A, B))
    first = withdraw(700, chain_id=A)
    done = Chains(executed(chains.world, first))
    granted(withdraw(300), [first], done.context())
    refused(withdraw(301), [first], done.context(), "insufficient_free_margin")
    # Its nonce on another chain, or another's nonce, says nothing.
    elsewhere = Chains(dict(chains.world)).used(replace(first, chain_id=B))
    refused(withdraw(301), [first], elsewhere.context(), "insufficient_free_margin")


def test_every_set_of_marks_must_pass() -> None:
    # At 3,000 equity 1,000, free 466; at 2,700 equity 700, IM 480.6, free 219.4, of which 9.612 must stay.
    chains = long_one()
    for prices in ((marks(), marks(2700)), (marks(2700), marks())):
        assert granted(withdraw(209.78), [], chains.context(*prices)).free_after == usd(9.62)
        refusal = refused(withdraw(209.79), [], chains.context(*prices), "insufficient_free_margin")
        assert (refusal.equity, refusal.free) == (usd(700), usd(219.4))
