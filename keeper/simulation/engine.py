"""The steps of a run: block after block prices move, accounts are judged, and those that fall due are sold.

In a block: what was sold before is forgotten a little; bidders and the fund sell on a share of what they hold; every
account is judged by the margin model at the prices of now; accounts that have been below maintenance margin for
`latency` blocks are liquidated; the price after all that is the block's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from keeper.margin.parameters import MarginParameters
from keeper.margin.synthetic import SPOT

from . import closing
from .market import Impact, path, volatility
from .population import MICRO, Population, bystanders, open_accounts, populate
from .requirement import Floats, Ints, Requirements
from .sales import Desk, at_market, to_bidders, unload
from .settings import Rules, Scene
from .venue import FUND, Venue

_NEVER = -1
_DRIFT = 0.0025
"""By how much a mark must have moved for legs that end to be planned anew: those of less would hardly differ."""


@dataclass(frozen=True)
class World:
    """What is the same in every run of a scene: owners, path, the margin model."""

    scene: Scene
    parameters: MarginParameters
    need: Requirements
    sigma: Floats

    @classmethod
    def of(cls, scene: Scene, parameters: MarginParameters) -> World:
        """Raises SettingsError or ParameterError for what cannot be simulated."""
        need = Requirements(parameters, {name: SPOT[name] for name in sorted(parameters.underlyings) if name in SPOT})
        return cls(scene, parameters, need, volatility(parameters, need.names))

    @cached_property
    def population(self) -> Population:
        return populate(self.scene, self.need)

    @cached_property
    def path(self) -> Floats:
        return path(self.scene, self.need.names, self.need.start, self.sigma)

    @cached_property
    def bystanders(self) -> NDArray[np.intp]:
        """Owners who hold nothing of what is shocked."""
        shocked = [self.need.names.index(name) for name, _ in self.scene.shocks]
        return np.flatnonzero(bystanders(self.population, shocked))


@dataclass(frozen=True, eq=False)
class Trace:
    """A run. Prices have shape (blocks + 1, underlyings); series have one value a block, USD.

    `bystanders[t]` is the equity of each bystander. `start`, `end`: equity of every account, `parties` of the market,
    the bidders and the fund (start and end). `created` is what cash and sizes sum to beyond the start, the worst of
    all blocks, micro-USD and lots: zero.
    """

    rules: Rules
    venue: Venue
    prices: Floats
    sold: Floats
    deficit: Floats
    fund: Floats
    bystanders: Floats
    start: Floats
    end: Floats
    parties: tuple[Floats, Floats]
    created: tuple[int, int]

    @property
    def liquidated(self) -> NDArray[np.bool_]:
        return np.asarray(self.venue.sold > 0)


def run(world: World, rules: Rules, screen: bool = True) -> Trace:
    """One run; `screen` leaves out accounts that by the model's subadditivity cannot be below: the same result."""
    return _Run(world, rules, screen).all()


