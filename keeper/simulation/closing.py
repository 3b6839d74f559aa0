"""Partial liquidation of many accounts at once, by the rule of `keeper.clearing.plan`.

What that module does account by account on integers, this does on arrays of accounts: the same greedy search by
sixteenths of a position, for what frees most initial margin for its cost; the same corners of CM-41, each leg filled
or not; the same cut back to what restores initial margin. A test holds it to plan.py on samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keeper.clearing.sale import MOST_LEGS

from .requirement import Floats, Requirements

_STEPS = 16
_SLACK = 1e-5
_HALVINGS = 16
"""Of a leg that is cut back: what it closes too much is below 1/65,536 of it."""

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Closings:
    """What of each position is closed, unsigned whole units, shape (accounts, chains, underlyings), and `scale`: the
    share of the most concession that CM-41 allows all legs of the account."""

    closed: Floats
    scale: Floats


def everything(size: Floats, equity: Floats, prices: Floats, need: Requirements) -> Closings:
    """All of it. Concessions are scaled to what the account has, and in full, at the fund's cost, where that is less
    than nothing."""
    closed = np.abs(size)
    conceded = (closed * (need.concession_rate * prices)).sum(axis=(1, 2))
    scale = np.where(equity < 0, 1.0, np.minimum(1.0, equity / np.maximum(conceded, 1e-12)))
    return Closings(closed, scale)


def plan(size: Floats, equity: Floats, prices: Floats, need: Requirements) -> Closings:
    """The legs of accounts that hold `size` (signed, whole units) with `equity`, USD."""
    search = _Search(size, equity, prices, need)
    search.run()
    search.trim()
    scale = search.scales(np.arange(len(size)), search.closed)
    closed = np.where(np.isnan(scale)[:, None], 0.0, search.closed)
    return Closings(closed.reshape(size.shape), np.nan_to_num(scale))


class _Search:
    """Positions flattened to (accounts, cells); `closed` so far."""

    def __init__(self, size: Floats, equity: Floats, prices: Floats, need: Requirements) -> None:
        accounts, chains, width = size.shape
        self.need, self.prices, self.equity = need, prices, equity
        self.size = size.reshape(accounts, chains * width)
        self.unit = np.tile(np.eye(width), (chains, 1))
        self.rate = np.tile(need.concession_rate * prices, chains)
        self.net = self.size @ self.unit
        self.initial, self.maintenance = need.of(self.net, prices)
        covered = equity / np.maximum(self.maintenance, 1e-12)
        self.share = np.where((equity >= 0) & (self.maintenance > 0), np.minimum(1.0, covered), 1.0)
        self.closed = np.zeros_like(self.size)

    def run(self) -> None:
        """Grow every account's legs until it is restored or nothing more is allowed and helps."""
        active = np.flatnonzero(self.equity < self.initial)
        while len(active):
            active = active[self._grow(active)]
            active = active[~self.fine(active, self.closed[active])]

    def _grow(self, rows: NDArray[np.intp]) -> Bools:
        """One step each; which of them made one."""
        full, closed = np.abs(self.size[rows]), self.closed[rows]
        legs = (closed > 0).sum(axis=1)
        open_to = (closed < full) & ((closed > 0) | (legs < MOST_LEGS)[:, None])
        grown = np.minimum(full, closed + full / _STEPS)
        account, cell = np.nonzero(open_to)
        now = self.net[rows] - (np.sign(self.size[rows]) * closed) @ self.unit
        step = (grown - closed)[account, cell]
        after = now[account] - (np.sign(self.size[rows])[account, cell] * step)[:, None] * self.unit[cell]
        freed = self.need.of(now, self.prices)[0][account] - self.need.of(after, self.prices)[0]
        score = np.full(closed.shape, -np.inf)
        score[account, cell] = np.where(freed > _SLACK, freed / np.maximum(step * self.rate[cell], 1e-12), -np.inf)
        made = np.zeros(len(rows), dtype=bool)
        order = np.argsort(-score, axis=1, kind="stable")
        for rank in range(closed.shape[1]):
            best = order[:, rank]
            tried = np.flatnonzero(~made & np.isfinite(score[np.arange(len(rows)), best]))
            if not len(tried):
                break
            larger = closed[tried].copy()
            larger[np.arange(len(tried)), best[tried]] = grown[tried, best[tried]]
            allowed = ~np.isnan(self.scales(rows[tried], larger))
            made[tried[allowed]] = True
            self.closed[rows[tried[allowed]]] = larger[allowed]
        return made

    def trim(self) -> None:
        """Cut legs back to the least that still restores, first what frees least for its cost at the margin."""
        rows = np.flatnonzero((self.closed > 0).any(axis=1))
        rows = rows[self.fine(rows, self.closed[rows])]
        order = np.argsort(self._last(rows), axis=1, kind="stable")
        for rank in range(order.shape[1]):
            cell = order[:, rank]
            mine = self.closed[rows, cell] > 0
            at, leg = rows[mine], cell[mine]
            if not len(at):
                break
            without = self.closed[at].copy()
            without[np.arange(len(at)), leg] = 0.0
            gone = (without > 0).any(axis=1) & self.fine(at, without)
            low, high = np.zeros(len(at)), np.where(gone, 0.0, self.closed[at, leg])
            for _ in range(_HALVINGS):
                middle = (low + high) / 2
                without[np.arange(len(at)), leg] = middle
                enough = self.fine(at, without)
                low, high = np.where(enough, low, middle), np.where(enough, middle, high)
            self.closed[at, leg] = high

    def _last(self, rows: NDArray[np.intp]) -> Floats:
        """What the last sixteenth of each leg frees for each USD that it costs; infinite where there is none."""
        closed = self.closed[rows]
        found = np.full(closed.shape, np.inf)
        account, cell = np.nonzero(closed > 0)
        sign, part = np.sign(self.size[rows]), closed[account, cell] / _STEPS
        now = self.net[rows] - (sign * closed) @ self.unit
        before = now[account] + (sign[account, cell] * part)[:, None] * self.unit[cell]
        freed = self.need.of(before, self.prices)[0] - self.need.of(now, self.prices)[0][account]
        found[account, cell] = freed / (part * self.rate[cell])
        return found

    def fine(self, rows: NDArray[np.intp], closed: Floats) -> Bools:
        """Whether these closings are allowed and restore initial margin."""
        scale = self.scales(rows, closed)
        cost = np.nan_to_num(scale) * (closed @ self.rate)
        after = self.net[rows] - (np.sign(self.size[rows]) * closed) @ self.unit
        restored = self.equity[rows] - cost >= self.need.of(after, self.prices)[0] + _SLACK
        return np.asarray(restored & ~np.isnan(scale))

    def scales(self, rows: NDArray[np.intp], closed: Floats) -> Floats:
        """The share of the most concession that every corner allows; NaN where not even none is."""
        found = np.ones(len(rows))
        legs = (closed > 0).sum(axis=1)
        for count in np.unique(legs[legs > 0]).tolist():
            few = np.flatnonzero(legs == count)
            cell = np.nonzero(closed[few] > 0)[1].reshape(len(few), count)
            taken = np.take_along_axis(closed[few], cell, axis=1)
            signed = np.sign(np.take_along_axis(self.size[rows[few]], cell, axis=1)) * taken
            subsets = ((np.arange(1, 2**count)[:, None] >> np.arange(count)[None, :]) & 1).astype(float)
            moved = np.einsum("sl,al,alu->asu", subsets, signed, self.unit[cell])
            net = self.net[rows[few]][:, None, :] - moved
            maintenance = self.need.of(net.reshape(-1, net.shape[2]), self.prices)[1].reshape(net.shape[:2])
            left = self.share[rows[few]][:, None] * (self.maintenance[rows[few]][:, None] - maintenance) - _SLACK
            equity = self.equity[rows[few]]
            left[:, -1] = np.where(equity >= 0, np.minimum(left[:, -1], equity), left[:, -1])
            conceded = (taken * self.rate[cell]) @ subsets.T
            scale = np.minimum(1.0, (left / np.maximum(conceded, 1e-12)).min(axis=1))
            found[few] = np.where((left < 0).any(axis=1), np.nan, scale)
        return found
