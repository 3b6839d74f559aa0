"""The liquidation plan: which positions of an account are closed, on which chains, and at what worst price.

At most eight legs over all chains that together bring equity to initial margin at little cost, such that no fill of any
of them, alone or with others and with whatever else is live, in part or in full, makes the account worse (CM-41;
`sale.py` has the rule). A leg that would strip a hedge frees less than nothing in the corner where it is alone, so that
opposite legs shrink together or not at all.

Greedy: in each step that position grows by a sixteenth of itself whose growth frees most initial margin for its cost,
if the corners allow it; then every leg is cut back to the least that still restores, first what frees least. Collateral
is sold where positions alone do not restore. An insolvent account is closed as far as its corners allow. Corners are
first those without any live permit; a subset of permits that the result does not pass joins them, and the search begins
again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from keeper.margin.model import Floats
from keeper.margin.valuation import EXACT
from keeper.state.batch import UNIT
from keeper.state.ids import is_token

from .corners import Corners
from .legs import Leg, Plan, smaller
from .sale import LOT, SLACK, Offered, Sale, subset_rows

_STEPS = 16
_FINEST = 3
"""Steps are sixteenths of a position, of that, and so on: how often."""
_SPARE = 0.9999
"""Of concessions that a corner bounds: room for the slack of smaller legs, where what is left is linear in them."""
_PASSES = 16
"""Cutting one leg may allow another to be cut further: by less each time."""


def plan_legs(sale: Sale) -> Plan:
    """The legs for an account that is due; none where none is safe beside what is live. See above."""
    active = [0]
    while True:
        search = Search(sale, active)
        search.run()
        legs = search.legs()
        worst = search.worst_subset(legs)
        if worst is None:
            return search.plan(legs)
        active.append(worst)


def priced(sale: Sale, sizes: dict[Offered, int]) -> list[Leg] | None:
    """Legs of these sizes at the most concession that CM-41 allows, None where not even the fees are allowed."""
    return Search(sale, range(len(sale.subsets))).priced(sizes)


class Search:
    """Sizes of the plan so far, unsigned, 1e18, and what follows from them, beside the `active` subsets of permits."""

    def __init__(self, sale: Sale, active: Sequence[int]) -> None:
        self.sale = sale
        self.active = list(active)
        self.rows = {position: sale.row(position) for position in sale.offered}
        self.rates = {position: sale.most_concession(position) for position in sale.offered}
        self.drags = {position: sale.drag(position) for position in sale.offered}
        subsets = sale.subsets
        self.base = subsets.pnl[0]
        self.equity = float(subsets.equity[0])
        self.fixed = sale.valuation.scenario_pnl(list(sale.fixed))
        self.fixed_costs = [-sale.valuation.equity(effect) / (EXACT * UNIT) for effect in sale.fixed]
        self.fineness = dict.fromkeys(sale.offered, 0)
        self.barred: set[Offered] = set()
        self.sizes: dict[Offered, int] = {}
        self.found: list[Leg] = []
        """Those sizes, priced."""

    # --- the search ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        standing = [p for p in self.sale.offered if p.standing]
        instruments = [p for p in self.sale.offered if not is_token(p.asset)]
        for offered in (standing, instruments, self.sale.offered):
            while not self.restores(self.found) and self.grow(offered):
                pass
        self.drop()

    def grow(self, offered: Sequence[Offered]) -> bool:
        """One turn of the greedy search; False where nothing is left that is allowed and helps."""
        used = {*self.sizes, *(p for p in self.sale.offered if p.standing)}
        room = len(used) < self.sale.most_legs
        while True:
            candidates = [
                p
                for p in offered
                if (p in used or room)
                and self.sizes.get(p, 0) < p.whole
                and self.fineness[p] <= _FINEST
                and p not in self.barred
            ]
            if not candidates:
                return False
            if self._turn(candidates):
                return True

    def _turn(self, candidates: Sequence[Offered]) -> bool:
        """Grow the best candidate that is allowed. The steps of those before it become finer: a hedge of a fifteenth
        leaves less than a sixteenth to close."""
        grown = [self._steps_of(p, 1)[0] for p in candidates]
        gains = self._gains(candidates, [[size] for size in grown])[:, 0]
        alone = self._alone(candidates, grown)
        order = np.argsort(-gains, kind="stable").tolist()
        for place, number in enumerate(order):
            position = candidates[number]
            next_best = gains[order[place + 1]] if place + 1 < len(order) else 0.0
            helps = gains[number] > 0
            if helps and alone[number] and self._take(position, self._run_of(position, float(next_best))):
                # What was of no use before may hedge less now; what is not allowed stays so in most corners.
                self.fineness = {p: min(fine, _FINEST) for p, fine in self.fineness.items()}
                return True
            if helps and self.fineness[position] == _FINEST:
                self.barred.add(position)
            self.fineness[position] += 1
        return False

    def _take(self, position: Offered, steps: list[int]) -> bool:
        """Grow a position by as many of these steps as are allowed: all, or else found by halving."""
        low, high = -1, len(steps)
        # Of a leg that pays its fee already the first step is the easiest; a new one may need a size that does.
        if position in self.sizes and self.priced(self.sizes | {position: steps[0]}) is None:
            return False
        at = high - 1
        while low < high - 1:
            sizes = self.sizes | {position: steps[at]}
            legs = self.priced(sizes)
            if legs is None:
                high = at
            else:
                low, best = at, (sizes, legs)
            at = (low + high) // 2
        if low < 0:
            return False
        self.sizes, self.found = best
        if low == len(steps) - 1 == _STEPS - 1:
            self.fineness[position] = max(0, self.fineness[position] - 1)
        return True

    def _run_of(self, position: Offered, other: float) -> list[int]:
        """The sizes after each step of this position, one after the other, while better than `other`."""
        sizes = self._steps_of(position, _STEPS)
        gains = self._gains([position], [sizes])[0]
        worse = np.flatnonzero(gains < max(other, 1e-12))
        most = max(1, int(worse[0])) if len(worse) else len(sizes)
        return sizes[: _first(most - 1, lambda k: self._would_restore(position, sizes[k])) + 1]

    def _would_restore(self, position: Offered, size: int) -> bool:
        """With a position of that size at its most concession, beside what was found."""
        legs = [leg for leg in self.found if leg.position != position]
        return self.restores(
            [*legs, Leg(position, size, int(self.rates[position] * UNIT), self.sale.fee(position, size))]
        )

    def _steps_of(self, position: Offered, count: int) -> list[int]:
        """The next sizes; what a live leg may close anyway is the first."""
        step = position.whole // _STEPS ** (1 + self.fineness[position]) + 1
        first = max(self.sizes.get(position, 0) + step, position.standing)
        return [position.lots(first + k * step) for k in range(count)]

    def _gains(self, candidates: Sequence[Offered], sizes: Sequence[Sequence[int]]) -> Floats:
        """What each step to the next size brings nearer to what is wanted for each USD it costs; 0 where nothing.

        Shape (candidates, steps); the first step begins at the present size.
        """
        now = self.after(self.sizes)
        found = np.zeros((len(candidates), len(sizes[0])))
        at = np.array([[self.sizes.get(p, 0), *row] for p, row in zip(candidates, sizes, strict=True)], dtype=float)
        at /= UNIT
        steps = np.diff(at, axis=1)
        rows = np.array([self.rows[p] for p in candidates])
        if self.sale.for_cash:
            freed = steps * np.array([[self.sale.proceeds(p)] for p in candidates])
        else:
            required = self._required(now - (at - at[:, :1])[:, :, None] * rows[:, None, :])[0]
            freed = -np.diff(required, axis=1) - steps * np.array([[self.drags[p]] for p in candidates])
        costs = steps * np.array([[self.rates[p]] for p in candidates])
        new = [p not in self.sizes for p in candidates]
        costs[new, 0] += [
            self.sale.fee(p, row[0]) / UNIT for p, row in zip(candidates, sizes, strict=True) if p not in self.sizes
        ]
        useful = freed > SLACK
        found[useful] = freed[useful] / np.maximum(costs[useful], 1e-12)
        return found

    def _alone(self, candidates: Sequence[Offered], sizes: Sequence[int]) -> list[bool]:
        """Whether each could be filled by itself in the final state, fees aside: who cannot is in no plan."""
        subsets = self.sale.subsets
        parts = [max(size, p.standing) / UNIT for p, size in zip(candidates, sizes, strict=True)]
        rows = np.array([part * self.rows[p] for p, part in zip(candidates, parts, strict=True)])
        after = self._required(self.base - rows)[1]
        left = subsets.spare[0] + subsets.share[0] * (subsets.maintenance[0] - after)
        costs = [part * self.drags[p] for p, part in zip(candidates, parts, strict=True)]
        return [bool(ok) for ok in left >= np.array(costs)]

    def drop(self) -> None:
        """Leave out what is not needed, the dearest first, and close no more than restores."""
        if not self.found or not self.restores(self.found):
            return
        for position in self._dearest(self.sizes):
            rest = {other: size for other, size in self.sizes.items() if other != position}
            legs = self.priced(rest) if rest else None
            if legs is not None and self.restores(legs):
                self.sizes, self.found = rest, legs

    def legs(self) -> list[Leg]:
        """Each leg cut back to the least that restores at its concession, or to what frees more than it costs."""
        by_position = {leg.position: leg for leg in self.found}
        for _ in range(_PASSES):
            before = by_position
            cut = self._cut if self.restores(list(before.values())) else self._useful
            for position in self._idlest(before):
                if position in by_position:
                    by_position = cut(by_position, position)
            if by_position == before:
                break
        return list(by_position.values())

    def _cut(self, legs: dict[Offered, Leg], position: Offered) -> dict[Offered, Leg]:
        last = -(-legs[position].size // position.lot)
        # Both are true on an interval of sizes that ends beyond the present one.
        least = _first(last, lambda k: self.restores(self._with(legs, position, k + 1)))
        if least >= last - 1:
            return legs
        if not self.allows(self._with(legs, position, least + 1)):
            least += _first(last - least, lambda k: self.allows(self._with(legs, position, least + k + 1)))
        if least >= last - 1:
            return legs
        return {leg.position: leg for leg in self._with(legs, position, least + 1)}

    def _useful(self, legs: dict[Offered, Leg], position: Offered) -> dict[Offered, Leg]:
        last = -(-legs[position].size // position.lot)

        def idle(k: int) -> bool:
            found = self._with(legs, position, k + 1)
            leg = next(leg for leg in found if leg.position == position)
            return not self.frees(found, leg)

        if not idle(last - 1):
            return legs
        most = _first(last, idle)
        found = self._with(legs, position, most) if most else [leg for p, leg in legs.items() if p != position]
        if found and not self.allows(found):
            # As small as is allowed: the flat fee of a leg wants a size that is worth it.
            most += 1 + _first(last - most - 1, lambda k: self.allows(self._with(legs, position, most + k + 1)))
            found = self._with(legs, position, most)
        return {leg.position: leg for leg in found}

    def _with(self, legs: dict[Offered, Leg], position: Offered, lots: int) -> list[Leg]:
        """The legs, that of `position` of so many lots."""
        size = position.lots(lots * position.lot)
        changed = Leg(position, size, legs[position].concession, self.sale.fee(position, size))
        return list((legs | {position: changed}).values())

    def _idlest(self, legs: dict[Offered, Leg]) -> list[Offered]:
        """By what the last sixteenth of a leg brings nearer for each USD it costs, the least first: a run of steps does
        not end where the account is restored, and another position may have been closed for more than it is worth."""
        if self.sale.for_cash:
            return self._dearest(self.sizes)
        now = self.after({position: leg.size for position, leg in legs.items()})

        def gain(leg: Leg) -> float:
            part, position = leg.size / UNIT / _STEPS, leg.position
            worse = float(self._required(now + part * self.rows[position])[0] - self._required(now)[0])
            return (worse / part - self.drags[position]) / max(self.rates[position], 1e-12)

        return sorted(legs, key=lambda p: (gain(legs[p]), p.chain_id, p.asset))

    def _dearest(self, sizes: dict[Offered, int]) -> list[Offered]:
        return sorted(sizes, key=lambda p: (-self.rates[p] * sizes[p], p.chain_id, p.asset))

    # --- the rules -------------------------------------------------------------------------------------------------

    def priced(self, sizes: dict[Offered, int]) -> list[Leg] | None:
        """Legs of these sizes at the most concession that every corner allows, by chain and asset.

        The most of each leg is scaled down alike. None where not even the fees are allowed.
        """
        positions = sorted(sizes, key=lambda p: p.key)
        rates = np.array([self.rates[p] for p in positions])
        corners = self._corners(positions, [sizes[p] for p in positions])
        scale = 1.0
        if not corners.hold(rates):
            if not corners.hold(np.zeros(len(rates))):
                return None
            low, scale = 0.0, 1.0
            for _ in range(32):
                middle = (low + scale) / 2
                low, scale = (middle, scale) if corners.hold(middle * rates) else (low, middle)
            scale = low if len(positions) == 1 else low * _SPARE
        return [Leg(p, sizes[p], int(scale * self.rates[p] * 1e6) * LOT, self.sale.fee(p, sizes[p])) for p in positions]

    def allows(self, legs: Sequence[Leg], active: Sequence[int] | None = None) -> bool:
        """CM-41 for these legs."""
        corners = self._corners([leg.position for leg in legs], [leg.size for leg in legs], active)
        return corners.hold(np.array([leg.concession / UNIT for leg in legs]))

    def restores(self, legs: Sequence[Leg]) -> bool:
        """Whether what is wanted is reached once all are filled at their worst."""
        cost = sum(leg.cost for leg in legs) / UNIT
        if self.sale.for_cash:
            got = sum(leg.size / UNIT * self.sale.proceeds(leg.position) for leg in legs)
            return self.sale.net_cash + got - cost >= SLACK
        cost += sum(leg.size / UNIT * self.drags[leg.position] for leg in legs)
        after = self._required(self.after({leg.position: leg.size for leg in legs}))[0]
        return self.equity - cost >= float(after) + self.sale.reserved + SLACK

    def frees(self, legs: Sequence[Leg], leg: Leg, least: float = 0.0) -> bool:
        """Whether all of `leg`, at its worst price, brings what is wanted nearer than a hundredth less of it: by more
        than `least`, USD."""
        less = smaller(leg)
        if less is None or self.sale.for_cash:
            return True
        rest = [other for other in legs if other is not leg]
        return self._value([*rest, leg]) > self._value([*rest, less]) + least

    def _value(self, legs: Sequence[Leg]) -> float:
        cost = sum(leg.size / UNIT * (self.drags[leg.position] + leg.concession / UNIT) for leg in legs)
        return -cost - float(self._required(self.after({leg.position: leg.size for leg in legs}))[0])

    def worst_subset(self, legs: Sequence[Leg]) -> int | None:
        """The subset of live permits, not active yet, that these legs pass least; None where they pass all."""
        others = [subset for subset in range(len(self.sale.subsets)) if subset not in self.active]
        if not legs or not others:
            return None
        corners = self._corners([leg.position for leg in legs], [leg.size for leg in legs], others)
        concessions = np.array([leg.concession / UNIT for leg in legs])
        return None if corners.hold(concessions) else others[corners.worst(concessions)]

    def plan(self, legs: Sequence[Leg]) -> Plan:
        cost = sum(leg.cost / UNIT + leg.size / UNIT * self.drags[leg.position] for leg in legs)
        after = self._required(self.after({leg.position: leg.size for leg in legs}))
        initial, maintenance = (float(value) + self.sale.reserved for value in after)
        return Plan(tuple(legs), self.equity - cost, initial, maintenance, self.restores(legs))

    def after(self, sizes: dict[Offered, int]) -> Floats:
        after: Floats = self.base.copy()
        for position, size in sizes.items():
            after -= size / UNIT * self.rows[position]
        return after

    def _corners(
        self, positions: Sequence[Offered], sizes: Sequence[int], active: Sequence[int] | None = None
    ) -> Corners:
        """What is left at every corner with one of these legs at least; live legs fill what they still may."""
        subsets, chosen = self.sale.subsets, np.array(self.active if active is None else active, dtype=int)
        filled = [max(size, p.standing) / UNIT for p, size in zip(positions, sizes, strict=True)]
        rows = np.array([part * self.rows[p] for p, part in zip(positions, filled, strict=True)])
        costs = [
            part * self.drags[p] + self.sale.fee(p, size) / UNIT
            for p, size, part in zip(positions, sizes, filled, strict=True)
        ]
        # Live legs on what is not among these are filled or not as well.
        others = [p for p in self.sale.offered if p.standing and p not in positions]
        costs += [p.standing / UNIT * (p.standing_cost + self.drags[p]) + self.sale.fee(p, 0) / UNIT for p in others]
        beside = np.array([p.standing / UNIT * self.rows[p] for p in others])
        # The new legs come first: the corners without any of them are the first of every 2**len(positions).
        lines = np.concatenate([each.reshape(-1, len(self.base)) for each in (rows, beside, -self.fixed)])
        corners = subset_rows(len(lines))
        corners = corners[np.arange(len(corners)) % 2 ** len(positions) != 0]
        after = self._required(subsets.pnl[chosen][:, None, :] - (corners @ lines)[None, :, :])[1]
        allowed = subsets.spare[chosen][:, None] + subsets.share[chosen][:, None] * (
            subsets.maintenance[chosen][:, None] - after
        )
        fees = [self.sale.fee(p, size) / UNIT for p, size in zip(positions, sizes, strict=True)]
        return Corners(
            corners[:, : len(positions)],
            allowed - corners @ np.array([*costs, *self.fixed_costs]),
            np.array(filled),
            np.array([p.standing_cost if p.standing else -np.inf for p in positions]),
            self.equity - sum(fees) if self.equity >= 0 else np.inf,
        )

    def _required(self, vectors: Floats) -> tuple[Floats, Floats]:
        return self.sale.valuation.scenarios.requirements(vectors)


def _first(count: int, holds: Callable[[int], bool]) -> int:
    """The smallest k in 0 … count − 1 from which `holds` is true on, `count` where it never is."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
