"""One set of marks applied to holdings: exact equity, and scenario profit and loss.

Equity is summed in integers of 1 / EXACT of 1e-18 USD, in which it is linear without any rounding. Only the scenario
products are in floating point, accumulated asset by asset in ascending order, so that an account's figures do not
depend on which other accounts are computed beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

import numpy as np

from keeper.market.marks import Marks
from keeper.state.batch import UNIT
from keeper.state.ids import AssetId

from .model import Floats, MarginModel, Scenarios
from .parameters import BASIS

EXACT = UNIT * BASIS
"""Denominator of exact equity, whose quotient is in USD 1e18."""

GRAIN = 10**12
"""1e-6 USD: what figures are rounded to, against the account."""


class Holdings(Protocol):
    """Anything with cash, positions and collateral: a portfolio, or what an act adds to one. All scaled by 1e18, but
    `funding`, Σ size × the index its funding is booked up to, by 1e36."""

    @property
    def cash(self) -> int: ...
    @property
    def positions(self) -> Mapping[AssetId, int]: ...
    @property
    def collateral(self) -> Mapping[AssetId, int]: ...
    @property
    def funding(self) -> int: ...
    @property
    def elsewhere(self) -> Mapping[str, int]:
        """USD 1e18 that the owner's other accounts hold of an underlying."""
        ...


@dataclass(frozen=True)
class Valuation:
    """`prices` in USD 1e18, `credits` the price after the haircut in USD 1e18 · BASIS, `funding` the cumulative index
    of perpetuals, USD 1e18 per unit."""

    model: MarginModel
    scenarios: Scenarios
    prices: Mapping[AssetId, int]
    credits: Mapping[AssetId, int]
    funding: Mapping[AssetId, int] = field(default_factory=dict)

    @property
    def assets(self) -> tuple[AssetId, ...]:
        """Ascending."""
        return self.scenarios.assets

    @property
    def pnl(self) -> Floats:
        """Shape (assets, S)."""
        return self.scenarios.pnl

    @classmethod
    def of(cls, marks: Marks, model: MarginModel, assets: Iterable[AssetId]) -> Valuation:
        """Price each asset once; the same marks, model and assets again give the same valuation.

        A batch asks for the same account many times: planned, checked, weighed against what is live.

        Raises:
            UnknownAsset: an asset is not listed.
            MarkError: an asset's underlying has no mark.
        """
        ordered = tuple(sorted(set(assets)))
        key = (id(marks), id(model), ordered)
        known = _recent.get(key)
        if known is None:
            known = (marks, model, cls._made(marks, model, ordered))
            with _remembering:
                _recent[key] = known
                while len(_recent) > _REMEMBERED:
                    del _recent[next(iter(_recent))]
        return known[2]

    @classmethod
    def _made(cls, marks: Marks, model: MarginModel, ordered: tuple[AssetId, ...]) -> Valuation:
        scenarios = model.scenarios(marks, ordered)
        prices = dict(zip(ordered, scenarios.prices, strict=True))
        return cls(
            model,
            scenarios,
            prices,
            {asset: price * (BASIS - model.haircut(asset)) for asset, price in prices.items()},
            {asset: index for asset in ordered if (index := marks.funding.get(asset, 0))},
        )

    def equity(self, holdings: Holdings) -> int:
        """Cash, mark to market and haircut collateral, exact: USD 1e18 · EXACT. Linear in the holdings."""
        return self.net_cash(holdings) + sum(
            amount * self.credits[asset] for asset, amount in holdings.collateral.items()
        )

    def net_cash(self, holdings: Holdings) -> int:
        """Cash and mark to market with what is accrued of funding, exact: USD 1e18 · EXACT.

        Funding accrues to the marks' index, whatever the chains have booked.
        """
        marked = sum(
            size * (self.prices[asset] - self.funding.get(asset, 0)) for asset, size in holdings.positions.items()
        )
        return (holdings.cash * UNIT + marked + holdings.funding) * BASIS

    def gross_notional(self, holdings: Holdings) -> int:
        """Absolute value of every position and collateral amount, exact: USD 1e18 · EXACT."""
        sides = (*holdings.positions.items(), *holdings.collateral.items())
        return sum(abs(amount) * self.prices[asset] for asset, amount in sides) * BASIS

    def scenario_pnl(self, holdings: Sequence[Holdings]) -> Floats:
        """Profit and loss of each in every scenario, shape (len(holdings), S), USD."""
        total = self._sums(holdings, self.pnl)
        for i, h in enumerate(holdings):
            for name, others in h.elsewhere.items():
                if name in self.scenarios.elsewhere:
                    total[i, self.scenarios.elsewhere[name]] -= others / UNIT
        return total

    def net_deltas(self, holdings: Sequence[Holdings]) -> Floats:
        """Net delta of each by underlying, in the order of the scenarios' `held`, shape (len(holdings), U), USD."""
        return self._sums(holdings, self.pnl[:, list(self.scenarios.held.values())])

    def _sums(self, holdings: Sequence[Holdings], rows: Floats) -> Floats:
        """Σ amount · row, asset by asset in ascending order, shape (len(holdings), columns)."""
        total = np.zeros((len(holdings), rows.shape[1]))
        held: dict[AssetId, dict[int, int]] = {}
        for i, h in enumerate(holdings):
            for amounts in (h.positions, h.collateral):
                for asset, amount in amounts.items():
                    of_asset = held.setdefault(asset, {})
                    of_asset[i] = of_asset.get(i, 0) + amount
        for row, asset in enumerate(self.assets):
            if asset in held:
                sizes = np.array([amount / UNIT for amount in held[asset].values()])
                total[list(held[asset])] += sizes[:, None] * rows[row]
        return total


def floor_grain(exact: int) -> int:
    """USD 1e18 · EXACT to USD 1e18, rounded down to 1e-6 USD."""
    return exact // (EXACT * GRAIN) * GRAIN


def ceil_grain(exact: int) -> int:
    """USD 1e18 · EXACT to USD 1e18, rounded up to 1e-6 USD."""
    return -floor_grain(-exact)


def ceil_usd(usd: float) -> int:
    """USD as a double to USD 1e18, rounded up to 1e-6 USD.

    Raises:
        OverflowError, ValueError: for what is no finite number.
    """
    return math.ceil(usd * 1e6) * GRAIN


def floor_usd(usd: float) -> int:
    """As `ceil_usd`, rounded down."""
    return math.floor(usd * 1e6) * GRAIN


_REMEMBERED = 256
_remembering = Lock()
_recent: dict[tuple[int, int, tuple[AssetId, ...]], tuple[Marks, MarginModel, Valuation]] = {}
"""The newest valuations; marks and model are held, so that an id names one object while its entry is there."""
