"""Legs as they are planned, and the leaves that are signed of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from keeper.state.batch import UNIT, LiquidationLeaf

from .sale import Offered, Sale, Setting, deposit_target

_EXCESS = 100
"""A leg may be larger than what is wanted by one part in so many."""


@dataclass(frozen=True, slots=True)
class Leg:
    """`size` (unsigned) of a position at a worst `concession` a unit, with the flat `fee` of a full fill. USD 1e18."""

    position: Offered
    size: int
    concession: int
    fee: int

    @property
    def cost(self) -> int:
        """What a full fill loses against the mark at the worst price, rounded up."""
        return -(-self.size * self.concession // UNIT) + self.fee


@dataclass(frozen=True, slots=True)
class Plan:
    """Legs, and what the account would be with all of them filled at their worst: USD, as doubles."""

    legs: tuple[Leg, ...]
    equity: float
    initial: float
    maintenance: float
    restores: bool

    @property
    def cost(self) -> int:
        return sum(leg.cost for leg in self.legs)


def smaller(leg: Leg) -> Leg | None:
    """The same leg of a hundredth, and a lot, less; None where nothing is left."""
    size = (leg.size - leg.size // _EXCESS - leg.position.lot) // leg.position.lot * leg.position.lot
    return replace(leg, size=size) if size > 0 else None


def leaves_of(plan: Plan, sale: Sale, setting: Setting, auction_start: int) -> list[LiquidationLeaf]:
    """The plan as it is signed: limits are cumulative (CM-40), the auction starts no later than the batch."""
    account_id = sale.portfolio.account.account_id
    return [
        LiquidationLeaf(
            account_id=account_id,
            chain_id=leg.position.chain_id,
            asset=leg.position.asset,
            close_limit=leg.position.side * (leg.position.closed + leg.size),
            mark_price=sale.valuation.prices[leg.position.asset] + leg.position.side * leg.position.terms.gain,
            max_concession=leg.concession,
            auction_start=min(auction_start, setting.timestamp),
            deposit_target=deposit_target(sale, leg.position.chain_id, setting),
            counterparty=leg.position.terms.counterparty,
        )
        for leg in plan.legs
    ]
