"""Black-76 against values of 25 digits, and what no arbitrage wants of it."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeper.margin import black76
from keeper.margin.black76 import PricingError

CASES = json.loads((Path(__file__).parents[1] / "vectors" / "black76.json").read_text())

forwards = st.floats(0.01, 1e6)
shares = st.floats(0.05, 20.0)
vols = st.floats(0.01, 4.0)
years = st.floats(1e-5, 5.0)


@pytest.mark.parametrize("side", ["call", "put"])
@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_values_agree_to_twelve_digits(case: dict[str, float], side: str) -> None:
    undiscounted = black76.price(case["forward"], case["strike"], case["vol"], case["years"], side == "call")
    value = float(undiscounted * black76.discount(case["rate"], case["years"]))
    wanted = Decimal(case[side])
    apart = abs(Decimal(value) - wanted)
    assert apart <= max(abs(wanted) * Decimal("1e-12"), Decimal(case["forward"]) * Decimal("1e-15"))


@given(forwards, shares, vols, years)
def test_parity_and_bounds(forward: float, share: float, vol: float, t: float) -> None:
    strike = forward * share
    call, put = (float(black76.price(forward, strike, vol, t, is_call)) for is_call in (True, False))
    assert call - put == pytest.approx(forward - strike, rel=1e-12, abs=1e-12 * (forward + strike))
    assert max(forward - strike, 0) <= call * (1 + 1e-12)
    assert call <= forward * (1 + 1e-12)
    assert put <= strike * (1 + 1e-12)


@given(forwards, shares, vols, years, st.booleans())
def test_delta_and_vega_are_the_slopes(forward: float, share: float, vol: float, t: float, is_call: bool) -> None:
    strike = forward * share
    step = 1e-5
    up, down = (float(black76.price(forward * (1 + s), strike, vol, t, is_call)) for s in (step, -step))
    slope = (up - down) / (2 * step * forward)
    # A straddled kink is no slope; the second derivative bounds how far the difference is off.
    deviation = vol * math.sqrt(t)
    assert float(black76.delta(forward, strike, vol, t, is_call)) == pytest.approx(slope, abs=1e-3 + step / deviation)
    up, down = (float(black76.price(forward, strike, vol * (1 + s), t, is_call)) for s in (step, -step))
    per_vol = (up - down) / (2 * step * vol)
    assert float(black76.vega(forward, strike, vol, t)) == pytest.approx(per_vol, abs=1e-4 * forward)


def test_without_time_or_vol_it_is_the_intrinsic_value() -> None:
    values = black76.price([110.0, 90.0, 100.0, 0.0], 100.0, 0.5, 0.0, True)
    assert values.tolist() == [10.0, 0.0, 0.0, 0.0]
    assert black76.price(90.0, 100.0, 0.0, 1.0, False) == 10.0
    assert black76.delta([110.0, 90.0, 100.0], 100.0, 0.5, 0.0, True).tolist() == [1.0, 0.0, 0.5]
    assert black76.vega(100.0, 100.0, 0.5, 0.0) == 0.0


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ((-1.0, 1.0, 1.0, 1.0), "forward: -1.0"),
        ((1.0, 0.0, 1.0, 1.0), "strike: 0.0"),
        ((1.0, 1.0, -0.1, 1.0), "vol: -0.1"),
        ((1.0, 1.0, 1.0, float("nan")), "years: nan"),
        ((float("inf"), 1.0, 1.0, 1.0), "forward: inf"),
    ],
)
def test_what_has_no_price_is_named(arguments: tuple[float, ...], names: str) -> None:
    with pytest.raises(PricingError, match=names):
        black76.price(*arguments, True)
    assert np.isfinite(black76.price(1.0, 1.0, 1.0, 1.0, True))
