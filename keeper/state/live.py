"""Live items: what was signed or listed for an account and is neither executed nor dead.

A permit is judged against every subset of them (CM-11), and proposed together with all of them (CM-13).
"""

from __future__ import annotations

from dataclasses import dataclass

from .actions import Action, Order, Permit
from .batch import LiquidationLeaf
from .ids import ZERO32, AccountId


@dataclass(frozen=True, slots=True)
class PermitItem:
    """A permit on one chain with what proves that its owners asked for it.

    `signatures` holds the owner's signature over the `PermitRequest`, or for a Trade the makers' and takers' over
    their `orders` (maker first); 65 bytes each.
    """

    chain_id: int
    permit: Permit
    action: Action
    signatures: tuple[bytes, ...]
    orders: tuple[Order, ...] = ()

    @property
    def key(self) -> tuple[bytes, int, int]:
        """(account, chain, nonce): at most one action ever."""
        return (self.permit.account_id, self.chain_id, self.permit.nonce)

    @property
    def identity(self) -> tuple[object, ...]:
        """What it is: under one nonce an owner may have signed several requests."""
        return (*self.key, self.permit.action_hash, self.permit.deadline)

    @property
    def accounts(self) -> tuple[AccountId, ...]:
        """Every account it counts against."""
        other = self.permit.counterparty_id
        return (self.permit.account_id,) if other == ZERO32 else (self.permit.account_id, AccountId(other))


@dataclass(frozen=True, slots=True)
class LegItem:
    """A signed liquidation leg. Live until a final block of its chain is later than the batch's time + 60 s (CM-40)."""

    leaf: LiquidationLeaf
    timestamp: int
    """Of the batch that carries it."""

    @property
    def key(self) -> tuple[bytes, int, bytes, int]:
        """(account, chain, asset, batch time)."""
        return (self.leaf.account_id, self.leaf.chain_id, self.leaf.asset, self.timestamp)

    @property
    def identity(self) -> tuple[object, ...]:
        """What it is, to the last figure."""
        leaf = self.leaf
        terms = (leaf.close_limit, leaf.mark_price, leaf.max_concession, leaf.auction_start, leaf.deposit_target)
        return (*self.key, *terms, leaf.counterparty)

    @property
    def accounts(self) -> tuple[AccountId, ...]:
        """Whom it counts against: the account it closes, and the counterparty it names."""
        other = self.leaf.counterparty
        return (self.leaf.account_id,) if other == ZERO32 else (self.leaf.account_id, AccountId(other))


LiveItem = PermitItem | LegItem
