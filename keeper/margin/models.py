"""The margin models by name: what each is, which of them a deployment has, and how a book from a file is judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keeper.state.exact import floats, shown

from . import pmrm2, span
from .book_file import Book, BookError, read_book
from .listing import Listing
from .model import MarginModel
from .parameters import PMRM2, SPAN, XPM, MarginParameters
from .pmrm2_model import Pmrm2
from .span_model import Span
from .valuation import EXACT, Valuation
from .xpm import Xpm


@dataclass(frozen=True, slots=True)
class Described:
    """A model for people: what it is, the form of its own books, and what of a deployment may be signed by it."""

    name: str
    summary: str
    book: str
    signs: str

    @property
    def deployable(self) -> bool:
        """Whether a deployment may name it: a node then computes and serves its figures, whatever it may sign."""
        return self.name in _MODELS


DESCRIBED = (
    Described(
        XPM,
        "Cross-chain portfolio margin: scenario grids with vol and skew shocks, joint stress with a decorrelation "
        "blend, filtered historical expected shortfall, contingencies, concentration. Nets across instruments, "
        "underlyings, protocols and chains.",
        "docs/margin.md",
        "everything",
    ),
    Described(
        PMRM2,
        "Derive's PMRM_2: scenarios of one underlying with dampened tails, basis and option contingencies, oracle "
        "confidence. No netting between underlyings, no futures.",
        "docs/margin.md",
        "perpetuals and collateral; options only without skew scenarios and confidences",
    ),
    Described(
        SPAN,
        "CME's SPAN: risk arrays of sixteen scenarios, calendar and inter-commodity spreads, delivery, short option "
        "minimum, net option value.",
        "docs/span.md",
        "nothing: it is not convex, and such a deployment is only observed",
    ),
)


_OWN_FORMS = ((SPAN, "commodities"), (PMRM2, "positions"))
"""The key by which a book that is not of instruments is known."""

_MODELS: dict[str, Callable[[MarginParameters, Listing], MarginModel]] = {XPM: Xpm, PMRM2: Pmrm2, SPAN: Span}


class UnknownModel(ValueError):
    """A name that is no model's; the message carries it and those there are."""


def model_for(parameters: MarginParameters, listing: Listing) -> MarginModel:
    """The model that the parameters name, of one deployment or book. Raises ParameterError."""
    return _MODELS[parameters.model](parameters, listing)


def judge(book: Any, name: str | None, parameters: MarginParameters) -> dict[str, Any]:
    """The report of one book in the form that it names, or `name`. JSON-ready, USD as doubles, unrounded.

    A book of instruments, as `book_file` reads it, is judged by the model of the parameters, as a deployment would;
    pmrm2 and span have books of their own, with all their parameters in them.

    Raises:
        UnknownModel, and the errors of the model's books.
    """
    chosen = name or model_of(book)
    forms: dict[str, Callable[[], dict[str, Any]]] = {
        XPM: lambda: _instruments(book, parameters),
        PMRM2: lambda: pmrm2.evaluate(floats(book)),
        SPAN: lambda: span.evaluate(floats(book)),
    }
    if chosen not in forms:
        raise UnknownModel(f"no model {shown(chosen)}: there are {', '.join(forms)}")
    return forms[chosen]()


def model_of(book: Any) -> str:
    """The model whose form a book has, as it says itself. Raises UnknownModel where that is no text."""
    named = book.get("model", XPM) if isinstance(book, Mapping) else XPM
    if not isinstance(named, str):
        raise UnknownModel(f"model: {shown(named)}, wanted {', '.join(each.name for each in DESCRIBED)}")
    return named


def read_instruments(data: Any) -> Book:
    """A book of instruments, which explanations and what-ifs are of. Raises BookError, which says who takes others."""
    if isinstance(data, list):
        raise BookError("a list of books: keeper margin evaluate takes it, here one is wanted")
    if isinstance(data, Mapping) and (own := next((name for name, key in _OWN_FORMS if key in data), None)):
        raise BookError(
            f"a book of the model {own}: keeper margin evaluate --model {own} takes it, here a book of instruments is "
            "wanted (docs/margin.md)"
        )
    return read_book(data)


def check_finite(report: Mapping[str, Any]) -> None:
    """Raises BookError where a book's figures have left the range of a double."""
    for name, value in report.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise BookError(f"{name} would be {value}: the book's numbers leave the range of a double")


def _instruments(data: Any, parameters: MarginParameters) -> dict[str, Any]:
    book = read_instruments(data)
    model = model_for(parameters, book.listing)
    # What overflows is caught by its result.
    with np.errstate(all="ignore"):
        return _report(book, model)


def _report(book: Book, model: MarginModel) -> dict[str, Any]:
    valuation = Valuation.of(book.marks, model, book.portfolio.assets)
    vector = valuation.scenario_pnl([book.portfolio])
    initial, maintenance = (float(value[0]) for value in valuation.scenarios.requirements(vector))
    reserved = book.portfolio.reserved / 10**18
    equity = valuation.equity(book.portfolio) / (EXACT * 10**18)
    parts = [part for part in valuation.scenarios.parts(vector[0]) if part.requirement.initial > 0]
    healthy = equity >= initial + reserved
    report = {
        "model": model.name,
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
    check_finite(report)
    return report
