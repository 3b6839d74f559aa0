"""The liquidation plan: which positions of an account are closed, on which chains, and at what worst price.

At most eight legs that together bring equity to initial margin at little cost, such that no fill of any of them, alone
or with others, in part or in full, makes the account worse (CM-41). With q = equity ÷ maintenance margin before, a set
of fills may cost, concessions and flat fees together, at most

    q · relief           where equity ≥ 0,
    relief               where equity < 0,

with relief the maintenance margin that they free. Requirements are convex in the fills and costs are linear, so the
corners decide, each leg filled in full or not at all: at most 256, computed as one matrix. A leg that would strip a
hedge frees less than nothing in the corner where it is alone, so that opposite legs shrink together or not at all.

Greedy: in each step that position grows by a sixteenth of itself whose growth frees most initial margin for its cost,
if the corners allow it; the last steps are cut back to what is needed. An insolvent account is closed as far as its
corners allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keeper.margin.model import Floats, require_convex
from keeper.margin.parameters import BASIS
from keeper.margin.portfolio import Portfolio
from keeper.margin.valuation import EXACT, Valuation, ceil_usd
from keeper.state.batch import UNIT
from keeper.state.ids import AssetId

from .liquidation import LOT

MOST_LEGS = 8
_STEPS = 16
_SLACK = 1e-5
"""USD kept back of what fills may cost, for the rounding of sums of doubles."""


@dataclass(frozen=True, slots=True)
class Offered:
    """A position on one chain that may be closed, `size` signed, 1e18."""

    chain_id: int
    asset: AssetId
    size: int

    @property
    def side(self) -> int:
        return 1 if self.size > 0 else -1


@dataclass(frozen=True, slots=True)
class Leg:
    """`size` (unsigned) of a position at a worst `concession` a unit, with the flat `fee` of a full fill. USD 1e18."""

    position: Offered
    size: int
    concession: int
    fee: int

    @property
    def cost(self) -> int:
        """What a full fill loses against the mark at the worst price, rounded up."""
        return -(-self.size * self.concession // UNIT) + self.fee


@dataclass(frozen=True, slots=True)
class Plan:
    """Legs, and what the account would be with all of them filled at their worst: USD, as doubles."""

    legs: tuple[Leg, ...]
    equity: float
    initial: float
    maintenance: float

    @property
    def restores(self) -> bool:
        """Whether equity is at least initial margin then."""
        return self.equity >= self.initial

    @property
    def cost(self) -> int:
        return sum(leg.cost for leg in self.legs)


@dataclass(frozen=True)
class Sale:
    """An account that is to be liquidated: its portfolio, what is offered of it, and the terms.

    `concession` in basis points of the standalone maintenance margin of a leg, `flat_fee` USD 1e18 a leg.
    """

    portfolio: Portfolio
    offered: tuple[Offered, ...]
    valuation: Valuation
    concession: int
    flat_fee: int

    def __post_init__(self) -> None:
        """Raises NotConvex for a model of which the corners bound nothing."""
        require_convex(self.valuation.model)

    @property
    def equity(self) -> float:
        return self.valuation.equity(self.portfolio) / (EXACT * UNIT)

    @property
    def reserved(self) -> float:
        return self.portfolio.reserved / UNIT

    def row(self, position: Offered) -> Floats:
        """What closing one unit takes from the account's vector."""
        pnl = self.valuation.pnl[self.valuation.assets.index(position.asset)]
        return np.asarray(position.side * pnl)

    def most_concession(self, position: Offered) -> float:
        """USD per unit."""
        _, maintenance = self.valuation.scenarios.requirements(self.row(position))
        return ceil_usd(float(maintenance)) / UNIT * self.concession / BASIS


def plan_legs(sale: Sale) -> Plan:
    """The legs for an account below maintenance margin; none where none is safe. See above."""
    search = _Search(sale)
    while not search.restored and search.grow():
        pass
    search.trim()
    return search.plan()


def priced(sale: Sale, sizes: dict[Offered, int]) -> list[Leg] | None:
    """Legs of these sizes at the most concession that CM-41 allows, None where not even the fees are allowed."""
    return _Search(sale).priced(sizes)


def broken(sale: Sale, legs: Sequence[Leg]) -> list[str]:
    """What is wrong with legs that somebody else planned: every rule of CM-41; empty where nothing is.

    Whether another plan would be cheaper is not asked.
    """
    faults = []
    if len(legs) > MOST_LEGS:
        faults.append(f"{len(legs)} legs, at most {MOST_LEGS}")
    for leg in legs:
        name = f"chain {leg.position.chain_id}, 0x{leg.position.asset.hex()}"
        if leg.position not in sale.offered:
            faults.append(f"{name}: the account has no such position")
        elif not 0 < leg.size <= abs(leg.position.size):
            faults.append(f"{name}: it closes {leg.size} of {leg.position.size}")
        elif leg.concession < 0 or leg.concession / UNIT > sale.most_concession(leg.position) + 1e-9:
            faults.append(f"{name}: a concession of {leg.concession / UNIT:g} per unit")
    if len({leg.position for leg in legs}) < len(legs):
        faults.append("two legs on one position")
    if not faults and legs:
        search = _Search(sale)
        left = search.left({leg.position: leg.size for leg in legs})
        costs = [leg.cost / UNIT for leg in legs]
        worst = float((left - _subsets(len(legs)) @ np.array(costs))[1:].min())
        if worst < -_SLACK:
            faults.append(f"some fills cost {-worst:,.6f} USD more than they free (CM-41)")
        if sale.equity >= 0 and sum(costs) > sale.equity + _SLACK:
            faults.append(f"its legs may cost {sum(costs):,.6f} USD, the equity is {sale.equity:,.6f}")
    return faults


