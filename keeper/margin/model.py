"""What a margin model is: scenarios that price each instrument once, and a requirement over profit and loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from keeper.market.marks import Marks
from keeper.state.ids import AssetId

from .parameters import MarginParameters

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Requirement:
    """USD, unrounded, without reservations."""

    initial: float
    maintenance: float


@dataclass(frozen=True, slots=True)
class Label:
    """What a scenario column is: the block it is reduced in, and the move it stands for."""

    block: str
    move: str


@dataclass(frozen=True, slots=True)
class Part:
    """One term of a requirement and the scenario that sets it; `pnl` is the account's in that scenario, USD.

    `columns` are those of the vector that make it, with their weights: `pnl` is their weighted sum.
    """

    block: str
    scenario: str
    pnl: float
    requirement: Requirement
    columns: tuple[tuple[int, float], ...]


class Scenarios(Protocol):
    """Assets priced once at one set of marks, and the requirement of every sum of them.

    `pnl[a, s]` is what one whole unit of `assets[a]` adds to column `s`, USD; `labels[s]` says what the column is. Most
    columns are a profit or loss in a scenario; what a model counts beside scenarios (a notional, a count of shorts)
    has columns of its own, of the sign that more of it is a loss. So an account is the sum of its rows, a *vector*.

    Laws, for vectors a, b of one object, each for the initial and the maintenance requirement R: R ≥ 0 and
    maintenance ≤ initial; and where the model is `convex`: a ≤ b everywhere implies R(a) ≥ R(b), so that what is worse
    in every column bounds it, and R is convex, so that its largest value over what may be executed in parts lies at a
    corner.
    """

    @property
    def assets(self) -> tuple[AssetId, ...]: ...
    @property
    def prices(self) -> tuple[int, ...]:
        """The mark of a whole unit of each asset, USD 1e18."""
        ...

    @property
    def pnl(self) -> Floats: ...
    @property
    def labels(self) -> tuple[Label, ...]: ...

    @property
    def profits(self) -> int:
        """How many columns, from the first on, are the profit or loss in one scenario."""
        ...

    @property
    def held(self) -> Mapping[str, int]:
        """Per underlying the column of the net delta, USD; empty where nothing is counted per owner."""
        ...

    @property
    def elsewhere(self) -> Mapping[str, int]:
        """Per underlying the column of what the owner's other accounts hold, as a negative number; of `held`'s names.

        What it adds to a requirement only grows with the absolute value of what is held.
        """
        ...

    def requirements(self, vectors: Floats) -> tuple[Floats, Floats]:
        """Initial and maintenance requirement, shape (...), of vectors of shape (..., S), USD."""
        ...

    def parts(self, vector: Floats) -> tuple[Part, ...]:
        """The terms whose requirements sum to those of one vector of shape (S,)."""
        ...


class MarginModel(Protocol):
    """One way to require margin, of one deployment or book: it prices assets and lays out scenarios."""

    @property
    def name(self) -> str: ...

    @property
    def convex(self) -> bool:
        """Whether its requirements are convex: only then are partial executions no worse than the corners, by which
        permits and legs are judged."""
        ...

    @property
    def not_convex(self) -> str:
        """What makes them not convex, in words; empty where they are."""
        ...

    @property
    def parameters(self) -> MarginParameters: ...

    def price(self, asset: AssetId, marks: Marks) -> int:
        """The mark of a whole unit, USD 1e18. Raises UnknownAsset, or MarkError where the marks lack it."""
        ...

    def underlying(self, asset: AssetId) -> str:
        """What an asset's price moves with. Raises UnknownAsset."""
        ...

    def haircut(self, asset: AssetId) -> int:
        """What an asset loses in equity, basis points; 0 for an instrument. Raises UnknownAsset."""
        ...

    def scenarios(self, marks: Marks, assets: Sequence[AssetId]) -> Scenarios:
        """These assets, priced once. Raises as `price` does."""
        ...


class NotConvex(ValueError):
    """A model by which nothing may be signed; the message says why."""


def require_convex(model: MarginModel) -> None:
    """Raise NotConvex where acts cannot be judged at the corners of what may be executed."""
    if not model.convex:
        raise NotConvex(
            f"the margin model {model.name} is not convex here, so that what is executed in part may require more than "
            f"all and nothing of it, at which permits and legs are judged: {model.not_convex}"
        )
