"""Portfolios: what one margin account holds over all its chains, netted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from keeper.state.ids import AccountId, AssetId, token_id
from keeper.state.world import ChainState, MarginAccount, Reservation, World, margin_accounts

from .listing import Listing
from .valuation import Holdings


class Change(Holdings, Protocol):
    """What an act adds to a portfolio; amounts, sizes and USD in 1e18."""

    @property
    def reserved(self) -> int: ...
    @property
    def cash_part(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Portfolio:
    """Holdings of a margin account, summed over its chains: that sum is the netting.

    Cash, sizes, collateral amounts and reservations are scaled by 1e18; zero positions and amounts are absent, ids
    ascend. `reserved` is what open reservations take of the margin, `cash_parts` what they may claim of the cash,
    `elsewhere` the net delta of the owner's other accounts by underlying, each by its absolute value, USD 1e18,
    `funding` Σ size × the index up to which funding is booked, 1e36.
    """

    account: MarginAccount
    cash: int
    positions: Mapping[AssetId, int]
    collateral: Mapping[AssetId, int]
    reserved: int = 0
    cash_parts: int = 0
    elsewhere: Mapping[str, int] = field(default_factory=dict)
    funding: int = 0

    def plus(self, change: Change) -> Portfolio:
        """The portfolio after an act."""
        return replace(
            self,
            cash=self.cash + change.cash,
            positions=_sum(self.positions, change.positions),
            collateral=_sum(self.collateral, change.collateral),
            reserved=self.reserved + change.reserved,
            cash_parts=self.cash_parts + change.cash_part,
            funding=self.funding + change.funding,
        )

    @property
    def assets(self) -> tuple[AssetId, ...]:
        """Everything held that has a price, ascending; tokens come first."""
        return tuple(sorted({*self.positions, *self.collateral}))

    def amount(self, asset: AssetId) -> int:
        """Size or collateral amount held of an asset, 0 where none."""
        return self.positions.get(asset, 0) + self.collateral.get(asset, 0)


def portfolio(world: World, listing: Listing, account: MarginAccount) -> Portfolio:
    """The holdings of one margin account. Tokens that the deployment does not list are not counted."""
    cash = reserved = cash_parts = funding = 0
    positions: dict[AssetId, int] = {}
    collateral: dict[AssetId, int] = {}
    for chain_id in account.chains:
        if chain_id not in world:
            continue
        state = world[chain_id]
        cash += state.cash.get(account.account_id, 0)
        for asset, size in state.sizes.get(account.account_id, {}).items():
            positions[asset] = positions.get(asset, 0) + size
            funding += size * state.funding_paid.get((account.account_id, asset), 0)
        for address, balance in state.balances.get(account.account_id, {}).items():
            asset = token_id(chain_id, address)
            if asset in listing.collateral:
                collateral[asset] = balance * listing.collateral[asset].scale
        for reservation in open_reservations(state, account.account_id):
            reserved += reservation.amount
            cash_parts += reservation.cash_part
    return Portfolio(account, cash, _sum({}, positions), _sum({}, collateral), reserved, cash_parts, funding=funding)


def portfolios(world: World, listing: Listing) -> list[Portfolio]:
    """The holdings of every margin account, ordered by account id and chains."""
    return [portfolio(world, listing, account) for account in margin_accounts(world)]


def per_chain(world: World, listing: Listing, account: MarginAccount) -> dict[str, Portfolio]:
    """What the account holds on each of its chains, as if that were all it held."""
    return {
        f"chain {chain_id}": portfolio(world, listing, MarginAccount(account.account_id, (chain_id,)))
        for chain_id in account.chains
    }


def open_reservations(state: ChainState, account: AccountId) -> list[Reservation]:
    """Reservations that count: CM-12, one lapses only once a final block of its own chain is later than its end."""
    by_integrator = state.reservations.get(account)
    if by_integrator is None:
        return []
    return [entry for _, entry in sorted(by_integrator.items()) if state.block.time <= entry.until]


def _sum(held: Mapping[AssetId, int], change: Mapping[AssetId, int]) -> dict[AssetId, int]:
    total = {asset: held.get(asset, 0) + change.get(asset, 0) for asset in sorted({*held, *change})}
    return {asset: amount for asset, amount in total.items() if amount}
