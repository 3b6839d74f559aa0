"""What live items do to one account: the contracts' rounding, fees, sides, components, the worst of several legs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from worlds import (
    BTC,
    DEPLOYMENT,
    ETH,
    LISTING,
    MAKER,
    NOW,
    OTHER,
    OWNER,
    UNIT,
    WETH,
    A,
    B,
    C,
    Chains,
    dollars,
    leg,
    permit,
    reserve,
    takeover,
    trade,
    units,
    usd,
    withdraw,
)

from keeper.clearing.effects import (
    Effect,
    TakeoverTerms,
    UnsupportedAction,
    effect_of,
    fill,
    leg_remaining,
    legs_effect,
    trade_fee,
)
from keeper.clearing.exposure import live_effects
from keeper.margin.listing import UnknownAsset
from keeper.state.actions import Trade, Unlink
from keeper.state.ids import Address, token_id
from keeper.state.live import LiveItem, PermitItem
from keeper.state.world import MarginAccount

PROFILE = DEPLOYMENT.profile
ACCOUNT = MarginAccount(OWNER, (A, B))


def effect(item: PermitItem, account: MarginAccount = ACCOUNT, terms: TakeoverTerms | None = None) -> Effect:
    return effect_of(item, account, LISTING, PROFILE, terms)


def test_a_withdrawal_of_the_settlement_token_is_cash() -> None:
    assert effect(withdraw(12.5)) == Effect(cash=-usd(12.5), settlement_out=usd(12.5))


def test_a_withdrawal_of_another_token_is_collateral_of_its_chain() -> None:
    assert effect(withdraw(2, B, token=WETH)) == Effect(collateral={token_id(B, WETH): -units(2)})


def test_a_trade_moves_both_sides_and_each_pays_the_fee() -> None:
    # Buying 2 ETH at 3,000: 6,000, and a fee of 2 bp: 1.20.
    item = trade(2)
    assert effect(item) == Effect(cash=-usd(6001.2), positions={ETH: units(2)})
    assert effect(item, MarginAccount(MAKER, (A,))) == Effect(cash=usd(5998.8), positions={ETH: -units(2)})


def test_rounding_is_against_each_side_and_fees_are_rounded_up_twice() -> None:
    # 1e-18 units at 0.5: half of 1e-18 USD. The buyer pays 1, the seller receives 0; the notional of the fee is 1,
    # of which 2 bp rounds up to 1 again.
    assert fill(ETH, 1, UNIT // 2, 0).cash == -1
    assert fill(ETH, -1, UNIT // 2, 0).cash == 0
    assert trade_fee(Trade(b"", b"", -1, UNIT // 2), PROFILE) == 1
    assert trade_fee(Trade(b"", b"", 0, 1), replace(PROFILE, fee_rate=0)) == 0


def test_a_reservation_takes_margin_and_may_take_cash() -> None:
    assert effect(reserve(100, cash_part=40)) == Effect(reserved=usd(100), cash_part=usd(40))


def test_a_takeover_is_at_its_terms_for_the_taker_alone() -> None:
    item = takeover(3)
    assert effect(item, terms=TakeoverTerms(1, usd(3000))) == Effect(-usd(9000), {ETH: units(3)})
    assert effect(item, terms=TakeoverTerms(-1, usd(3000))) == Effect(usd(9000), {ETH: -units(3)})
    assert effect(item, MarginAccount(OTHER, (A,)), TakeoverTerms(1, usd(3000))).nothing


@pytest.mark.parametrize("item", [withdraw(1, C), reserve(1, C), trade(1, chain_id=C), withdraw(1, A, OTHER)])
def test_an_item_of_another_component_or_account_has_no_effect(item: PermitItem) -> None:
    """CM-09."""
    assert effect(item) == Effect()
    assert effect(item).nothing


def test_an_unlink_changes_nothing_that_is_held() -> None:
    action = Unlink(OWNER, B)
    assert effect(PermitItem(A, permit(A, action, OWNER), action, ())) == Effect()


def test_what_has_no_effect_that_is_known_is_refused() -> None:
    with pytest.raises(UnsupportedAction, match="Takeover"):
        effect(takeover(1))
    with pytest.raises(UnknownAsset, match=f"0x{'99' * 20} is not listed on chain {A}"):
        effect(withdraw(1, token=Address(b"\x99" * 20)))
    with pytest.raises(UnknownAsset, match="chain 5"):
        effect(withdraw(1, 5), MarginAccount(OWNER, (5,)))


def test_a_leg_sells_a_long_below_and_buys_a_short_above_the_mark_with_its_share_of_the_fee() -> None:
    """CM-40: cumulative, so 2 of 5 closed leave 3; a full leg pays 1 USD, three fifths of it 0.60."""
    state = Chains().size(OWNER, A, 3).closed(OWNER, A, 2).world[A]
    long = legs_effect([leg(5, concession=40)], state, units(10), PROFILE)
    assert long == Effect(usd(3 * 2960 - 0.6), {ETH: -units(3)})
    short = legs_effect([leg(-5, concession=40)], state, units(10), PROFILE)
    assert short == Effect(-usd(3 * 3040 + 0.6), {ETH: units(3)})


def test_a_concession_beyond_the_price_sells_for_nothing() -> None:
    assert legs_effect([leg(1, mark=10, concession=40)], Chains().world[A], UNIT, PROFILE).cash == -usd(1)


def test_legs_of_successive_batches_share_the_counter_and_count_at_their_worst() -> None:
    state = Chains().closed(OWNER, A, 1).world[A]
    batch = [leg(4, mark=3000, concession=10), leg(5, mark=2990, concession=5, timestamp=NOW + 2)]
    # Together they close 5 − 1, at the worse of 2,990 and 2,985; the fee is 4 of the smaller limit, 4: 1 USD.
    assert legs_effect(batch, state, units(9), PROFILE) == Effect(usd(4 * 2985 - 1), {ETH: -units(4)})


def test_a_leg_takes_no_more_than_the_position_can_become() -> None:
    chains = Chains().size(OWNER, A, 2)
    account = chains.account()

    def legs_close(*live: LiveItem) -> int:
        found = live_effects(account, live, chains.world, LISTING, PROFILE, {})
        return -sum(e.effect.positions[ETH] for e in found if e.is_leg)

    assert legs_close(leg(5)) == units(2)
    # A live purchase of 1 may come first, so then 3; a sale, or one of another asset or chain, does not lessen it.
    assert legs_close(leg(5), trade(1)) == units(3)
    assert legs_close(leg(5), trade(-1), trade(9, asset=BTC), trade(9, chain_id=B)) == units(2)
    assert legs_close(leg(-5)) == 0
    assert legs_close(leg(5, OTHER)) == 0


def test_a_takeover_whose_leg_is_not_known_counts_as_either_side() -> None:
    chains = Chains()
    prices = {ETH: (usd(3000),)}
    both = live_effects(chains.account(), [takeover(1)], chains.world, LISTING, PROFILE, prices)
    assert [e.effect.positions[ETH] for e in both] == [-units(1), units(1)]
    known = live_effects(
        chains.account(), [takeover(1), leg(1, OTHER, mark=3010)], chains.world, LISTING, PROFILE, prices
    )
    # A known leg settles the side, and its mark the price where that is worse for the taker.
    assert [e.effect for e in known] == [Effect(-usd(3010), {ETH: units(1)})]


def test_remaining_is_what_the_counter_leaves() -> None:
    """CM-40."""
    state = Chains().closed(OWNER, A, 7).world[A]
    assert leg_remaining(leg(-9), state) == units(2)
    assert leg_remaining(leg(7), state) == 0
    assert leg_remaining(leg(6), state) == 0
    assert dollars(leg_remaining(leg(6, account=OTHER), state)) == 6
