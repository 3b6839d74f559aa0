"""Books of SPAN for tests, with published risk arrays."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keeper.margin.span import evaluate

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = json.loads((ROOT / "examples" / "span_book.json").read_text())
DOCUMENT = (ROOT / "docs" / "span.md").read_text()

# L. McMillan, Options as a Strategic Investment, chapter 34: gains of one long contract.
FUTURE = [0, 0, 3330, 3330, -3330, -3330, 6670, 6670, -6670, -6670, 10000, 10000, -10000, -10000, 7000, -7000]
CALL = [460, -610, 2640, 1730, -1270, -2340, 5210, 4540, -2540, -3430, 8060, 7640, -3380, -3990, 3130, -1500]
# A put of the same kind, and a future a tenth as large.
PUT = [450, -590, -1080, -1960, 2230, 1100, -1900, -2500, 4500, 3600, -2400, -2800, 7100, 6500, -1300, 5000]
SMALL = [gain / 10 for gain in FUTURE]

FULL: dict[str, tuple[dict[str, Any], Sequence[float]]] = {
    "DEC": ({"kind": "future", "month": "DEC"}, FUTURE),
    "MAR": ({"kind": "future", "month": "MAR"}, FUTURE),
    "JUN": ({"kind": "future", "month": "JUN"}, FUTURE),
    "CALL": ({"kind": "call", "month": "DEC", "delta": 0.5, "price": 14, "multiplier": 500}, CALL),
    "PUT": ({"kind": "put", "month": "MAR", "delta": -0.25, "price": 8, "multiplier": 500}, PUT),
}

Held = Sequence[tuple[str, float]]


def commodity(held: Held, name: str = "INDEX", array: list[float] | None = None, **more: Any) -> dict[str, Any]:
    """A commodity with the contracts of FULL, all with one array where that is given."""
    return {
        "commodity": name,
        "contracts": {contract: terms for contract, (terms, _) in FULL.items()},
        "risk_arrays": {contract: array or own for contract, (_, own) in FULL.items()},
        "positions": [{"contract": contract, "quantity": quantity} for contract, quantity in held],
        "short_option_minimum": 0,
        **more,
    }


def calendar(charge: float, *legs: tuple[str, float, str], of: str = "month") -> dict[str, Any]:
    return {"legs": [{of: name, "ratio": ratio, "side": side} for name, ratio, side in legs], "charge": charge}


def between(rate: float, *legs: tuple[str, float, str]) -> dict[str, Any]:
    return {"legs": [{"commodity": c, "delta_ratio": ratio, "side": side} for c, ratio, side in legs], "rate": rate}


def report(held: Held, **more: Any) -> dict[str, Any]:
    """What is said of a single commodity."""
    found: dict[str, Any] = evaluate({"commodities": [commodity(held, **more)]})["commodities"][0]
    return found
