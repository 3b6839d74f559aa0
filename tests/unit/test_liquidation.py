"""Liquidation legs: sizes and concessions by hand, CM-41 at every fill, no hedge stripped, lying planners caught."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from immutables import Map
from option_books import EXPIRIES, XPM
from option_books import LISTING as OPTION_LISTING
from option_books import MARKS as OPTION_MARKS
from worlds import (
    BTC,
    DEPLOYMENT,
    ETH,
    LISTING,
    MODEL,
    NOW,
    OTHER,
    OWNER,
    PARAMETERS,
    UNIT,
    WETH,
    A,
    B,
    C,
    Chains,
    dollars,
    leg,
    leg_filled,
    marks,
    reserve,
    takeover,
    trade,
    units,
    usd,
    withdraw,
)

from keeper.clearing.check import check_legs
from keeper.clearing.effects import Effect, concession_at, legs_effect
from keeper.clearing.exposure import live_effects
from keeper.clearing.legs import leaves_of
from keeper.clearing.plan import plan_legs
from keeper.clearing.sale import Setting, deposit_target, sale_of
from keeper.margin.portfolio import Portfolio, portfolio
from keeper.margin.report import AccountReport, evaluate
from keeper.margin.xpm import Xpm
from keeper.market.marks import Curve, Expiry, Marks
from keeper.state.batch import NO_DEPOSIT_TARGET, LiquidationLeaf
from keeper.state.ids import AccountId, Instrument, Kind, instrument_id, is_token, token_id
from keeper.state.live import LegItem, LiveItem
from keeper.state.world import FundingIndex

PROFILE = DEPLOYMENT.profile
GRAIN = 10**12


def setting(chains: Chains, prices: Marks | None = None, timestamp: int = NOW) -> Setting:
    return Setting(chains.world, prices or marks(), MODEL, LISTING, PROFILE, timestamp)


def plans(
    chains: Chains,
    account: AccountId = OWNER,
    chain_id: int = A,
    prices: Marks | None = None,
    live: Sequence[LiveItem] = (),
    timestamp: int = NOW,
    auction_start: int = NOW - 5,
) -> list[LiquidationLeaf]:
    at = setting(chains, prices, timestamp)
    sale = sale_of(chains.account(account, chain_id), at, live)
    return leaves_of(plan_legs(sale), sale, at, auction_start) if sale.due else []


def plan(
    chains: Chains,
    account: AccountId = OWNER,
    chain_id: int = A,
    prices: Marks | None = None,
    live: Sequence[LiveItem] = (),
) -> LiquidationLeaf | None:
    """The only leg, None where there is none."""
    found = plans(chains, account, chain_id, prices, live)
    assert len(found) <= 1
    return found[0] if found else None


def planned(chains: Chains, prices: Marks | None = None, live: Sequence[LiveItem] = ()) -> LiquidationLeaf:
    leaf = plan(chains, prices=prices, live=live)
    assert leaf is not None
    assert faults(chains, leaf, prices=prices, live=live) == []
    return leaf


def faults(
    chains: Chains, *legs: LiquidationLeaf, prices: Marks | None = None, live: Sequence[LiveItem] = ()
) -> list[str]:
    account = chains.account(legs[0].account_id, legs[0].chain_id)
    return check_legs(legs, account, setting(chains, prices), live)


def targeted(leaf: LiquidationLeaf, chains: Chains) -> LiquidationLeaf:
    """With the deposit target that the account's legs on that chain have."""
    at = setting(chains)
    account = chains.account(leaf.account_id, leaf.chain_id)
    return replace(leaf, deposit_target=deposit_target(sale_of(account, at), leaf.chain_id, at))


def filled(chains: Chains, leaf: LiquidationLeaf, part: float = 1.0, prices: Marks | None = None) -> AccountReport:
    """The account after filling a part of a leg at its worst price."""
    return all_filled(chains, [(leaf, part)], prices)


def fill_effect(chains: Chains, leaf: LiquidationLeaf, part: float) -> Effect:
    state = chains.world[leaf.chain_id]
    remaining = abs(leaf.close_limit) - state.closed.get((leaf.account_id, leaf.asset), 0)
    return legs_effect([LegItem(leaf, NOW)], state, int(remaining * part), PROFILE)


