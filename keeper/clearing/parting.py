"""Accounts that a live unlink may part: the worlds in which it is executed, and those in which it is not.

Until an unlink is final the account counts joined, and from then on each part counts alone. So whatever is signed
while a permit for one is live must stand both ways.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from keeper.state.actions import Unlink
from keeper.state.ids import AccountId, Address, owner_of
from keeper.state.live import LiveItem, PermitItem
from keeper.state.world import World, components


def unlinks(items: Iterable[LiveItem], owner: Address | None = None) -> list[PermitItem]:
    """The permits among `items` that take a chain out of an account: of anybody, or of one owner."""
    found = [item for item in items if isinstance(item, PermitItem) and isinstance(item.action, Unlink)]
    return [item for item in found if owner is None or owner_of(item.permit.account_id) == owner]


def after(world: World, item: PermitItem) -> World:
    """The world once an unlink is executed; the same object where the chain is not named there."""
    action, state = item.action, world.get(item.chain_id)
    if not isinstance(action, Unlink) or state is None:
        return world
    named = state.links.get(action.account_id, frozenset[int]())
    if action.chain_id not in named:
        return world
    left = named - {action.chain_id}
    links = state.links.set(action.account_id, left) if left else state.links.delete(action.account_id)
    return {**world, item.chain_id: replace(state, links=links)}


def views(world: World, items: Iterable[PermitItem]) -> list[World]:
    """The world as it is, first, and as it is after every further subset of these unlinks that changes something."""
    found: dict[frozenset[tuple[int, AccountId, int]], World] = {frozenset(): world}
    for item in items:
        action = item.action
        assert isinstance(action, Unlink)
        for gone, view in list(found.items()):
            executed = after(view, item)
            if executed is not view:
                found.setdefault(gone | {(item.chain_id, action.account_id, action.chain_id)}, executed)
    return list(found.values())


def parts(world: World, item: PermitItem) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """The groups of chains that an unlink ends, and those that it leaves of them; none where it parts nothing."""
    account = item.permit.account_id
    joined, parted = components(world, account), components(after(world, item), account)
    return [group for group in joined if group not in parted], [group for group in parted if group not in joined]


def parted_since(before: World, now: World) -> frozenset[AccountId]:
    """Accounts that name fewer chains in `now` than in `before`, which may be a little older."""
    return frozenset(
        account
        for chain_id, state in before.items()
        if chain_id in now and state.links is not now[chain_id].links
        for account, named in state.links.items()
        if named - now[chain_id].links.get(account, frozenset[int]())
    )
