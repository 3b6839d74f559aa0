"""What no book of SPAN may hold."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

import pytest
from span_books import EXAMPLE, FUTURE, commodity

from keeper.margin.span import SpanError, evaluate

INDEX = ("commodities", 0)
FIRST_LEG = (*INDEX, "spreads", 0, "legs", 0)
REMOVED = object()
NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("modell",), "span", "modell: unknown key, of value 'span'"),
        (("model",), "grid", "model: 'grid', wanted span"),
        (("arrays",), "profits", "arrays: 'profits', wanted gains or losses"),
        (("initial_to_maintenance",), 0.9, "initial_to_maintenance: 0.9, wanted a number from 1"),
        (("initial_to_maintenance",), NAN, "initial_to_maintenance: nan"),
        (("short_option_method",), "mean", "short_option_method: 'mean', wanted sum or max"),
        (("net_option_value_excess",), None, "net_option_value_excess: None, wanted kept or shared"),
        (("commodities",), REMOVED, "commodities: missing"),
        (("commodities",), {}, "commodities: {} is no list"),
        (INDEX, "INDEX", "commodities[0]: 'INDEX' is no object"),
        ((*INDEX, "commodity"), REMOVED, "commodities[0].commodity: missing"),
        ((*INDEX, "commodity"), "", "commodities[0].commodity: '' is no name"),
        ((*INDEX, "commodity"), "GRAIN", "commodities[2].commodity: 'GRAIN' is in the book twice"),
        ((*INDEX, "colour"), "red", "commodities[0].colour: unknown key, of value 'red'"),
        ((*INDEX, "short_option_minimum"), REMOVED, "commodities[0].short_option_minimum: missing"),
        ((*INDEX, "short_option_minimum"), -1, "commodities[0].short_option_minimum: -1, wanted a number from 0"),
        ((*INDEX, "contracts"), [], "commodities[0].contracts: [] is no object"),
        ((*INDEX, "contracts", 7), {}, "commodities[0].contracts, a key: 7 is no name"),
        ((*INDEX, "contracts", "INDEX JUN"), {}, "commodities[0].risk_arrays.INDEX JUN: missing"),
        (
            (*INDEX, "contracts", "INDEX MAR"),
            REMOVED,
            "commodities[0].risk_arrays.INDEX MAR: 'INDEX MAR' is no contract",
        ),
        ((*INDEX, "contracts", "INDEX DEC", "kind"), REMOVED, "commodities[0].contracts.INDEX DEC.kind: missing"),
        ((*INDEX, "contracts", "INDEX DEC", "kind"), "swap", "INDEX DEC.kind: 'swap', wanted future or call or put"),
        ((*INDEX, "contracts", "INDEX DEC", "month"), REMOVED, "INDEX DEC.month: missing"),
        ((*INDEX, "contracts", "INDEX DEC", "month"), 12, "INDEX DEC.month: 12 is no name"),
        ((*INDEX, "contracts", "INDEX DEC", "delta"), "1", "INDEX DEC.delta: '1', wanted a number"),
        ((*INDEX, "contracts", "INDEX DEC", "price"), 410, "INDEX DEC.price: unknown key, of value 410"),
        ((*INDEX, "contracts", "INDEX DEC 410 CALL", "delta"), REMOVED, "410 CALL.delta: missing"),
        ((*INDEX, "contracts", "INDEX DEC 410 CALL", "delta"), [0.5] * 6, "410 CALL.delta: 6 values in"),
        ((*INDEX, "contracts", "INDEX DEC 410 CALL", "delta", 3), NAN, "410 CALL.delta[3]: nan"),
        ((*INDEX, "contracts", "INDEX DEC 410 CALL", "price"), REMOVED, "410 CALL.price: missing"),
        ((*INDEX, "contracts", "INDEX DEC 410 CALL", "price"), -1, "410 CALL.price: -1, wanted a number from 0"),
        ((*INDEX, "contracts", "INDEX DEC 410 CALL", "multiplier"), INFINITY, "410 CALL.multiplier: inf"),
        (
            (*INDEX, "contracts", "INDEX DEC 410 CALL", "style"),
            "stock",
            "410 CALL.style: 'stock', wanted premium or fut",
        ),
        ((*INDEX, "contracts", "INDEX DEC 410 CALL", "style"), "futures", "410 CALL.price: unknown key, of value 14"),
        ((*INDEX, "risk_arrays"), REMOVED, "commodities[0].risk_arrays: missing"),
        ((*INDEX, "risk_arrays", "INDEX DEC"), REMOVED, "commodities[0].risk_arrays.INDEX DEC: missing"),
        (
            (*INDEX, "risk_arrays", "INDEX JUN"),
            FUTURE,
            "risk_arrays.INDEX JUN: 'INDEX JUN' is no contract of this book",
        ),
        ((*INDEX, "risk_arrays", "INDEX DEC"), FUTURE[:15], "risk_arrays.INDEX DEC: 15 values in [0, 0, 3330"),
        ((*INDEX, "risk_arrays", "INDEX DEC"), 10_000, "risk_arrays.INDEX DEC: 10000 is no list"),
        ((*INDEX, "risk_arrays", "INDEX DEC", 15), NAN, "risk_arrays.INDEX DEC[15]: nan, wanted a number"),
        ((*INDEX, "risk_arrays", "INDEX DEC", 2), -INFINITY, "risk_arrays.INDEX DEC[2]: -inf, wanted a number"),
        ((*INDEX, "risk_arrays", "INDEX DEC", 2), None, "risk_arrays.INDEX DEC[2]: None, wanted a number"),
        ((*INDEX, "risk_arrays", "INDEX DEC", 2), 10**400, "risk_arrays.INDEX DEC[2]: 1000"),
        ((*INDEX, "positions"), REMOVED, "commodities[0].positions: missing"),
        ((*INDEX, "positions"), "none", "commodities[0].positions: 'none' is no list"),
        ((*INDEX, "positions", 1, "contract"), "INDEX JUN", "positions[1].contract: 'INDEX JUN' is no contract"),
        ((*INDEX, "positions", 1, "contract"), ["INDEX"], "positions[1].contract: ['INDEX'] is no name"),
        ((*INDEX, "positions", 1, "quantity"), REMOVED, "positions[1].quantity: missing"),
        ((*INDEX, "positions", 1, "quantity"), True, "positions[1].quantity: True, wanted a number"),
        ((*INDEX, "positions", 1, "quantity"), 1e16, "positions[1].quantity: 1e+16, wanted a number"),
        ((*INDEX, "positions", 1, "side"), "long", "positions[1].side: unknown key, of value 'long'"),
        ((*INDEX, "tiers"), {"NEAR": []}, "tiers.NEAR: [] is no list of different months"),
        ((*INDEX, "tiers"), {"NEAR": ["DEC", "DEC"]}, "tiers.NEAR: ['DEC', 'DEC'] is no list of different months"),
        ((*INDEX, "tiers"), {"NEAR": ["DEC", "JUN"]}, "tiers.NEAR[1]: 'JUN' is no month of this book"),
        ((*INDEX, "spreads", 0, "charge"), REMOVED, "commodities[0].spreads[0].charge: missing"),
        ((*INDEX, "spreads", 0, "charge"), -300, "commodities[0].spreads[0].charge: -300, wanted a number from 0"),
        ((*INDEX, "spreads", 0, "legs"), [], "commodities[0].spreads[0].legs: [] has not a leg on each side"),
        ((*INDEX, "spreads", 0, "legs", 1, "side"), "A", "spreads[0].legs: [{'month': 'DEC', 'ratio': 1, 'side': 'A'}"),
        ((*FIRST_LEG, "month"), "JUN", "commodities[0].spreads[0].legs[0].month: 'JUN' is no month of this book"),
        ((*FIRST_LEG, "month"), REMOVED, "spreads[0].legs[0]: {'ratio': 1, 'side': 'A'} wants one of month, tier"),
        ((*FIRST_LEG, "tier"), "NEAR", "wants one of month, tier"),
        ((*FIRST_LEG, "ratio"), 0, "commodities[0].spreads[0].legs[0].ratio: 0, wanted a number from 1e-06"),
        ((*FIRST_LEG, "side"), "C", "commodities[0].spreads[0].legs[0].side: 'C', wanted A or B"),
        ((*FIRST_LEG, "delta_ratio"), 1, "spreads[0].legs[0].delta_ratio: unknown key, of value 1"),
        ((*INDEX, "delivery", "JUN"), {}, "commodities[0].delivery.JUN: 'JUN' is no month of this book"),
        ((*INDEX, "delivery", "DEC", "spread_rate"), REMOVED, "delivery.DEC.spread_rate: missing"),
        ((*INDEX, "delivery", "DEC", "outright_rate"), -1, "delivery.DEC.outright_rate: -1, wanted a number from 0"),
        (("inter_commodity_spreads",), {}, "inter_commodity_spreads: {} is no list"),
        (
            ("inter_commodity_spreads", 0, "rate"),
            1.5,
            "inter_commodity_spreads[0].rate: 1.5, wanted a number from 0 to 1",
        ),
        (("inter_commodity_spreads", 0, "legs", 1, "commodity"), "OIL", "legs[1].commodity: 'OIL' is no commodity"),
        (("inter_commodity_spreads", 0, "legs", 1, "delta_ratio"), REMOVED, "legs[1].delta_ratio: missing"),
    ],
)
def test_evaluate_RevertWhen_AFieldHasNoMeaning(path: tuple[str | int, ...], value: Any, message: str) -> None:
    book = deepcopy(EXAMPLE)
    target = book
    for key in path[:-1]:
        target = target[key]
    if value is REMOVED:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    with pytest.raises(SpanError, match=re.escape(message)):
        evaluate(book)


def test_evaluate_RevertWhen_OneSideNamesAMonthTwice() -> None:
    book = deepcopy(EXAMPLE)
    book["commodities"][0]["spreads"][0]["legs"].append({"month": "DEC", "ratio": 2, "side": "A"})
    with pytest.raises(SpanError, match=re.escape("spreads[0].legs[2].month: 'DEC' stands twice on side A")):
        evaluate(book)


def test_evaluate_RevertWhen_TheBookIsNoObject() -> None:
    with pytest.raises(SpanError, match=re.escape("book: [] is no object")):
        evaluate([])  # type: ignore[arg-type]


def test_evaluate_RevertWhen_ADeltaIsTooSmallToDivideBy() -> None:
    book = {"commodities": [commodity([("DEC", 1e15)])]}
    book["commodities"][0]["contracts"] |= {"DEC": {"kind": "future", "month": "DEC", "delta": 1e-320}}
    with pytest.raises(SpanError, match=re.escape("commodities[0]: a net delta of 9.99")):
        evaluate(book)
