"""The margin models by name: what each is, which of them a deployment has, and how a book from a file is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from . import pmrm2, span
from .book_file import read_book
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
    chosen = name or (book.get("model") if isinstance(book, Mapping) else None) or XPM
    forms: dict[str, Callable[[], dict[str, Any]]] = {
        XPM: lambda: _instruments(book, parameters),
        PMRM2: lambda: pmrm2.evaluate(floats(book)),
        SPAN: lambda: span.evaluate(floats(book)),
    }
    if chosen not in forms:
        raise UnknownModel(f"no model {chosen!r}: there are {', '.join(forms)}")
    return forms[chosen]()


def _instruments(data: Any, parameters: MarginParameters) -> dict[str, Any]:
    book = read_book(data)
    model = model_for(parameters, book.listing)
    valuation = Valuation.of(book.marks, model, book.portfolio.assets)
    vector = valuation.scenario_pnl([book.portfolio])
    initial, maintenance = (float(value[0]) for value in valuation.scenarios.requirements(vector))
    reserved = book.portfolio.reserved / 10**18
    equity = valuation.equity(book.portfolio) / (EXACT * 10**18)
    parts = [part for part in valuation.scenarios.parts(vector[0]) if part.requirement.initial > 0]
    healthy = equity >= initial + reserved
    return {
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


def floats(value: Any) -> Any:
    """Parsed JSON with its exact decimals as doubles, which the other models compute with."""
    if isinstance(value, Mapping):
        return {key: floats(each) for key, each in value.items()}
    if isinstance(value, list):
        return [floats(each) for each in value]
    return float(value) if isinstance(value, Decimal) else value
