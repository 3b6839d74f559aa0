"""What an account's margin would be after trades and transfers: the same function on the changed book."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from keeper.market.marks import Marks
from keeper.state.batch import UNIT
from keeper.state.ids import AssetId, is_token

from .model import MarginModel
from .portfolio import Portfolio
from .report import AccountReport, evaluate_at
from .valuation import Valuation


@dataclass(frozen=True, slots=True)
class Trade:
    """Buys `size` of an instrument where positive, sells where negative, at `price` with `fee`. Scaled by 1e18."""

    asset: AssetId
    size: int
    price: int
    fee: int = 0


@dataclass(frozen=True, slots=True)
class Transfer:
    """Cash, or a collateral token where `asset` is given, that comes in where positive. Scaled by 1e18."""

    amount: int
    asset: AssetId | None = None


@dataclass(frozen=True, slots=True)
class Reserve:
    """Margin set aside for an integrator, `cash_part` of it claimable at once, USD 1e18."""

    amount: int
    cash_part: int = 0


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The account as it is, and as it would be."""

    before: AccountReport
    after: AccountReport

    @property
    def change_of_free(self) -> int:
        """Free margin gained, USD 1e18."""
        return self.after.free - self.before.free


@dataclass(frozen=True, slots=True)
class _Change:
    cash: int = 0
    positions: Mapping[AssetId, int] = field(default_factory=dict)
    collateral: Mapping[AssetId, int] = field(default_factory=dict)
    reserved: int = 0
    cash_part: int = 0
    elsewhere: Mapping[str, int] = field(default_factory=dict)
    funding: int = 0


def changed(
    portfolio: Portfolio,
    trades: Sequence[Trade] = (),
    transfers: Sequence[Transfer] = (),
    funding: Mapping[AssetId, int] | None = None,
    reserves: Sequence[Reserve] = (),
) -> Portfolio:
    """The book after trades, transfers and reservations; what is paid is rounded against the account.

    `funding` are the cumulative indexes at which new positions begin, USD 1e18 per unit; none where left out.
    """
    indexes = funding or {}
    for trade in trades:
        paid = (-trade.size * trade.price) // UNIT - trade.fee
        begun = trade.size * indexes.get(trade.asset, 0)
        portfolio = portfolio.plus(_Change(cash=paid, positions={trade.asset: trade.size}, funding=begun))
    for transfer in transfers:
        if transfer.asset is None:
            portfolio = portfolio.plus(_Change(cash=transfer.amount))
        else:
            held = {transfer.asset: transfer.amount}
            token = is_token(transfer.asset)
            begun = 0 if token else transfer.amount * indexes.get(transfer.asset, 0)
            change = _Change(collateral=held) if token else _Change(positions=held, funding=begun)
            portfolio = portfolio.plus(change)
    for reserve in reserves:
        portfolio = portfolio.plus(_Change(reserved=reserve.amount, cash_part=reserve.cash_part))
    return portfolio


def whatif(
    portfolio: Portfolio,
    marks: Marks,
    model: MarginModel,
    trades: Sequence[Trade] = (),
    transfers: Sequence[Transfer] = (),
    priced: Valuation | None = None,
    reserves: Sequence[Reserve] = (),
) -> WhatIf:
    """Both reports at one set of marks. `priced`, if it has everything held before and after, saves pricing it again.

    Raises:
        UnknownAsset, MarkError: as `evaluate`.
    """
    after = changed(portfolio, trades, transfers, marks.funding, reserves)
    wanted = {*portfolio.assets, *after.assets}
    if priced is None or not wanted <= set(priced.assets):
        priced = Valuation.of(marks, model, wanted)
    return WhatIf(*evaluate_at([portfolio, after], priced))
