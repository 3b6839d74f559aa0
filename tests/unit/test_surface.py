"""Smiles, and where they admit arbitrage."""

from __future__ import annotations

import numpy as np
import pytest

from keeper.market.surface import YEAR, AtmSkew, SurfaceError, Svi, arbitrage

NOW = 1_800_000_000
MONTH, QUARTER = NOW + YEAR // 12, NOW + YEAR // 4


def test_svi_by_hand() -> None:
    # w(0) = 0.04 + 0.1 · (−0.4 · 0.1 + √(0.01 + 0.04)) at m = −0.1: x = 0.1.
    smile = Svi(0.04, 0.1, -0.4, -0.1, 0.2)
    wanted = np.sqrt((0.04 + 0.1 * (-0.04 + np.sqrt(0.05))) / 0.5)
    assert float(smile.vol(0.0, 0.5)) == pytest.approx(wanted, rel=1e-12)
    assert smile.vol([-0.5, 0.5], 0.5)[0] > smile.vol([-0.5, 0.5], 0.5)[1]


def test_at_the_money_vol_with_skew() -> None:
    assert AtmSkew(0.6, -0.2, 0.5).vol([0.0, 0.1], 1.0).tolist() == pytest.approx([0.6, 0.585])
    assert float(AtmSkew(0.3, 1.0).vol(-5.0, 1.0)) == 0.01


def test_a_surface_without_arbitrage_is_silent() -> None:
    flat = {MONTH: AtmSkew(0.6), QUARTER: AtmSkew(0.6)}
    assert arbitrage(flat, NOW) == []
    smiles = {MONTH: Svi(0.01, 0.05, -0.3, 0.0, 0.2), QUARTER: Svi(0.05, 0.06, -0.3, 0.0, 0.2)}
    assert arbitrage(smiles, NOW) == []


def test_each_kind_of_arbitrage_is_told_with_its_place() -> None:
    falling = {MONTH: AtmSkew(0.9), QUARTER: AtmSkew(0.3)}
    (calendar,) = arbitrage(falling, NOW)
    assert f"expiry {QUARTER}: calendar arbitrage against {MONTH}" in calendar
    steep = arbitrage({MONTH: Svi(0.0, 2.5, 0.0, 0.0, 0.1)}, NOW)
    assert any("per log-moneyness, at most 2" in line for line in steep)
    bent = arbitrage({QUARTER: Svi(0.002, 0.4, 0.9, 0.3, 0.01)}, NOW)
    assert any("butterfly arbitrage" in line for line in bent)
    assert arbitrage({NOW - 1: Svi(0.0, 2.5, 0.0, 0.0, 0.1)}, NOW) == []


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: Svi(0.0, -0.1, 0.0, 0.0, 0.1), "b ≥ 0"),
        (lambda: Svi(0.0, 0.1, 1.0, 0.0, 0.1), "rho"),
        (lambda: Svi(0.0, 0.1, 0.0, 0.0, 0.0), "sigma"),
        (lambda: Svi(-1.0, 0.1, 0.0, 0.0, 0.1), "least total variance"),
        (lambda: Svi(float("nan"), 0.1, 0.0, 0.0, 0.1), "a: nan, wanted a finite number"),
        (lambda: AtmSkew(0.0), "atm > 0"),
        (lambda: AtmSkew(0.5, 0.0, -1.0), "convexity"),
    ],
)
def test_what_is_no_smile_is_refused(make: object, names: str) -> None:
    with pytest.raises(SurfaceError, match=names):
        make()  # type: ignore[operator]
