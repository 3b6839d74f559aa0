"""Books of the model `pmrm2`: parameters, market and positions of one account, read from a plain object.

Fields carry the names of the format. Prices and cash are in USD, rates and vols per year, confidences and haircuts
shares of one, and shocks of the spot multiples of it (1.04 is four percent up).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, TypeVar

from keeper.state.exact import joined, shown

MODEL = "pmrm2"

_Record = TypeVar("_Record")


class Pmrm2Error(ValueError):
    """A book that has no margin; the message names the field by its path, and the value."""


class VolMove(StrEnum):
    """What a scenario does to vols: shifts of the level, or of the skew with the spot unmoved."""

    UP = "up"
    DOWN = "down"
    NONE = "none"
    LINEAR = "linear"
    ABS = "abs"


@dataclass(frozen=True, slots=True)
class Scenario:
    spot: float
    vol: VolMove
    dampening: float


@dataclass(frozen=True, slots=True)
class VolShock:
    """Level shocks: ranges at thirty days, the powers of time they scale with, and a floor of shocked-up vols."""

    range_up: float
    range_down: float
    short_term_power: float
    long_term_power: float
    dte_floor_days: float
    min_vol_up: float


@dataclass(frozen=True, slots=True)
class SkewShock:
    """Skew shocks: a cap is `c_base` · √years + `cap`; the rest sets at which log-moneyness it is reached."""

    linear_c_base: float
    linear_cap: float
    abs_c_base: float
    abs_cap: float
    min_k_star: float
    min_width_scale: float
    vol_param_static: float
    vol_param_scale: float


@dataclass(frozen=True, slots=True)
class MarginFactors:
    """Shares of the worst loss, and what a shocked expiry's value is discounted by when long or short."""

    mm_factor: float
    im_factor: float
    short_rate_mult: float
    long_rate_mult: float
    short_rate_add: float
    long_rate_add: float
    base_discount_long: float
    base_discount_short: float


@dataclass(frozen=True, slots=True)
class Basis:
    """Shocks of one forward alone, and the weight `add` + `mult` · years of the loss."""

    spot_up: float
    spot_down: float
    add: float
    mult: float


@dataclass(frozen=True, slots=True)
class Contingency:
    """Charges beside scenarios; the im ones are on top of the mm ones."""

    peg_threshold: float
    peg_factor: float
    confidence_threshold: float
    confidence_margin: float
    mm_perp: float
    im_perp: float
    mm_option: float
    im_option: float


@dataclass(frozen=True, slots=True)
class Parameters:
    scenarios: tuple[Scenario, ...]
    vol_shock: VolShock
    skew_shock: SkewShock
    margin: MarginFactors
    basis: Basis
    contingency: Contingency


@dataclass(frozen=True, slots=True)
class Expiry:
    """One expiry's marks; below 0 `seconds` it has passed."""

    id: str
    seconds: float
    forward: float
    rate: float
    forward_confidence: float
    rate_confidence: float
    vol_confidence: float


@dataclass(frozen=True, slots=True)
class Market:
    spot: float
    spot_confidence: float
    perp_price: float
    perp_confidence: float
    stable_price: float
    expiries: tuple[Expiry, ...]


@dataclass(frozen=True, slots=True)
class Option:
    """One entry; several may be of the same expiry, strike and side, each with the vol it is marked at."""

    expiry: str
    strike: float
    call: bool
    mark_vol: float
    amount: float


@dataclass(frozen=True, slots=True)
class Collateral:
    """`offsets_spot`: it moves with the spot, and so takes part in the scenarios."""

    asset: str
    amount: float
    price: float
    confidence: float
    im_haircut: float
    mm_haircut: float
    offsets_spot: bool


@dataclass(frozen=True, slots=True)
class Positions:
    cash: float
    perp: float
    unrealised_perp_pnl: float
    unrealised_funding: float
    options: tuple[Option, ...]
    collateral: tuple[Collateral, ...]


@dataclass(frozen=True, slots=True)
class Pmrm2Book:
    parameters: Parameters
    market: Market
    positions: Positions


def parse(book: Mapping[str, Any]) -> Pmrm2Book:
    """Read a book and check it. Every field is required but `model`, which may only be "pmrm2".

    Legal is what the formula has a value for: also negative rates and cash, expiries that have passed, empty lists and
    zero amounts; the perpetual's price may be 0 where none is held.

    Raises:
        Pmrm2Error: a missing, unknown or mistyped field, no finite number, a price or strike not above 0, a negative
            vol or shocked spot, an unknown vol move or expiry, an expiry listed twice.
    """
    root = _Object.read(book, "", Pmrm2Book, optional=("model",))
    if root.values.get("model", MODEL) != MODEL:
        raise root.refused("model", f"wanted {MODEL!r}")
    parsed = Pmrm2Book(
        _parameters(root.object("parameters", Parameters)),
        _market(root.object("market", Market)),
        _positions(root.object("positions", Positions)),
    )
    _check_references(parsed)
    return parsed


def parse_parameters(value: object, path: str) -> Parameters:
    """The parameters of a book by themselves. Raises Pmrm2Error."""
    return _parameters(_Object.read(value, path, Parameters))


def _parameters(read: _Object) -> Parameters:
    basis = read.object("basis", Basis)
    for name in ("spot_up", "spot_down"):
        basis.number(name, least=0.0)
    return Parameters(
        scenarios=tuple(_scenario(entry) for entry in read.objects("scenarios", Scenario)),
        vol_shock=read.object("vol_shock", VolShock).numbers(VolShock),
        skew_shock=read.object("skew_shock", SkewShock).numbers(SkewShock),
        margin=read.object("margin", MarginFactors).numbers(MarginFactors),
        basis=basis.numbers(Basis),
        contingency=read.object("contingency", Contingency).numbers(Contingency),
    )


