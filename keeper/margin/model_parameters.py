"""Parameters of the models beside xpm, as a deployment's file has them; rates in integer basis points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from .pmrm2_book import Parameters

BASIS = 10_000
"""Basis points in one."""

Side = Literal["A", "B"]


class ParameterError(ValueError):
    """Parameters that no model can use; the message names the field and the value."""


@dataclass(frozen=True, slots=True)
class Pmrm2Parameters:
    """`book` is what a book of the model has as its `parameters`, of every underlying alike, in steps of 0.0001.

    Collateral loses its underlying's haircut in both margins, and `initial_haircuts`, by underlying and in basis
    points, in the initial one on top.
    """

    book: Parameters
    initial_haircuts: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        points(asdict(self.book), "pmrm2")
        book, margin = self.book, self.book.margin
        for name, value in (
            *((f"basis.{name}", getattr(book.basis, name)) for name in ("add", "mult")),
            *((f"contingency.{name}", value) for name, value in asdict(book.contingency).items()),
            *((f"margin.{name}", getattr(margin, name)) for name in ("mm_factor", "base_discount_long")),
            ("margin.base_discount_short", margin.base_discount_short),
            *((f"scenarios[{n}].dampening", scenario.dampening) for n, scenario in enumerate(book.scenarios)),
            *((f"initial_haircuts.{name}", share / BASIS) for name, share in self.initial_haircuts.items()),
        ):
            if value < 0:
                raise ParameterError(f"pmrm2.{name}: {value:g}, wanted at least 0")
        if margin.im_factor < margin.mm_factor:
            raise ParameterError(f"pmrm2.margin.im_factor: {margin.im_factor:g} is below {margin.mm_factor:g}")

    def canonical(self) -> dict[str, Any]:
        """As plain values: integers and text."""
        return {"book": points(asdict(self.book), "pmrm2"), "initial_haircuts": dict(self.initial_haircuts)}


@dataclass(frozen=True, slots=True)
class CreditLeg:
    """`ratio` units of an underlying's delta per spread, in basis points of one."""

    underlying: str
    ratio: int
    side: Side


@dataclass(frozen=True, slots=True)
class Credit:
    """A spread between underlyings, that is credited `rate` of the price risk of its deltas."""

    legs: tuple[CreditLeg, ...]
    rate: int


@dataclass(frozen=True, slots=True)
class SpanParameters:
    """The price scan range is an underlying's `largest_move`; basis points.

    Vols move by `vol_scan` of themselves, prices in the extreme scenarios by `extreme_move` ranges, of which
    `extreme_share` counts; `short_option_minimum` is of spot per short option, `calendar_charge` of spot per unit of
    delta that one expiry holds against another's; `credits` in order of priority.
    """

    vol_scan: int = 2500
    extreme_move: int = 20_000
    extreme_share: int = 3500
    short_option_minimum: int = 100
    calendar_charge: int = 100
    initial_to_maintenance: int = 11_000
    short_option_method: str = "sum"
    credits: tuple[Credit, ...] = ()

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("vol_scan", self.vol_scan, 0, BASIS),
            ("extreme_move", self.extreme_move, 0, 10 * BASIS),
            ("extreme_share", self.extreme_share, 0, BASIS),
            ("short_option_minimum", self.short_option_minimum, 0, BASIS),
            ("calendar_charge", self.calendar_charge, 0, BASIS),
            ("initial_to_maintenance", self.initial_to_maintenance, BASIS, 100 * BASIS),
            *((f"credits[{n}].rate", credit.rate, 0, BASIS) for n, credit in enumerate(self.credits)),
        ):
            if not least <= value <= most:
                raise ParameterError(f"span.{name}: {value / BASIS:g}, wanted {least / BASIS:g} to {most / BASIS:g}")
        if self.short_option_method not in ("sum", "max"):
            raise ParameterError(f"span.short_option_method: {self.short_option_method!r}, wanted sum or max")
        for n, credit in enumerate(self.credits):
            names = [leg.underlying for leg in credit.legs]
            if {leg.side for leg in credit.legs} != {"A", "B"} or len(set(names)) < len(names):
                raise ParameterError(f"span.credits[{n}]: wanted different underlyings, and a leg on side A and on B")
            if any(leg.ratio <= 0 for leg in credit.legs):
                raise ParameterError(f"span.credits[{n}]: ratios are more than 0")

    def canonical(self) -> dict[str, Any]:
        """As plain values: integers and text."""
        return asdict(self)


def points(value: Any, path: str) -> Any:
    """Plain data with numbers in basis points. Raises ParameterError for a number finer than that."""
    if isinstance(value, Mapping):
        return {key: points(each, f"{path}.{key}") for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [points(each, f"{path}[{n}]") for n, each in enumerate(value)]
    if not isinstance(value, float):
        return str(value)
    rounded = round(value * BASIS)
    if rounded / BASIS != value:
        raise ParameterError(f"{path}: {value!r}, wanted a number in steps of {1 / BASIS}")
    return rounded
