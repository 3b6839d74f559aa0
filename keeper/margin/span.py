"""SPAN: the requirement of a book of futures and options from sixteen scenarios, spread charges and spread credits.

Standard Portfolio Analysis of Risk (Chicago Mercantile Exchange, 1988), for each combined commodity:

    scan risk                = greatest loss over the 16 scenarios, at least 0
    volatility-adjusted risk = mean of the losses of the active scenario and of its pair
    time risk                = mean of the losses of scenarios 1 and 2
    futures price risk       = volatility-adjusted risk − time risk, at least 0;   weighted: divided by |net delta|
    risk                     = max(scan risk + calendar spread charges + delivery charge − credits between commodities,
                                   short option minimum)
    requirement              = max(risk − net option value, 0)

The active scenario is the first with the greatest loss; its pair has the same price move and the other volatility.
A credit is weighted futures price risk · deltas in the spread · rate, for each leg. Scenarios and arrays as in
L. McMillan, Options as a Strategic Investment, chapter 34; the book's format and a worked example are in docs/span.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from .span_book import (
    SCENARIOS,
    Book,
    Commodity,
    Leg,
    SpanError,
    Spread,
    composite_delta,
    net,
    parse,
)

__all__ = ["SpanError", "composite_delta", "evaluate"]

_TIE: Final = 1e-12  # losses that agree to twelve digits are equal: rounding does not choose the active scenario
_UNPAIRED: Final = 14  # the two extreme scenarios leave volatility alone, and are their own pairs


@dataclass(frozen=True, slots=True)
class _Scan:
    """What the scenarios say of one commodity's positions, before spreads. Losses positive; `active` from 0."""

    losses: tuple[float, ...]
    active: int
    scan_risk: float
    volatility_adjusted_risk: float
    time_risk: float
    futures_price_risk: float
    weighted_futures_price_risk: float
    net_delta: float
    month_deltas: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Formed:
    """Spreads of one kind and orientation: how many, and the signed delta that each leg takes."""

    number: float
    deltas: tuple[tuple[Leg, float], ...]


def evaluate(book: Mapping[str, Any]) -> dict[str, Any]:
    """The SPAN requirement of a book, in the unit of money of its arrays and rates.

    Returns what JSON can write: `initial_margin`, `maintenance_margin`, `scan_risk`, `net_option_value`, a report per
    commodity with its 16 scenario losses, and every spread formed. SPAN's own figure is the maintenance margin.

    Raises:
        SpanError: an input that is missing, unknown, no finite number or of the wrong length.
    """
    return judged(parse(book))


def judged(parsed: Book) -> dict[str, Any]:
    """As `evaluate`, of a book already read."""
    scans = {commodity.name: _scan(commodity, f"commodities[{i}]") for i, commodity in enumerate(parsed.commodities)}
    credits_, between = _inter_commodity(parsed, scans)
    reports, spreads = [], []
    for commodity in parsed.commodities:
        report, within = _report(commodity, scans[commodity.name], credits_[commodity.name], parsed.short_option_method)
        reports.append(report)
        spreads += within
    if parsed.net_option_value_excess == "shared":
        total = max(0.0, math.fsum(report["risk"] - report["net_option_value"] for report in reports))
    else:
        total = math.fsum(report["requirement"] for report in reports)
    initial = total * parsed.initial_to_maintenance
    return {
        "model": "span",
        "initial_margin": initial,
        "maintenance_margin": total,
        "scan_risk": math.fsum(report["scan_risk"] for report in reports),
        "net_option_value": math.fsum(report["net_option_value"] for report in reports),
        "commodities": reports,
        "spreads": spreads + between,
    }


def _scan(commodity: Commodity, path: str) -> _Scan:
    held = [(contract, commodity.quantities[contract.name]) for contract in commodity.contracts]
    losses = tuple(
        0.0 - math.fsum(quantity * contract.gains[s] for contract, quantity in held) for s in range(SCENARIOS)
    )
    worst = max(losses)
    active = next(s for s, loss in enumerate(losses) if loss >= worst - _TIE * abs(worst))
    pair = active if active >= _UNPAIRED else active ^ 1
    volatility_adjusted = (losses[active] + losses[pair]) / 2
    time = (losses[0] + losses[1]) / 2
    price = max(0.0, volatility_adjusted - time)
    deltas = {contract.name: quantity * contract.delta for contract, quantity in held}
    months = {contract.month: 0.0 for contract in commodity.contracts}
    for month in months:
        months[month] = net(deltas[contract.name] for contract in commodity.contracts if contract.month == month)
    net_delta = net(deltas.values())
    weighted = price / abs(net_delta) if net_delta else 0.0
    if not math.isfinite(weighted):
        raise SpanError(f"{path}: a net delta of {net_delta!r} is too small to weight a risk of {price!r}")
    return _Scan(
        losses=losses,
        active=active,
        scan_risk=max(0.0, worst),
        volatility_adjusted_risk=volatility_adjusted,
        time_risk=time,
        futures_price_risk=price,
        weighted_futures_price_risk=weighted,
        net_delta=net_delta,
        month_deltas=months,
    )


