"""Books in files: one account with its market, as JSON, for `keeper margin`.

    {"model": "xpm", "time": "2026-11-24T08:00:00Z", "stable_price": 1.0,
     "market": {"ETH": {"index": 3000, "funding": 0, "spot_confidence": 1, "perpetual_confidence": 1,
                        "expiries": {"2026-12-25": {"forward": 3010, "rate": 0.03, "vol": 0.6}}}},
     "account": {"cash": 10000, "reserved": 0, "elsewhere": {"ETH": 0},
                 "positions": [{"instrument": "ETH-PERP", "size": 5, "chain": "B", "protocol": "clearing house"}],
                 "collateral": [{"underlying": "ETH", "amount": 2, "chain": "A"}]}}

`vol` is one number, {"atm", "skew", "convexity"} or {"a", "b", "rho", "m", "sigma"} (SVI). USD and whole units are
exact to 1e-18 and below 3.4e20; other numbers are doubles within ±1e15, rates within ±10 and vols up to 100 a year.
`elsewhere` is the net delta in USD of the owner's other accounts. Everything may be left out but `market`, `account`
and the numbers of what is held.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from eth_hash.backends.pysha3 import keccak256

from keeper.market.marks import Curve, Expiry, Marks
from keeper.market.surface import AtmSkew, SurfaceError, Svi, VolSlice, arbitrage
from keeper.state.batch import UNIT
from keeper.state.deployment import Token
from keeper.state.exact import LARGEST, InexactError, double, joined, scaled, shown
from keeper.state.ids import (
    Address,
    AssetId,
    IdError,
    Kind,
    account_id,
    parse_instrument,
    perpetual,
    token_id,
)
from keeper.state.world import MarginAccount

from .listing import CollateralToken, Listing
from .names import UnknownName, name_of, parse_expiry, parse_name, parse_time
from .portfolio import Portfolio

Value = TypeVar("Value")

_CONFIDENCES = ("forward_confidence", "rate_confidence", "vol_confidence")
_SVI = ("a", "b", "rho", "m", "sigma")
_UNITS_BELOW = 2**128
_MOST_RATE = 10.0
_LEAST = 1e-12
_MOST_VOL = 100.0
_COARSE = 10**14
"""Below this index, USD 1e18, what expires settles more than 0.01 % off: settlement prices are whole 1e-8 USD."""


class BookError(ValueError):
    """A book that cannot be read; the message names the field and the value."""


@dataclass(frozen=True, slots=True)
class Held:
    """One entry of a book: an amount of an asset on a chain, through a protocol. `amount` scaled by 1e18."""

    asset: AssetId
    amount: int
    chain: str
    protocol: str


@dataclass(frozen=True, slots=True)
class Book:
    """One account's holdings, netted in `portfolio`; `parts` as the file has them; `names` of collateral assets."""

    portfolio: Portfolio
    marks: Marks
    listing: Listing
    parts: tuple[Held, ...]
    names: Mapping[AssetId, str]

    @property
    def warnings(self) -> list[str]:
        """What makes the figures doubtful; the book is judged all the same."""
        return [*self._arbitrage(), *self._expired(), *self._coarse()]

    def _arbitrage(self) -> list[str]:
        return [
            f"{name}, {found}"
            for name, curve in sorted(self.marks.curves.items())
            for found in arbitrage(
                {expiry: each.smile for expiry, each in curve.expiries.items() if each.smile is not None},
                self.marks.time,
            )
        ]

    def _expired(self) -> list[str]:
        dated = [(asset, parse_instrument(asset).expiry) for asset in self.portfolio.positions]
        return [
            f"{name_of(asset)} expired at or before the book's time: it counts as at its expiry, at the forward given"
            for asset, expiry in dated
            if expiry and expiry <= self.marks.time
        ]

    def _coarse(self) -> list[str]:
        dated = {each.underlying for each in map(parse_instrument, self.portfolio.positions) if each.expiry}
        return [
            f"{name} is below 0.0001 USD, and settlement prices are whole multiples of 1e-8 USD: what expires loses "
            "more than 0.01 % by rounding"
            for name in sorted(dated)
            if self.marks.prices[name] < _COARSE
        ]

    def pieces(self, by: Callable[[Held], str]) -> dict[str, Portfolio]:
        """What the account holds, split: portfolios without cash by what `by` says of each entry."""
        split: dict[str, Portfolio] = {}
        for part in self.parts:
            before = split.get(by(part), replace(self.portfolio, cash=0, positions={}, collateral={}, reserved=0))
            token = part.asset in self.listing.collateral
            change = before.collateral if token else before.positions
            merged = {**change, part.asset: change.get(part.asset, 0) + part.amount}
            split[by(part)] = replace(before, collateral=merged) if token else replace(before, positions=merged)
        return split


