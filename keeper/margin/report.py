"""Reports: what every account is worth, what it must hold, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keeper.market.marks import Marks
from keeper.state.batch import UNIT, MarkLeaf
from keeper.state.ids import AssetId, is_token, parse_instrument, parse_token
from keeper.state.world import MarginAccount

from .model import MarginModel, Part
from .portfolio import Portfolio
from .valuation import EXACT, Valuation, ceil_grain, ceil_usd, floor_grain


@dataclass(frozen=True, slots=True)
class AccountReport:
    """Figures of one margin account, USD 1e18, rounded to 1e-6 USD against it.

    Both margins include open reservations in full. `net_cash` is cash and mark to market; `gross_notional` the
    absolute value of every netted position and collateral amount.
    """

    account: MarginAccount
    equity: int
    initial_margin: int
    maintenance_margin: int
    reserved: int
    net_cash: int
    gross_notional: int

    @property
    def free(self) -> int:
        """What may be withdrawn, reserved or used for new risk; negative below initial margin."""
        return self.equity - self.initial_margin

    @property
    def status(self) -> str:
        if self.equity >= self.initial_margin:
            return "healthy"
        return "at_risk" if self.equity >= self.maintenance_margin else "liquidatable"

    def worse_than(self, other: AccountReport) -> bool:
        """Whether equity covers less of the maintenance margin than in `other`; by cross-multiplication."""
        return self.equity * other.maintenance_margin < other.equity * self.maintenance_margin


def evaluate(portfolios: Sequence[Portfolio], marks: Marks, model: MarginModel) -> list[AccountReport]:
    """A report for each portfolio, in the order given. Each report depends on its own portfolio alone.

    Raises:
        UnknownAsset: a portfolio holds what is not listed.
        MarkError: the marks have no price for something held.
    """
    valuation = Valuation.of(marks, model, (asset for p in portfolios for asset in p.assets))
    return evaluate_at(portfolios, valuation)


def evaluate_at(portfolios: Sequence[Portfolio], valuation: Valuation) -> list[AccountReport]:
    """As `evaluate`, at marks already applied to everything held."""
    initial, maintenance = valuation.scenarios.requirements(valuation.scenario_pnl(portfolios))
    return [
        _report(p, valuation, float(im), float(mm)) for p, im, mm in zip(portfolios, initial, maintenance, strict=True)
    ]


def _report(p: Portfolio, valuation: Valuation, initial: float, maintenance: float) -> AccountReport:
    reserved = ceil_grain(p.reserved * EXACT)
    return AccountReport(
        account=p.account,
        equity=floor_grain(valuation.equity(p)),
        initial_margin=ceil_usd(initial) + reserved,
        maintenance_margin=ceil_usd(maintenance) + reserved,
        reserved=reserved,
        net_cash=floor_grain(valuation.net_cash(p)),
        gross_notional=ceil_grain(valuation.gross_notional(p)),
    )


def mark_leaves(marks: Marks, model: MarginModel, assets: Sequence[AssetId]) -> list[MarkLeaf]:
    """A leaf per asset, in the order given, with the standalone initial margin of a whole unit held long and short.

    For a token the long requirement is its haircut times the price plus its own scenario loss, the short one the
    scenario loss of owing it. Rounded up to 1e-6 USD.
    """
    scenarios = model.scenarios(marks, assets)
    long, _ = scenarios.requirements(scenarios.pnl)
    short, _ = scenarios.requirements(-scenarios.pnl)
    leaves = []
    for row, asset in enumerate(assets):
        price = model.price(asset, marks)
        haircut = ceil_grain(price * model.haircut(asset) * UNIT)
        leaves.append(MarkLeaf(asset, price, 0, haircut + ceil_usd(float(long[row])), ceil_usd(float(short[row]))))
    return leaves


def explain(
    portfolio: Portfolio, marks: Marks, model: MarginModel, pieces: Mapping[str, Portfolio] | None = None
) -> dict[str, Any]:
    """Why an account must hold what it must hold, JSON-ready; USD as numbers.

    Equity by part; each term of the requirement with the scenario that sets it and the account's profit or loss by
    underlying in that scenario; the netting benefit: what the pieces (by default each position and each collateral
    amount) would require standing alone, in sum, less what the whole requires.
    """
    report = evaluate([portfolio], marks, model)[0]
    valuation = Valuation.of(marks, model, portfolio.assets)
    if pieces is None:
        pieces = {describe(asset, portfolio.amount(asset)): _alone(portfolio, asset) for asset in portfolio.assets}
    standalone = dict(zip(pieces, evaluate(list(pieces.values()), marks, model), strict=True))
    required = report.initial_margin - report.reserved
    alone = sum(r.initial_margin - r.reserved for r in standalone.values())
    whole = valuation.scenario_pnl([portfolio])[0]
    parts = [part for part in valuation.scenarios.parts(whole) if part.requirement.initial > 0]
    terms = [
        {
            "term": part.block,
            "scenario": part.scenario,
            "pnl": part.pnl,
            "initial": part.requirement.initial,
            "maintenance": part.requirement.maintenance,
            "byPosition": _by_position(portfolio, valuation, part),
        }
        for part in parts
    ]
    return {
        "model": model.name,
        "status": report.status,
        "equity": {
            "total": report.equity / UNIT,
            "cash": portfolio.cash / UNIT,
            "markToMarket": sum(
                (size * valuation.prices[asset] / UNIT / UNIT for asset, size in portfolio.positions.items()), 0.0
            ),
            "collateral": sum(
                (amount * valuation.credits[asset] / EXACT / UNIT for asset, amount in portfolio.collateral.items()),
                0.0,
            ),
        },
        "initialMargin": report.initial_margin / UNIT,
        "maintenanceMargin": report.maintenance_margin / UNIT,
        "free": report.free / UNIT,
        "reserved": report.reserved / UNIT,
        "terms": terms,
        "binding": max(parts, key=lambda part: part.requirement.initial).scenario if parts else None,
        "netting": {
            "standalone": {name: (r.initial_margin - r.reserved) / UNIT for name, r in standalone.items()},
            "standaloneSum": alone / UNIT,
            "portfolio": required / UNIT,
            "benefit": (alone - required) / UNIT,
        },
    }


def describe(asset: AssetId, amount: int) -> str:
    """An amount of an asset in words."""
    if is_token(asset):
        chain_id, token = parse_token(asset)
        return f"{amount / UNIT:g} of token 0x{token.hex()} on chain {chain_id}"
    instrument = parse_instrument(asset)
    return f"{amount / UNIT:+g} {instrument.underlying} {instrument.kind.name.lower()}"


def _alone(portfolio: Portfolio, asset: AssetId) -> Portfolio:
    held = {asset: portfolio.amount(asset)}
    positions, collateral = ({}, held) if is_token(asset) else (held, {})
    return Portfolio(portfolio.account, 0, positions, collateral)


def _by_position(portfolio: Portfolio, valuation: Valuation, part: Part) -> dict[str, float]:
    gains = sum((valuation.pnl[:, column] * weight for column, weight in part.columns), np.zeros(len(valuation.assets)))
    return {
        describe(asset, portfolio.amount(asset)): portfolio.amount(asset) / UNIT * float(gains[row])
        for row, asset in enumerate(valuation.assets)
        if gains[row]
    }
