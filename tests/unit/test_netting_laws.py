"""Netting figures on generated books of options, futures and collateral, whichever chains are linked: laws."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from immutables import Map
from option_books import LAWFUL, MARKS, UNIVERSE
from option_books import LISTING as OPTION_LISTING
from worlds import A, B, C, Chains

from keeper.clearing.netting import Netted, NettingFigures, Requirements, netting_figures
from keeper.margin.explain import netting as explained
from keeper.margin.portfolio import Portfolio, portfolio
from keeper.margin.report import evaluate
from keeper.state.batch import UNIT
from keeper.state.ids import account_id, is_token
from keeper.state.world import MarginAccount, World

OWNERS = [account_id(bytes([n]) * 20) for n in range(1, 6)]
Sizes = dict[tuple[int, int, int], float]
"""(owner, chain, asset) by number → size."""

holdings = st.dictionaries(
    st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(0, len(UNIVERSE) - 1)),
    st.floats(-50, 50, allow_subnormal=False).map(lambda size: round(size, 3)).filter(bool),
    max_size=12,
)
groupings = st.lists(st.sampled_from([((A, B, C),), ((A, B),), ((B, C),), ()]), min_size=5, max_size=5)


def world_of(sizes: Sizes, groups: list[tuple[tuple[int, ...], ...]]) -> World:
    chains = Chains()
    for owner, group in zip(OWNERS, groups, strict=True):
        chains.linked(owner, *group)
    for (owner, place, number), size in sizes.items():
        asset, chain_id = UNIVERSE[number], (A, B, C)[place]
        if not is_token(asset):
            chains.size(OWNERS[owner], chain_id, size, asset)
        elif int.from_bytes(asset[4:12], "big") == chain_id:
            chains.weth(OWNERS[owner], chain_id, abs(size))
        chains.cash(OWNERS[owner], chain_id, round(-7 * size, 6))
    return chains.world


def lawful(world: World) -> NettingFigures:
    return netting_figures(world, OPTION_LISTING, MARKS, LAWFUL)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(holdings, groupings)
def test_net_is_never_more_than_gross_and_efficiencies_are_shares(
    sizes: Sizes, groups: list[tuple[tuple[int, ...], ...]]
) -> None:
    world = world_of(sizes, groups)
    found = lawful(world)
    for each in found.underlyings.values():
        assert 0 <= each.overall <= each.accounts.net <= each.siloed <= each.accounts.gross
        assert each.accounts.gross == sum(there.gross for there in each.chains.values())
    for netted in (found.exposure, found.payments.value, found.payments.transfers, found.margin.netted):
        assert 0 <= netted.net <= netted.gross
        assert netted.efficiency is None if netted.gross == 0 else 0 <= (netted.efficiency or 0) <= 1
    for own in found.accounts.values():
        assert 0 <= own.portfolio <= own.siloed <= own.isolated
        assert own.capital_efficiency is None or own.capital_efficiency >= 1
    assert sum(found.chain_margin.values()) == found.margin.siloed
    assert sum((own.portfolio for own in found.accounts.values()), 0) == found.margin.portfolio


@settings(max_examples=40, derandomize=True, deadline=None)
@given(holdings, groupings)
def test_the_figures_are_those_that_margin_is_enforced_with(
    sizes: Sizes, groups: list[tuple[tuple[int, ...], ...]]
) -> None:
    """Against reports one by one, and against what `explain` says of the pieces."""
    world = world_of(sizes, groups)
    for account, own in lawful(world).accounts.items():
        whole = portfolio(world, OPTION_LISTING, account)
        assert own.portfolio == evaluate([whole], MARKS, LAWFUL)[0].initial_margin
        books = [portfolio(world, OPTION_LISTING, MarginAccount(account.account_id, (c,))) for c in account.chains]
        pieces = {
            f"{number} {asset.hex()}": Portfolio(
                account,
                0,
                {} if is_token(asset) else {asset: book.amount(asset)},
                {asset: book.amount(asset)} if is_token(asset) else {},
            )
            for number, book in enumerate(books)
            for asset in book.assets
        }
        told = explained(whole, MARKS, LAWFUL, pieces)
        assert told["standaloneSum"] == own.isolated / UNIT
        assert told["efficiency"] == own.capital_efficiency
        assert own.siloed == sum(report.initial_margin for report in evaluate(books, MARKS, LAWFUL))


@settings(max_examples=40, derandomize=True, deadline=None)
@given(holdings, st.integers(0, 11), st.integers(1, 999))
def test_a_position_split_over_chains_of_one_account_changes_nothing(sizes: Sizes, which: int, share: int) -> None:
    """The same sign on two linked chains: gross, net and what is required stay, to the last wei of a millionth each."""
    everywhere = [((A, B, C),)] * 5
    instruments = {key: size for key, size in sizes.items() if not is_token(UNIVERSE[key[2]])}
    world = world_of(instruments, everywhere)
    keys = [key for key in instruments if (key[0], (key[1] + 1) % 3, key[2]) not in instruments]
    assume(keys)
    owner, place, number = keys[which % len(keys)]
    account, asset = OWNERS[owner], UNIVERSE[number]
    source, target = (A, B, C)[place], (A, B, C)[(place + 1) % 3]
    size = world[source].sizes[account][asset]
    part = size * share // 1000
    split = dict(world)
    for chain_id, left in ((source, size - part), (target, part)):
        own = split[chain_id].sizes.get(account, Map())
        own = own.set(asset, left) if left else own.delete(asset)
        split[chain_id] = replace(split[chain_id], sizes=split[chain_id].sizes.set(account, own))
    before, after = lawful(world), lawful(split)
    assert after.exposure == before.exposure
    assert {n: each.accounts for n, each in after.underlyings.items()} == {
        n: each.accounts for n, each in before.underlyings.items()
    }
    assert after.margin.portfolio == before.margin.portfolio
    assert abs(after.margin.isolated - before.margin.isolated) <= 2 * 10**12


@settings(max_examples=30, derandomize=True, deadline=None)
@given(holdings, groupings)
def test_accounts_do_not_touch_each_other(sizes: Sizes, groups: list[tuple[tuple[int, ...], ...]]) -> None:
    """Many in one pass are each alone: exposures, requirements and gross payments add."""
    together = lawful(world_of(sizes, groups))
    alone = [lawful(world_of({k: s for k, s in sizes.items() if k[0] == n}, groups)) for n in range(5)]
    assert together.margin == sum((each.margin for each in alone), Requirements())
    assert together.exposure == sum((each.exposure for each in alone), Netted())
    assert together.payments.value.gross == sum(each.payments.value.gross for each in alone)
    assert together.payments.transfers.gross == sum(each.payments.transfers.gross for each in alone)
    assert together.payments.value.net <= sum(each.payments.value.net for each in alone)
