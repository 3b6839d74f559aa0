"""The book that SPAN margins: contracts with their risk arrays, positions, spreads and rates, read from JSON.

The format is in docs/span.md. Nothing is guessed: a key that is missing or unknown, a name that stands for nothing and
a number that is none are refused, and the message says where. Quantities are contracts, money is in the book's unit.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from keeper.state.exact import LARGEST, joined, shown

SCENARIOS: Final = 16

NODE_WEIGHTS: Final = (0.270, 0.217, 0.217, 0.110, 0.110, 0.037, 0.037)
"""Weights of an option's deltas at the price moves 0, +1/3, −1/3, +2/3, −2/3, +1, −1; published, they sum to 0.998."""

_SMALLEST_RATIO: Final = 1e-6
_NOISE: Final = 1e-12

Side = Literal[1, -1]


class SpanError(ValueError):
    """A book that has no requirement; the message names the field and the value."""


@dataclass(frozen=True, slots=True)
class Contract:
    """One contract of a commodity, per contract long.

    `gains` in each of the 16 scenarios; `delta` in the commodity's own deltas, a composite one where the book gives
    seven; `option_value` is price · multiplier of an option whose premium is paid, and 0 of every other contract.
    """

    name: str
    kind: str
    month: str
    delta: float
    option_value: float
    gains: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Leg:
    """`ratio` deltas per spread, of `side` A (1) or B (−1), out of `members`: months, or one commodity.

    `of` says what `name` is: a month, a tier or a commodity.
    """

    of: str
    name: str
    members: tuple[str, ...]
    ratio: float
    side: Side


@dataclass(frozen=True, slots=True)
class Spread:
    """`rate` is money per spread within a commodity, and a share of the price risk between commodities."""

    legs: tuple[Leg, ...]
    rate: float


@dataclass(frozen=True, slots=True)
class Delivery:
    """Money per delta of a month, for those that stand in spreads and for those that do not."""

    spread_rate: float
    outright_rate: float


@dataclass(frozen=True, slots=True)
class Commodity:
    """A combined commodity. `quantities` are net, by contract; spreads in order of priority."""

    name: str
    contracts: tuple[Contract, ...]
    quantities: Mapping[str, float]
    spreads: tuple[Spread, ...]
    delivery: Mapping[str, Delivery]
    short_option_minimum: float


@dataclass(frozen=True, slots=True)
class Book:
    """All that a requirement depends on; `spreads` are those between commodities, in order of priority."""

    commodities: tuple[Commodity, ...]
    spreads: tuple[Spread, ...]
    short_option_method: str
    net_option_value_excess: str
    initial_to_maintenance: float


def net(terms: Iterable[float]) -> float:
    """The sum of `terms`, in any order the same, and 0 where what remains is only their rounding."""
    values = list(terms)
    total = math.fsum(values)
    return 0.0 if abs(total) <= _NOISE * math.fsum(map(abs, values)) else total


def composite_delta(deltas: Sequence[float]) -> float:
    """The mean of an option's deltas at the seven price moves under `NODE_WEIGHTS`, divided by what they sum to."""
    return math.fsum(w * d for w, d in zip(NODE_WEIGHTS, deltas, strict=True)) / math.fsum(NODE_WEIGHTS)


def parse(book: Mapping[str, Any]) -> Book:
    """The book that a JSON object holds. Raises SpanError."""
    fields = _object(
        book,
        "",
        required=("commodities",),
        optional=(
            "model",
            "arrays",
            "inter_commodity_spreads",
            "short_option_method",
            "net_option_value_excess",
            "initial_to_maintenance",
        ),
    )
    _choice(fields.get("model", "span"), "model", ("span",))
    losses = _choice(fields.get("arrays", "gains"), "arrays", ("gains", "losses")) == "losses"
    commodities: list[Commodity] = []
    for value, path in _items(fields["commodities"], "commodities"):
        commodity = _commodity(value, path, losses)
        if any(commodity.name == other.name for other in commodities):
            raise SpanError(f"{path}.commodity: {shown(commodity.name)} is in the book twice")
        commodities.append(commodity)
    groups = {"commodity": {commodity.name: (commodity.name,) for commodity in commodities}}
    return Book(
        commodities=tuple(commodities),
        spreads=tuple(
            _spread(value, path, groups, ratio="delta_ratio", rate="rate", most=1.0)
            for value, path in _items(fields.get("inter_commodity_spreads", ()), "inter_commodity_spreads")
        ),
        short_option_method=_choice(fields.get("short_option_method", "sum"), "short_option_method", ("sum", "max")),
        net_option_value_excess=_choice(
            fields.get("net_option_value_excess", "kept"), "net_option_value_excess", ("kept", "shared")
        ),
        initial_to_maintenance=_number(fields.get("initial_to_maintenance", 1.0), "initial_to_maintenance", least=1.0),
    )


