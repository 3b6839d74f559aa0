"""The file of margin parameters: TOML, every value checked, nothing unknown accepted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from decimal import Decimal
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from keeper.state.documents import DocumentError, read_toml
from keeper.state.exact import InexactError, joined, scaled, shown
from keeper.state.ids import IdError, perpetual

from .model_parameters import Credit, CreditLeg, Pmrm2Parameters, SpanParameters
from .parameters import (
    BASIS,
    XPM,
    Contingencies,
    History,
    MarginParameters,
    ParameterError,
    SkewShock,
    Tail,
    UnderlyingParameters,
    VolShock,
)
from .pmrm2_book import Pmrm2Error, parse_parameters
from .returns import ReturnsError, load_returns

Part = TypeVar("Part", VolShock, SkewShock, History, Contingencies)

_WHOLE = {"steps", "days", "stress_days", "seed_days", "horizon", "daily_volume", "cash_term"}
"""Counts and USD; everything else is a fraction."""
_USD = {"minimum_equity", "cash_floor", "cash_limit"}
_COUNT_BELOW = 10**15
_POINTS_BELOW = 10_000 * BASIS
_SECTIONS = {"underlyings", "grid", "vol", "skew", "history", "contingencies", "returns", "model", "pmrm2", "span"}


@cache
def default_parameters(model: str = XPM) -> MarginParameters:
    """Those shipped for a model: BTC and ETH move 15 %, SOL 20 %; collateral in BTC and ETH loses 3 % in equity, SOL
    5 %."""
    with resources.as_file(resources.files("keeper.margin") / "data") as folder:
        return load_parameters(folder / f"{model}.toml")


def load_parameters(path: Path) -> MarginParameters:
    """Read a file of parameters; what it leaves out has its default, but for the underlyings.

    Raises:
        ParameterError: no such file, no TOML, an unknown name, a value of the wrong type, finer than 0.0001 or out of
            range, or a series of returns that cannot be read. The message names the file, the field and the value.
    """
    try:
        return _parameters(path, read_toml(path))
    except (DocumentError, ReturnsError, ParameterError) as error:
        raise ParameterError(f"{path}: {error}") from None


def _parameters(path: Path, data: dict[str, Any]) -> MarginParameters:
    flat = {each.name for each in fields(MarginParameters)} - _SECTIONS
    _known("", data, flat | _SECTIONS)
    grid = _table(data, "grid")
    _known("grid.", grid, {"tails"})
    tails = _tails("grid.tails", grid["tails"]) if "tails" in grid else None
    rows = _table(data, "underlyings")
    underlyings = {name: _underlying(name, _table(rows, name, "underlyings"), tails) for name in rows}
    if not underlyings:
        raise ParameterError("no underlyings")
    values = {name: _usd(name, data[name]) if name in _USD else _number(name, data[name]) for name in flat & set(data)}
    returns = None
    if "returns" in data:
        if not isinstance(data["returns"], str):
            raise ParameterError(f"returns: {shown(data['returns'])}, wanted the name of a file")
        returns = load_returns(path.parent / data["returns"])
    return MarginParameters(
        underlyings=underlyings,
        vol=_part(VolShock, "vol", data),
        skew=_part(SkewShock, "skew", data),
        history=_part(History, "history", data),
        contingencies=_part(Contingencies, "contingencies", data),
        returns=returns,
        model=_text("model", data.get("model", XPM)),
        pmrm2=_pmrm2(_table(data, "pmrm2")) if "pmrm2" in data else None,
        span=_span(_table(data, "span")) if "span" in data else None,
        **values,
    )


def _underlying(name: str, table: Mapping[str, Any], tails: tuple[Tail, ...] | None) -> UnderlyingParameters:
    prefix = joined("underlyings", name) + "."
    try:
        perpetual(name)
    except IdError as error:
        raise ParameterError(f"{prefix[:-1]}: {error}") from None
    _known(prefix, table, {each.name for each in fields(UnderlyingParameters)})
    for wanted in ("largest_move", "haircut"):
        if wanted not in table:
            raise ParameterError(f"{prefix}{wanted} is missing")
    values = {key: _number(prefix + key, value) for key, value in table.items() if key != "tails"}
    plain = UnderlyingParameters(values.pop("largest_move"), values.pop("haircut"))
    own = _tails(prefix + "tails", table["tails"]) if "tails" in table else tails
    return replace(plain, tails=plain.tails if own is None else own, **values)


def _pmrm2(table: dict[str, Any]) -> Pmrm2Parameters:
    """What stands in [pmrm2] is a book's `parameters`, and `initial_haircuts`."""
    haircuts = _table(table, "initial_haircuts")
    book = {name: value for name, value in table.items() if name != "initial_haircuts"}
    try:
        parsed = parse_parameters(_doubles("pmrm2", book), "pmrm2")
    except Pmrm2Error as error:
        raise ParameterError(str(error)) from None
    return Pmrm2Parameters(
        parsed, {name: _number(joined("pmrm2.initial_haircuts", name), share) for name, share in haircuts.items()}
    )