def all_filled(
    chains: Chains, fills: Sequence[tuple[LiquidationLeaf, float]], prices: Marks | None = None
) -> AccountReport:
    first = fills[0][0]
    book = portfolio(chains.world, LISTING, chains.account(first.account_id, first.chain_id))
    for leaf, part in fills:
        book = book.plus(fill_effect(chains, leaf, part))
    return evaluate([book], prices or marks(), MODEL)[0]


def long_five(equity: float) -> Chains:
    """5 ETH long on B at 3,000: IM 2,670, MM 2,100; cash on A such that equity is as asked."""
    return Chains().size(OWNER, B, 5).cash(OWNER, B, -15_000).cash(OWNER, A, equity).linked(OWNER, (A, B))


# --- by hand --------------------------------------------------------------------------------------------------------


def test_the_smallest_size_that_restores_initial_margin() -> None:
    chains = long_five(2000)
    leaf = planned(chains)
    # Worst concession: 10 % of a unit's standalone MM, 0.1 · 420 = 42. Each unit closed costs 42 and relieves 534 of
    # IM, the flat fee is 1: 2,000 − 42 s − 1 ≥ 2,670 − 534 s, so s ≥ 671 ÷ 492 = 1.363821…, in steps of 5e-6.
    assert dollars(leaf.close_limit) == pytest.approx(671 / 492, abs=6e-6)
    assert dollars(leaf.close_limit) >= 671 / 492
    assert dollars(leaf.max_concession) == 42
    assert (leaf.account_id, leaf.chain_id, leaf.asset, leaf.mark_price) == (OWNER, B, ETH, usd(3000))
    assert leaf.auction_start == NOW - 5
    after = filled(chains, leaf)
    assert 0 <= dollars(after.free) < 0.01


def test_a_short_is_bought_back_above_the_mark() -> None:
    chains = Chains().size(OWNER, B, -5).cash(OWNER, B, 17_000)
    leaf = plan(chains, chain_id=B)
    assert leaf is not None
    assert dollars(leaf.close_limit) == pytest.approx(-671 / 492, abs=6e-6)
    assert dollars(filled(chains, leaf).free) == pytest.approx(0, abs=0.01)


def test_the_counter_so_far_is_part_of_the_limit() -> None:
    """CM-40: legs are cumulative."""
    chains = long_five(2000).closed(OWNER, B, 7)
    leaf = planned(chains)
    # The limit is 7 more; and of the flat fee only the new part is paid: 1 · s ÷ (7 + s).
    assert dollars(leaf.close_limit) == pytest.approx(7 + (670 + 0.163) / 492, abs=1e-3)


def test_with_little_equity_the_whole_position_at_a_concession_that_equity_pays() -> None:
    """CM-41: q = 100 ÷ 2,100, so at most q · 2,100 = 100 for all 5, fee of 1 included: 99 ÷ 5 = 19.8 each."""
    chains = long_five(100)
    leaf = planned(chains)
    assert dollars(leaf.close_limit) == 5
    assert dollars(leaf.max_concession) == pytest.approx(19.8, abs=1e-4)
    assert dollars(leaf.max_concession) <= 19.8
    assert filled(chains, leaf).equity >= 0


def test_sequence_23_an_insolvent_account_is_closed_at_the_funds_cost() -> None:
    """CM-41, CM-43: equity below 0 cannot get better by a bid; what must not grow is maintenance margin − equity.

    Fails where no bid may worsen equity: the account could never be closed.
    """
    chains = long_five(-500)
    leaf = planned(chains)
    assert dollars(leaf.close_limit) == 5
    # At most 10 % of the leg's standalone maintenance margin: 42 per unit.
    assert dollars(leaf.max_concession) == 42
    after = filled(chains, leaf)
    assert dollars(after.equity) == pytest.approx(-500 - 210 - 1)
    assert after.maintenance_margin == 0


def test_less_equity_than_the_flat_fee_waits_and_so_does_nothing_due() -> None:
    # No fill of the leg would leave equity ÷ MM as it was: the fee alone is more than all equity.
    assert plan(long_five(0.5)) is None
    assert plan(long_five(2100)) is None  # at maintenance margin: at risk, not liquidatable
    assert plan(long_five(50_000)) is None
    assert plan(Chains().cash(OWNER, A, -10)) is None  # owes, and has nothing to sell


