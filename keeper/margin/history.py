"""Filtered historical scenarios, and the expected shortfall over them.

Every past return is divided by the volatility of its own time and multiplied by today's (J. Hull and A. White,
Incorporating volatility updating into the historical simulation method, Journal of Risk 1, 1998), so that requirements
follow the market; beside them stand the days of the worst stretch as they were, so that they do not fall too far in
quiet times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .parameters import BASIS, History
from .returns import Returns

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Moves:
    """Log moves over the horizon, shape (scenarios, underlyings), of spots and of 30-day at-the-money vols."""

    spot: Floats
    vol: Floats
    dates: tuple[str, ...]


def filtered(returns: Returns, underlyings: Sequence[str], parameters: History) -> Moves:
    """The last `days` returns, rescaled to today's volatility, over the horizon: × √horizon."""
    pick = [returns.underlyings.index(name) for name in underlyings]
    root = math.sqrt(parameters.horizon)
    spot, vol = (
        _rescaled(series[:, pick], parameters)[-parameters.days :] * root for series in (returns.spot, returns.vol)
    )
    return Moves(spot, vol, returns.dates[-parameters.days :])


def stressed(returns: Returns, underlyings: Sequence[str], parameters: History) -> Moves:
    """The `stress_days` in a row in which spots moved most, as they were, over the horizon: × √horizon.

    Moved most: the greatest mean square return, each underlying's relative to its own over all days, over all
    underlyings of the series, so that the days do not depend on who asks.
    """
    pick = [returns.underlyings.index(name) for name in underlyings]
    squares = returns.spot**2
    relative = (squares / np.maximum(squares.mean(axis=0), 1e-18)).mean(axis=1)
    sums = np.convolve(relative, np.ones(parameters.stress_days), mode="valid")
    start = int(sums.argmax())
    days = slice(start, start + parameters.stress_days)
    root = math.sqrt(parameters.horizon)
    return Moves(returns.spot[days][:, pick] * root, returns.vol[days][:, pick] * root, returns.dates[days])


def tail_of(count: int, confidence: int) -> tuple[int, float]:
    """How many of `count` outcomes are in the tail: whole ones, and the share of the next. 500 at 97.5 %: 12 and ½."""
    mass = count * (BASIS - confidence)
    whole = mass // BASIS
    return whole, (mass - whole * BASIS) / BASIS


def expected_shortfall(pnl: ArrayLike, confidence: int = 9750) -> float:
    """Mean loss in the worst 1 − confidence of the outcomes, a positive number where they lose on average.

    Sign: `pnl` are profits (+) and losses (−), equally likely; the result is minus the mean of the lowest. Tail:
    n · (1 − confidence) outcomes, the last of them in part: (Σ of the worst whole ones + share × the next) ÷
    that number. So it is coherent for every n (C. Acerbi and D. Tasche, On the coherence of expected shortfall, Journal
    of Banking & Finance 26, 2002). For the other tail, that of a short, give −pnl. `confidence` in basis points.
    """
    ordered = np.sort(np.asarray(pnl, dtype=float).ravel())
    whole, share = tail_of(len(ordered), confidence)
    rest = share * float(ordered[whole]) if share else 0.0
    return -(float(np.cumsum(ordered[:whole])[-1]) + rest if whole else rest) / (whole + share)


def value_at_risk(pnl: ArrayLike, confidence: int = 9750) -> float:
    """The least loss in the same tail: minus the ⌈n · (1 − confidence)⌉-th lowest outcome (at least the first)."""
    ordered = np.sort(np.asarray(pnl, dtype=float).ravel())
    whole, share = tail_of(len(ordered), confidence)
    return -float(ordered[max(whole + (share > 0) - 1, 0)])


def _rescaled(returns: Floats, parameters: History) -> Floats:
    """Each return × clip(volatility after the last day ÷ volatility before its own day)."""
    seed = parameters.seed_days
    decay = parameters.decay / BASIS
    variance = np.mean(returns[:seed] ** 2, axis=0)
    before = np.empty_like(returns)
    for day, moved in enumerate(returns):
        before[day] = variance
        if day >= seed:
            variance = decay * variance + (1 - decay) * moved**2
    ratio = np.sqrt(variance / np.maximum(before, 1e-18))
    clipped = np.clip(ratio, parameters.least_ratio / BASIS, parameters.most_ratio / BASIS)
    return np.asarray(returns * clipped, dtype=float)