def _form(spread: Spread, free: dict[str, float]) -> list[_Formed]:
    """All the spreads that the `free` deltas allow, which they take: A legs long against B short, and then reversed.

    Months and commodities allow one orientation; tiers, in which some months are long and some short, may allow both.
    """
    formed = []
    for orientation in (1, -1):
        available = [
            math.fsum(max(0.0, orientation * leg.side * free[member]) for member in leg.members) for leg in spread.legs
        ]
        number = min(deltas / leg.ratio for deltas, leg in zip(available, spread.legs, strict=True))
        if number <= 0:
            continue
        taken = []
        for leg, deltas in zip(spread.legs, available, strict=True):
            sign, left = orientation * leg.side, number * leg.ratio
            if deltas - left <= _TIE * deltas:
                left = math.inf  # the leg that limits the number is used up, whatever the quotient rounded to
            taken.append((leg, sign * min(left, deltas)))
            for member in leg.members:
                take = min(max(0.0, sign * free[member]), left)
                free[member] -= sign * take
                left -= take
        formed.append(_Formed(number, tuple(taken)))
    return formed


def _inter_commodity(book: Book, scans: Mapping[str, _Scan]) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """The credit of each commodity, and the spreads between commodities that earn it.

    They are formed from net deltas over all months, whichever of those stand in calendar spreads: so no commodity
    spreads more than the delta that its price risk is weighted by.
    """
    free = {name: scan.net_delta for name, scan in scans.items()}
    earned: dict[str, list[float]] = {name: [] for name in scans}
    entries = []
    for priority, spread in enumerate(book.spreads, start=1):
        for formed in _form(spread, free):
            legs, money = [], []
            for leg, delta in formed.deltas:
                credit = scans[leg.name].weighted_futures_price_risk * abs(delta) * spread.rate
                earned[leg.name].append(credit)
                money.append(0.0 - credit)
                legs.append({"commodity": leg.name, "delta": delta, "money": 0.0 - credit})
            entries.append(
                {
                    "kind": "inter_commodity",
                    "priority": priority,
                    "number": formed.number,
                    "money": math.fsum(money),
                    "legs": legs,
                }
            )
    return {name: math.fsum(amounts) for name, amounts in earned.items()}, entries


def _intra_commodity(commodity: Commodity, free: dict[str, float]) -> list[dict[str, Any]]:
    """The calendar spreads of one commodity; they take from the `free` deltas of its months."""
    return [
        {
            "kind": "intra_commodity",
            "commodity": commodity.name,
            "priority": priority,
            "number": formed.number,
            "money": formed.number * spread.rate,
            "legs": [{leg.of: leg.name, "delta": delta} for leg, delta in formed.deltas],
        }
        for priority, spread in enumerate(commodity.spreads, start=1)
        for formed in _form(spread, free)
    ]


def _report(
    commodity: Commodity, scan: _Scan, credit: float, short_option_method: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Everything about one commodity, and its calendar spreads."""
    free = dict(scan.month_deltas)
    spreads = _intra_commodity(commodity, free)
    charge = math.fsum(entry["money"] for entry in spreads)
    # A spread only ever takes deltas towards zero.
    delivery = math.fsum(
        (abs(scan.month_deltas[month]) - abs(free[month])) * rates.spread_rate + abs(free[month]) * rates.outright_rate
        for month, rates in commodity.delivery.items()
    )
    minimum = commodity.short_option_minimum * _short_options(commodity, short_option_method)
    value = math.fsum(commodity.quantities[contract.name] * contract.option_value for contract in commodity.contracts)
    risk = max(scan.scan_risk + charge + delivery - credit, minimum)
    report = {
        "commodity": commodity.name,
        "scan_risk": scan.scan_risk,
        "active_scenario": scan.active + 1,
        "scenario_losses": list(scan.losses),
        "intra_commodity_charge": charge,
        "delivery_charge": delivery,
        "inter_commodity_credit": credit,
        "short_option_minimum": minimum,
        "net_option_value": value,
        "net_option_value_excess": max(0.0, value - risk),
        "net_delta": scan.net_delta,
        "weighted_futures_price_risk": scan.weighted_futures_price_risk,
        "volatility_adjusted_risk": scan.volatility_adjusted_risk,
        "time_risk": scan.time_risk,
        "futures_price_risk": scan.futures_price_risk,
        "risk": risk,
        "requirement": max(0.0, risk - value),
    }
    return report, spreads


def _short_options(commodity: Commodity, method: str) -> float:
    """How many short option contracts count: calls and puts, or the more of the two."""
    calls, puts = (
        math.fsum(max(0.0, -commodity.quantities[c.name]) for c in commodity.contracts if c.kind == kind)
        for kind in ("call", "put")
    )
    return max(calls, puts) if method == "max" else calls + puts
