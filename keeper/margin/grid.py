"""The scenario grid for perpetuals and collateral.

Every underlying has a grid of cells: nodes from −range to +range, and tails beyond it whose profit and loss is
dampened. With d the correlation break,

    S = d · Σ_u max(0, −min_cell PnL_u) + (1 − d) · max(0, −min_joint PnL)
    maintenance = 0.8 · S + 2 % · N,   initial = 1.0 · S + 2.8 % · N

where the joint block applies every cell to all underlyings at once and adds eight sign patterns at the range, and N is
the netted notional of perpetuals, per underlying. N is written as the worse of two columns, ± the notional, so that
the whole is a sum of weighted worst cases over blocks of columns: monotone, positively homogeneous and subadditive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keeper.market.marks import MarkError, Marks
from keeper.state.batch import UNIT
from keeper.state.ids import AssetId, is_token

from .listing import Listing
from .model import Floats, Label, Part, Requirement, Scenarios
from .parameters import BASIS, MarginParameters, ParameterError

JOINT = "joint"

_ONE = float(BASIS)


@dataclass(frozen=True, slots=True)
class _Block:
    """Columns start … stop − 1, of which the worst loss counts at the weights."""

    name: str
    start: int
    stop: int
    initial: float
    maintenance: float


class GridModel:
    """The scenario-grid model of one deployment. Scenario columns depend on its listing and parameters only."""

    name = "grid"

    def __init__(self, parameters: MarginParameters, listing: Listing) -> None:
        """Raises ParameterError where an underlying of the listing has no parameters."""
        missing = [name for name in listing.underlyings if name not in parameters.underlyings]
        if missing:
            raise ParameterError(f"no margin parameters for {', '.join(missing)}")
        self.parameters = parameters
        self.listing = listing
        self._blocks: list[_Block] = []
        self._labels: list[Label] = []
        self._spot: dict[str, Floats] = {}
        self._perpetual: dict[str, Floats] = {}
        self._lay_out()

    def _lay_out(self) -> None:
        """Name the columns of every block, and write each underlying's rows per USD of price."""
        p, names = self.parameters, self.listing.underlyings
        rows: dict[str, dict[int, float]] = {name: {} for name in names}
        contingency: dict[str, dict[int, float]] = {name: {} for name in names}
        d, rest = p.correlation_break, BASIS - p.correlation_break
        for name in names:
            start = len(self._labels)
            for label, move in self._cells(name):
                rows[name][len(self._labels)] = move
                self._labels.append(Label(name, label))
            self._close(name, start, p.initial_factor * d, p.maintenance_factor * d)
        start = len(self._labels)
        for moves in self._joint_moves():
            for name, (_, move) in zip(names, moves, strict=True):
                rows[name][len(self._labels)] = move
            self._labels.append(Label(JOINT, ", ".join(f"{n} {m}" for n, (m, _) in zip(names, moves, strict=True))))
        self._close(JOINT, start, p.initial_factor * rest, p.maintenance_factor * rest)
        for name in names:
            start, block = len(self._labels), f"{name} perpetual"
            for side, label in ((-1.0, "notional, long"), (1.0, "notional, short")):
                contingency[name][len(self._labels)] = side
                self._labels.append(Label(block, label))
            maintenance = p.perpetual_maintenance * BASIS
            self._close(block, start, maintenance + p.perpetual_initial * BASIS, maintenance)
        for name in names:
            spot = np.zeros(len(self._labels))
            spot[list(rows[name])] = list(rows[name].values())
            perpetual = spot.copy()
            perpetual[list(contingency[name])] = list(contingency[name].values())
            self._spot[name], self._perpetual[name] = spot, perpetual

    def _close(self, name: str, start: int, initial: int, maintenance: int) -> None:
        scale = float(BASIS * BASIS)
        self._blocks.append(_Block(name, start, len(self._labels), initial / scale, maintenance / scale))

    def _joint_moves(self) -> list[tuple[tuple[str, float], ...]]:
        """Label and weighted move of each underlying in every joint scenario, each scenario once."""
        names = self.listing.underlyings
        joint = list(zip(*(self._cells(name) for name in names), strict=True))
        for r in range(4):
            for sign in (1, -1):
                signs = (sign * (-1) ** (u & r).bit_count() for u in range(len(names)))
                ranges = [s * self.parameters.underlyings[n].largest_move for n, s in zip(names, signs, strict=True)]
                joint.append(tuple((_percent(move), move / _ONE) for move in ranges))
        return list(dict.fromkeys(joint))

    def _cells(self, underlying: str) -> list[tuple[str, float]]:
        """Label and weighted move of every cell of an underlying's grid."""
        own, steps = self.parameters.underlyings[underlying], self.parameters.steps
        nodes = [own.largest_move * i / steps for i in range(-steps, steps + 1)]
        regular = [(_percent(move), move / _ONE) for move in nodes]
        tails = [
            (f"{_percent(tail.move)} × {tail.weight / _ONE:g}", tail.move * tail.weight / (_ONE * _ONE))
            for tail in own.tails
        ]
        return regular + tails

    def price(self, asset: AssetId, marks: Marks) -> int:
        underlying = self.listing.underlying_of(asset)
        try:
            return marks.prices[underlying]
        except KeyError:
            raise MarkError(f"the marks have no price for {underlying}") from None

    def haircut(self, asset: AssetId) -> int:
        underlying = self.listing.underlying_of(asset)
        return self.parameters.underlyings[underlying].haircut if is_token(asset) else 0

    def scenarios(self, marks: Marks, assets: Sequence[AssetId]) -> Scenarios:
        pnl = np.zeros((len(assets), len(self._labels)))
        for row, asset in enumerate(assets):
            underlying = self.listing.underlying_of(asset)
            per_dollar = self._spot[underlying] if is_token(asset) else self._perpetual[underlying]
            pnl[row] = per_dollar * (self.price(asset, marks) / UNIT)
        return Scenarios(tuple(assets), pnl, tuple(self._labels))

    def requirements(self, pnl: Floats) -> tuple[Floats, Floats]:
        initial = np.zeros(pnl.shape[:-1])
        maintenance = np.zeros(pnl.shape[:-1])
        for block in self._blocks:
            loss = np.maximum(0.0, -pnl[..., block.start : block.stop].min(axis=-1))
            initial += block.initial * loss
            maintenance += block.maintenance * loss
        return initial, maintenance

    def parts(self, pnl: Floats) -> tuple[Part, ...]:
        found = []
        for block in self._blocks:
            worst = block.start + int(pnl[block.start : block.stop].argmin())
            loss = max(0.0, -float(pnl[worst]))
            found.append(
                Part(
                    block.name,
                    self._labels[worst].move,
                    float(pnl[worst]),
                    Requirement(block.initial * loss, block.maintenance * loss),
                )
            )
        return tuple(found)


def _percent(basis_points: float) -> str:
    return f"{basis_points / 100:+g} %".replace("-", "−") if basis_points else "0 %"
