"""The model `pmrm2`: Derive's portfolio margin with skew scenarios (PMRM_2), evaluated for one book.

With T = max(seconds, 0) / 365 days, r = max(rate, 0) and D = exp(−r · T), an expiry is worth, per option Black-76,

    m(s, v) = Σ amount · D · B76(F_fixed + F_variable · s, K, v, T)

    discount(x)  = x ≥ 0: base_long · exp(−T · (r · long_mult + long_add))
                   x < 0: min(1 / D, base_short · exp(T · (r · short_mult + short_add)))
    pnl(s, v)    = (x · discount(x) − m) · dampening, x = m(s, v);  in a skew scenario −|pnl|
    scenario     = Σ expiries + (perp · perp_price + Σ offsetting collateral) · (s − 1) · dampening
    basis        = Σ min(m(up) − m, m(down) − m, 0) · (add + mult · T)          vols unmoved, no discount
    W            = min(basis, scenarios)                                        a loss is negative, as in every field

    MM = W · mm_factor − C_MM + mark to market + cash
    IM = W · (im_factor + max(0, peg_threshold − stable) · peg_factor) − C_MM − C_IM + mark to market + cash

    C_MM = |perp| · spot · mm_perp + Σ naked · spot · mm_option + Σ collateral · mm_haircut
    C_IM = the same with im rates + unsure(|perp| · spot) + Σ unsure(Σ |amount| · spot) + Σ unsure(collateral)
    unsure(N) = (1 − confidence) · confidence_margin · N where the confidence is below its threshold, else 0

The formula is that of Derive's v2-core (PMRM_2, PMRMLib_2), in doubles, nothing rounded on the way. Where it leaves
room: the perpetual's confidence reaches expiries and not collateral; only collateral is divided by the stable price;
entries of one option with opposite signs both count as unsure; a skew scenario moves no option's forward, but what is
linear by its spot; of equal scenarios the first is the worst, and basis only if it is below all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import black76
from .model import Floats
from .pmrm2_book import (
    MODEL,
    Basis,
    Collateral,
    Contingency,
    Expiry,
    MarginFactors,
    Market,
    Option,
    Parameters,
    Pmrm2Book,
    Pmrm2Error,
    Scenario,
    SkewShock,
    VolMove,
    VolShock,
    parse,
)

BASIS = "basis"
"""What `worst_scenario` says when no scenario is as bad as the basis contingency."""

DAY = 86_400
YEAR = 365 * DAY
SHORT_TERM = 30 * DAY
SETTLEMENT = 1800
"""Seconds over which the settlement price is averaged: what has been observed of it no longer moves."""
SKEWED = (VolMove.LINEAR, VolMove.ABS)


def evaluate(book: Mapping[str, Any]) -> dict[str, Any]:
    """Margin of one book and the parts that explain it, as a plain object; USD unrounded, losses negative.

    `worst_scenario` is an index of `scenario_pnl`, or "basis". Of the contingencies, which are charges and positive,
    the initial ones come on top of the maintenance ones. Sums are exact before they are rounded once, so the order of
    entries changes nothing.

    Raises:
        Pmrm2Error: a book that is malformed (see `parse`), or whose numbers leave the range of a double.
    """
    parsed = parse(book)
    try:
        # What overflows here is caught below, by its result.
        with np.errstate(all="ignore"):
            report = _report(parsed)
    except (ArithmeticError, ValueError) as error:
        raise Pmrm2Error(f"book: its numbers leave the range of a double ({error})") from error
    totals = [report[name] for name in ("initial_margin_balance", "maintenance_margin_balance", "basis_contingency")]
    if not all(map(math.isfinite, [*totals, *report["scenario_pnl"]])):
        raise Pmrm2Error(f"book: its numbers leave the range of a double (balances and basis {totals})")
    return report


def _report(book: Pmrm2Book) -> dict[str, Any]:
    parameters, market, positions = book.parameters, book.market, book.positions
    charges = parameters.contingency
    perpetual = _perpetual(book)
    collateral = [_collateral(entry, market, charges) for entry in positions.collateral]
    held: dict[str, list[Option]] = {}
    for option in positions.options:
        held.setdefault(option.expiry, []).append(option)
    expiries = [_expiry(expiry, held[expiry.id], book) for expiry in market.expiries if expiry.id in held]

    # What moves with the spot and nothing else.
    linear = [
        positions.perp * market.perp_price,
        *(value.value for value, entry in zip(collateral, positions.collateral, strict=True) if entry.offsets_spot),
    ]
    pnl = [
        math.fsum(
            [
                *(expiry.pnl[index] for expiry in expiries),
                *(value * (scenario.spot - 1) * scenario.dampening for value in linear),
            ]
        )
        for index, scenario in enumerate(parameters.scenarios)
    ]
    basis = math.fsum(expiry.basis for expiry in expiries)
    worst, worst_scenario = _worst(pnl, basis)

    parts: list[_Charged] = [perpetual, *expiries, *collateral]
    mark_to_market = math.fsum(part.mark_to_market for part in parts)
    maintenance = math.fsum(part.maintenance for part in parts)
    initial = math.fsum(charge for part in parts for charge in (part.initial, part.confidence_charge))
    maintenance_factor = parameters.margin.mm_factor
    raised = initial_factor(market.stable_price, parameters)
    return {
        "model": MODEL,
        "initial_margin_balance": math.fsum([worst * raised, -maintenance, -initial, mark_to_market, positions.cash]),
        "maintenance_margin_balance": math.fsum(
            [worst * maintenance_factor, -maintenance, mark_to_market, positions.cash]
        ),
        "mark_to_market": mark_to_market,
        "cash": positions.cash,
        "worst_loss": worst,
        "worst_scenario": worst_scenario,
        "scenario_pnl": pnl,
        "basis_contingency": basis,
        "maintenance_factor": maintenance_factor,
        "initial_factor": raised,
        "maintenance_contingency": maintenance,
        "initial_contingency": initial,
        "perpetual": {"amount": positions.perp, **perpetual.explained()},
        "expiries": [
            {
                "id": expiry.id,
                "basis_contingency": expiry.basis,
                "naked_shorts": expiry.naked_shorts,
                **expiry.explained(),
            }
            for expiry in expiries
        ],
        "collateral": [
            {"asset": entry.asset, "value": value.value, **value.explained()}
            for entry, value in zip(positions.collateral, collateral, strict=True)
        ],
    }


def _worst(pnl: Sequence[float], basis: float) -> tuple[float, int | str]:
    """The least of all, and where it is: the first of equal scenarios, basis only if it is below them."""
    if not pnl or basis < min(pnl):
        return basis, BASIS
    worst = min(pnl)
    return worst, pnl.index(worst)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Charged:
    """One part's mark to market, and what it is charged beside scenarios; USD."""

    mark_to_market: float
    confidence: float
    maintenance: float
    initial: float
    confidence_charge: float

    def explained(self) -> dict[str, float]:
        return {
            "mark_to_market": self.mark_to_market,
            "maintenance_contingency": self.maintenance,
            "initial_contingency": self.initial,
            "confidence": self.confidence,
            "confidence_contingency": self.confidence_charge,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Collateral(_Charged):
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Expiry(_Charged):
    """One expiry's options; `pnl` has a value per scenario, `naked_shorts` counts contracts."""

    id: str
    pnl: tuple[float, ...]
    basis: float
    naked_shorts: float


def _perpetual(book: Pmrm2Book) -> _Charged:
    market, positions, charges = book.market, book.positions, book.parameters.contingency
    notional = abs(positions.perp) * market.spot
    confidence = min(market.spot_confidence, market.perp_confidence)
    return _Charged(
        mark_to_market=positions.unrealised_perp_pnl + positions.unrealised_funding,
        confidence=confidence,
        maintenance=notional * charges.mm_perp,
        initial=notional * charges.im_perp,
        confidence_charge=unsure(confidence, charges) * notional,
    )


def _collateral(entry: Collateral, market: Market, charges: Contingency) -> _Collateral:
    value = entry.amount * entry.price / market.stable_price
    confidence = min(entry.confidence, market.spot_confidence)
    return _Collateral(
        value=value,
        mark_to_market=value,
        confidence=confidence,
        maintenance=value * entry.mm_haircut,
        initial=value * entry.im_haircut,
        confidence_charge=unsure(confidence, charges) * value,
    )


def _expiry(expiry: Expiry, options: Sequence[Option], book: Pmrm2Book) -> _Expiry:
    parameters, market = book.parameters, book.market
    charges = parameters.contingency
    units = unit_values(
        expiry,
        np.array([option.strike for option in options]),
        np.array([option.mark_vol for option in options]),
        np.array([option.call for option in options]),
        parameters.scenarios,
        parameters,
    )
    held = units * np.array([option.amount for option in options])[:, np.newaxis]
    *shocked, mark_to_market, up, down = [math.fsum(column) for column in held.T.tolist()]
    factors = discounts(expiry.seconds, expiry.rate, parameters.margin)
    pnl = profits(np.array(shocked), np.array(mark_to_market), parameters.scenarios, factors)

    naked_shorts = _naked_shorts(options)
    short_notional = naked_shorts * market.spot
    confidence = sureness(expiry, market.spot_confidence, market.perp_confidence if book.positions.perp else None)
    notional = math.fsum(abs(option.amount) for option in options) * market.spot
    return _Expiry(
        id=expiry.id,
        pnl=tuple(pnl.tolist()),
        basis=min(up - mark_to_market, down - mark_to_market, 0.0) * basis_weight(expiry.seconds, parameters.basis),
        naked_shorts=naked_shorts,
        mark_to_market=mark_to_market,
        confidence=confidence,
        maintenance=short_notional * charges.mm_option,
        initial=short_notional * charges.im_option,
        confidence_charge=unsure(confidence, charges) * notional,
    )


def discounts(seconds: float, rate: float, factors: MarginFactors) -> tuple[float, float]:
    """What a shocked expiry's value counts at where it is long, and where it is short."""
    years, rate = max(seconds, 0.0) / YEAR, max(rate, 0.0)
    long = factors.base_discount_long * math.exp(-years * (rate * factors.long_rate_mult + factors.long_rate_add))
    short = factors.base_discount_short * math.exp(years * (rate * factors.short_rate_mult + factors.short_rate_add))
    # A short may grow to what is owed at expiry, not beyond it.
    return long, min(math.exp(rate * years), short)


def profits(values: Floats, marked: Floats, scenarios: Sequence[Scenario], factors: tuple[float, float]) -> Floats:
    """Dampened profit and loss of one expiry, shape (…, scenarios), from its value in each and its value now (…)."""
    dampening = np.array([scenario.dampening for scenario in scenarios])
    # A skew may tilt either way, so each expiry takes the worse: to first order the same with the sign changed.
    skewed = np.array([scenario.vol in SKEWED for scenario in scenarios], dtype=bool)
    change = (values * np.where(values >= 0, *factors) - np.asarray(marked)[..., np.newaxis]) * dampening
    return np.asarray(np.where(skewed, -np.abs(change), change), dtype=float)


def basis_weight(seconds: float, basis: Basis) -> float:
    return basis.add + basis.mult * (max(seconds, 0.0) / YEAR)


def sureness(expiry: Expiry, spot: float, perpetual: float | None) -> float:
    """The confidence of an expiry; `perpetual` where one is held."""
    own = min(expiry.forward_confidence, expiry.rate_confidence, expiry.vol_confidence, spot)
    return own if perpetual is None else min(own, perpetual)


def unsure(confidence: float, charges: Contingency) -> float:
    """The share of a notional that is charged for a confidence below the threshold."""
    if confidence >= charges.confidence_threshold:
        return 0.0
    return (1 - confidence) * charges.confidence_margin


def initial_factor(stable_price: float, parameters: Parameters) -> float:
    """What initial margin counts the worst loss at; more where the settlement token is below its peg."""
    unpegged = max(0.0, parameters.contingency.peg_threshold - stable_price)
    return parameters.margin.im_factor + unpegged * parameters.contingency.peg_factor


def unit_values(
    expiry: Expiry,
    strikes: Floats,
    vols: Floats,
    calls: NDArray[np.bool_],
    scenarios: Sequence[Scenario],
    parameters: Parameters,
) -> Floats:
    """What one of each option of an expiry is worth in each scenario, and, last, now and with the forward moved up and
    down against spot; shape (options, scenarios + 3), USD."""
    # The last three are no scenarios: unmoved, and the two moves of the basis.
    moves = (1.0, parameters.basis.spot_up, parameters.basis.spot_down)
    columns = [*scenarios, *(Scenario(spot, VolMove.NONE, 1.0) for spot in moves)]
    years = max(expiry.seconds, 0.0) / YEAR
    spots = np.array([1.0 if scenario.vol in SKEWED else scenario.spot for scenario in columns])
    fixed = expiry.forward * min(max(0.0, (SETTLEMENT - expiry.seconds) / SETTLEMENT), 1.0)
    forwards = fixed + (expiry.forward - fixed) * spots

    by_move = _shocked_vols(vols, np.log(strikes / expiry.forward), expiry.seconds, parameters)
    shocked = np.stack([by_move[scenario.vol] for scenario in columns], axis=1)
    prices = black76.price(forwards[np.newaxis, :], strikes[:, np.newaxis], shocked, years, calls[:, np.newaxis])
    return np.asarray(prices * math.exp(-max(expiry.rate, 0.0) * years), dtype=float)


def _naked_shorts(options: Sequence[Option]) -> float:
    """Contracts short with nothing long at their strike: calls and puts of a strike net to one number."""
    amounts: dict[float, list[float]] = {}
    for option in options:
        amounts.setdefault(option.strike, []).append(option.amount)
    return math.fsum(max(0.0, -math.fsum(entries)) for entries in amounts.values())


def _shocked_vols(vols: Floats, moneyness: Floats, seconds: float, parameters: Parameters) -> dict[VolMove, Floats]:
    """Each option's vol after each move; `moneyness` is ln(strike / unshocked forward)."""
    shock, skew = parameters.vol_shock, parameters.skew_shock
    up, down = _level_multipliers(shock, seconds)
    root = math.sqrt(max(seconds, 0.0) / YEAR)
    linear = skew.linear_c_base * root + skew.linear_cap
    absolute = skew.abs_c_base * root + skew.abs_cap
    return {
        VolMove.NONE: vols,
        VolMove.UP: np.maximum(vols * up, shock.min_vol_up),
        VolMove.DOWN: vols * down,
        VolMove.LINEAR: vols * _skew_multipliers(moneyness, linear, root, skew),
        VolMove.ABS: vols * _skew_multipliers(np.abs(moneyness), absolute, root, skew),
    }


def _level_multipliers(shock: VolShock, seconds: float) -> tuple[float, float]:
    """Of vols moved up and down: more for near expiries, and never below 0."""
    horizon = max(seconds, shock.dte_floor_days * DAY)
    if horizon <= 0:
        # Expired, and no floor: at time 0 no vol is worth anything.
        return 1.0, 1.0
    scale = (SHORT_TERM / horizon) ** (shock.short_term_power if seconds <= SHORT_TERM else shock.long_term_power)
    return max(0.0, 1 + shock.range_up * scale), max(0.0, 1 - shock.range_down * scale)


def _skew_multipliers(moneyness: Floats, cap: float, root: float, skew: SkewShock) -> Floats:
    """1 + cap · moneyness / width, bounded by ±cap, and never below 0; `root` is √years."""
    width = max(skew.min_k_star, root * skew.min_width_scale * (skew.vol_param_static + root * skew.vol_param_scale))
    # A width of 0 is reached at once, except where there is no moneyness to speak of.
    with np.errstate(divide="ignore", invalid="ignore"):
        tilt = np.nan_to_num(moneyness * cap / width, nan=0.0, posinf=np.inf, neginf=-np.inf)
    # One bound per side: with a cap below 0, which far expiries can have, the two together would bound nothing.
    bounded = np.where(moneyness >= 0, np.minimum(tilt, cap), np.maximum(tilt, -cap))
    return np.asarray(np.maximum(1 + bounded, 0.0), dtype=float)