def _scenario(read: _Object) -> Scenario:
    vol = read.text("vol")
    if vol not in set(VolMove):
        raise read.refused("vol", "wanted one of " + ", ".join(VolMove))
    return Scenario(read.number("spot", least=0.0), VolMove(vol), read.number("dampening"))


def _market(read: _Object) -> Market:
    return Market(
        spot=read.number("spot", above=0.0),
        spot_confidence=read.number("spot_confidence"),
        perp_price=read.number("perp_price", least=0.0),
        perp_confidence=read.number("perp_confidence"),
        stable_price=read.number("stable_price", above=0.0),
        expiries=tuple(_expiry(entry) for entry in read.objects("expiries", Expiry)),
    )


def _expiry(read: _Object) -> Expiry:
    return Expiry(
        id=read.text("id"),
        seconds=read.number("seconds"),
        forward=read.number("forward", above=0.0),
        rate=read.number("rate"),
        forward_confidence=read.number("forward_confidence"),
        rate_confidence=read.number("rate_confidence"),
        vol_confidence=read.number("vol_confidence"),
    )


def _positions(read: _Object) -> Positions:
    return Positions(
        cash=read.number("cash"),
        perp=read.number("perp"),
        unrealised_perp_pnl=read.number("unrealised_perp_pnl"),
        unrealised_funding=read.number("unrealised_funding"),
        options=tuple(_option(entry) for entry in read.objects("options", Option)),
        collateral=tuple(_collateral(entry) for entry in read.objects("collateral", Collateral)),
    )


def _option(read: _Object) -> Option:
    return Option(
        expiry=read.text("expiry"),
        strike=read.number("strike", above=0.0),
        call=read.flag("call"),
        mark_vol=read.number("mark_vol", least=0.0),
        amount=read.number("amount"),
    )


def _collateral(read: _Object) -> Collateral:
    return Collateral(
        asset=read.text("asset"),
        amount=read.number("amount"),
        price=read.number("price", above=0.0),
        confidence=read.number("confidence"),
        im_haircut=read.number("im_haircut"),
        mm_haircut=read.number("mm_haircut"),
        offsets_spot=read.flag("offsets_spot"),
    )


def _check_references(book: Pmrm2Book) -> None:
    """What one part of a book asks of another."""
    known: set[str] = set()
    for index, expiry in enumerate(book.market.expiries):
        if expiry.id in known:
            raise Pmrm2Error(f"market.expiries[{index}].id: {shown(expiry.id)}, listed twice")
        known.add(expiry.id)
    for index, option in enumerate(book.positions.options):
        if option.expiry not in known:
            raise Pmrm2Error(f"positions.options[{index}].expiry: {shown(option.expiry)}, not an expiry of the market")
    if book.positions.perp and not book.market.perp_price:
        raise Pmrm2Error(f"market.perp_price: {book.market.perp_price!r}, wanted above 0")


@dataclass(frozen=True, slots=True)
class _Object:
    """One object of a book, with where it stands; its keys are the fields of the record it is read as."""

    path: str
    values: Mapping[str, Any]

    @classmethod
    def read(cls, value: object, path: str, record: type, optional: Sequence[str] = ()) -> _Object:
        if not isinstance(value, Mapping):
            raise Pmrm2Error(f"{path or 'book'}: {shown(value)}, wanted an object")
        read = cls(path, value)
        names = [entry.name for entry in fields(record)]
        for name in names:
            if name not in value:
                raise Pmrm2Error(f"{read.place(name)}: missing")
        for name in value:
            if name not in names and name not in optional:
                raise read.refused(name, "no field of a book")
        return read

    def place(self, name: object) -> str:
        return joined(self.path, name)

    def refused(self, name: str, reason: str) -> Pmrm2Error:
        return Pmrm2Error(f"{self.place(name)}: {shown(self.values[name])}, {reason}")

    def object(self, name: str, record: type) -> _Object:
        return _Object.read(self.values[name], self.place(name), record)

    def objects(self, name: str, record: type) -> list[_Object]:
        entries = self.values[name]
        if not isinstance(entries, Sequence) or isinstance(entries, str | bytes):
            raise self.refused(name, "wanted a list")
        return [_Object.read(entry, f"{self.place(name)}[{index}]", record) for index, entry in enumerate(entries)]

    def numbers(self, record: type[_Record]) -> _Record:
        """A record all of whose fields are numbers."""
        return record(**{name: self.number(name) for name in self.values})

    def number(self, name: str, above: float = -math.inf, least: float = -math.inf) -> float:
        """A finite number, strictly above one bound and not below another."""
        value = self.values[name]
        # In Python a truth value is an integer; in a book it is a mistake.
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.refused(name, "wanted a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self.refused(name, "wanted a finite number")
        if number <= above:
            raise self.refused(name, f"wanted above {above:g}")
        if number < least:
            raise self.refused(name, f"wanted at least {least:g}")
        return number

    def text(self, name: str) -> str:
        value = self.values[name]
        if not isinstance(value, str):
            raise self.refused(name, "wanted a text")
        return value

    def flag(self, name: str) -> bool:
        value = self.values[name]
        if not isinstance(value, bool):
            raise self.refused(name, "wanted true or false")
        return value