class _Search:
    """Sizes of the plan so far, unsigned, 1e18, and what follows from them."""

    def __init__(self, sale: Sale) -> None:
        self.sale = sale
        self.base = sale.valuation.scenario_pnl([sale.portfolio])[0]
        self.rows = {position: sale.row(position) for position in sale.offered}
        self.rates = {position: sale.most_concession(position) for position in sale.offered}
        self.maintenance = float(self._required(self.base)[1])
        self.equity = sale.equity
        # Reservations are part of the maintenance margin that equity is measured by, and no fill frees them.
        margin = self.maintenance + sale.reserved
        self.share = min(1.0, self.equity / margin) if self.equity >= 0 and margin > 0 else 1.0
        self.sizes: dict[Offered, int] = {}

    @property
    def restored(self) -> bool:
        if not self.sizes:
            return self.equity >= float(self._required(self.base)[0]) + self.sale.reserved
        return self._fine(self.sizes)

    def grow(self) -> bool:
        """One step of the greedy search; False where none is left that is allowed and helps."""
        candidates = [
            p
            for p in self.sale.offered
            if self.sizes.get(p, 0) < abs(p.size) and (p in self.sizes or len(self.sizes) < MOST_LEGS)
        ]
        if not candidates:
            return False
        now = self._after(self.sizes)
        grown = [min(abs(p.size), self.sizes.get(p, 0) + _lots(abs(p.size) // _STEPS + 1)) for p in candidates]
        steps = np.array([(g - self.sizes.get(p, 0)) / UNIT for p, g in zip(candidates, grown, strict=True)])
        rows = np.array([self.rows[p] for p in candidates])
        freed = float(self._required(now)[0]) - self._required(now - steps[:, None] * rows)[0]
        fees = np.array([0.0 if p in self.sizes else self.sale.flat_fee / UNIT for p in candidates])
        costs = steps * np.array([self.rates[p] for p in candidates]) + fees
        for number in np.argsort(-freed / np.maximum(costs, 1e-12), kind="stable").tolist():
            sizes = self.sizes | {candidates[number]: grown[number]}
            if freed[number] > _SLACK and self.priced(sizes) is not None:
                self.sizes = sizes
                return True
        return False

    def trim(self) -> None:
        """Cut every leg back to the least that still restores, the one that costs most for what it frees first."""
        if not self.sizes or not self.restored:
            return
        for position in sorted(self.sizes, key=lambda p: (-self.rates[p] * self.sizes[p], p.chain_id, p.asset)):
            rest = {other: size for other, size in self.sizes.items() if other != position}
            if rest and self._fine(rest):
                self.sizes = rest
                continue
            low, high = 0, self.sizes[position]
            while high - low > LOT:
                middle = _lots((low + high) // 2)
                if middle >= high:
                    break
                low, high = (low, middle) if self._fine(rest | {position: middle}) else (middle, high)
            self.sizes = rest | {position: high}

    def plan(self) -> Plan:
        legs = self.priced(self.sizes) or []
        cost = sum(leg.cost for leg in legs) / UNIT
        after = self._required(self._after({leg.position: leg.size for leg in legs}))
        initial, maintenance = (float(value) + self.sale.reserved for value in after)
        return Plan(tuple(legs), self.equity - cost, initial, maintenance)

    def left(self, sizes: dict[Offered, int]) -> Floats:
        """What each subset of fills may cost, concessions and fees, USD, in the order of `_subsets`."""
        rows = np.array([size / UNIT * self.rows[p] for p, size in sizes.items()])
        _, maintenance = self._required(self.base - _subsets(len(sizes)) @ rows)
        return np.asarray(self.share * (self.maintenance - maintenance))

    def priced(self, sizes: dict[Offered, int]) -> list[Leg] | None:
        """Legs of these sizes at the most concession that every corner allows, by chain and asset.

        The most of each leg is scaled down alike. None where not even the fees are allowed.
        """
        if not sizes:
            return []
        subsets = _subsets(len(sizes))[1:]
        fee = self.sale.flat_fee / UNIT
        left = self.left(sizes)[1:] - subsets.sum(axis=1) * fee - _SLACK
        if self.equity >= 0:
            left[-1] = min(left[-1], self.equity - len(sizes) * fee)
        if (left < 0).any():
            return None
        conceded = subsets @ np.array([size / UNIT * self.rates[p] for p, size in sizes.items()])
        scale = float(min(1.0, (left / np.maximum(conceded, 1e-12)).min()))
        return [
            Leg(p, sizes[p], int(scale * self.rates[p] * 1e6) * LOT, self.sale.flat_fee)
            for p in sorted(sizes, key=lambda p: (p.chain_id, p.asset))
        ]

    def _fine(self, sizes: dict[Offered, int]) -> bool:
        """Whether these sizes are allowed and restore initial margin."""
        legs = self.priced(sizes)
        if legs is None:
            return False
        cost = sum(leg.cost for leg in legs) / UNIT
        return self.equity - cost >= float(self._required(self._after(sizes))[0]) + self.sale.reserved + _SLACK

    def _after(self, sizes: dict[Offered, int]) -> Floats:
        after: Floats = self.base.copy()
        for position, size in sizes.items():
            after -= size / UNIT * self.rows[position]
        return after

    def _required(self, vectors: Floats) -> tuple[Floats, Floats]:
        return self.sale.valuation.scenarios.requirements(vectors)


def _lots(size: int) -> int:
    """Rounded up to whole lots."""
    return -(-size // LOT) * LOT


def _subsets(count: int) -> Floats:
    """Every subset of so many legs as a row of ones and zeros, the empty one first, shape (2**count, count)."""
    executed = (np.arange(2**count)[:, None] >> np.arange(count)[None, :]) & 1
    return np.asarray(executed, dtype=float)
