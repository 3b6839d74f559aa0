"""CM-15: what an integrator claimed beyond cash parts is paid as far as the owner has net cash, and no further."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import (
    DEPLOYMENT,
    INTEGRATOR,
    NOW,
    OTHER,
    OWNER,
    A,
    B,
    Chains,
    executed,
    granted,
    refused,
    reserve,
    trade,
    usd,
    withdraw,
)

from keeper.attest.codec import struct_hash
from keeper.attest.permits import Grant, judge
from keeper.attest.requests import RequestError, check_item, clearance_for
from keeper.state.actions import Reserve, Withdraw
from keeper.state.batch import UNIT
from keeper.state.ids import AccountId, Address
from keeper.state.live import LiveItem, PermitItem
from keeper.state.world import Map, Owed, Reservation, World

LENDER = Address(b"\x77" * 20)


def clearance(
    amount: float, chain_id: int = A, account: AccountId = OWNER, integrator: Address = INTEGRATOR, seconds: int = 60
) -> PermitItem:
    action = Reserve(account, integrator, usd(amount), usd(amount), 0)
    return clearance_for(DEPLOYMENT, chain_id, action, NOW + seconds)


def owing(chains: Chains, rest: float, chain_id: int = A, integrator: Address = INTEGRATOR, cash: float = 0) -> Chains:
    """The world after a claim whose cash was taken from the owner's already."""
    state = chains.world[chain_id]
    own = state.owed.get(OWNER, Map()).set(integrator, Owed(usd(cash), usd(rest)))
    chains.world = {**chains.world, chain_id: replace(state, owed=state.owed.set(OWNER, own))}
    return chains


def test_a_short_owners_cash_is_not_her_own() -> None:
    """10 WETH, and 5 ETH short for 15,000 that others paid; 14,997 are claimed. Net cash is nothing.

    Found by review: where this chain's cash pays, she takes 14,997 that she never had.
    """
    chains = owing(Chains().weth(OWNER, A, 10).size(OWNER, A, -5).cash(OWNER, A, 15_000 - 14_997), 14_997)
    refusal = refused(clearance(14_997), [], chains.context(), "net_cash")
    assert "-14,997.00 USD" in refusal.message
    chains.cash(OWNER, A, 15_003 - 14_997)
    granted(clearance(3), [], chains.context())
    refused(clearance(3.01), [], chains.context(), "net_cash")


def test_a_long_owners_net_cash_pays_though_his_cash_is_far_below_zero() -> None:
    """4 ETH long on 10,000: cash −2,000, 1,000 is claimed and makes −3,000; net cash is 9,000, and 10,000 without."""
    chains = owing(Chains().size(OWNER, A, 4).cash(OWNER, A, -3_000), 1_000)
    granted(clearance(1_000), [], chains.context())


def test_net_cash_counts_over_linked_chains_and_every_claim_takes_its_part() -> None:
    chains = Chains().linked(OWNER, (A, B)).cash(OWNER, A, 1_000 - 800).cash(OWNER, B, -700)
    owing(owing(chains, 800), 700, B, LENDER)  # 1,000 there are, 1,500 claimed
    granted(clearance(800), [], chains.context())
    refused(clearance(700, B, integrator=LENDER), [clearance(800)], chains.context(), "net_cash")
    granted(clearance(200, B, integrator=LENDER), [clearance(800)], chains.context())
    alone = Chains().cash(OWNER, A, 1_000 - 800).cash(OWNER, B, -700)  # not linked
    owing(owing(alone, 800), 700, B, LENDER)
    refused(clearance(1, B, integrator=LENDER), [], alone.context(), "net_cash")


@pytest.mark.parametrize(
    ("live", "most"),
    [
        ([], 1_000),
        ([withdraw(300)], 700),
        ([reserve(300)], 1_000),  # without a cash part it takes margin only
        ([reserve(300, cash_part=200)], 800),
        ([trade(1, price=3050)], 949.39),  # 50 above the mark, fee 0.61
        ([trade(-1, price=3050)], 1_000),  # what it gains may never happen
        ([clearance(400)], 1_000),  # of the same claim no more is cleared than its rest
        ([clearance(400, seconds=50), clearance(900)], 1_000),
        ([clearance(400, integrator=LENDER)], 1_000),
        ([clearance(1, account=OTHER)], 1_000),
    ],
)
def test_cm_21_in_every_subset_of_what_is_live(live: list[LiveItem], most: float) -> None:
    """1,000 of net cash, of which 1,000 is claimed, beside 30 WETH. Nothing is owed to the lender here."""
    chains = owing(Chains().weth(OWNER, A, 30), 1_000)
    granted(clearance(most, seconds=70), live, chains.context())
    if most < 1_000:
        refused(clearance(most + 0.01, seconds=70), live, chains.context(), "net_cash")
    refused(clearance(1_000.01, seconds=70), live, chains.context(), "nothing_owed")


def test_a_live_clearance_takes_nothing_from_other_acts() -> None:
    """The owner's cash fell when it was claimed."""
    chains = owing(Chains().cash(OWNER, A, 100), 1_000)
    granted(withdraw(100), [clearance(1_000)], chains.context())
    refused(withdraw(100.01), [], chains.context(), "insufficient_free_margin")