class _Run:
    def __init__(self, world: World, rules: Rules, screen: bool) -> None:
        self.world, self.rules, self.screen = world, rules, screen
        self.need = world.need
        self.venue = Venue.of(open_accounts(world.population, world.need, rules), rules.fund)
        seconds = world.scene.block_seconds
        self.impact = Impact(rules, seconds, world.sigma, world.need.volume)
        self.unloaded = float(1 - np.exp(-seconds / (60 * rules.unload_minutes)))
        count = len(self.venue.accounts)
        self.below = np.zeros(count, dtype=np.int64)
        """Blocks in a row below maintenance margin."""
        self.clock = np.full(count, _NEVER)
        """Block in which the auction began."""
        self.planned = np.full(count, _NEVER)
        self.planned_at = np.ones((count, len(world.need.names)))
        """The marks at that time."""
        self.legs = np.zeros_like(self.venue.accounts.size)
        self.scale = np.zeros(count)

    def all(self) -> Trace:
        path, venue = self.world.path, self.venue
        blocks, width = path.shape
        prices = np.empty((blocks, width))
        sold, deficit, fund = np.zeros(blocks), np.zeros(blocks), np.zeros(blocks)
        watched = np.empty((blocks, len(self.world.bystanders)))
        money, start = venue.money(), venue.equity(path[0])
        parties, created = venue.party_equity(path[0]), [0, 0]
        for block in range(blocks):
            sold[block] = self._block(block, path[block])
            prices[block] = self._mark(path[block])
            equity = venue.equity(prices[block])
            deficit[block] = np.maximum(0.0, -equity).sum()
            fund[block] = venue.party_equity(prices[block])[FUND]
            owners = np.bincount(venue.accounts.owner, equity, len(self.world.population))
            watched[block] = owners[self.world.bystanders]
            created[0] = max(created[0], abs(venue.money() - money))
            created[1] = max(created[1], int(np.abs(venue.sizes()).max()))
        ends = venue.party_equity(prices[-1])
        return Trace(
            self.rules, venue, prices, sold, deficit, fund, watched, start, venue.equity(prices[-1]), (parties, ends),
            (created[0], created[1]),
        )  # fmt: skip

    def _block(self, block: int, exogenous: Floats) -> float:
        self.impact.decay()
        unload(self._desk(self._mark(exogenous)), self.unloaded)
        mark = self._mark(exogenous)
        equity = self.venue.equity(mark)
        below = self.need.judge(self.venue.net, mark, equity, self.screen)
        self.below = np.where(below, self.below + 1, 0)
        due = self.below > self.rules.latency
        desk = self._desk(mark)
        return self._auctions(desk, block, due, equity) if self.rules.sale == "auction" else self._orders(desk, due)

    def _mark(self, exogenous: Floats) -> Floats:
        return exogenous * np.exp(self.impact.log) if self.rules.feedback else exogenous

    def _desk(self, mark: Floats) -> Desk:
        return Desk(self.venue, self.need, self.impact, self.rules, mark)

    def _orders(self, desk: Desk, due: NDArray[np.bool_]) -> float:
        rows = np.flatnonzero(due)
        if not len(rows):
            return 0.0
        lots, _ = self._close(rows, desk)
        # What is left is judged anew, and waits anew.
        self.below[rows] = 0
        return at_market(desk, rows, lots)

    def _auctions(self, desk: Desk, block: int, due: NDArray[np.bool_], equity: Floats) -> float:
        on = np.flatnonzero(self.clock != _NEVER)
        if len(on):
            restored = equity[on] >= self.need.of(self.venue.net[on], desk.mark)[0]
            self.clock[on[restored]] = _NEVER
        fresh = due & (self.clock == _NEVER)
        self.clock[fresh], self.planned[fresh] = block, _NEVER
        rows = np.flatnonzero(self.clock != _NEVER)
        if not len(rows):
            return 0.0
        # A new plan where the legs were all filled, are of one who is insolvent, or have ended and would be others.
        size = self.venue.accounts.size[rows]
        self.legs[rows] = np.sign(size) * np.minimum(np.abs(size), np.abs(self.legs[rows]))
        moved = np.abs(desk.mark / self.planned_at[rows] - 1).max(axis=1) > _DRIFT
        old = (self.planned[rows] == _NEVER) | ((block - self.planned[rows] >= self.rules.leg_blocks) & moved)
        old |= (equity[rows] < 0) | (self.rules.liquidation == "full")
        if old.any():
            self.legs[rows[old]], self.scale[rows[old]] = self._close(rows[old], desk)
            self.planned[rows[old]], self.planned_at[rows[old]] = block, desk.mark
        age = block - self.clock[rows]
        grown = np.minimum(1.0, age / self.rules.ramp) * self.scale[rows]
        concession = grown[:, None] * self.need.concession_rate
        before, offered = self.venue.accounts.size[rows], self.legs[rows].any(axis=(1, 2))
        sold = to_bidders(desk, rows, self.legs[rows], concession, age > 2 * self.rules.ramp)
        self.legs[rows] -= before - self.venue.accounts.size[rows]
        self.planned[rows[offered & ~self.legs[rows].any(axis=(1, 2))]] = _NEVER
        self.clock[rows[~self.venue.accounts.size[rows].any(axis=(1, 2))]] = _NEVER
        return sold

    def _close(self, rows: NDArray[np.intp], desk: Desk) -> tuple[Ints, Floats]:
        """Lots to be closed, signed as positions, and how much of the most concession: all of an insolvent account."""
        lots = self.venue.accounts.size[rows]
        size = lots / MICRO
        equity = self.venue.equity(desk.mark)[rows]
        found = closing.everything(size, equity, desk.mark, self.need)
        scale = found.scale.copy()
        if self.rules.liquidation == "partial" and (solvent := np.flatnonzero(equity >= 0)).size:
            parts = closing.plan(size[solvent], equity[solvent], desk.mark, self.need)
            chosen = np.minimum(np.ceil(parts.closed * MICRO - 1e-3), np.abs(lots[solvent])).astype(np.int64)
            lots = lots.copy()
            lots[solvent] = np.sign(lots[solvent]) * chosen
            scale[solvent] = parts.scale
        return lots, scale
