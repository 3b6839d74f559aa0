"""Liquidation legs: sizes and concessions by hand, no hedge stripped, options and tokens, lying planners caught."""

from __future__ import annotations

from dataclasses import replace

import pytest
from immutables import Map
from leg_plans import PROFILE, faults, filled, long_five, plan, planned, plans, targeted
from option_books import EXPIRIES, XPM
from option_books import LISTING as OPTION_LISTING
from option_books import MARKS as OPTION_MARKS
from worlds import BTC, ETH, LISTING, NOW, OTHER, OWNER, PARAMETERS, WETH, A, B, Chains, dollars, leg, marks, units, usd

from keeper.clearing.check import check_legs
from keeper.clearing.effects import concession_at
from keeper.clearing.legs import leaves_of
from keeper.clearing.plan import plan_legs
from keeper.clearing.sale import Setting, sale_of
from keeper.margin.xpm import Xpm
from keeper.market.marks import Curve, Expiry, Marks
from keeper.state.batch import NO_DEPOSIT_TARGET
from keeper.state.ids import Instrument, Kind, instrument_id, token_id
from keeper.state.world import FundingIndex

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


# --- options, dated futures, funding, tokens ------------------------------------------------------------------------


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
