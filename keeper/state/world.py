"""The state of every chain as its contracts hold it, as persistent values.

A `ChainState` is immutable and shares structure with the one before, so the state at any recent final block, and what
the head would add to it, cost only what changed. States are the fold of the contracts' `…Set` events, which carry the
value after the change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from immutables import Map

from .ids import AccountId, Address, AssetId, owner_of


@dataclass(frozen=True, slots=True)
class Reservation:
    """Open while the block's time is not greater than `until`. Amounts in USD 1e18."""

    amount: int
    cash_part: int
    until: int


@dataclass(frozen=True, slots=True)
class Owed:
    """Claimed and unpaid, USD 1e18: `cash` once tokens are here, `rest` once a quorum cleared it."""

    cash: int
    rest: int


@dataclass(frozen=True, slots=True)
class FundingIndex:
    """What a long of one unit has paid in total, USD 1e18, as of a batch's `time`."""

    index: int
    time: int


@dataclass(frozen=True, slots=True)
class BlockRef:
    """A block of one chain. `time` in unix seconds."""

    number: int
    hash: bytes
    parent_hash: bytes
    time: int


def _empty() -> Map[Any, Any]:
    return Map()


@dataclass(frozen=True, slots=True)
class ChainState:
    """Holdings on one chain at one block.

    Cash, sizes and closed sizes are scaled by 1e18; balances, `held` and `deposited` have the token's decimals.
    Zero values are absent.
    """

    chain_id: int
    block: BlockRef
    cash: Map[AccountId, int] = field(default_factory=_empty)
    sizes: Map[AccountId, Map[AssetId, int]] = field(default_factory=_empty)
    balances: Map[AccountId, Map[Address, int]] = field(default_factory=_empty)
    closed: Map[tuple[AccountId, AssetId], int] = field(default_factory=_empty)
    filled: Map[bytes, int] = field(default_factory=_empty)
    reservations: Map[AccountId, Map[Address, Reservation]] = field(default_factory=_empty)
    links: Map[AccountId, frozenset[int]] = field(default_factory=_empty)
    used_nonces: Map[tuple[AccountId, int], bytes] = field(default_factory=_empty)
    """(account, nonce) → hash of the executed action."""
    cancelled: Map[tuple[AccountId, int], bool] = field(default_factory=_empty)
    """(account, nonce) of orders that their owners cancelled."""
    deposited: Map[AccountId, int] = field(default_factory=_empty)
    held: int = 0
    """Settlement token in the vault for the clearing house."""
    claims: int = 0
    """What this chain's ledger has to come from other chains, net, USD 1e18: cash = held + claims (CM-30)."""
    applied: Map[tuple[AccountId, int], int] = field(default_factory=_empty)
    """(account, cycle) → cash delta of every settlement leaf applied here."""
    owed: Map[AccountId, Map[Address, Owed]] = field(default_factory=_empty)
    """Account → integrator → what is claimed and not paid yet."""
    funding: Map[AssetId, FundingIndex] = field(default_factory=_empty)
    """Perpetual → the cumulative index that this chain has stored."""
    funding_paid: Map[tuple[AccountId, AssetId], int] = field(default_factory=_empty)
    """(account, perpetual) → the index up to which its funding is booked, USD 1e18 per unit."""
    costs: Map[tuple[AccountId, AssetId], int] = field(default_factory=_empty)
    """(account, instrument) → what its position cost at its average price, signed as its size, USD 1e18."""
    settlement_prices: Map[AssetId, int] = field(default_factory=_empty)
    """Expired instrument → the one price at which it settles here, USD 1e18."""
    posted_epoch: int = -1
    """Epoch of the newest batch posted, −1 before the first."""
    posted_digest: bytes = b""
    posted_timestamp: int = 0

    def accounts(self) -> set[AccountId]:
        """Every account with cash, positions, collateral, reservations or links here."""
        return {*self.cash, *self.sizes, *self.balances, *self.reservations, *self.links}


World = dict[int, ChainState]
"""Chain id → state."""


@dataclass(frozen=True, slots=True)
class MarginAccount:
    """One margin account: an account id on a connected component of mutual links (one chain where unlinked)."""

    account_id: AccountId
    chains: tuple[int, ...]
    """Ascending."""


def margin_accounts(world: World) -> list[MarginAccount]:
    """Every margin account of the world, ordered by id and chains.

    A link counts when both chains name each other; an account's chains form one margin account for every connected
    component of such links (CM-09). So an address that somebody else controls on another chain backs nothing.
    """
    result: list[MarginAccount] = []
    everyone: dict[AccountId, list[int]] = {}
    for chain_id in sorted(world):
        for account in world[chain_id].accounts():
            everyone.setdefault(account, []).append(chain_id)
    for account in sorted(everyone):
        result.extend(MarginAccount(account, chains) for chains in components(world, account))
    return result


def accounts_of(world: World, owner: Address) -> list[MarginAccount]:
    """Every margin account of one address, ordered by id and chains; as `margin_accounts`, without reading the rest."""
    own = {account for state in world.values() for held in _holders(state) for account in _by_owner(held, owner)}
    return [MarginAccount(account, chains) for account in sorted(own) for chains in components(world, account)]


def components(world: World, account: AccountId) -> list[tuple[int, ...]]:
    """The chains on which `account` exists, grouped by mutual links; each group ascending, groups by first chain."""
    present = [c for c in sorted(world) if account in world[c].links or _holds(world[c], account)]
    links = {c: world[c].links.get(account, frozenset[int]()) for c in present}
    groups: list[tuple[int, ...]] = []
    seen: set[int] = set()
    for start in present:
        if start in seen:
            continue
        group, queue = {start}, [start]
        while queue:
            here = queue.pop()
            for there in links[here]:
                if there not in group and there in links and here in links[there]:
                    group.add(there)
                    queue.append(there)
        seen |= group
        groups.append(tuple(sorted(group)))
    return groups


_OWNERS: dict[int, tuple[Map[AccountId, Any], dict[Address, list[AccountId]]]] = {}
"""Accounts by owner, of the maps last asked; with the map itself, so that its identity is not given to another."""
_MOST_OWNERS = 64


def _by_owner(held: Map[AccountId, Any], owner: Address) -> list[AccountId]:
    """The accounts of `owner` in one map. Maps are persistent values: each is indexed once, not once a request."""
    found = _OWNERS.get(id(held))
    if found is None:
        index: dict[Address, list[AccountId]] = {}
        for account in held:
            index.setdefault(owner_of(account), []).append(account)
        if len(_OWNERS) >= _MOST_OWNERS:
            _OWNERS.clear()
        found = _OWNERS[id(held)] = (held, index)
    return found[1].get(owner, [])


def _holders(state: ChainState) -> tuple[Map[AccountId, Any], ...]:
    return state.cash, state.sizes, state.balances, state.reservations, state.links


def _holds(state: ChainState, account: AccountId) -> bool:
    return account in state.cash or account in state.sizes or account in state.balances or account in state.reservations


def component_of(world: World, account: AccountId, chain_id: int) -> MarginAccount:
    """The margin account that `account` is on `chain_id` (that chain alone where nothing is known of it)."""
    for group in components(world, account):
        if chain_id in group:
            return MarginAccount(account, group)
    return MarginAccount(account, (chain_id,))
