"""Taking a chain out of an account: each part stands alone before it is permitted, and whatever is signed while the
permit is live stands joined and parted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from worlds import (
    LISTING,
    MAKER,
    MODEL,
    NOW,
    OTHER,
    OWNER,
    SUB,
    A,
    B,
    C,
    Chains,
    crowded,
    dollars,
    executed,
    granted,
    leg,
    marks,
    refused,
    reserve,
    trade,
    unlink,
    usd,
    withdraw,
)

from keeper.attest.checks import refused_on_chain
from keeper.attest.parting import MOST_UNLINKS
from keeper.clearing.cycles import Books, settlement_faults
from keeper.clearing.parting import parted_since, views
from keeper.clearing.settlement import Terms
from keeper.state.live import LiveItem
from keeper.state.world import components

TERMS = Terms(least_transfer=usd(1))


def spread(a: float = 1_000, b: float = 1_000) -> Chains:
    """1 ETH long on A and on B, 3,000 paid for each, so that each part has this equity; 534 of initial margin each."""
    chains = Chains().linked(OWNER, (A, B)).size(OWNER, A, 1).size(OWNER, B, 1)
    return chains.cash(OWNER, A, a - 3_000).cash(OWNER, B, b - 3_000)


def test_both_parts_stand_so_it_is_permitted() -> None:
    grant = granted(unlink(), [], spread().context())
    assert (dollars(grant.free_after), grant.reducing) == (466, False)


@pytest.mark.parametrize(("a", "b"), [(1_500, 544), (544, 1_500)])
def test_a_part_that_would_fall_short_alone_is_why_it_is_refused(a: float, b: float) -> None:
    """Joined there is plenty; 534 and a buffer of 10.68 are wanted of each part."""
    refusal = refused(unlink(), [], spread(a, b).context(), "insufficient_free_margin")
    assert (refusal.account, refusal.free) == (OWNER, usd(10))
    granted(unlink(), [], spread(a + 1, b + 1).context())
    # The other side may be unlinked as little: parted is parted.
    refused(unlink(A, chain_id=B), [], spread(a, b).context(), "insufficient_free_margin")


def test_every_set_of_marks_must_pass() -> None:
    chains = spread(600, 2_000)
    granted(unlink(), [], chains.context())
    refused(unlink(), [], chains.context(marks(3_000), marks(2_900)), "insufficient_free_margin")


@pytest.mark.cm("CM-21")
def test_cm_21_what_one_part_owes_in_cash_another_cannot_draw() -> None:
    """10 WETH on B carry 1,000 USDC that were drawn there against the cash on A. Parted, A would draw them again."""
    chains = Chains().linked(OWNER, (A, B)).cash(OWNER, A, 1_000).cash(OWNER, B, -1_000).weth(OWNER, B, 10)
    refusal = refused(unlink(), [], chains.context(), "net_cash")
    assert f"on chain {B} cash and mark to market" in refusal.message
    granted(unlink(), [], chains.cash(OWNER, B, 0).context())


def test_what_is_live_counts_against_the_part_that_it_is_on() -> None:
    context = spread().context()
    granted(unlink(), [withdraw(455, chain_id=B)], context)
    refusal = refused(unlink(), [withdraw(456, chain_id=B)], context, "insufficient_free_margin")
    assert len(refusal.live) == 1
    refused(unlink(), [reserve(460)], context, "insufficient_free_margin")
    granted(unlink(), [reserve(460, account=OTHER), withdraw(456, chain_id=B, deadline=NOW - 1)], context)


def test_a_later_act_is_judged_joined_and_parted_until_the_unlink_is_dead() -> None:
    """2,932 are free together, 2,466 of them on A: while the unlink may be executed no more of either is permitted."""
    chains = spread(3_000, 1_000)
    granted(withdraw(2_700), [], chains.cash(OWNER, C, 0).context())
    live = unlink()
    refused(withdraw(2_700), [live], chains.context(), "insufficient_free_margin")
    granted(withdraw(2_400), [live], chains.context())
    refused(withdraw(500, chain_id=B), [live], chains.context(), "insufficient_free_margin")
    # Joined holds as well: what one part loses the other must still bear while it is not final.
    late = unlink(deadline=NOW - 1)
    granted(withdraw(2_700), [late], chains.context())
    granted(withdraw(2_700), [live], chains.used(live).context())


def test_it_is_joined_while_it_is_live_and_parted_once_it_is_final() -> None:
    """What only the joined account cannot bear is refused beside the live permit, and permitted after it."""
    chains = spread(3_000, -400)
    refused(unlink(), [], chains.context(), "insufficient_free_margin")
    live = unlink()
    refused(withdraw(2_000), [live], chains.context(), "insufficient_free_margin")  # joined 2,600 − 1,068
    parted = executed(chains.world, live)
    assert components(parted, OWNER) == [(A,), (B,)]
    granted(withdraw(2_000), [live], replace(chains.context(), world=parted))


def test_where_nothing_is_parted_nothing_is_judged() -> None:
    """B never linked back; and of a triangle two links still join all three."""
    chains = spread(3_000, -400)
    chains.link(OWNER, B, [])
    granted(unlink(), [], chains.context())
    triangle = spread(3_000, -400).linked(OWNER, (A, B, C))
    granted(unlink(), [], triangle.context())
    # Beside another that cuts the last way it does part.
    refused(unlink(), [unlink(C, chain_id=B)], triangle.context(), "insufficient_free_margin")


def test_a_permit_that_parted_nothing_counts_once_the_chain_is_linked_back() -> None:
    chains = spread(3_000, 1_000)
    chains.link(OWNER, B, [])
    live = unlink()
    granted(live, [], chains.context())
    chains.link(OWNER, B, [A])
    refused(withdraw(2_700), [live], chains.context(), "insufficient_free_margin")


def test_both_parties_of_a_trade_are_judged_in_their_own_views() -> None:
    """The maker is being parted: on A alone he has the margin of 0.8 ETH, with B for more."""
    chains = Chains().linked(MAKER, (A, B)).cash(MAKER, A, 500).cash(MAKER, B, 5_000).cash(OWNER, A, 10_000)
    granted(trade(1), [], chains.context())
    refusal = refused(trade(1), [unlink(account=MAKER)], chains.context(), "insufficient_free_margin")
    assert refusal.account == MAKER
    granted(trade(0.8), [unlink(account=MAKER)], chains.context())
    granted(trade(1), [unlink(account=OTHER)], chains.linked(OTHER, (A, B)).context())


def test_a_live_leg_holds_it_off() -> None:
    chains = spread(5_000, 5_000)
    refused(unlink(), [leg(1)], chains.context(), "leg_live")
    refused(unlink(), [leg(1, chain_id=B)], chains.context(), "leg_live")
    granted(unlink(), [leg(1, account=OTHER)], chains.context())


def test_entries_that_are_not_applied_hold_it_off() -> None:
    chains = spread()
    refused(unlink(), [], replace(chains.context(), settling=frozenset({OWNER})), "unlink_pending")
    granted(unlink(), [], replace(chains.context(), settling=frozenset({OTHER})))
    chains.link(OWNER, B, [])
    granted(unlink(), [], replace(chains.context(), settling=frozenset({OWNER})))


def test_beside_too_many_nothing_is_judged() -> None:
    live: list[LiveItem] = [unlink(there, chain_id=here) for here, there in ((A, B), (B, A), (A, C), (C, A))]
    context = spread(5_000, 5_000).context()
    assert len(live) == MOST_UNLINKS + 1
    refused(unlink(), live, context, "too_many_live")
    refused(withdraw(1), live, context, "too_many_live")
    granted(withdraw(1, account=OTHER), live, Chains().cash(OTHER, A, 5).context())
    granted(withdraw(1), live[1:], context)


def test_another_account_of_the_owner_bears_what_offsets_no_more() -> None:
    """A long on A and a short on B offset joined; parted, the sub-account is charged for both."""
    chains = Chains().linked(OWNER, (A, B)).size(OWNER, A, 10).size(OWNER, B, -10)
    chains.cash(OWNER, A, 70_000).cash(OWNER, B, 130_000).linked(SUB, (A, B)).size(SUB, A, 10)
    model = crowded(10_000)
    chains.cash(SUB, A, -30_000 + 200_000)
    granted(unlink(), [], chains.context(model=model))
    free = dollars(chains.report(SUB).free)
    assert free > 100_000
    chains.cash(SUB, A, -30_000 + 7_000)
    refusal = refused(unlink(), [], chains.context(model=model), "owner_concentration")
    assert refusal.account == SUB


def test_a_failing_sub_account_that_is_charged_no_more_does_not_hold_it_off() -> None:
    chains = spread().size(SUB, A, 5).cash(SUB, A, -15_000)
    granted(unlink(), [], chains.context())


@pytest.mark.parametrize("there", [A, C, 0, 77])
def test_a_chain_that_is_not_named_is_refused_as_the_contract_does(there: int) -> None:
    chains = spread()
    problem = refused_on_chain(unlink(there), chains.world[A], chains.context())
    assert problem is not None
    assert (problem.code, problem.got, problem.wanted) == ("not_linked", there, f"a chain that it names there: {B}")
    assert refused_on_chain(unlink(B), chains.world[A], chains.context()) is None


def test_views_are_every_subset_that_changes_something() -> None:
    world = Chains().linked(OWNER, (A, B, C)).cash(OWNER, A, 1).world
    found = views(world, [unlink(B), unlink(B), unlink(A, chain_id=B), unlink(77)])
    assert [components(view, OWNER) for view in found] == [[(A, B, C)]] * 4
    assert found[0] is world
    apart = views(world, [unlink(B), unlink(C)])
    assert [components(view, OWNER) for view in apart] == [[(A, B, C)]] * 3 + [[(A,), (B, C)]]
    assert parted_since(world, apart[3]) == {OWNER}
    assert not parted_since(apart[3], world)


# --- cycles ----------------------------------------------------------------------------------------------------------


@pytest.mark.cm("CM-50")
@pytest.mark.parametrize("age", [0, 1])
def test_cm_50_no_new_entry_is_signed_for_an_account_that_is_parting(age: int) -> None:
    """Neither in a cycle of this epoch nor in one that somebody else signed before."""
    world = Chains().linked(OWNER, (A, B)).cash(OWNER, A, 100).cash(OWNER, B, -60).world

    def books(*parting: object) -> Books:
        return Books.at(world, (), marks(), MODEL, LISTING, {}, parting)  # type: ignore[arg-type]

    (cycle,) = books().next_cycles(7, TERMS)
    assert {leaf.account_id for leaf in cycle.offsets} == {OWNER}
    assert books(OWNER).next_cycles(7, TERMS) == []
    assert settlement_faults(cycle.entries, (), world, books(OTHER), TERMS, 7 + age) == []
    (fault,) = {f for f in settlement_faults(cycle.entries, (), world, books(OWNER), TERMS, 7 + age) if "unlink" in f}
    assert fault == f"account 0x{OWNER.hex()}: an unlink of it is live"


def test_an_unlink_says_what_it_is() -> None:
    refusal = refused(withdraw(10_000), [unlink()], spread().context(), "insufficient_free_margin")
    assert refusal.live[0].startswith(f"unlinking of chain {B} on chain {A}, nonce ")