def read_book(data: Any) -> Book:
    """A book from parsed JSON (numbers as Decimal or int). Raises BookError."""
    book = _Reader("", data)
    book.only("model", "time", "stable_price", "market", "account")
    time = book.convert("time", parse_time, 0)
    market = book.table("market")
    curves, prices = {}, {}
    for name in market.data:
        entry = market.table(name)
        _check_underlying(entry.path, name)
        entry.only("index", "funding", "spot_confidence", "perpetual_confidence", "expiries")
        prices[name] = entry.units("index")
        if prices[name] <= 0:
            raise entry.refused("index", "wanted more than 0")
        curves[name] = _curve(entry, time)
    if not prices:
        raise BookError("market: no underlying")
    stable = book.positive("stable_price", 1.0)
    return _with_account(book.table("account"), Marks(prices, curves, time, stable))


def _with_account(entry: _Reader, marks: Marks) -> Book:
    entry.only("name", "cash", "reserved", "elsewhere", "positions", "collateral")
    positions, collateral = entry.rows("positions"), entry.rows("collateral")
    chains = sorted({row.text("chain", "one chain") for row in (*positions, *collateral)} | {"one chain"})
    parts: list[Held] = []
    tokens: dict[AssetId, CollateralToken] = {}
    names: dict[AssetId, str] = {}
    for row in positions:
        row.only("instrument", "size", "chain", "protocol")
        asset = row.convert("instrument", lambda name: _listed(name, marks))
        parts.append(Held(asset, row.units("size"), row.text("chain", "one chain"), row.text("protocol", "")))
    for row in collateral:
        row.only("underlying", "amount", "chain", "protocol")
        underlying, chain = row.text("underlying"), row.text("chain", "one chain")
        if underlying not in marks.prices:
            raise row.refused("underlying", "not in the market of this book")
        # A token of its own for every underlying and chain, as on real chains.
        address = Address(keccak256(underlying.encode())[:20])
        chain_id = 1 + chains.index(chain)
        asset = token_id(chain_id, address)
        tokens[asset] = CollateralToken(chain_id, Token(underlying, address, 18, underlying), 1)
        names[asset] = f"{underlying} collateral on {chain}"
        parts.append(Held(asset, row.units("amount"), chain, row.text("protocol", "vault")))
    others = entry.table("elsewhere")
    others.only(*marks.prices)
    elsewhere = {name: others.units(name) for name in others.data}
    net: dict[AssetId, int] = {}
    for part in parts:
        net[part.asset] = net.get(part.asset, 0) + part.amount
        if abs(net[part.asset]) >= _UNITS_BELOW:
            name = names.get(part.asset) or name_of(part.asset)
            raise BookError(f"account: {name} adds up to {shown(net[part.asset] // UNIT)}, wanted less than 3.4e20")
    listing = Listing(tokens, {}, tuple(sorted(marks.prices)), frozenset(Kind) - {Kind.TOKEN})
    portfolio = Portfolio(
        MarginAccount(account_id(bytes(20)), tuple(range(1, len(chains) + 1))),
        entry.units("cash", 0),
        {asset: amount for asset, amount in sorted(net.items()) if asset not in tokens and amount},
        {asset: amount for asset, amount in sorted(net.items()) if asset in tokens and amount},
        entry.units("reserved", 0),
        elsewhere=elsewhere,
    )
    return Book(portfolio, marks, listing, tuple(parts), names)


def _curve(entry: _Reader, time: int) -> Curve:
    expiries: dict[int, Expiry] = {}
    written: dict[int, str] = {}
    rows = entry.table("expiries")
    for text in rows.data:
        row = rows.table(text)
        try:
            expiry = parse_expiry(text)
        except UnknownName as error:
            raise BookError(f"{row.path}: {error}") from None
        if expiry in written:
            raise BookError(f"{row.path}: the same expiry as {shown(written[expiry])}, wanted once")
        written[expiry] = text
        row.only("forward", "rate", "vol", *_CONFIDENCES)
        confidences = {name: row.share(name) for name in _CONFIDENCES}
        rate = row.number("rate", 0.0, -_MOST_RATE, _MOST_RATE)
        # An option at its expiry is worth its intrinsic value, whatever the vol.
        smile = row.smile("vol") if "vol" in row.data else AtmSkew(1.0) if expiry <= time else None
        expiries[expiry] = Expiry(row.positive("forward"), rate, smile, **confidences)
    return Curve(
        expiries, entry.share("spot_confidence"), entry.share("perpetual_confidence"), entry.number("funding", 0.0)
    )


