"""What a permit is judged against, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from keeper.margin.listing import Listing
from keeper.margin.model import MarginModel, require_convex
from keeper.margin.parameters import MarginParameters
from keeper.market.marks import Marks
from keeper.state.deployment import Deployment
from keeper.state.ids import AccountId
from keeper.state.live import LegItem
from keeper.state.problem import Problem
from keeper.state.wire import to_json
from keeper.state.world import World

MOST_ASSETS = 64
"""Instruments and tokens that one account may hold over all its chains."""


@dataclass(frozen=True, slots=True)
class Context:
    """What an act is judged against.

    `world` holds the final states, `marks` every set of prices to judge at (the last batch's and one's own): each must
    pass. `legs` are legs of other accounts, one of which a takeover names; those in the live list count too. `settling`
    are accounts with settlement entries that are signed and not final. Raises NotConvex for a model by which the
    corners of what is live bound nothing.
    """

    world: World
    marks: tuple[Marks, ...]
    model: MarginModel
    listing: Listing
    deployment: Deployment
    parameters: MarginParameters
    legs: tuple[LegItem, ...] = ()
    settling: frozenset[AccountId] = frozenset()

    def __post_init__(self) -> None:
        require_convex(self.model)


@dataclass(frozen=True, slots=True)
class Grant:
    """May be signed. `free_after` is the least free margin of any account and subset with the act, USD 1e18;
    `reducing` where it passes only because it frees margin."""

    free_after: int
    reducing: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """May not be signed, and why. Figures in USD 1e18, None where something without a price is in the way.

    `free` is the least free margin over all subsets of what is live, without the act; `asked` what the act would take
    of it. `equity` and the margins are final figures, with nothing live executed.
    """

    code: str
    message: str
    account: AccountId
    live: tuple[str, ...]
    free: int | None = None
    asked: int | None = None
    equity: int | None = None
    initial_margin: int | None = None
    maintenance_margin: int | None = None
    field: str | None = None
    got: Any = None
    wanted: Any = None
    unit: str | None = None

    def problem(self) -> Problem:
        """The same as everybody is told it."""
        details = to_json(self.figures())
        return Problem(self.code, self.message, self.field, self.got, self.wanted, self.unit, details)

    def figures(self) -> dict[str, Any]:
        """Everything but code and message, named and written as on the wire: amounts are decimal strings."""
        amounts = {
            "free": self.free,
            "asked": self.asked,
            "equity": self.equity,
            "initialMargin": self.initial_margin,
            "maintenanceMargin": self.maintenance_margin,
        }
        return {
            "account": self.account,
            "live": list(self.live),
            **{name: None if amount is None else str(amount) for name, amount in amounts.items()},
        }
