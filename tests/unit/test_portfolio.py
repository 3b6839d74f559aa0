"""Portfolios: netting over mutually linked chains (CM-09), and reservations that lapse by final blocks only (CM-12)."""

from __future__ import annotations

import pytest
from worlds import BTC, ETH, LISTING, NOW, OTHER, OWNER, WETH, A, B, C, Chains, dollars, units, usd

from keeper.clearing.effects import Effect
from keeper.margin.listing import UnknownAsset
from keeper.margin.portfolio import per_chain, portfolio, portfolios
from keeper.state.ids import Address, AssetId, Instrument, Kind, instrument_id, perpetual, token_id
from keeper.state.world import MarginAccount


def test_positions_net_and_cash_adds_over_linked_chains() -> None:
    chains = (
        Chains()
        .cash(OWNER, A, 1000)
        .cash(OWNER, B, -250)
        .size(OWNER, B, 5)
        .size(OWNER, C, -5)
        .size(OWNER, C, 2, BTC)
        .weth(OWNER, A, 1)
        .weth(OWNER, C, 2)
        .linked(OWNER, (A, B, C))
    )
    book = portfolio(chains.world, LISTING, chains.account())
    assert dollars(book.cash) == 750
    assert book.positions == {BTC: units(2)}  # ETH is +5 and −5: nothing
    # The same address on two chains is two tokens.
    assert book.collateral == {token_id(A, WETH): units(1), token_id(C, WETH): units(2)}
    assert list(book.assets) == sorted(book.assets)


def test_amounts_of_tokens_are_scaled_to_18_decimals_and_unlisted_ones_count_nothing() -> None:
    chains = Chains().weth(OWNER, A, 1.5)
    unlisted = Address(b"\x99" * 20)
    state = chains.world[A]
    chains._change(A, balances=state.balances.set(OWNER, state.balances[OWNER].set(unlisted, 10**30)))
    assert portfolio(chains.world, LISTING, chains.account()).collateral == {token_id(A, WETH): units(1.5)}


def test_sequence_27_an_address_that_somebody_else_controls_elsewhere_backs_nothing() -> None:
    """CM-09: links count where both chains name each other; the attacker on B links to A, the owner on A does not."""
    chains = Chains().cash(OWNER, A, 1000).size(OWNER, B, 10).link(OWNER, B, [A]).linked(OWNER, (A, C))
    found = [book for book in portfolios(chains.world, LISTING) if book.account.account_id == OWNER]
    assert [book.account.chains for book in found] == [(A, C), (B,)]
    assert dollars(found[0].cash) == 1000
    assert not found[0].positions
    assert found[1].cash == 0
    assert found[1].positions == {ETH: units(10)}


def test_linked_chains_are_one_account_through_a_third() -> None:
    """CM-09: a margin account is a connected component, so A–B and B–C join A and C."""
    chains = Chains().cash(OWNER, A, 1).cash(OWNER, C, 2).link(OWNER, A, [B]).link(OWNER, B, [A, C]).link(OWNER, C, [B])
    assert [book.account.chains for book in portfolios(chains.world, LISTING)] == [(A, B, C)]


def test_accounts_come_in_ascending_order() -> None:
    chains = Chains().cash(OTHER, B, 1).cash(OWNER, C, 1).cash(OWNER, A, 1)
    assert [book.account for book in portfolios(chains.world, LISTING)] == [
        MarginAccount(OWNER, (A,)),
        MarginAccount(OWNER, (C,)),
        MarginAccount(OTHER, (B,)),
    ]


def test_reservations_lapse_only_once_a_final_block_of_their_own_chain_is_later_than_their_end() -> None:
    """CM-12, CM-15: neither the end itself, nor time on another chain, ends a reservation."""
    chains = Chains().reserved(OWNER, C, 400, until=NOW + 10, cash_part=100).linked(OWNER, (A, C))
    chains.time(A, NOW + 1000).time(C, NOW + 10)
    book = portfolio(chains.world, LISTING, chains.account())
    assert (dollars(book.reserved), dollars(book.cash_parts)) == (400, 100)
    chains.time(C, NOW + 11)
    book = portfolio(chains.world, LISTING, chains.account())
    assert (book.reserved, book.cash_parts) == (0, 0)


def test_plus_adds_an_act_and_drops_what_becomes_nothing() -> None:
    chains = Chains().cash(OWNER, A, 100).size(OWNER, A, 5).weth(OWNER, A, 1)
    book = portfolio(chains.world, LISTING, chains.account())
    weth = token_id(A, WETH)
    after = book.plus(Effect(-usd(30), {ETH: -units(5), BTC: units(1)}, {weth: -units(1)}, usd(7), usd(2)))
    assert dollars(after.cash) == 70
    assert after.positions == {BTC: units(1)}
    assert after.collateral == {}
    assert (dollars(after.reserved), dollars(after.cash_parts)) == (7, 2)
    assert book.positions == {ETH: units(5)}  # a value: the one before is unchanged


def test_per_chain_is_each_chain_as_if_it_were_all() -> None:
    chains = Chains().size(OWNER, B, 5).size(OWNER, C, -5).cash(OWNER, A, 9).linked(OWNER, (A, B, C))
    pieces = per_chain(chains.world, LISTING, chains.account())
    assert list(pieces) == [f"chain {A}", f"chain {B}", f"chain {C}"]
    assert [dict(piece.positions) for piece in pieces.values()] == [{}, {ETH: units(5)}, {ETH: units(-5)}]


@pytest.mark.parametrize(
    ("asset", "names"),
    [
        (perpetual("DOGE"), "perpetual on DOGE is not listed"),
        (instrument_id(Instrument(Kind.FUTURE, "ETH", expiry=NOW)), "future on ETH is not listed"),
        (token_id(A, b"\x99" * 20), "token 0x.*99 is not listed"),
        (AssetId(b"\x07" + bytes(31)), "no instrument"),
    ],
)
def test_an_asset_that_is_not_listed_has_no_underlying(asset: AssetId, names: str) -> None:
    with pytest.raises(UnknownAsset, match=names):
        LISTING.underlying_of(asset)


def test_the_listing_names_tokens_by_chain_with_their_scale() -> None:
    assert sorted(LISTING.collateral) == [token_id(c, WETH) for c in (A, B, C)]
    assert {t.scale for t in LISTING.collateral.values()} == {1}
    assert {(c, t.scale) for c, t in LISTING.settlement.items()} == {(c, 10**12) for c in (A, B, C)}
    assert LISTING.underlyings == ("BTC", "ETH")