def test_sequence_24_one_leg_of_a_hedge_is_never_sold() -> None:
    """CM-41: long 5 on A, short 5 on B; selling either would take the requirement from 0 up.

    Fails where a plan is judged with all its legs filled: both together free the account of everything.
    """
    chains = Chains().size(OWNER, A, 5).size(OWNER, B, -5).cash(OWNER, A, -100).linked(OWNER, (A, B))
    assert chains.report().status == "liquidatable"
    assert plan(chains) is None
    for chain_id, limit in ((A, 5), (B, -5), (A, 1), (B, -0.001)):
        leaf = leg(limit, chain_id=chain_id).leaf
        found = faults(chains, targeted(leaf, chains))
        assert len(found) >= 1
        assert all("more than they free" in fault or "frees no more" in fault for fault in found)


def test_of_a_partly_hedged_pair_only_the_open_part_is_sold() -> None:
    """CM-41: long 5 on A, short 4 on B: net 1, so IM 534 and MM 420, with equity 100.

    100 − 42 s − 1 ≥ 534 − 534 s: 435 ÷ 492 of the open unit restores initial margin; beyond it the hedge would go.
    """
    chains = Chains().size(OWNER, A, 5).size(OWNER, B, -4).cash(OWNER, A, 100 - 3000).linked(OWNER, (A, B))
    leaf = planned(chains)
    assert leaf.chain_id == A
    assert dollars(leaf.close_limit) == pytest.approx(435 / 492, abs=6e-6)
    assert 0 <= dollars(filled(chains, leaf).free) < 0.01
    more = replace(leaf, close_limit=leaf.close_limit + units(0.5), max_concession=0)
    (fault,) = faults(chains, more)
    assert "closing 1.38415 frees no more than it costs beyond 1.3703" in fault


def test_a_small_open_part_of_a_large_hedge_is_found() -> None:
    """CM-41: 5.1 long against 5 short: of 0.1 the requirement is 42, a sixteenth of the position would overshoot it."""
    chains = Chains().size(OWNER, A, 5.1).size(OWNER, B, -5).cash(OWNER, A, 20 - 300).linked(OWNER, (A, B))
    leaf = planned(chains)
    assert leaf.chain_id == A
    # 20 − 42 s − 1 ≥ 53.4 − 534 s.
    assert dollars(leaf.close_limit) == pytest.approx(34.4 / 492, abs=2e-6)


def test_a_leg_large_enough_to_pay_its_fee_is_found() -> None:
    """CM-41: with 3 of 2,100 a unit frees q · 420 = 0.6: only more than 1.7 units pay the flat fee of 1."""
    leaf = planned(long_five(3))
    assert dollars(leaf.close_limit) == 5
    assert dollars(leaf.max_concession) == pytest.approx(2 / 5, abs=1e-4)


def test_a_short_hedged_by_collateral_is_not_bought_back_first() -> None:
    # Short 5 ETH against 5 WETH, long 1 BTC: the BTC leg relieves more, the ETH leg would unhedge the WETH.
    chains = (
        Chains().size(OWNER, A, -5).weth(OWNER, A, 5).size(OWNER, A, 1, BTC).cash(OWNER, A, 15_000 - 60_000 - 12_000)
    )
    assert chains.report().status == "liquidatable"
    leaf = planned(chains)
    assert leaf.asset == BTC


def test_the_cheapest_leg_that_restores_is_taken() -> None:
    # 1 ETH and 1 BTC long: MM 420 + 8,400 = 8,820, IM 11,214. At 8,800, closing all of ETH (IM 534) does not restore.
    chains = Chains().size(OWNER, A, 1).size(OWNER, A, 1, BTC).cash(OWNER, A, 8_800 - 63_000)
    leaf = planned(chains)
    assert leaf.asset == BTC
    # Cost 840 each, relief 10,680: 8,800 − 840 s − 1 ≥ 11,214 − 10,680 s, s ≥ 2,415 ÷ 9,840 = 0.245427.
    assert dollars(leaf.close_limit) == pytest.approx(2415 / 9840, abs=3e-6)


