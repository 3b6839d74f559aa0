"""Prices: a path from outside, and what forced sales add to it by the square-root law.

Impact of a quantity Q against a daily volume V, with σ the daily volatility:

    ΔP ÷ P = Y · σ · √(Q ÷ V),        Y about 1

(B. Tóth et al., Anomalous price impact and the critical nature of liquidity in financial markets, Physical Review X 1,
2011; for Bitcoin, over four decades of Q and while an order is still being executed: J. Donier and J. Bonart, A million
metaorder analysis of market impact on the Bitcoin, Market Microstructure and Liquidity 1, 2015.) It holds for the sum
of an order, however it is cut; so a state X, what was sold and bought and is not forgotten yet, moves the price:

    X ← X · exp(−Δt ÷ τ) + q,        C ← C + q
    I = Y · σ · [(1 − φ) · sign(X) · √(|X| ÷ V) + φ · sign(C) · √(|C| ÷ V)]
    P = P_path · exp(I)

Sales without information, as forced ones are, leave little behind in the end (Donier and Bonart, section 5): φ is
small. A fill pays the mean of I between the state before it and after it, (2/3) · |X|^1.5 being the integral of √.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keeper.margin.history import stressed
from keeper.margin.parameters import MarginParameters, ParameterError

from .settings import Rules, Scene, SettingsError

Floats = NDArray[np.float64]

_DAY = 86_400.0
_STREAM = 2
"""Of the random numbers: the population has another."""


def volatility(parameters: MarginParameters, names: tuple[str, ...]) -> Floats:
    """Daily volatility of the worst stretch that margins remember: what impact and noise are measured in.

    Raises ParameterError where the parameters have no returns.
    """
    if parameters.returns is None:
        raise ParameterError("a simulation takes volatility from the past, and these parameters have no returns")
    moves = stressed(parameters.returns, names, parameters.history).spot
    return np.asarray(moves.std(axis=0) / np.sqrt(parameters.history.horizon))


def path(scene: Scene, names: tuple[str, ...], start: Floats, sigma: Floats) -> Floats:
    """Prices without any sale, shape (blocks + 1, underlyings).

    Calm for a twelfth of the time, then the shock within a sixth, evenly in logs; from the middle on `rebound` of it is
    gained back. Noise of the volatility lies upon it.

    Raises:
        SettingsError: a shock of something that is not there.
    """
    for name, _ in scene.shocks:
        if name not in names:
            raise SettingsError(f"shock of {name}: there are {', '.join(names)}")
    random = np.random.default_rng([scene.seed, _STREAM])
    steps = scene.blocks
    common = random.standard_normal((steps, 1))
    own = random.standard_normal((steps, len(names)))
    noise = np.sqrt(scene.correlation) * common + np.sqrt(1 - scene.correlation) * own
    walk = np.vstack((np.zeros(len(names)), np.cumsum(noise, axis=0)))
    walk *= sigma * np.sqrt(scene.block_seconds / _DAY)
    at = np.arange(steps + 1) / steps
    fallen = np.clip((at - 1 / 12) * 6, 0, 1) - scene.rebound * np.clip((at - 0.5) * 2, 0, 1)
    moves = np.full(len(names), scene.correlation * np.log1p(scene.shocks[0][1]))
    for name, move in scene.shocks:
        moves[names.index(name)] = np.log1p(move)
    return np.asarray(start * np.exp(walk + fallen[:, None] * moves))


class Impact:
    """What sales have done to the prices so far. Flows in USD, what is bought positive."""

    def __init__(self, rules: Rules, block_seconds: float, sigma: Floats, volume: Floats) -> None:
        """`volume` in USD a day."""
        self.scale = rules.impact * sigma
        self.volume = volume
        self._permanent = rules.permanent
        self._kept = float(np.exp(-block_seconds / (60 * rules.relax_minutes)))
        self._remembered = np.zeros(len(sigma))
        self._ever = np.zeros(len(sigma))

    def decay(self) -> None:
        """One block passes."""
        self._remembered *= self._kept

    @property
    def log(self) -> Floats:
        """I, of every underlying."""
        return self.scale * (
            (1 - self._permanent) * _root(self._remembered / self.volume)
            + self._permanent * _root(self._ever / self.volume)
        )

    def mean(self, flow: Floats) -> Floats:
        """The mean of I while `flow` is executed; I itself where nothing flows."""
        return self.scale * (
            (1 - self._permanent) * _mean_root(self._remembered / self.volume, flow / self.volume)
            + self._permanent * _mean_root(self._ever / self.volume, flow / self.volume)
        )

    def add(self, flow: Floats) -> None:
        self._remembered += flow
        self._ever += flow


def _root(x: Floats) -> Floats:
    return np.asarray(np.sign(x) * np.sqrt(np.abs(x)))


def _mean_root(start: Floats, flow: Floats) -> Floats:
    """Mean of sign · √ between start and start + flow."""
    moved = np.abs(flow) > 1e-9  # below, the difference would be rounding
    safe = np.where(moved, flow, 1.0)
    mean = 2 / 3 * (np.abs(start + flow) ** 1.5 - np.abs(start) ** 1.5) / safe
    return np.where(moved, mean, _root(start))
