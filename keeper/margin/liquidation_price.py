"""The price of an underlying at which an account falls below maintenance margin, solved on the whole account.

Everything of that underlying moves with it: the index, the forwards by the same fraction, and smiles stick to strikes;
nothing else moves. So a hedge on another chain, or in another instrument, is in it. What the owner's other accounts
hold of it counts as if it were linear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from keeper.market.marks import Marks
from keeper.state.batch import UNIT
from keeper.state.ids import is_token, parse_instrument

from .model import Floats, MarginModel
from .portfolio import Portfolio
from .valuation import EXACT, Valuation

_DOWN = np.geomspace(1.0, 0.01, 93)
_UP = np.geomspace(1.0, 10.0, 93)
"""Fractions of today's price that are looked at, in steps of 5 and 2.5 %; between two the crossing is bisected."""
_HALVINGS = 40


@dataclass(frozen=True, slots=True)
class LiquidationPrice:
    """USD; the nearest price below and above today's from which on equity is below maintenance margin.

    None where there is none between a hundredth and ten times today's; both today's where it is so already.
    """

    price: float
    below: float | None
    above: float | None


def liquidation_prices(portfolio: Portfolio, marks: Marks, model: MarginModel) -> dict[str, LiquidationPrice]:
    """By underlying, of all that the account has positions or collateral in."""
    valuation = Valuation.of(marks, model, portfolio.assets)
    by_underlying: dict[str, list[int]] = {}
    for row, asset in enumerate(valuation.assets):
        by_underlying.setdefault(model.underlying(asset), []).append(row)
    found = {}
    for name, rows in sorted(by_underlying.items()):
        price = marks.prices[name] / UNIT
        gaps = _gaps(portfolio, marks, valuation, name, rows)
        if gaps(np.array([1.0]))[0] < 0:
            found[name] = LiquidationPrice(price, price, price)
        else:
            below, above = (_crossing(gaps, factors) for factors in (_DOWN, _UP))
            found[name] = LiquidationPrice(
                price, None if below is None else below * price, None if above is None else above * price
            )
    return found


def moved(marks: Marks, name: str, factor: float) -> Marks:
    """Marks with one underlying's index and forwards times `factor`."""
    prices = {**marks.prices, name: max(1, round(marks.prices[name] * factor))}
    if name not in marks.curves:
        return replace(marks, prices=prices)
    curve = marks.curves[name]
    expiries = {at: replace(expiry, forward=expiry.forward * factor) for at, expiry in curve.expiries.items()}
    return replace(marks, prices=prices, curves={**marks.curves, name: replace(curve, expiries=expiries)})


def _gaps(
    portfolio: Portfolio, marks: Marks, valuation: Valuation, name: str, rows: Sequence[int]
) -> Callable[[Floats], Floats]:
    """Equity less maintenance margin, USD, as a function of fractions of today's price, shape (n,)."""
    held = [valuation.assets[row] for row in rows]
    reserved = portfolio.reserved / UNIT
    vector = valuation.scenario_pnl([portfolio])[0]
    equity = valuation.equity(portfolio) / (EXACT * UNIT)
    own = replace(
        portfolio,
        cash=0,
        positions={asset: size for asset, size in portfolio.positions.items() if asset in held},
        collateral={asset: amount for asset, amount in portfolio.collateral.items() if asset in held},
        elsewhere={name: portfolio.elsewhere.get(name, 0)},
    )
    if valuation.model.convex and all(is_token(asset) or not parse_instrument(asset).strike for asset in held):
        # Linear: rows and values are in proportion to the price. SPAN's quantities are not.
        part, worth = valuation.scenario_pnl([own])[0], valuation.equity(own) / (EXACT * UNIT)

        def linear(factors: Floats) -> Floats:
            vectors = vector[None, :] + (factors[:, None] - 1.0) * part[None, :]
            maintenance = valuation.scenarios.requirements(vectors)[1]
            return np.asarray(equity + (factors - 1.0) * worth - maintenance - reserved)

        return linear

    def priced(factors: Floats) -> Floats:
        found = []
        for factor in factors.tolist():
            there = Valuation.of(moved(marks, name, factor), valuation.model, valuation.assets)
            beside = {**portfolio.elsewhere, name: int(portfolio.elsewhere.get(name, 0) * factor)}
            vector = there.scenario_pnl([replace(portfolio, elsewhere=beside)])
            maintenance = float(there.scenarios.requirements(vector)[1][0])
            found.append(there.equity(portfolio) / (EXACT * UNIT) - maintenance - reserved)
        return np.array(found)

    return priced


def _crossing(gaps: Callable[[Floats], Floats], factors: Floats) -> float | None:
    """The first fraction from 1 on at which the gap is below zero."""
    bad = np.flatnonzero(gaps(factors) < 0)
    if not len(bad):
        return None
    fine, wrong = float(factors[bad[0] - 1]), float(factors[bad[0]])
    for _ in range(_HALVINGS):
        middle = (fine + wrong) / 2
        fine, wrong = (fine, middle) if gaps(np.array([middle]))[0] < 0 else (middle, wrong)
    return wrong
