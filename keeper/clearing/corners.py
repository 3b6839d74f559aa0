"""What is left to concede at every corner of a plan: each leg filled or not, beside each subset of live permits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keeper.margin.model import Floats

from .sale import SLACK


@dataclass(frozen=True)
class Corners:
    """`left` is what concessions may cost in USD, by subset of permits and corner of the legs; `equity` what all of
    them may together. A leg beside which another is live costs what the dearer of the two does."""

    legs: Floats
    left: Floats
    filled: Floats
    standing: Floats
    equity: float

    def hold(self, concessions: Floats) -> bool:
        conceded = self._conceded(concessions)
        return bool((self.left - self.legs @ conceded >= SLACK).all() and conceded.sum() <= self.equity)

    def worst(self, concessions: Floats) -> int:
        """The number of the subset of permits that has least left."""
        return int((self.left - self.legs @ self._conceded(concessions)).min(axis=1).argmin())

    def _conceded(self, concessions: Floats) -> Floats:
        return np.asarray(self.filled * np.maximum(concessions, self.standing))
