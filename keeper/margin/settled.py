"""Scenarios in which some assets have their final price and move no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keeper.market.marks import Marks
from keeper.state.ids import AssetId

from .model import Floats, Label, Part, Scenarios


@dataclass(frozen=True, eq=False)
class BesideSettled:
    """`moving` with rows of zeros for what is settled."""

    moving: Scenarios
    assets: tuple[AssetId, ...]
    prices: tuple[int, ...]
    pnl: Floats

    @property
    def labels(self) -> tuple[Label, ...]:
        return self.moving.labels

    @property
    def profits(self) -> int:
        return self.moving.profits

    @property
    def held(self) -> Mapping[str, int]:
        return self.moving.held

    @property
    def elsewhere(self) -> Mapping[str, int]:
        return self.moving.elsewhere

    def requirements(self, vectors: Floats) -> tuple[Floats, Floats]:
        return self.moving.requirements(vectors)

    def parts(self, vector: Floats) -> tuple[Part, ...]:
        return self.moving.parts(vector)


def beside_settled(
    marks: Marks, assets: Sequence[AssetId], priced: Callable[[Marks, Sequence[AssetId]], Scenarios]
) -> Scenarios:
    """The scenarios of `assets` by a model that is asked for those that still move only."""
    moving = [row for row, asset in enumerate(assets) if asset not in marks.settled]
    found = priced(marks, [assets[row] for row in moving])
    if len(moving) == len(assets):
        return found
    pnl = np.zeros((len(assets), found.pnl.shape[1]))
    pnl[moving] = found.pnl
    prices = [marks.settled.get(asset, 0) for asset in assets]
    for row, price in zip(moving, found.prices, strict=True):
        prices[row] = price
    return BesideSettled(found, tuple(assets), tuple(prices), pnl)
