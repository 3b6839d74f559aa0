"""The margin models by name: what each is, and how it judges a book from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from . import pmrm2, span
from .book_file import read_book
from .parameters import MarginParameters
from .valuation import EXACT, Valuation
from .xpm import Xpm


@dataclass(frozen=True, slots=True)
class Described:
    """A model for people: what it is, the form of its books, whether a deployment may run on it."""

    name: str
    summary: str
    book: str
    deployable: bool


DESCRIBED = (
    Described(
        "xpm",
        "Cross-chain portfolio margin: scenario grids with vol and skew shocks, joint stress with a decorrelation "
        "blend, filtered historical expected shortfall, contingencies, concentration. Nets across instruments, "
        "underlyings, protocols and chains.",
        "docs/margin.md",
        deployable=True,
    ),
    Described(
        "pmrm2",
        "Derive's PMRM_2: scenarios of one underlying with dampened tails, basis and option contingencies, oracle "
        "confidence. No netting between underlyings.",
        "docs/margin.md",
        deployable=False,
    ),
    Described(
        "span",
        "CME's SPAN: risk arrays of sixteen scenarios, calendar and inter-commodity spreads, delivery, short option "
        "minimum, net option value.",
        "docs/span.md",
        deployable=False,
    ),
)


class UnknownModel(ValueError):
    """A name that is no model's; the message carries it and those there are."""


def judge(book: Any, name: str | None, parameters: MarginParameters) -> dict[str, Any]:
    """The report of one book by the model that it names, or by `name`. JSON-ready, USD as doubles, unrounded.

    Raises:
        UnknownModel, and the errors of the model's books.
    """
    chosen = name or (book.get("model") if isinstance(book, Mapping) else None) or "xpm"
    models: dict[str, Callable[[], dict[str, Any]]] = {
        "xpm": lambda: _xpm(book, parameters),
        "pmrm2": lambda: pmrm2.evaluate(floats(book)),
        "span": lambda: span.evaluate(floats(book)),
    }
    if chosen not in models:
        raise UnknownModel(f"no model {chosen!r}: there are {', '.join(models)}")
    return models[chosen]()


def _xpm(data: Any, parameters: MarginParameters) -> dict[str, Any]:
    book = read_book(data)
    model = Xpm(parameters, book.listing)
    valuation = Valuation.of(book.marks, model, book.portfolio.assets)
    vector = valuation.scenario_pnl([book.portfolio])
    initial, maintenance = (float(value[0]) for value in valuation.scenarios.requirements(vector))
    reserved = book.portfolio.reserved / 10**18
    equity = valuation.equity(book.portfolio) / (EXACT * 10**18)
    parts = [part for part in valuation.scenarios.parts(vector[0]) if part.requirement.initial > 0]
    healthy = equity >= initial + reserved
    return {
        "model": "xpm",
        "equity": equity,
        "initial_margin": initial + reserved,
        "maintenance_margin": maintenance + reserved,
        "free": equity - initial - reserved,
        "status": "healthy" if healthy else "at_risk" if equity >= maintenance + reserved else "liquidatable",
        "net_cash": valuation.net_cash(book.portfolio) / (EXACT * 10**18),
        "gross_notional": valuation.gross_notional(book.portfolio) / (EXACT * 10**18),
        "terms": [
            {
                "term": part.block,
                "scenario": part.scenario,
                "pnl": part.pnl,
                "initial": part.requirement.initial,
                "maintenance": part.requirement.maintenance,
            }
            for part in parts
        ],
        "warnings": book.warnings,
    }


def floats(value: Any) -> Any:
    """Parsed JSON with its exact decimals as doubles, which the other models compute with."""
    if isinstance(value, Mapping):
        return {key: floats(each) for key, each in value.items()}
    if isinstance(value, list):
        return [floats(each) for each in value]
    return float(value) if isinstance(value, Decimal) else value
