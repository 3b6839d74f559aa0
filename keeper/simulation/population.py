"""Owners and their books: traders of very different sizes, arbitrageurs, and market makers who hold the other side.

Sizes are Pareto (exponent 1.3, cut at 300 times the least), as positions of traders are known to be heavy-tailed. Of
the traders most take sides in one to three underlyings, each on a chain of its own choice; of those who are hedged, a
fifth where nothing else is said, half hold one underlying long on one chain and short on another, half one underlying
against another. A fiftieth of all owners are makers: they hold what is left on every chain, so that sizes of every
perpetual sum to zero on each (CM-31), hedged over chains as far as the traders are.

What an owner has is his isolated requirement ÷ the share of it that he uses: Beta(5, 2) for traders, between 0.3 and
0.6 for makers. Random numbers are drawn in the same order whatever the crowding, so that books of one seed at two
crowdings differ only in the positions that join the crowd.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .requirement import Floats, Ints, Requirements
from .settings import Rules, Scene

CHAINS = 3
TRADER, ARBITRAGEUR, MAKER = 0, 1, 2
MICRO = 1_000_000
"""Lots in a unit, and units of money in a USD: all sums of the simulation are in whole numbers of either."""

_STREAM = 1
_PARETO, _LARGEST = 1.3, 300.0
_ENTRY = 0.05
"""Spread of the log entry prices around the first price: what profits are ranked by."""


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """Owners' books, shape (owners, chains, underlyings): `size` in lots, `entry` in USD a unit.

    `used` is the share of his isolated requirement in his collateral, `kind` what he is.
    """

    size: Ints
    entry: Floats
    used: Floats
    kind: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.size)


@dataclass(slots=True, eq=False)
class Accounts:
    """Margin accounts, shape (accounts, chains, underlyings): `size` in lots, `cash` in micro-USD.

    There are no entry prices in cash: equity is cash + size · price, as in the clearing house. `entry` only ranks.
    """

    owner: Ints
    size: Ints
    cash: Ints
    entry: Floats

    def __len__(self) -> int:
        return len(self.owner)


def populate(scene: Scene, need: Requirements) -> Population:
    """The owners of a scene, in books worth `open_interest` days of each underlying's volume before makers."""
    random = np.random.default_rng([scene.seed, _STREAM])
    count, width = scene.accounts, len(need.names)
    makers = max(3, count // 50)
    kind = np.full(count, TRADER, dtype=np.int8)
    kind[-makers:] = MAKER
    traders = count - makers
    kind[:traders][random.random(traders) < scene.hedged] = ARBITRAGEUR
    weight = np.minimum((1.0 - random.random(count)) ** (-1 / _PARETO), _LARGEST)
    shares = _positions(random, kind, width, scene.crowding) * weight[:, None, None]
    usd = _scaled(shares, kind, scene.open_interest * need.volume)
    size = np.rint(usd / need.start * MICRO).astype(np.int64)
    _make(size, weight, kind)
    entry = need.start * np.exp(_ENTRY * random.standard_normal(size.shape))
    used = np.where(kind == MAKER, random.uniform(0.3, 0.6, count), 0.97 * random.beta(5.0, 2.0, count) + 0.02)
    return Population(size, entry, used, kind)


def open_accounts(population: Population, need: Requirements, rules: Rules) -> Accounts:
    """The same books as one account an owner, or as one for each position."""
    initial = _isolated(population.size, need)
    sums = initial.reshape(len(population), -1).sum(axis=1)
    worth = np.rint(sums / population.used * MICRO)
    if rules.margin == "cross":
        equity = worth.astype(np.int64)
        owner = np.arange(len(population))
        size, entry = population.size.copy(), population.entry.copy()
    else:
        owner, chain, underlying = np.nonzero(population.size)
        at = (owner, chain, underlying)
        # Parts of an owner's whole, to the last micro-USD.
        upto = np.rint(worth[owner] * _running(initial[at], owner) / sums[owner]).astype(np.int64)
        equity = np.diff(upto, prepend=0)
        first = np.diff(owner, prepend=-1) > 0
        equity[first] = upto[first]
        size = np.zeros((len(owner), *population.size.shape[1:]), dtype=np.int64)
        entry = np.zeros(size.shape)
        rows = np.arange(len(owner))
        size[rows, chain, underlying] = population.size[at]
        entry[rows, chain, underlying] = population.entry[at]
    marked = np.rint(size.sum(axis=1) @ need.start).astype(np.int64)
    return Accounts(owner.astype(np.int64), size, equity - marked, entry)


def bystanders(population: Population, shocked: list[int]) -> NDArray[np.bool_]:
    """Owners with positions, none of them in what is shocked."""
    held = (population.size != 0).any(axis=1)
    return np.asarray(held.any(axis=1) & ~held[:, shocked].any(axis=1))


def _positions(random: np.random.Generator, kind: NDArray[np.int8], width: int, crowding: float) -> Floats:
    """Signed shares of an owner's gross notional; nothing for makers."""
    count = len(kind)
    popular = np.linspace(1.6, 0.8, width)
    # The order of preference of each owner: the greatest of exponential clocks' speeds first (a draw by weights).
    order = np.argsort(random.exponential(size=(count, width)) / popular, axis=1)
    many = 1 + np.searchsorted([0.5, 0.8], random.random(count), side="right")
    parts = random.uniform(0.3, 1.0, (count, width))
    joins, chance = random.random((count, width)), random.random((count, width))
    chain = random.integers(0, CHAINS, (count, width))
    pair, across = random.random(count) < 0.5, random.integers(1, CHAINS, count)
    side = np.where(joins < crowding, 1.0, np.where(chance < 0.5, 1.0, -1.0))
    found = np.zeros((count, CHAINS, width))
    rows = np.arange(count)
    for place in range(width):
        held = (kind == TRADER) & (place < many)
        u = order[:, place]
        found[rows[held], chain[held, place], u[held]] = (side * parts)[held, place]
    found /= np.maximum(np.abs(found).sum(axis=(1, 2)), 1e-12)[:, None, None]
    way = np.where(chance[:, 0] < 0.5, 0.5, -0.5)
    same = (kind == ARBITRAGEUR) & (pair | (width == 1))
    other = (kind == ARBITRAGEUR) & ~same
    first = order[:, 0]
    found[rows[same], chain[same, 0], first[same]] = way[same]
    found[rows[same], (chain[:, 0] + across)[same] % CHAINS, first[same]] = -way[same]
    if width > 1:
        found[rows[other], chain[other, 0], first[other]] = way[other]
        found[rows[other], chain[other, 1], order[other, 1]] = -way[other]
    return found


def _scaled(shares: Floats, kind: NDArray[np.int8], wanted: Floats) -> Floats:
    """Arbitrageurs by one factor, so that they stay hedged; the rest of each underlying from those who take sides."""
    gross = np.abs(shares).sum(axis=1)
    hedged = kind == ARBITRAGEUR
    total = gross.sum(axis=0)
    # No more than half of an underlying is theirs.
    theirs = gross[hedged].sum(axis=0)
    factor = min(wanted.sum() / max(float(total.sum()), 1e-12), float((wanted / np.maximum(2 * theirs, 1e-12)).min()))
    rest = (wanted - factor * theirs) / np.maximum(gross[~hedged].sum(axis=0), 1e-12)
    return np.asarray(shares * np.where(hedged[:, None, None], factor, rest))


def _make(size: Ints, weight: Floats, kind: NDArray[np.int8]) -> None:
    """Give makers the other side of every perpetual on every chain, by their weights, to the last lot."""
    makers = np.flatnonzero(kind == MAKER)
    shares = np.cumsum(weight[makers]) / weight[makers].sum()
    owed = -size.sum(axis=0)
    upto = np.rint(shares[:, None, None] * owed).astype(np.int64)
    upto[-1] = owed
    size[makers] = np.diff(upto, axis=0, prepend=0)


def _running(values: Floats, owner: Ints) -> Floats:
    """Sums of an owner's values up to each, owners ascending."""
    total = np.cumsum(values)
    first = np.flatnonzero(np.diff(owner, prepend=-1) > 0)
    before = np.concatenate(([0.0], total))[first]
    return np.asarray(total - np.repeat(before, np.diff(np.append(first, len(owner)))))


def _isolated(size: Ints, need: Requirements) -> Floats:
    """Initial margin of every position by itself, USD, in the shape of `size`."""
    found = np.zeros(size.shape)
    owner, chain, underlying = np.nonzero(size)
    net = np.zeros((len(owner), size.shape[2]))
    net[np.arange(len(owner)), underlying] = size[owner, chain, underlying] / MICRO
    found[owner, chain, underlying] = need.of(net, need.start)[0]
    return found
