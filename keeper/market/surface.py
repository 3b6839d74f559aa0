"""Implied volatility: one slice per expiry, as SVI or as at-the-money vol with skew, and where it admits arbitrage.

SVI is the raw parametrisation of total implied variance by log-moneyness k = ln(strike ÷ forward),

    w(k) = a + b · (ρ · (k − m) + √((k − m)² + σ²)),        vol(k) = √(w(k) ÷ years)

(J. Gatheral and A. Jacquier, Arbitrage-free SVI volatility surfaces, Quantitative Finance 14, 2014). A surface that
admits arbitrage is used nevertheless, since margins must be computed, but it is told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

YEAR = 365 * 86_400
"""Seconds in a year of option time."""

_LEAST_VOL = 0.01
_LEAST_YEARS = 1 / 365 / 24
"""An hour: the time at which a variance is turned into a vol no shorter."""

_CHECKED = np.linspace(-1.5, 1.5, 121)
"""Log-moneyness at which arbitrage is looked for."""


class SurfaceError(ValueError):
    """A slice that is no vol; the message names the field and the value."""


class VolSlice(Protocol):
    """The smile of one expiry."""

    def vol(self, moneyness: ArrayLike, years: float) -> NDArray[np.float64]:
        """Implied vol per year at log-moneyness ln(strike ÷ forward), of its shape, at least 0.01."""
        ...


@dataclass(frozen=True, slots=True)
class Svi:
    """Raw SVI of total variance. Raises SurfaceError unless b ≥ 0, |ρ| < 1, σ > 0 and the least variance is ≥ 0."""

    a: float
    b: float
    rho: float
    m: float
    sigma: float

    def __post_init__(self) -> None:
        _finite(self)
        if self.b < 0 or not abs(self.rho) < 1 or self.sigma <= 0:
            raise SurfaceError(f"SVI wants b ≥ 0, |rho| < 1, sigma > 0, got {_written(self)}")
        if (least := self.a + self.b * self.sigma * math.sqrt(1 - self.rho * self.rho)) < 0:
            raise SurfaceError(f"SVI whose least total variance is {least:g}, wanted at least 0: {_written(self)}")

    def vol(self, moneyness: ArrayLike, years: float) -> NDArray[np.float64]:
        x = np.asarray(moneyness, dtype=float) - self.m
        variance = self.a + self.b * (self.rho * x + np.sqrt(x * x + self.sigma * self.sigma))
        vol = np.sqrt(np.maximum(variance, 0.0) / max(years, _LEAST_YEARS))
        return np.asarray(np.maximum(vol, _LEAST_VOL), dtype=float)


@dataclass(frozen=True, slots=True)
class AtmSkew:
    """vol(k) = atm + skew · k + convexity · k², per year; raises SurfaceError unless atm > 0 and convexity ≥ 0."""

    atm: float
    skew: float = 0.0
    convexity: float = 0.0

    def __post_init__(self) -> None:
        _finite(self)
        if self.atm <= 0 or self.convexity < 0:
            raise SurfaceError(f"at-the-money vol with skew wants atm > 0 and convexity ≥ 0, got {_written(self)}")

    def vol(self, moneyness: ArrayLike, years: float) -> NDArray[np.float64]:
        k = np.asarray(moneyness, dtype=float)
        vol = self.atm + self.skew * k + self.convexity * k * k
        return np.asarray(np.maximum(vol, _LEAST_VOL), dtype=float)


def arbitrage(slices: Mapping[int, VolSlice], time: int) -> list[str]:
    """Where the slices, by expiry in unix seconds, admit arbitrage at `time`; empty where nowhere was found.

    Butterflies: the density g(k) = (1 − k·w′ ÷ 2w)² − w′²/4 · (1/w + 1/4) + w″/2 must not be negative. Wings: total
    variance may not grow faster than 2 |k| (R. Lee, The moment formula, 2004). Calendars: at every k total variance
    may not fall with time. Looked for at |k| ≤ 1.5.
    """
    found: list[str] = []
    before: tuple[int, NDArray[np.float64]] | None = None
    for expiry, smile in sorted(slices.items()):
        years = max(expiry - time, 0) / YEAR
        if years <= 0:
            continue
        variance = _variance(smile, _CHECKED, years)
        step = 1e-4
        up, down = _variance(smile, _CHECKED + step, years), _variance(smile, _CHECKED - step, years)
        slope, curve = (up - down) / (2 * step), (up - 2 * variance + down) / (step * step)
        density = (1 - _CHECKED * slope / (2 * variance)) ** 2 - slope**2 / 4 * (1 / variance + 0.25) + curve / 2
        if density.min() < -1e-6:
            at = float(_CHECKED[density.argmin()])
            found.append(f"expiry {expiry}: butterfly arbitrage at log-moneyness {at:+.2f} ({density.min():.3g})")
        if (steepest := float(np.abs(slope).max())) > 2 + 1e-6:
            found.append(f"expiry {expiry}: total variance grows by {steepest:.3g} per log-moneyness, at most 2 may be")
        if before is not None and (fall := float((variance - before[1]).min())) < -1e-9:
            at = float(_CHECKED[(variance - before[1]).argmin()])
            found.append(
                f"expiry {expiry}: calendar arbitrage against {before[0]} at log-moneyness {at:+.2f} ({fall:.3g})"
            )
        before = expiry, variance
    return found


def _variance(smile: VolSlice, moneyness: NDArray[np.float64], years: float) -> NDArray[np.float64]:
    vol = smile.vol(moneyness, years)
    return np.asarray(vol * vol * years, dtype=float)


def _finite(entry: Svi | AtmSkew) -> None:
    for each in fields(entry):
        value = getattr(entry, each.name)
        if not math.isfinite(value):
            raise SurfaceError(f"{each.name}: {value}, wanted a finite number")


def _written(entry: Svi | AtmSkew) -> str:
    return ", ".join(f"{each.name} {getattr(entry, each.name):g}" for each in fields(entry))
