"""Black-76: the value of European options on a forward, and what it is sensitive to.

With w = vol² · years, d₁ = ln(F / K) / √w + √w / 2 and d₂ = d₁ − √w,

    call = D · (F · Φ(d₁) − K · Φ(d₂)),     put = D · (K · Φ(−d₂) − F · Φ(−d₁)),     D = exp(−rate · years)

(F. Black, The pricing of commodity contracts, Journal of Financial Economics 3, 1976). Of each pair the side out of the
money is computed, and the other from it by parity, so that no digits cancel. Far out of the money both terms nearly
agree: there the scaled function erfcx keeps what the difference of two small numbers would lose.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import erfcx, ndtr

from .model import Floats

_ROOT_HALF = math.sqrt(0.5)


class PricingError(ValueError):
    """An option that has no price; the message names the field and the value."""


def discount(rate: ArrayLike, years: ArrayLike) -> Floats:
    """exp(−rate · years), what a payment in `years` is worth today."""
    return np.asarray(np.exp(-np.asarray(rate, dtype=float) * np.asarray(years, dtype=float)))


def price(forward: ArrayLike, strike: ArrayLike, vol: ArrayLike, years: ArrayLike, is_call: ArrayLike) -> Floats:
    """Undiscounted value of a European option, in the forward's unit; arguments broadcast to the result's shape.

    With `vol` or `years` 0 it is the intrinsic value. Relative error below 1e-12, or absolute below 1e-15 forwards.

    Raises:
        PricingError: a forward below 0, a strike not above 0, a vol or time below 0, or no number.
    """
    f, k, v, t, call = np.broadcast_arrays(
        np.asarray(forward, dtype=float),
        np.asarray(strike, dtype=float),
        np.asarray(vol, dtype=float),
        np.asarray(years, dtype=float),
        np.asarray(is_call, dtype=bool),
    )
    for name, values, fine in (
        ("forward", f, f >= 0),
        ("strike", k, k > 0),
        ("vol", v, v >= 0),
        ("years", t, t >= 0),
    ):
        if not np.all(fine & np.isfinite(values)):
            raise PricingError(f"{name}: {values[~(fine & np.isfinite(values))].ravel()[0]!r} has no option price")
    intrinsic = np.maximum(np.where(call, f - k, k - f), 0.0)
    return np.asarray(intrinsic + out_of_the_money(f, k, v * np.sqrt(t)), dtype=float)


def out_of_the_money(forward: Floats, strike: Floats, deviation: Floats) -> Floats:
    """Undiscounted value of whichever of call and put is out of the money; `deviation` is vol · √years. One shape."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        upper = -np.abs(np.log(forward / strike)) / deviation + deviation / 2
        lower = upper - deviation
        # min(F, K) · Φ(upper) is what is received, max(F, K) · Φ(lower) what is paid, each out of the money.
        near, far = np.maximum(forward, strike), np.minimum(forward, strike)
        value = np.asarray(far * ndtr(upper) - near * ndtr(lower), dtype=float)
        # φ(upper) · far = φ(lower) · near, so with Φ(−x) = exp(−x²/2) · erfcx(x/√2) / 2 the factor comes out.
        remote = upper < -1.0
        x, y = upper[remote], lower[remote]
        scale = np.exp(-(x * x) / 2) * far[remote] / 2
        value[remote] = scale * (erfcx(-x * _ROOT_HALF) - erfcx(-y * _ROOT_HALF))
    return np.where((deviation > 0) & (forward > 0) & np.isfinite(value), np.maximum(value, 0.0), 0.0)


def delta(forward: ArrayLike, strike: ArrayLike, vol: ArrayLike, years: ArrayLike, is_call: ArrayLike) -> Floats:
    """Derivative of the undiscounted value by the forward; at expiry 1 or 0 times the side, ½ at the strike."""
    f, k = np.asarray(forward, dtype=float), np.asarray(strike, dtype=float)
    deviation = np.asarray(vol, dtype=float) * np.sqrt(np.asarray(years, dtype=float))
    with np.errstate(divide="ignore", invalid="ignore"):
        moneyness = np.log(f / k)
        d1 = moneyness / deviation + deviation / 2
        d1 = np.where(deviation > 0, d1, np.sign(moneyness) * np.inf)
    d1 = np.where(np.isnan(d1), 0.0, d1)
    up = ndtr(d1)
    return np.asarray(np.where(np.asarray(is_call, dtype=bool), up, up - 1.0), dtype=float)


def vega(forward: ArrayLike, strike: ArrayLike, vol: ArrayLike, years: ArrayLike) -> Floats:
    """Derivative of the undiscounted value by the vol, per 1.0 of vol; the same for call and put."""
    f, k = np.asarray(forward, dtype=float), np.asarray(strike, dtype=float)
    root = np.sqrt(np.asarray(years, dtype=float))
    deviation = np.asarray(vol, dtype=float) * root
    with np.errstate(divide="ignore", invalid="ignore"):
        d1 = np.log(f / k) / deviation + deviation / 2
        value = f * root * np.exp(-(d1 * d1) / 2) / math.sqrt(2 * math.pi)
    return np.asarray(np.where(deviation > 0, value, 0.0), dtype=float)
