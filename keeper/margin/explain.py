"""Why an account must hold what it must hold, and what would help: the same figures that enforce, taken apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from keeper.market.marks import Marks
from keeper.state.batch import UNIT
from keeper.state.ids import AssetId, is_token, parse_instrument, parse_token

from .liquidation_price import liquidation_prices
from .model import Floats, MarginModel, Part
from .names import name_of
from .portfolio import Portfolio
from .report import AccountReport, evaluate, evaluate_at
from .valuation import EXACT, Valuation

_HALVINGS = 30


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
    parts = _parts(portfolio, valuation)
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
        "binding": binding(portfolio, valuation),
        "netting": netting(portfolio, marks, model, pieces),
        "liquidationPrices": {
            name: asdict(found) for name, found in liquidation_prices(portfolio, marks, model).items()
        },
    }


def binding(portfolio: Portfolio, valuation: Valuation) -> str | None:
    """The scenario of the term that requires most; None where nothing is required."""
    parts = _parts(portfolio, valuation)
    return max(parts, key=lambda part: part.requirement.initial).scenario if parts else None


def _parts(portfolio: Portfolio, valuation: Valuation) -> list[Part]:
    whole = valuation.scenario_pnl([portfolio])[0]
    return [part for part in valuation.scenarios.parts(whole) if part.requirement.initial > 0]


def explain_fully(
    portfolio: Portfolio, marks: Marks, model: MarginModel, pieces: Mapping[str, Mapping[str, Portfolio]]
) -> dict[str, Any]:
    """As `explain`, with every scenario by underlying, the netting benefit by each way of splitting in `pieces`, and
    what would bring the account back to health."""
    valuation = Valuation.of(marks, model, portfolio.assets)
    return explain(portfolio, marks, model) | {
        "scenarios": scenario_table(portfolio, valuation),
        "nettingBy": {way: netting(portfolio, marks, model, parts) for way, parts in pieces.items()},
        "cure": cure(portfolio, valuation),
    }


def netting(portfolio: Portfolio, marks: Marks, model: MarginModel, pieces: Mapping[str, Portfolio]) -> dict[str, Any]:
    """What the pieces would require standing alone, in sum, and how much less the whole requires. USD."""
    report = evaluate([portfolio], marks, model)[0]
    required = report.initial_margin - report.reserved
    standalone = dict(zip(pieces, evaluate(list(pieces.values()), marks, model), strict=True))
    alone = sum(r.initial_margin - r.reserved for r in standalone.values())
    return {
        "standalone": {name: (r.initial_margin - r.reserved) / UNIT for name, r in standalone.items()},
        "standaloneSum": alone / UNIT,
        "portfolio": required / UNIT,
        "benefit": (alone - required) / UNIT,
        "efficiency": alone / required if required else None,
    }


def scenario_table(portfolio: Portfolio, valuation: Valuation) -> list[dict[str, Any]]:
    """Every column that is a profit or loss in a scenario, with the part of each underlying, USD."""
    scenarios = valuation.scenarios
    by_underlying: dict[str, Floats] = {}
    for row, asset in enumerate(valuation.assets):
        gains = portfolio.amount(asset) / UNIT * valuation.pnl[row]
        name = valuation.model.underlying(asset)
        by_underlying[name] = by_underlying.get(name, np.zeros(len(gains))) + gains
    total = valuation.scenario_pnl([portfolio])[0]
    return [
        {
            "block": label.block,
            "move": label.move,
            "pnl": float(total[column]),
            "byUnderlying": {name: float(gains[column]) for name, gains in by_underlying.items()},
        }
        for column, label in enumerate(scenarios.labels[: scenarios.profits])
    ]


def cure(portfolio: Portfolio, valuation: Valuation) -> dict[str, Any]:
    """What would bring equity to initial margin: cash, or closing a part of one position at its mark. USD, and sizes.

    Of positions those that can do it alone, each with the least size that does.
    """
    report = evaluate_at([portfolio], valuation)[0]
    missing = max(0, -report.free)
    closing = []
    if missing:
        for asset, size in portfolio.positions.items():
            share = _least_share(portfolio, valuation, asset)
            if share is not None:
                closing.append({"position": describe(asset, size), "close": share * abs(size) / UNIT, "share": share})
    return {
        "cashToInitialMargin": missing / UNIT,
        "cashToMaintenanceMargin": max(0, report.maintenance_margin - report.equity) / UNIT,
        "closing": sorted(closing, key=lambda entry: float(str(entry["share"]))),
    }


def _least_share(portfolio: Portfolio, valuation: Valuation, asset: AssetId) -> float | None:
    """The least share of a position whose closing at the mark restores initial margin; None where none does."""

    def closed(share: float) -> AccountReport:
        gone = int(portfolio.positions[asset] * share)
        cash = portfolio.cash + gone * valuation.prices[asset] // UNIT
        positions = {**portfolio.positions, asset: portfolio.positions[asset] - gone}
        return evaluate_at([replace(portfolio, cash=cash, positions=positions)], valuation)[0]

    # Requirements are convex in the share, so where free margin is greatest is found first.
    shares = np.linspace(0.0, 1.0, 65)
    free = [closed(float(share)).free for share in shares]
    good = [i for i, value in enumerate(free) if value >= 0]
    if not good:
        return None
    low, high = (float(shares[good[0] - 1]) if good[0] else 0.0), float(shares[good[0]])
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if closed(middle).free >= 0 else (middle, high)
    return high


def describe(asset: AssetId, amount: int) -> str:
    """An amount of an asset in words."""
    if is_token(asset):
        chain_id, token = parse_token(asset)
        return f"{amount / UNIT:g} of token 0x{token.hex()} on chain {chain_id}"
    instrument = parse_instrument(asset)
    name = name_of(asset) if instrument.expiry else f"{instrument.underlying} perpetual"
    return f"{amount / UNIT:+g} {name}"


def _alone(portfolio: Portfolio, asset: AssetId) -> Portfolio:
    held = {asset: portfolio.amount(asset)}
    positions, collateral = ({}, held) if is_token(asset) else (held, {})
    return Portfolio(portfolio.account, 0, positions, collateral, elsewhere=portfolio.elsewhere)


def _by_position(portfolio: Portfolio, valuation: Valuation, part: Part) -> dict[str, float]:
    gains = sum((valuation.pnl[:, column] * weight for column, weight in part.columns), np.zeros(len(valuation.assets)))
    return {
        describe(asset, portfolio.amount(asset)): portfolio.amount(asset) / UNIT * float(gains[row])
        for row, asset in enumerate(valuation.assets)
        if gains[row]
    }