def _check_underlying(path: str, name: str) -> None:
    try:
        perpetual(name)
    except IdError as error:
        raise BookError(f"{path}: {error}") from None


def _listed(name: Any, marks: Marks) -> AssetId:
    """The instrument of a name on an underlying of the market."""
    if not isinstance(name, str):
        raise UnknownName(f"{shown(name)}, wanted text like ETH-PERP")
    asset = parse_name(name)
    if (underlying := parse_instrument(asset).underlying) not in marks.prices:
        raise UnknownName(f"{shown(name)}: {underlying} is not in the market of this book")
    return asset


class _Reader:
    """One JSON object, by the path to it."""

    def __init__(self, path: str, data: Any) -> None:
        if not isinstance(data, Mapping):
            raise BookError(f"{path or 'the book'}: {shown(data)}, wanted an object")
        self.path, self.data = path, data

    def refused(self, name: str, wanted: str) -> BookError:
        return BookError(f"{joined(self.path, name)}: {shown(self.data.get(name))}, {wanted}")

    def only(self, *names: str) -> None:
        if unknown := sorted(set(self.data) - set(names)):
            listed = ", ".join(joined(self.path, name) for name in unknown[:5])
            raise BookError(f"unknown: {listed}; wanted {', '.join(names)}")

    def table(self, name: str) -> _Reader:
        return _Reader(joined(self.path, name), self.data.get(name, {}))

    def rows(self, name: str) -> list[_Reader]:
        rows = self.data.get(name, [])
        if not isinstance(rows, list):
            raise self.refused(name, "wanted a list")
        return [_Reader(f"{joined(self.path, name)}[{i}]", row) for i, row in enumerate(rows)]

    def text(self, name: str, default: str | None = None) -> str:
        value = self._get(name, default)
        if not isinstance(value, str):
            raise self.refused(name, "wanted text")
        return value

    def number(self, name: str, default: float | None = None, least: float = -LARGEST, most: float = LARGEST) -> float:
        try:
            return double(self._get(name, default), least, most)
        except InexactError as error:
            raise self.refused(name, str(error)) from None

    def positive(self, name: str, default: float | None = None, most: float = LARGEST) -> float:
        """Nothing below 1e-12: prices are computed to that."""
        value = self.number(name, default, most=most)
        if value < _LEAST:
            raise self.refused(name, "wanted more than 0" if value <= 0 else f"wanted at least {_LEAST:g}")
        return value

    def share(self, name: str) -> float:
        """A confidence, 1 where it is not given."""
        return self.number(name, 1.0, 0, 1)

    def units(self, name: str, default: int | None = None) -> int:
        """Scaled by 1e18, exact."""
        try:
            return scaled(self._get(name, default), 18, _UNITS_BELOW)
        except InexactError as error:
            raise self.refused(name, str(error)) from None

    def smile(self, name: str) -> VolSlice:
        try:
            if not isinstance(self.data[name], Mapping):
                return AtmSkew(self.positive(name, most=_MOST_VOL))
            row = self.table(name)
            if "atm" in row.data:
                row.only("atm", "skew", "convexity")
                atm = row.positive("atm", most=_MOST_VOL)
                return AtmSkew(
                    atm, row.number("skew", 0.0, -_MOST_VOL, _MOST_VOL), row.number("convexity", 0.0, 0, _MOST_VOL)
                )
            row.only(*_SVI)
            return Svi(**{each: row.number(each, least=-_MOST_VOL, most=_MOST_VOL) for each in _SVI})
        except SurfaceError as error:
            raise BookError(f"{joined(self.path, name)}: {error}") from None

    def convert(self, name: str, convert: Callable[[Any], Value], *default: Value) -> Value:
        if name not in self.data and default:
            return default[0]
        try:
            return convert(self._get(name))
        except UnknownName as error:
            raise BookError(f"{joined(self.path, name)}: {error}") from None

    def _get(self, name: str, default: Any = None) -> Any:
        value = self.data.get(name, default)
        if value is None:
            raise BookError(f"{joined(self.path, name)} is missing")
        return value
