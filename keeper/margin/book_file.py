"""Books in files: one account with its market, as JSON, for `keeper margin`.

    {"model": "xpm", "time": "2026-11-24T08:00:00Z", "stable_price": 1.0,
     "market": {"ETH": {"index": 3000, "funding": 0, "spot_confidence": 1, "perpetual_confidence": 1,
                        "expiries": {"2026-12-25": {"forward": 3010, "rate": 0.03, "vol": 0.6}}}},
     "account": {"cash": 10000, "reserved": 0, "elsewhere": {"ETH": 0},
                 "positions": [{"instrument": "ETH-PERP", "size": 5, "chain": "B", "protocol": "clearing house"}],
                 "collateral": [{"underlying": "ETH", "amount": 2, "chain": "A"}]}}

`vol` is one number, {"atm", "skew", "convexity"} or {"a", "b", "rho", "m", "sigma"} (SVI). USD and whole units,
exact to 1e-18. `elsewhere` is the net delta in USD of the owner's other accounts. Everything may be left out but
`market`, `account` and the numbers of what is held.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, TypeVar

from eth_hash.backends.pysha3 import keccak256

from keeper.market.marks import Curve, Expiry, Marks
from keeper.market.surface import AtmSkew, SurfaceError, Svi, VolSlice, arbitrage
from keeper.state.batch import UNIT
from keeper.state.deployment import Token
from keeper.state.ids import Address, AssetId, Kind, account_id, token_id
from keeper.state.world import MarginAccount

from .listing import CollateralToken, Listing
from .names import UnknownName, parse_expiry, parse_name
from .portfolio import Portfolio

Value = TypeVar("Value")

_CONFIDENCES = ("forward_confidence", "rate_confidence", "vol_confidence")


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
        """Where the market's smiles admit arbitrage; the book is judged all the same."""
        return [
            f"{name}, {found}"
            for name, curve in sorted(self.marks.curves.items())
            for found in arbitrage(
                {expiry: each.smile for expiry, each in curve.expiries.items() if each.smile is not None},
                self.marks.time,
            )
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
    book.only("model", "time", "stable_price", "market", "account", "parameters")
    time = book.convert("time", _time, 0)
    market = book.table("market")
    curves, prices = {}, {}
    for name in market.data:
        entry = market.table(name)
        entry.only("index", "funding", "spot_confidence", "perpetual_confidence", "expiries")
        prices[name] = entry.units("index")
        if prices[name] <= 0:
            raise BookError(f"{entry.path}index: {entry.data['index']}, wanted more than 0")
        curves[name] = _curve(entry)
    if not prices:
        raise BookError("market: no underlying")
    stable = book.number("stable_price", 1.0)
    if stable <= 0:
        raise BookError(f"stable_price: {stable}, wanted more than 0")
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
        asset = row.convert("instrument", parse_name)
        parts.append(Held(asset, row.units("size"), row.text("chain", "one chain"), row.text("protocol", "")))
    for row in collateral:
        row.only("underlying", "amount", "chain", "protocol")
        underlying, chain = row.text("underlying"), row.text("chain", "one chain")
        if underlying not in marks.prices:
            raise BookError(f"{row.path}underlying: {underlying!r} is not in the market")
        # A token of its own for every underlying and chain, as on real chains.
        address = Address(keccak256(underlying.encode())[:20])
        chain_id = 1 + chains.index(chain)
        asset = token_id(chain_id, address)
        tokens[asset] = CollateralToken(chain_id, Token(underlying, address, 18, underlying), 1)
        names[asset] = f"{underlying} collateral on {chain}"
        parts.append(Held(asset, row.units("amount"), chain, row.text("protocol", "vault")))
    elsewhere = {name: entry.table("elsewhere").units(name) for name in entry.table("elsewhere").data}
    net: dict[AssetId, int] = {}
    for part in parts:
        net[part.asset] = net.get(part.asset, 0) + part.amount
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


def _curve(entry: _Reader) -> Curve:
    expiries = {}
    rows = entry.table("expiries")
    for text in rows.data:
        try:
            expiry = parse_expiry(text)
        except UnknownName as error:
            raise BookError(f"{rows.path}{error}") from None
        row = rows.table(text)
        row.only("forward", "rate", "vol", *_CONFIDENCES)
        forward = row.number("forward")
        if forward <= 0:
            raise BookError(f"{row.path}forward: {forward:g}, wanted more than 0")
        confidences = {name: row.share(name) for name in _CONFIDENCES}
        smile = row.convert("vol", _smile, None)
        expiries[expiry] = Expiry(forward, row.number("rate", 0.0), smile, **confidences)
    return Curve(
        expiries, entry.share("spot_confidence"), entry.share("perpetual_confidence"), entry.number("funding", 0.0)
    )


def _smile(value: Any) -> VolSlice:
    if isinstance(value, Mapping):
        reader = _Reader("", value)
        if "atm" in value:
            reader.only("atm", "skew", "convexity")
            return AtmSkew(reader.number("atm"), reader.number("skew", 0.0), reader.number("convexity", 0.0))
        reader.only("a", "b", "rho", "m", "sigma")
        return Svi(*(reader.number(name) for name in ("a", "b", "rho", "m", "sigma")))
    return AtmSkew(_Reader("", {"vol": value}).number("vol"))


def _time(value: Any) -> int:
    return int(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else parse_expiry(str(value))


class _Reader:
    """One JSON object, by the path to it."""

    def __init__(self, path: str, data: Any) -> None:
        if not isinstance(data, Mapping):
            raise BookError(f"{path.rstrip('.') or 'the book'}: {data!r}, wanted an object")
        self.path, self.data = path, data

    def only(self, *names: str) -> None:
        if unknown := sorted(set(self.data) - set(names)):
            raise BookError(f"unknown: {', '.join(self.path + name for name in unknown)}")

    def table(self, name: str) -> _Reader:
        return _Reader(f"{self.path}{name}.", self.data.get(name, {}))

    def rows(self, name: str) -> list[_Reader]:
        rows = self.data.get(name, [])
        if not isinstance(rows, list):
            raise BookError(f"{self.path}{name}: {rows!r}, wanted a list")
        return [_Reader(f"{self.path}{name}[{i}].", row) for i, row in enumerate(rows)]

    def text(self, name: str, default: str | None = None) -> str:
        value = self._get(name, default)
        if not isinstance(value, str):
            raise BookError(f"{self.path}{name}: {value!r}, wanted text")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        return float(self._number(name, default))

    def share(self, name: str) -> float:
        """A confidence, 1 where it is not given."""
        value = self.number(name, 1.0)
        if not 0 <= value <= 1:
            raise BookError(f"{self.path}{name}: {value:g}, wanted 0 to 1")
        return value

    def units(self, name: str, default: int | None = None) -> int:
        """Scaled by 1e18, exact."""
        value = self._number(name, default) * UNIT
        if value != int(value) or abs(value) >= 2**128:
            raise BookError(f"{self.path}{name}: {self.data.get(name)}, wanted up to 18 decimals and less than 3e20")
        return int(value)

    def convert(self, name: str, convert: Callable[[Any], Value], *default: Value) -> Value:
        if name not in self.data and default:
            return default[0]
        value = self._get(name)
        try:
            return convert(value)
        except (UnknownName, SurfaceError, BookError, AttributeError) as error:
            raise BookError(f"{self.path}{name}: {error}") from None

    def _number(self, name: str, default: float | None) -> Decimal:
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise BookError(f"{self.path}{name}: {value!r}, wanted a number")
        number = Decimal(str(value)) if isinstance(value, float) else Decimal(value)
        if not number.is_finite():
            raise BookError(f"{self.path}{name}: {value}, wanted a finite number")
        return number

    def _get(self, name: str, default: Any = None) -> Any:
        value = self.data.get(name, default)
        if value is None:
            raise BookError(f"{self.path}{name} is missing")
        return value
