"""Liquidation legs beside what is live: earlier batches' legs, the owner's permits, take-overs elsewhere."""

from __future__ import annotations

from leg_plans import PROFILE, faults, long_five, plan, planned, plans, targeted
from worlds import (
    ETH,
    LISTING,
    NOW,
    OTHER,
    OWNER,
    A,
    B,
    C,
    Chains,
    dollars,
    leg,
    leg_filled,
    reserve,
    takeover,
    trade,
    withdraw,
)

from keeper.clearing.exposure import live_effects
from keeper.state.live import LegItem


def test_sequence_22_a_leg_and_its_alternative_are_not_both_offered() -> None:
    """CM-40, CM-41: a plan that takes another position in every batch has all of them filled, from batches still live.

    What a live leg offers is offered again, and that alone where it restores; else both must be allowed together.
    """
    chains = Chains().size(OWNER, B, 5).size(OWNER, C, 5).cash(OWNER, B, 3900 - 30_000).linked(OWNER, (B, C))
    for chain_id in (B, C):
        old = leg(2, chain_id=chain_id, concession=42)
        (found,) = plans(chains, chain_id=B, live=[old])
        assert found.chain_id == chain_id
    # Net 4 long: either 4 closes it, both would leave 4 short.
    hedged = Chains().size(OWNER, A, -6).size(OWNER, B, 5).size(OWNER, C, 5).linked(OWNER, (A, B, C))
    hedged.cash(OWNER, B, 10 - 12_000)
    one, other = (targeted(leg(4, chain_id=chain_id).leaf, hedged) for chain_id in (B, C))
    assert faults(hedged, one) == faults(hedged, other) == []
    for beside in (faults(hedged, one, other), faults(hedged, other, live=[LegItem(one, NOW - 2)])):
        assert any("more than they free" in fault for fault in beside)
    found = plans(hedged, live=[LegItem(one, NOW - 2)])
    assert [leaf.chain_id for leaf in found] == [B]


def test_no_leg_of_the_other_side_while_one_is_live() -> None:
    # The owner flipped from long to short; takeovers permitted for the long leg must not execute on a short one.
    chains = Chains().size(OWNER, A, -5).cash(OWNER, A, 17_000)
    assert plan(chains) is not None
    assert plan(chains, live=[leg(5)]) is None


def test_a_leg_shrinks_to_what_a_live_close_out_leaves() -> None:
    """CM-41 with sequence 9: the owner's own sale of 4 is permitted, and both may be executed."""
    chains = long_five(100)
    leaf = planned(chains, live=[trade(-4, chain_id=B, deadline=NOW + 60)])
    # The contract closes no more than there is; and did it, the account would be 1 long or less than 1 short.
    assert dollars(leaf.close_limit) < 2
    assert plan(chains, live=[trade(-5, chain_id=B)]) is None  # and none where it may all be gone: the plan waits


def test_a_permitted_withdrawal_does_not_hold_off_a_leg() -> None:
    """CM-41: a leg answers for its own effect. It costs no more, in each case, than that case's own q allows."""
    chains = long_five(1000)
    leaf = planned(chains, live=[withdraw(600), reserve(50)])
    # With 600 gone q is 400 ÷ 2,150 for the same relief: the concession is at most what that leaves, for each unit.
    assert leaf.max_concession > 0
    size = dollars(leaf.close_limit)
    assert size * dollars(leaf.max_concession) + 1 <= 400 / 2150 * 420 * size + 1e-9


def test_many_live_permits_do_not_stop_a_plan() -> None:
    """Withdrawals are all in the corners; of trades the eight that lose most: unused ones hold off nothing."""
    chains = long_five(1000)
    assert plan(chains, live=[withdraw(1) for _ in range(40)]) is not None
    for count in (8, 9, 40):
        assert plan(chains, live=[trade(-0.001, chain_id=B) for _ in range(count)]) is not None
    # What loses most is among them, however many are lighter.
    heavy = trade(-5, chain_id=B)
    assert plan(chains, live=[*(trade(-0.001, chain_id=B) for _ in range(40)), heavy]) is None


def test_an_account_that_is_a_taker_elsewhere_counts_that_too() -> None:
    chains = long_five(1000)
    # Taking over a long of 5 more may be executed first; selling still relieves.
    assert plan(chains, live=[takeover(5, chain_id=A), leg(5, OTHER)]) is not None


def test_sequence_22_a_leg_listed_in_two_batches_is_filled_once() -> None:
    """CM-40: the first batch's leg of 2 is filled at the head while the second lists it again: its limit is the same.

    Fails where a batch's leg says "2 more": with the fill not final both would be filled.
    """
    chains = long_five(2000)
    first = LegItem(planned(chains), NOW - 2)
    second = LegItem(planned(chains, live=[first]), NOW)
    assert second.leaf.close_limit == first.leaf.close_limit
    (effect,) = live_effects(chains.account(), [first, second], chains.world, LISTING, PROFILE, {})
    assert effect.effect.positions[ETH] == -first.leaf.close_limit
    # Final, it is not due any more; and what is left of both is nothing.
    sold = leg_filled(chains.world, first, first.leaf.close_limit, 0)
    assert live_effects(chains.account(), [first, second], sold, LISTING, PROFILE, {}) == []
    assert plans(Chains(sold)) == []


def test_sequence_22_a_leg_of_what_the_owner_closed_already_opens_nothing() -> None:
    """CM-40, CM-41: the owner's own sale of all 5 is permitted: either may come first, and not the two of them.

    Fails where legs are planned without what is live: 5 sold by the owner and 5 by the leg leave 5 short.
    """
    chains = long_five(100)
    alone = planned(chains)
    close_out = trade(-5, chain_id=B)
    assert plans(chains, live=[close_out]) == []
    assert any("more than they free" in fault for fault in faults(chains, alone, live=[close_out]))
