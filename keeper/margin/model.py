"""What a margin model is: scenarios that price each instrument once, and a requirement over profit and loss."""

from __future__ import annotations

from collections.abc import Sequence
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


@dataclass(frozen=True)
class Scenarios:
    """`pnl[a, s]`: USD that one whole unit of `assets[a]` gains in scenario `s`, times the scenario's weight."""

    assets: tuple[AssetId, ...]
    pnl: Floats
    labels: tuple[Label, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One term of a requirement and the scenario that sets it; `pnl` is the account's in that scenario, USD."""

    block: str
    scenario: str
    pnl: float
    requirement: Requirement


class MarginModel(Protocol):
    """A requirement for every vector of scenario profits and losses.

    Laws, for vectors a, b of one model and k ≥ 0, each for the initial and the maintenance requirement R:
    R ≥ 0; a ≤ b everywhere implies R(a) ≥ R(b); R(k·a) = k·R(a); R(a + b) ≤ R(a) + R(b); maintenance ≤ initial.
    Hence R is convex, and its largest value over what may be executed in parts lies at a corner.
    """

    @property
    def name(self) -> str: ...

    @property
    def parameters(self) -> MarginParameters: ...

    def price(self, asset: AssetId, marks: Marks) -> int:
        """The mark of a whole unit, USD 1e18. Raises UnknownAsset, or MarkError where the marks lack it."""
        ...

    def haircut(self, asset: AssetId) -> int:
        """What an asset loses in equity, basis points; 0 for an instrument. Raises UnknownAsset."""
        ...

    def scenarios(self, marks: Marks, assets: Sequence[AssetId]) -> Scenarios:
        """The scenarios of these assets; the columns depend on the model alone. Raises as `price` does."""
        ...

    def requirements(self, pnl: Floats) -> tuple[Floats, Floats]:
        """Initial and maintenance requirement, shape (...), of scenario vectors of shape (..., S), USD."""
        ...

    def parts(self, pnl: Floats) -> tuple[Part, ...]:
        """The terms whose requirements sum to those of one scenario vector of shape (S,)."""
        ...