def _doubles(name: str, value: Any) -> Any:
    """Numbers as doubles, in steps of a basis point."""
    if isinstance(value, Mapping):
        return {key: _doubles(joined(name, key), each) for key, each in value.items()}
    if isinstance(value, list):
        return [_doubles(f"{name}[{n}]", each) for n, each in enumerate(value)]
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return _points(name, value) / BASIS
    return value


def _span(table: dict[str, Any]) -> SpanParameters:
    _known("span.", table, {each.name for each in fields(SpanParameters)})
    values: dict[str, Any] = {
        name: _text(f"span.{name}", value) if name == "short_option_method" else _number(f"span.{name}", value)
        for name, value in table.items()
        if name != "credits"
    }
    credits_ = [_credit(f"span.credits[{n}]", each) for n, each in enumerate(_rows("span.credits", table))]
    return SpanParameters(**values, credits=tuple(credits_))


def _credit(name: str, table: dict[str, Any]) -> Credit:
    _known(f"{name}.", table, {"rate", "legs"})
    legs = []
    for n, leg in enumerate(_rows(f"{name}.legs", table)):
        _known(f"{name}.legs[{n}].", leg, {"underlying", "ratio", "side"})
        side = leg.get("side")
        if side not in ("A", "B"):
            raise ParameterError(f"{name}.legs[{n}].side: {shown(side)}, wanted A or B")
        underlying = _text(f"{name}.legs[{n}].underlying", leg.get("underlying"))
        legs.append(CreditLeg(underlying, _number(f"{name}.legs[{n}].ratio", leg.get("ratio")), side))
    return Credit(tuple(legs), _number(f"{name}.rate", table.get("rate")))


def _rows(name: str, table: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = table.get(name.rpartition(".")[2], [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ParameterError(f"{name}: {shown(rows)}, wanted a list of tables")
    return rows


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ParameterError(f"{name}: {shown(value)}, wanted text")
    return value


def _part(kind: type[Part], name: str, data: Mapping[str, Any]) -> Part:
    table = _table(data, name)
    _known(name + ".", table, {each.name for each in fields(kind)})
    return kind(**{key: _number(f"{name}.{key}", value) for key, value in table.items()})


def _tails(name: str, value: Any) -> tuple[Tail, ...]:
    if not isinstance(value, list) or any(not isinstance(pair, list) or len(pair) != 2 for pair in value):
        raise ParameterError(f"{name}: {shown(value)}, wanted pairs of move and weight")
    return tuple(Tail(_number(name, move), _number(name, weight)) for move, weight in value)


def _table(data: Mapping[str, Any], name: str, path: str = "") -> dict[str, Any]:
    table = data.get(name, {})
    if not isinstance(table, dict):
        raise ParameterError(f"{joined(path, name)}: {shown(table)}, wanted a table")
    return table


def _known(prefix: str, table: Mapping[str, Any], names: set[str]) -> None:
    if unknown := sorted(set(table) - names):
        raise ParameterError(f"unknown: {', '.join(joined(prefix.rstrip('.'), name) for name in unknown[:5])}")


def _number(name: str, value: Any) -> int:
    """A count as it is, a fraction in basis points."""
    if name.rpartition(".")[2] not in _WHOLE:
        return _points(name, value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ParameterError(f"{name}: {shown(value)}, wanted a whole number")
    if abs(value) >= _COUNT_BELOW:
        raise ParameterError(f"{name}: {shown(value)}, wanted less than {_COUNT_BELOW:g}")
    return value


def _points(name: str, value: Any) -> int:
    try:
        return scaled(value, 4, _POINTS_BELOW)
    except InexactError as error:
        hint = f", in steps of {1 / BASIS}" if "decimals" in str(error) else ""
        raise ParameterError(f"{name}: {shown(value)}, {error}{hint}") from None


def _usd(name: str, value: Any) -> int:
    try:
        return scaled(value, 18, 2**128)
    except InexactError as error:
        raise ParameterError(f"{name}: {shown(value)}, {error}, USD") from None