def test_sequence_25_the_concession_scales_with_the_requirement_and_the_clock_keeps_running() -> None:
    leaf = planned(long_five(2000))
    assert concession_at(leaf, leaf.auction_start - 3, 20) == 0
    assert concession_at(leaf, leaf.auction_start, 20) == 0
    assert dollars(concession_at(leaf, leaf.auction_start + 5, 20)) == 10.5
    assert concession_at(leaf, leaf.auction_start + 20, 20) == leaf.max_concession
    assert concession_at(leaf, leaf.auction_start + 2000, 20) == leaf.max_concession
    # Planned again two seconds later the auction start is the caller's, not the new batch's, but never in the future.
    chains = long_five(2000)
    (again,) = plans(chains, timestamp=NOW + 2, auction_start=leaf.auction_start)
    assert again.auction_start == leaf.auction_start
    (future,) = plans(chains, auction_start=NOW + 9)
    assert future.auction_start == NOW


def test_reservations_count_but_are_not_relieved() -> None:
    chains = long_five(2300).reserved(OWNER, A, 400, until=NOW + 100)
    # IM 3,070, MM 2,500: 2,300 − 42 s − 1 ≥ 3,070 − 534 s, s ≥ 771 ÷ 492.
    assert dollars(planned(chains).close_limit) == pytest.approx(771 / 492, abs=6e-6)


# --- beside what is live --------------------------------------------------------------------------------------------


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


def test_many_live_withdrawals_do_not_stop_a_plan_but_many_live_trades_do() -> None:
    chains = long_five(1000)
    assert plan(chains, live=[withdraw(1) for _ in range(40)]) is not None
    assert plan(chains, live=[trade(-0.001, chain_id=B) for _ in range(8)]) is not None
    assert plan(chains, live=[trade(-0.001, chain_id=B) for _ in range(9)]) is None


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


def test_sequence_25_an_option_worth_nothing_finds_a_taker() -> None:
    """CM-41: short 20 calls far out of the money, a week to run; to be rid of the risk, more than their price is paid.

    Fails where the discount is a share of the price: 10 % of a cent.
    """
    far = instrument_id(Instrument(Kind.CALL, "ETH", EXPIRIES[1], round(3_000 * 1.4 * 1e8)))
    price = XPM.price(far, OPTION_MARKS)
    assert price < usd(1)
    chains = Chains().size(OWNER, A, -20, far)
    at = Setting(chains.world, OPTION_MARKS, XPM, OPTION_LISTING, PROFILE, NOW)
    short = sale_of(chains.account(), at).final
    chains.cash(OWNER, A, dollars(short.maintenance - short.equity) * 0.8)
    at = replace(at, world=chains.world)
    sale = sale_of(chains.account(), at)
    (leaf,) = leaves_of(plan_legs(sale), sale, at, NOW)
    assert leaf.max_concession > price
    assert dollars(leaf.max_concession) * 20 == pytest.approx(dollars(sale.final.maintenance) / 10, rel=0.2)
    assert check_legs([leaf], chains.account(), at) == []


def test_what_expires_before_its_leg_is_dead_is_not_offered() -> None:
    """Its price is fixed and its other side is not there any more; it only settles."""
    soon, later = (instrument_id(Instrument(Kind.FUTURE, "ETH", NOW + seconds)) for seconds in (60, 61))
    curve = Curve({NOW + 60: Expiry(3_000.0), NOW + 61: Expiry(3_000.0)})
    prices = Marks(dict(OPTION_MARKS.prices), dict(OPTION_MARKS.curves) | {"ETH": curve}, NOW)
    chains = Chains().size(OWNER, A, 5, soon).size(OWNER, A, 5, later).cash(OWNER, A, 100 - 30_000)
    at = Setting(chains.world, prices, XPM, OPTION_LISTING, PROFILE, NOW)
    sale = sale_of(chains.account(), at)
    legs = leaves_of(plan_legs(sale), sale, at, NOW)
    assert [leaf.asset for leaf in legs] == [later]
    (fault,) = check_legs([replace(legs[0], asset=soon)], chains.account(), at)
    assert "no such position to offer" in fault
    settled = replace(prices, settled={later: usd(3_000)})
    assert sale_of(chains.account(), replace(at, marks=settled)).offered == ()


