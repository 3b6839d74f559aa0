"""Books of the model `pmrm2` for tests: the public vectors, and small ones made by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from keeper.margin.pmrm2 import evaluate

Json = dict[str, Any]

VECTORS: Json = json.loads((Path(__file__).resolve().parents[1] / "vectors" / "pmrm2.json").read_text())
CASES = [pytest.param(case, id=case["name"]) for case in VECTORS["cases"]]
DAY = 86_400
YEAR = 365 * DAY


def vector_book(case: Json) -> Json:
    """The book of a vector; the file holds each set of parameters once."""
    parameters = VECTORS["parameters"][case["parameters"]]
    return {"model": "pmrm2", "parameters": parameters, "market": case["market"], "positions": case["positions"]}


def scenario(spot: float, vol: str = "none", dampening: float = 1.0) -> Json:
    return {"spot": spot, "vol": vol, "dampening": dampening}


def option(strike: float, amount: float, *, call: bool = True, mark_vol: float = 0.0, expiry: str = "E0") -> Json:
    return {"expiry": expiry, "strike": strike, "call": call, "mark_vol": mark_vol, "amount": amount}


def expiry(**fields: Any) -> Json:
    """One year, forward 100, no rate, full confidence."""
    full = {"forward_confidence": 1.0, "rate_confidence": 1.0, "vol_confidence": 1.0}
    return {"id": "E0", "seconds": YEAR, "forward": 100.0, "rate": 0.0, **full, **fields}


def collateral(**fields: Any) -> Json:
    """100 units at 2 USD, no haircut, full confidence, unmoved by the spot."""
    plain = {"amount": 100.0, "price": 2.0, "confidence": 1.0, "im_haircut": 0.0, "mm_haircut": 0.0}
    return {"asset": "COIN", "offsets_spot": False, **plain, **fields}


def make_book(**changes: Any) -> Json:
    """Spot, perpetual and forward 100, stable 1, nothing held, nothing discounted and nothing charged.

    Changes go by path with __ between the names: `market__spot=90`.
    """
    made: Json = {
        "model": "pmrm2",
        "parameters": {
            "scenarios": [scenario(1.0)],
            "vol_shock": {
                "range_up": 0.5,
                "range_down": 0.25,
                "short_term_power": 0.5,
                "long_term_power": 0.0,
                "dte_floor_days": 1.0,
                "min_vol_up": 0.0,
            },
            # At one year: caps 0.3 − 0.1 = 0.2, reached at |ln(K / F)| = 1 · 1 · (0.5 − 0.3) = 0.2.
            "skew_shock": {
                "linear_c_base": -0.1,
                "linear_cap": 0.3,
                "abs_c_base": -0.1,
                "abs_cap": 0.3,
                "min_k_star": 0.01,
                "min_width_scale": 1.0,
                "vol_param_static": 0.5,
                "vol_param_scale": -0.3,
            },
            "margin": {
                "mm_factor": 0.8,
                "im_factor": 1.0,
                "short_rate_mult": 0.0,
                "long_rate_mult": 0.0,
                "short_rate_add": 0.0,
                "long_rate_add": 0.0,
                "base_discount_long": 1.0,
                "base_discount_short": 1.0,
            },
            "basis": {"spot_up": 1.0, "spot_down": 1.0, "add": 0.0, "mult": 0.0},
            "contingency": {
                "peg_threshold": 0.98,
                "peg_factor": 2.0,
                "confidence_threshold": 0.5,
                "confidence_margin": 0.4,
                "mm_perp": 0.0,
                "im_perp": 0.0,
                "mm_option": 0.0,
                "im_option": 0.0,
            },
        },
        "market": {
            "spot": 100.0,
            "spot_confidence": 1.0,
            "perp_price": 100.0,
            "perp_confidence": 1.0,
            "stable_price": 1.0,
            "expiries": [expiry()],
        },
        "positions": {
            "cash": 0.0,
            "perp": 0.0,
            "unrealised_perp_pnl": 0.0,
            "unrealised_funding": 0.0,
            "options": [],
            "collateral": [],
        },
    }
    for path, value in changes.items():
        *parts, last = path.split("__")
        place = made
        for part in parts:
            place = place[part]
        assert last in place, path
        place[last] = value
    return made


def value_by_hand(strike: float, vol: float, years: float, *, call: bool = True, forward: float = 100.0) -> float:
    """Undiscounted Black-76, from the error function."""
    deviation = vol * math.sqrt(years)
    upper = math.log(forward / strike) / deviation + deviation / 2
    lower = upper - deviation
    normal = [(1 + math.erf(sign * point / math.sqrt(2))) / 2 for point in (upper, lower) for sign in (1, -1)]
    return forward * normal[0] - strike * normal[2] if call else strike * normal[3] - forward * normal[1]


def only_pnl(book: Json) -> float:
    (pnl,) = evaluate(book)["scenario_pnl"]
    return float(pnl)