def _commodity(value: object, path: str, losses: bool) -> Commodity:
    fields = _object(
        value,
        path,
        required=("commodity", "contracts", "risk_arrays", "positions", "short_option_minimum"),
        optional=("tiers", "spreads", "delivery"),
    )
    named = _mapping(fields["contracts"], f"{path}.contracts")
    arrays = _mapping(fields["risk_arrays"], f"{path}.risk_arrays")
    for name in named:
        if name not in arrays:
            raise SpanError(f"{joined(f'{path}.risk_arrays', name)}: missing")
    contracts = []
    for name, array in arrays.items():
        where = joined(f"{path}.risk_arrays", name)
        _known(name, named, where, "contract")
        gains = _numbers(array, where, SCENARIOS)
        gains = tuple(-loss for loss in gains) if losses else gains
        contracts.append(_contract(name, named[name], joined(f"{path}.contracts", name), gains))
    months = {contract.month: (contract.month,) for contract in contracts}
    tiers = {
        name: _tier(members, joined(f"{path}.tiers", name), months)
        for name, members in _mapping(fields.get("tiers", {}), f"{path}.tiers").items()
    }
    return Commodity(
        name=_name(fields["commodity"], f"{path}.commodity"),
        contracts=tuple(contracts),
        quantities=_quantities(fields["positions"], f"{path}.positions", arrays),
        spreads=tuple(
            _spread(spread, where, {"month": months, "tier": tiers}, ratio="ratio", rate="charge", most=LARGEST)
            for spread, where in _items(fields.get("spreads", ()), f"{path}.spreads")
        ),
        delivery={
            month: _delivery(rates, joined(f"{path}.delivery", month), month, months)
            for month, rates in _mapping(fields.get("delivery", {}), f"{path}.delivery").items()
        },
        short_option_minimum=_number(fields["short_option_minimum"], f"{path}.short_option_minimum", least=0.0),
    )


def _contract(name: str, value: object, path: str, gains: tuple[float, ...]) -> Contract:
    stated = _mapping(value, path)
    if "kind" not in stated:
        raise SpanError(f"{path}.kind: missing")
    kind = _choice(stated["kind"], f"{path}.kind", ("future", "call", "put"))
    if kind == "future":
        fields = _object(value, path, required=("kind", "month"), optional=("delta",))
        delta, option_value = _number(fields.get("delta", 1.0), f"{path}.delta"), 0.0
    elif _choice(stated.get("style", "premium"), f"{path}.style", ("premium", "futures")) == "premium":
        fields = _object(value, path, required=("kind", "month", "delta", "price", "multiplier"), optional=("style",))
        price = _number(fields["price"], f"{path}.price", least=0.0)
        option_value = price * _number(fields["multiplier"], f"{path}.multiplier", least=0.0)
        delta = _option_delta(fields["delta"], f"{path}.delta")
    else:
        # The value of a futures-style option is settled every day: there is none to count, and so no price to give.
        fields = _object(value, path, required=("kind", "month", "delta", "style"))
        delta, option_value = _option_delta(fields["delta"], f"{path}.delta"), 0.0
    return Contract(name, kind, _name(fields["month"], f"{path}.month"), delta, option_value, gains)


def _option_delta(value: object, path: str) -> float:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return composite_delta(_numbers(value, path, len(NODE_WEIGHTS)))
    return _number(value, path)


def _quantities(value: object, path: str, contracts: Collection[str]) -> dict[str, float]:
    """Net quantity of each contract: what is long and short of one contract is closed out."""
    found: dict[str, list[float]] = {name: [] for name in contracts}
    for position, where in _items(value, path):
        fields = _object(position, where, required=("contract", "quantity"))
        name = _known(fields["contract"], contracts, f"{where}.contract", "contract")
        found[name].append(_number(fields["quantity"], f"{where}.quantity"))
    return {name: net(quantities) for name, quantities in found.items()}