def test_the_funding_that_a_fill_may_touch_is_part_of_its_cost() -> None:
    """CM-41: B's contract has stored an index 15 beyond the marks': who sells there pays 15 a unit more than accrued.

    Of the 100 that may be spent on 5 units 75 are gone; where it has stored 25, nothing may be sold there.
    """
    for stored, most in ((0, 19.8), (15, 4.8), (25, None)):
        chains = long_five(100)
        funding = Map({ETH: FundingIndex(usd(stored), NOW)})
        chains.world = {**chains.world, B: replace(chains.world[B], funding=funding)}
        prices = replace(marks(), funding={ETH: 0})
        leaf = plan(chains, prices=prices)
        if most is None:
            assert leaf is None or dollars(leaf.close_limit) < 5
            continue
        assert leaf is not None
        assert dollars(leaf.max_concession) == pytest.approx(most, abs=1e-4)
        assert faults(chains, leaf, prices=prices) == []
        dear = replace(leaf, max_concession=leaf.max_concession + usd(0.1))
        assert any("more than they free" in fault for fault in faults(chains, dear, prices=prices))


def test_sizes_of_a_token_are_whole_amounts_of_it() -> None:
    """A token of 4 decimals: a leg of it is a whole number of ten-thousandths."""
    token = replace(LISTING.collateral[token_id(A, WETH)], scale=10**14)
    coarse = replace(LISTING, collateral={**LISTING.collateral, token_id(A, WETH): token})
    chains = Chains().size(OWNER, A, 5).cash(OWNER, A, -25_000)
    balances = chains.world[A].balances.set(OWNER, Map({WETH: 30_000}))
    chains.world = {**chains.world, A: replace(chains.world[A], balances=balances)}
    at = Setting(chains.world, marks(), Xpm(PARAMETERS, coarse), coarse, PROFILE, NOW)
    sale = sale_of(chains.account(), at)
    legs = {leaf.asset: leaf for leaf in leaves_of(plan_legs(sale), sale, at, NOW)}
    sold = legs[token_id(A, WETH)]
    assert sold.close_limit % 10**14 == 0
    assert check_legs(list(legs.values()), chains.account(), at) == []
    odd = {**legs, sold.asset: replace(sold, close_limit=sold.close_limit - 1)}
    assert any("no whole amount" in fault for fault in check_legs(list(odd.values()), chains.account(), at))


# --- what a lying planner may not do --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"max_concession": usd(43)}, "its concession 43 is not between 0 and 42"),
        ({"max_concession": -1}, "its concession -1e-18 is not"),
        ({"mark_price": usd(2999)}, "its mark is"),
        ({"close_limit": units(5)}, "restores the account already"),
        ({"close_limit": units(5.1)}, "the position is"),
        ({"close_limit": -units(1)}, "its side is not that of the position"),
        ({"close_limit": 0}, "its side is not"),
        ({"chain_id": A}, "the account has no such position"),
        ({"asset": BTC}, "the account has no such position"),
        ({"account_id": OTHER}, "is not below maintenance margin"),
        ({"auction_start": NOW + 1}, "its auction starts at"),
        ({"deposit_target": 5}, "its deposit target is 5, 670000000 restores"),
        ({"deposit_target": NO_DEPOSIT_TARGET}, "670000000 restores"),
        ({"counterparty": bytes([1]) * 32}, "its concession 42 is not between 0 and 0"),
    ],
)
def test_a_leg_altered_in_one_thing_is_found_out(change: dict[str, object], names: str) -> None:
    chains = long_five(2000)
    leaf = planned(chains)
    found = faults(chains, replace(leaf, **change))  # type: ignore[arg-type]
    assert any(names in fault for fault in found), found


def test_a_leg_of_an_account_that_is_not_due_is_found_out() -> None:
    leaf = planned(long_five(2000))
    assert "the account is not below maintenance margin" in faults(long_five(2200), leaf)


# --- CM-41 at every fill --------------------------------------------------------------------------------------------