def test_cash_parts_that_are_claimed_and_not_paid_come_first() -> None:
    chains = owing(Chains().cash(OWNER, A, 1_000 - 600 - 700), 700, cash=600)
    granted(clearance(400), [], chains.context())
    refused(clearance(400.01), [], chains.context(), "net_cash")


# --- who asks -------------------------------------------------------------------------------------------------------


def test_anybody_asks_and_nobody_chooses_the_nonce() -> None:
    item = clearance(5)
    check_item(item, DEPLOYMENT)
    assert item.permit.action_hash == struct_hash(item.action)
    assert clearance(5, seconds=61).permit.nonce != item.permit.nonce != clearance(6).permit.nonce
    for change, code in (
        ({"signatures": (bytes(65),)}, "signatures"),
        ({"permit": replace(item.permit, nonce=7)}, "clearance"),
        ({"permit": replace(item.permit, deadline=NOW + 61)}, "clearance"),
        ({"permit": replace(item.permit, account_id=OTHER)}, "permit_mismatch"),
    ):
        with pytest.raises(RequestError) as refusal:
            check_item(replace(item, **change), DEPLOYMENT)  # type: ignore[arg-type]
        assert refusal.value.code == code
    part = clearance_for(DEPLOYMENT, A, Reserve(OWNER, INTEGRATOR, usd(5), usd(4), 0), NOW + 60)
    with pytest.raises(RequestError, match="wanted all of it"):
        check_item(part, DEPLOYMENT)


# --- nobody else's money --------------------------------------------------------------------------------------------

amounts = st.sampled_from([250, 1_000, 3_000])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("withdraw"), amounts, st.sampled_from([A, B])),
        st.tuples(st.just("borrow"), amounts, st.sampled_from([A, B])),
        st.tuples(st.just("clear"), amounts, st.sampled_from([A, B])),
        st.tuples(st.just("execute"), st.integers(0, 3), st.just(A)),
    ),
    min_size=4,
    max_size=16,
)


def claimed(world: World, chain_id: int, amount: int) -> tuple[World, int]:
    """Up to `amount` of the open reservation claimed, its cash part first; what of it is paid at once."""
    state = world[chain_id]
    own = state.reservations.get(OWNER, Map())
    held = own.get(INTEGRATOR, Reservation(0, 0, 0))
    amount = min(amount, held.amount)
    cash = min(amount, held.cash_part)
    owed = state.owed.get(OWNER, Map()).get(INTEGRATOR, Owed(0, 0))
    left = Reservation(held.amount - amount, held.cash_part - cash, held.until)
    state = replace(
        state,
        cash=state.cash.set(OWNER, state.cash.get(OWNER, 0) - amount),
        reservations=state.reservations.set(OWNER, Map({INTEGRATOR: left})),
        owed=state.owed.set(OWNER, Map({INTEGRATOR: Owed(owed.cash, owed.rest + amount - cash)})),
    )
    return {**world, chain_id: state}, cash


def cleared(world: World, item: PermitItem) -> tuple[World, int]:
    """As the contract does it: no more than the rest."""
    action, state = item.action, world[item.chain_id]
    assert isinstance(action, Reserve)
    owed = state.owed[OWNER][INTEGRATOR]
    amount = min(action.amount, owed.rest)
    own = Map({INTEGRATOR: Owed(owed.cash, owed.rest - amount)})
    key = (item.permit.account_id, item.permit.nonce)
    used = state.used_nonces.set(key, item.permit.action_hash)
    return {**world, item.chain_id: replace(state, owed=state.owed.set(OWNER, own), used_nonces=used)}, amount


starts = st.sampled_from([-1_000, 0, 1_000, 2_000])


@settings(max_examples=400)
@given(start=st.tuples(starts, starts), size=st.sampled_from([-2, 0, 2]), steps=steps)
def test_cm_15_no_more_leaves_than_the_owner_has_net_cash(
    start: tuple[int, int], size: int, steps: list[tuple[str, int, int]]
) -> None:
    """An owner who is his own integrator, with WETH beside: whatever he reserves and claims, and in whatever order and
    with whatever delay withdrawals and clearances are executed, he never has more settlement token than net cash."""
    chains = Chains().linked(OWNER, (A, B)).weth(OWNER, A, 50).size(OWNER, B, size)
    chains.cash(OWNER, A, start[0]).cash(OWNER, B, start[1] - 3_000 * size)
    world, out, live = chains.world, 0, []
    most = max(0, usd(sum(start)))
    for number, (kind, amount, chain_id) in enumerate(steps):
        context = Chains(world).context()
        if kind == "execute":
            if not live:
                continue
            item = live.pop(amount % len(live))
            if isinstance(item.action, Reserve):
                world, paid = cleared(world, item)
                out += paid
            else:
                assert isinstance(item.action, Withdraw)
                world = executed(world, item)
                out += item.action.amount * 10**12
        elif kind == "borrow":
            item = reserve(amount, chain_id, cash_part=amount // 4 if number % 2 else 0)
            if isinstance(judge(item, live, context), Grant):
                world, paid = claimed(executed(world, item), chain_id, amount * UNIT)
                out += paid
        else:
            item = (
                withdraw(amount, chain_id) if kind == "withdraw" else clearance(amount, chain_id, seconds=60 + number)
            )
            if isinstance(judge(item, live, context), Grant):
                live.append(item)
        assert out <= most