def _tier(value: object, path: str, months: Collection[str]) -> tuple[str, ...]:
    members = tuple(_known(month, months, where, "month") for month, where in _items(value, path))
    if not members or len(set(members)) < len(members):
        raise SpanError(f"{path}: {shown(value)} is no list of different months")
    return members


def _delivery(value: object, path: str, month: str, months: Collection[str]) -> Delivery:
    _known(month, months, path, "month")
    fields = _object(value, path, required=("spread_rate", "outright_rate"))
    return Delivery(
        _number(fields["spread_rate"], f"{path}.spread_rate", least=0.0),
        _number(fields["outright_rate"], f"{path}.outright_rate", least=0.0),
    )


def _spread(
    value: object, path: str, groups: Mapping[str, Mapping[str, tuple[str, ...]]], ratio: str, rate: str, most: float
) -> Spread:
    """A spread whose legs name one of the `groups`, and whose ratios and rate are under the keys `ratio` and `rate`."""
    fields = _object(value, path, required=("legs", rate))
    legs: list[Leg] = []
    for leg, where in _items(fields["legs"], f"{path}.legs"):
        stated = [of for of in groups if of in _mapping(leg, where)]
        if len(stated) != 1:
            raise SpanError(f"{where}: {shown(leg)} wants one of {', '.join(groups)}")
        of = stated[0]
        own = _object(leg, where, required=(of, ratio, "side"))
        name = _known(own[of], groups[of], f"{where}.{of}", of)
        side: Side = 1 if _choice(own["side"], f"{where}.side", ("A", "B")) == "A" else -1
        # Two legs of one side that draw on the same deltas would count them twice.
        if any(side == other.side and set(groups[of][name]) & set(other.members) for other in legs):
            raise SpanError(f"{where}.{of}: {shown(name)} stands twice on side {own['side']}")
        size = _number(own[ratio], f"{where}.{ratio}", least=_SMALLEST_RATIO)
        legs.append(Leg(of, name, groups[of][name], size, side))
    if {leg.side for leg in legs} != {1, -1}:
        raise SpanError(f"{path}.legs: {shown(fields['legs'])} has not a leg on each side")
    return Spread(tuple(legs), _number(fields[rate], f"{path}.{rate}", least=0.0, most=most))


def _object(value: object, path: str, required: Collection[str], optional: Collection[str] = ()) -> Mapping[str, Any]:
    """`value` as an object with all of the `required` keys and no others than `optional` beside them."""
    fields = _mapping(value, path)
    for key, entry in fields.items():
        if key not in required and key not in optional:
            raise SpanError(f"{joined(path, key)}: unknown key, of value {shown(entry)}")
    for key in required:
        if key not in fields:
            raise SpanError(f"{joined(path, key)}: missing")
    return fields


def _mapping(value: object, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise SpanError(f"{path or 'book'}: {shown(value)} is no object")
    for key in value:
        _name(key, f"{path or 'book'}, a key")
    return value


def _items(value: object, path: str) -> list[tuple[Any, str]]:
    """The entries of a list, each with its path."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise SpanError(f"{path}: {shown(value)} is no list")
    return [(entry, f"{path}[{i}]") for i, entry in enumerate(value)]


def _numbers(value: object, path: str, length: int) -> tuple[float, ...]:
    entries = _items(value, path)
    if len(entries) != length:
        raise SpanError(f"{path}: {len(entries)} values in {shown(value)}, wanted {length}")
    return tuple(_number(entry, where) for entry, where in entries)


def _number(value: object, path: str, least: float = -LARGEST, most: float = LARGEST) -> float:
    # A bool is an int to Python and a mistake here. A whole number of any size compares, before it is made a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise SpanError(f"{path}: {shown(value)}, wanted a number from {least:g} to {most:g}")
    return float(value)


def _name(value: object, path: str) -> str:
    if not isinstance(value, str) or not value:
        raise SpanError(f"{path}: {shown(value)} is no name")
    return value


def _choice(value: object, path: str, choices: Sequence[str]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise SpanError(f"{path}: {shown(value)}, wanted {' or '.join(choices)}")
    return value


def _known(value: object, names: Collection[str], path: str, what: str) -> str:
    name = _name(value, path)
    if name not in names:
        raise SpanError(f"{path}: {shown(name)} is no {what} of this book")
    return name