sizes = st.integers(-20_000, 20_000).map(lambda n: n / 1000)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    on_a=sizes,
    on_b=sizes,
    on_c=sizes,
    bitcoin=st.integers(-1000, 1000).map(lambda n: n / 1000),
    collateral=st.integers(0, 10_000).map(lambda n: n / 1000),
    health=st.floats(-0.5, 0.999),
    closed=st.integers(0, 5),
    parts=st.lists(st.floats(0, 1), min_size=1, max_size=4),
)
def test_cm_41_no_fill_of_a_leg_makes_an_account_worse(
    on_a: float,
    on_b: float,
    on_c: float,
    bitcoin: float,
    collateral: float,
    health: float,
    closed: int,
    parts: list[float],
) -> None:
    """With q = equity ÷ MM at planning: equity − q · MM ≥ 0 after any part, or below 0 MM − equity does not grow."""
    chains = Chains().linked(OWNER, (A, B, C)).size(OWNER, A, on_a).size(OWNER, B, on_b).size(OWNER, C, on_c)
    chains.size(OWNER, C, bitcoin, BTC).weth(OWNER, A, collateral).closed(OWNER, B, closed)
    bare = chains.report()
    assume(bare.maintenance_margin > usd(1))
    chains.cash(OWNER, A, dollars(int(bare.maintenance_margin * health) - bare.equity))
    before = chains.report()
    assume(before.status == "liquidatable")
    legs = plans(chains)
    if not legs:
        return
    event(f"{len(legs)} legs")
    assert faults(chains, *legs) == []
    whole = [list(corner) for corner in product((0.0, 1.0), repeat=min(len(legs), 4))]
    for fill in [*whole, *[[part] * len(legs) for part in parts], [parts[n % len(parts)] for n in range(len(legs))]]:
        after = all_filled(chains, list(zip(legs, fill, strict=False)))
        if before.equity >= 0:
            # equity ÷ MM does not fall; 2e-6 for the rounding of the figures compared, on either side.
            left = (after.equity + 2 * GRAIN) * before.maintenance_margin
            assert left >= before.equity * (after.maintenance_margin - 2 * GRAIN)
            assert after.equity >= -2 * GRAIN
        else:
            grown = (after.maintenance_margin - after.equity) - (before.maintenance_margin - before.equity)
            assert grown <= 4 * GRAIN
    # The concessions never exceed what equity pays, nor a tenth of the standalone maintenance margin.
    conceded = 0
    for leaf in legs:
        size = abs(leaf.close_limit) - chains.world[leaf.chain_id].closed.get((OWNER, leaf.asset), 0)
        conceded += leaf.max_concession * size
        standalone = evaluate([Portfolio(chains.account(), 0, {leaf.asset: size}, {})], marks(), MODEL)[0]
        if not is_token(leaf.asset):
            assert leaf.max_concession * size <= standalone.maintenance_margin * UNIT // 10 + UNIT * UNIT // 1000
    if before.equity >= 0:
        assert conceded <= before.equity * UNIT


@settings(max_examples=60, deadline=None)
@given(
    health=st.floats(0.1, 0.99),
    trades=st.lists(st.tuples(st.integers(-6000, 6000), st.sampled_from([A, B])), max_size=3),
    out=st.integers(0, 500),
    part=st.floats(0, 1),
)
def test_cm_41_holds_beside_every_subset_of_live_permits(
    health: float, trades: list[tuple[int, int]], out: int, part: float
) -> None:
    """In each subset the leg leaves equity ÷ MM at least the lesser of the final one and that subset's own."""
    chains = Chains().linked(OWNER, (A, B)).size(OWNER, A, 2).size(OWNER, B, 5)
    chains.cash(OWNER, A, -21_000 + 2940 * health)
    live: list[LiveItem] = [trade(size / 1000, chain_id=chain_id) for size, chain_id in trades if size]
    live += [withdraw(out)] if out else []
    before = chains.report()
    assume(before.status == "liquidatable")
    legs = plans(chains, live=live)
    if not legs:
        return
    assert faults(chains, *legs, live=live) == []
    book = portfolio(chains.world, LISTING, chains.account())
    fills = [fill_effect(chains, leaf, part) for leaf in legs]
    effects = [e.effect for e in live_effects(chains.account(), live, chains.world, LISTING, PROFILE, {})]
    for mask in range(2 ** len(effects)):
        executed = book
        for bit, effect in enumerate(effects):
            executed = executed.plus(effect) if mask >> bit & 1 else executed
        for corner in range(1, 2 ** len(fills)):
            closed = executed
            for bit, fill in enumerate(fills):
                closed = closed.plus(fill) if corner >> bit & 1 else closed
            without, with_legs = evaluate([executed, closed], marks(), MODEL)
            if without.equity >= 0 and without.maintenance_margin > 0:
                q = min(before.equity / before.maintenance_margin, without.equity / without.maintenance_margin, 1)
                assert dollars(with_legs.equity) >= q * dollars(with_legs.maintenance_margin) - 1e-4
            else:
                short = without.maintenance_margin - without.equity
                assert with_legs.maintenance_margin - with_legs.equity <= short + 4 * GRAIN
