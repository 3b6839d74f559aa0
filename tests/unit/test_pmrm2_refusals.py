"""Books of the model `pmrm2`: what is legal, and what is refused."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import pytest
from pmrm2_books import (
    VECTORS,
    Json,
    collateral,
    expiry,
    make_book,
    option,
    scenario,
    vector_book,
)

from keeper.margin.pmrm2 import evaluate
from keeper.margin.pmrm2_book import Pmrm2Error, VolMove, parse


def test_the_name_of_the_model_may_be_left_out() -> None:
    book = make_book()
    del book["model"]
    assert evaluate(book)["model"] == "pmrm2"


def test_a_market_without_a_perpetual_has_no_price_of_it() -> None:
    assert evaluate(make_book(market__perp_price=0.0))["initial_margin_balance"] == 0.0


def test_an_expiry_without_options_has_no_part_in_a_margin() -> None:
    report = evaluate(make_book(market__expiries=[expiry(), expiry(id="E1")], positions__options=[option(90.0, 1.0)]))
    assert [e["id"] for e in report["expiries"]] == ["E0"]


def test_parse_reads_every_field() -> None:
    parsed = parse(vector_book(VECTORS["cases"][-1]))
    assert parsed.parameters.scenarios[0].vol is VolMove.UP
    assert parsed.market.expiries[1].id == "E1"
    assert parsed.positions.options[0].strike == 58414.0
    assert len(parsed.positions.collateral) == 2


FULL = make_book(
    positions__options=[option(90.0, 1.0), option(95.0, 1.0)],
    positions__collateral=[collateral()],
    positions__perp=1.0,
)


def broken(path: str, value: Any) -> Json:
    """The full book with one field changed; indices stand between dots, and None removes the field."""
    book = copy.deepcopy(FULL)
    *parts, last = path.split(".")
    place: Any = book
    for part in parts:
        place = place[int(part) if part.isdigit() else part]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return book


def leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """Every field of a book by its path, those within lists with an index."""
    entries = list(value.items()) if isinstance(value, Mapping) else []
    places = [(f"{path}.{name}" if path else name, entry) for name, entry in entries]
    inner = [(f"{path}.{index}", entry) for index, entry in enumerate(value)] if isinstance(value, list) else places
    return [*places, *(leaf for place, entry in inner for leaf in leaves(entry, place))]


def named(path: str) -> str:
    """positions.options.1.strike as messages have it: positions.options[1].strike."""
    return "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in path.split("."))[1:]


FIELDS = [path for path, _ in leaves(FULL) if path != "model"]
NUMBERS = [path for path, value in leaves(FULL) if isinstance(value, int | float) and not isinstance(value, bool)]


def refusal(book: Any) -> str:
    with pytest.raises(Pmrm2Error) as raised:
        evaluate(book)
    return str(raised.value)


@pytest.mark.parametrize("path", FIELDS)
def test_evaluate_RevertWhen_AFieldIsMissing(path: str) -> None:
    assert refusal(broken(path, None)) == f"{named(path)}: missing"


@pytest.mark.parametrize("wrong", ["1", True, [], math.nan, math.inf, -math.inf, 10**400], ids=lambda v: str(v)[:5])
def test_evaluate_RevertWhen_ANumberIsNone(wrong: Any) -> None:
    for path in NUMBERS:
        assert refusal(broken(path, wrong)).startswith(f"{named(path)}: {repr(wrong)[:50]}")
        assert ", wanted a " in refusal(broken(path, wrong))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("market.spot", 0.0, "market.spot: 0.0, wanted above 0"),
        ("market.spot", -1.0, "market.spot: -1.0, wanted above 0"),
        ("market.stable_price", 0, "market.stable_price: 0, wanted above 0"),
        ("market.perp_price", 0.0, "market.perp_price: 0.0, wanted above 0"),
        ("market.perp_price", -2.0, "market.perp_price: -2.0, wanted at least 0"),
        ("market.expiries.0.forward", 0.0, "market.expiries[0].forward: 0.0, wanted above 0"),
        ("positions.collateral.0.price", 0.0, "positions.collateral[0].price: 0.0, wanted above 0"),
        ("positions.options.1.strike", -90.0, "positions.options[1].strike: -90.0, wanted above 0"),
        ("positions.options.1.strike", 0.0, "positions.options[1].strike: 0.0, wanted above 0"),
        ("positions.options.1.mark_vol", -0.1, "positions.options[1].mark_vol: -0.1, wanted at least 0"),
        ("positions.options.1.expiry", "E7", "positions.options[1].expiry: 'E7', not an expiry of the market"),
        ("positions.options.1.call", 1, "positions.options[1].call: 1, wanted true or false"),
        ("positions.collateral.0.offsets_spot", "yes", "positions.collateral[0].offsets_spot: 'yes', wanted true"),
        ("positions.collateral.0.asset", 3, "positions.collateral[0].asset: 3, wanted a text"),
        ("market.expiries", [expiry(), expiry()], "market.expiries[1].id: 'E0', listed twice"),
        ("market.expiries", {}, "market.expiries: {}, wanted a list"),
        ("positions.options", "none", "positions.options: 'none', wanted a list"),
        ("positions.options", [7], "positions.options[0]: 7, wanted an object"),
        ("parameters.margin", [1.0], "parameters.margin: [1.0], wanted an object"),
        ("parameters.scenarios.0.spot", -0.1, "parameters.scenarios[0].spot: -0.1, wanted at least 0"),
        ("parameters.scenarios.0.vol", "sideways", "parameters.scenarios[0].vol: 'sideways', wanted one of up, down"),
        ("parameters.scenarios.0.vol", 1, "parameters.scenarios[0].vol: 1, wanted a text"),
        ("parameters.basis.spot_down", -0.1, "parameters.basis.spot_down: -0.1, wanted at least 0"),
        ("model", "pmrm", "model: 'pmrm', wanted 'pmrm2'"),
        ("marktet", {}, "marktet: {}, no field of a book"),
        ("market.sport", 1.0, "market.sport: 1.0, no field of a book"),
        ("positions.options.1.vega", 1.0, "positions.options[1].vega: 1.0, no field of a book"),
        ("parameters.vol_shock.floor", 1.0, "parameters.vol_shock.floor: 1.0, no field of a book"),
    ],
)
def test_evaluate_RevertWhen_AFieldHasNoMeaning(path: str, value: Any, message: str) -> None:
    assert refusal(broken(path, value)).startswith(message)


@pytest.mark.parametrize("book", [None, [], "book", 3], ids=repr)
def test_evaluate_RevertWhen_ABookIsNoObject(book: Any) -> None:
    assert refusal(book) == f"book: {book!r}, wanted an object"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("positions.options.0.amount", 1e308),
        ("positions.options.0.mark_vol", 1.7e308),
        ("positions.perp", 1e308),
        ("market.expiries.0.rate", 1e4),
        ("parameters.margin.short_rate_add", 1e6),
        ("parameters.vol_shock.long_term_power", -1e6),
    ],
)
def test_evaluate_RevertWhen_NumbersAreTooLarge(path: str, value: float) -> None:
    book = broken(path, value)
    book["parameters"]["scenarios"] = [scenario(50.0, "up", 50.0)]
    assert refusal(book).startswith("book: its numbers leave the range of a double")
