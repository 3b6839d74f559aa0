"""Whatever is permitted, unlinks among it, and whatever of it is executed in whatever order: nobody's part is short."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import (
    MAKER,
    OWNER,
    SUB,
    A,
    B,
    C,
    Chains,
    crowded,
    executed,
    move,
    report_of,
    reserve,
    trade,
    unlink,
    usd,
    withdraw,
)

from keeper.attest.permits import Grant, judge
from keeper.clearing.effects import effect_of
from keeper.clearing.parting import after
from keeper.margin.portfolio import portfolio
from keeper.state.ids import AccountId
from keeper.state.live import PermitItem
from keeper.state.world import MarginAccount, World, components

CHAINS = (A, B, C)
GROUPS: list[list[tuple[int, ...]]] = [[(A, B)], [(A, B, C)], [(A, B), (B, C)], [(A, B), (B, C), (A, C)]]

accounts = st.sampled_from([OWNER, OWNER, OWNER, SUB])
chains = st.sampled_from(CHAINS)
tenths = st.integers(1, 60).map(lambda n: n / 10)
dollars = st.integers(1, 6).map(lambda n: 900.0 * n)

Make = Callable[[], PermitItem]


@st.composite
def acts(draw: st.DrawFn) -> Make:
    """What makes an act: each under a nonce of its own."""
    account = draw(accounts)
    where, there = draw(st.permutations(CHAINS))[:2]
    amount, size = draw(dollars), draw(tenths) * draw(st.sampled_from([-1, 1]))
    makes: list[Make] = [
        lambda: unlink(there, chain_id=where, account=account),
        lambda: withdraw(amount, chain_id=where, account=account),
        lambda: reserve(amount, chain_id=where, account=account),
        lambda: trade(size, chain_id=where, account=account),
        lambda: move(amount, chain_id=where, source=OWNER, target=SUB),
    ]
    return makes[draw(st.sampled_from([0, 0, 1, 1, 2, 3, 3, 4]))]


@st.composite
def holdings(draw: st.DrawFn) -> Chains:
    found = Chains().cash(MAKER, A, 10**7).cash(MAKER, B, 10**7).cash(MAKER, C, 10**7)
    for account in (OWNER, SUB):
        groups = draw(st.sampled_from(GROUPS))
        for chain_id in CHAINS:
            found.link(account, chain_id, sorted({c for g in groups if chain_id in g for c in g} - {chain_id}))
        for chain_id in CHAINS:
            size = draw(st.integers(-8, 8)) / 10
            if size:
                found.size(account, chain_id, size)
            found.cash(account, chain_id, draw(st.integers(500, 3_000)) - size * 3_000)
    return found


def parts_of(world: World) -> dict[tuple[AccountId, tuple[int, ...]], int]:
    """Free margin of every part of the owner's accounts."""
    return {
        (account, chain_ids): report_of(world, account, chain_ids[0], model=CROWDED).free
        for account in (OWNER, SUB)
        for chain_ids in components(world, account)
    }


CROWDED = crowded(2_000_000)


@pytest.mark.cm("CM-09")
@pytest.mark.cm("CM-11")
@settings(max_examples=150, deadline=None)
@given(holdings(), st.lists(acts(), min_size=2, max_size=7), st.randoms(use_true_random=False))
def test_cm_09_cm_11_no_part_is_short_whatever_is_executed(start: Chains, made: list[Make], chance: object) -> None:
    """Only accounts that stand at the start, joined as they are, are asked about: a permit promises to keep them so."""
    world = start.world
    if min(parts_of(world).values()) < 0:
        return
    live: list[PermitItem] = []
    for make in made:
        item = make()
        context = Chains(dict(world)).context(model=CROWDED)
        if isinstance(judge(item, live, context), Grant):
            live.append(item)
        if live and chance.random() < 0.35:  # type: ignore[attr-defined]
            done = live.pop(chance.randrange(len(live)))  # type: ignore[attr-defined]
            world = executed(world, done)
        assert min(parts_of(world).values()) >= 0
    while live:
        done = live.pop(chance.randrange(len(live)))  # type: ignore[attr-defined]
        world = executed(world, done)
        short = {key: free / usd(1) for key, free in parts_of(world).items() if free < 0}
        assert not short, (short, done)


@pytest.mark.cm("CM-21")
@settings(max_examples=100, deadline=None)
@given(holdings(), chains, chains, st.lists(acts(), max_size=3))
def test_cm_21_a_granted_unlink_leaves_every_part_net_cash(
    start: Chains, where: int, there: int, made: list[Make]
) -> None:
    item, context = unlink(there, chain_id=where), start.context(model=CROWDED)
    live: list[PermitItem] = []
    for make in made:
        act = make()
        if isinstance(judge(act, live, context), Grant):
            live.append(act)
    if not isinstance(judge(item, live, context), Grant):
        return
    before, world = components(start.world, OWNER), after(start.world, item)
    for chain_ids in components(world, OWNER):
        if chain_ids not in before:
            held = portfolio(world, context.listing, MarginAccount(OWNER, chain_ids))
            value = held.cash + sum(size * 3_000 for size in held.positions.values())
            assert value >= 0
    assert effect_of(item, MarginAccount(OWNER, CHAINS), context.listing, context.deployment.profile).nothing
