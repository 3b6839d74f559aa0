"""The moves of each underlying that xpm's scenarios are made of: price, vol, and the weight that profit counts at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .history import Moves, filtered, stressed
from .kernel import Floats
from .parameters import BASIS, MarginParameters, UnderlyingParameters

FLAT, UP, DOWN, PAST = range(4)
"""What becomes of vols: nothing, the shock up, the shock down, a past return."""

_ONE = float(BASIS)
_VOLS = ((FLAT, ""), (UP, ", vol up"), (DOWN, ", vol down"))


@dataclass(frozen=True, slots=True)
class Move:
    """One underlying in one scenario: `spot` a fraction of its price, `vol` what becomes of vols."""

    spot: float
    vol: int
    weight: float = 1.0
    log_vol: float = 0.0
    name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Moves as arrays of shape (scenarios,)."""

    spot: Floats
    vol: NDArray[np.int64]
    weight: Floats
    log_vol: Floats

    @classmethod
    def of(cls, moves: Sequence[Move]) -> Columns:
        return cls(
            np.array([move.spot for move in moves]),
            np.array([move.vol for move in moves], dtype=np.int64),
            np.array([move.weight for move in moves]),
            np.array([move.log_vol for move in moves]),
        )

    @property
    def weighted(self) -> Floats:
        """What one USD of a linear instrument gains."""
        weighted: Floats = self.spot * self.weight
        return weighted


def cells(own: UnderlyingParameters, steps: int) -> list[Move]:
    """The cells of one underlying's grid: nodes with vol flat, up and down, then the tails with vol up."""
    found = []
    for i in range(-steps, steps + 1):
        points = own.largest_move * i / steps
        found += [Move(points / _ONE, vol, name=percent(points) + said) for vol, said in _VOLS]
    for tail in own.tails:
        name = f"{percent(tail.move)} × {tail.weight / _ONE:g}, vol up"
        found.append(Move(tail.move / _ONE, UP, tail.weight / _ONE, name=name))
    return found


def joint(parameters: MarginParameters, names: Sequence[str]) -> list[tuple[Move, ...]]:
    """A move of every underlying per joint scenario: every cell at once, then sign patterns with vol up.

    sign(u, r) = ± (−1)^popcount(r & u), r = 0 … 3, and on to as many as there are underlyings: of three all that there
    are, and each two of any number move apart in some. Patterns of both signs are at `opposed` of the ranges: markets
    that move together do not part by as much. Each scenario once.
    """
    own = [parameters.underlyings[name] for name in names]
    found = list(zip(*(cells(each, parameters.steps) for each in own), strict=True))
    for r in range(max(4, 1 << (len(own) - 1).bit_length())):
        for sign in (1, -1):
            signs = [sign * (-1) ** (u & r).bit_count() for u in range(len(own))]
            share = _ONE if len(set(signs)) == 1 else parameters.opposed
            points = [s * each.largest_move * share / _ONE for s, each in zip(signs, own, strict=True)]
            found.append(tuple(Move(p / _ONE, UP, name=percent(p) + ", vol up") for p in points))
    return list(dict.fromkeys(found))


def past(parameters: MarginParameters, names: Sequence[str]) -> tuple[list[tuple[Move, ...]], list[tuple[Move, ...]]]:
    """A move of every underlying per recent and per stressed day; none without returns."""
    if parameters.returns is None or not names:
        return [], []
    recent = filtered(parameters.returns, names, parameters.history)
    stress = stressed(parameters.returns, names, parameters.history)
    return _days(recent), _days(stress)


def named(moves: Sequence[Move], names: Sequence[str]) -> str:
    """A joint scenario in words."""
    return ", ".join(f"{name} {move.name}" for name, move in zip(names, moves, strict=True))


def percent(basis_points: float) -> str:
    return f"{basis_points / 100:+g} %".replace("-", "−") if basis_points else "0 %"


def _days(moves: Moves) -> list[tuple[Move, ...]]:
    spot, factor = np.expm1(moves.spot), moves.vol
    blank = Move(0.0, PAST)
    return [
        tuple(
            replace(blank, spot=float(spot[day, u]), log_vol=float(factor[day, u]), name=percent_of(spot[day, u]))
            for u in range(spot.shape[1])
        )
        for day in range(len(spot))
    ]


def percent_of(fraction: float) -> str:
    return f"{100 * fraction:+.2f} %".replace("-", "−")
