"""What `pmrm2_model` reduces: the requirement of every sum of priced assets, by the formula's own functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keeper.state.ids import AssetId

from . import pmrm2
from .model import Floats, Label, Part, Requirement
from .pmrm2_book import Parameters


@dataclass(frozen=True, slots=True)
class Charge:
    """Minus the least of its columns, at least 0, counts so many times; `beside` in the initial margin where a
    perpetual is held."""

    columns: tuple[int, ...]
    maintenance: float
    initial: float
    beside: float | None = None


@dataclass(frozen=True, slots=True)
class Dated:
    """From column `first` on its value in each scenario, and minus it; at `marked` its mark, minus it, and the gains of
    the two moves of the basis, weighted. `discounts` where it is long and short."""

    first: int
    marked: int
    discounts: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Underlying:
    """From column `gains` on what is linear gains in each scenario; `perpetual` are the columns of its notional."""

    name: str
    gains: int
    perpetual: tuple[int, ...]
    expiries: tuple[Dated, ...]
    charges: tuple[Charge, ...]


@dataclass(frozen=True, eq=False)
class Pmrm2Scenarios:
    """Assets priced once. The first columns are profits and losses for people, undiscounted; then come those that
    requirements are computed from."""

    assets: tuple[AssetId, ...]
    prices: tuple[int, ...]
    pnl: Floats
    labels: tuple[Label, ...]
    profits: int
    book: Parameters
    initial_factor: float
    underlyings: tuple[Underlying, ...]

    @property
    def held(self) -> dict[str, int]:
        return {}

    @property
    def elsewhere(self) -> dict[str, int]:
        return {}

    def requirements(self, vectors: Floats) -> tuple[Floats, Floats]:
        v = np.asarray(vectors, dtype=float)
        initial, maintenance = np.zeros(v.shape[:-1]), np.zeros(v.shape[:-1])
        for own in self.underlyings:
            loss = -np.minimum(self._pnl(own, v).min(axis=-1, initial=np.inf), self._basis(own, v))
            initial += self.initial_factor * loss
            maintenance += self.book.margin.mm_factor * loss
            for charge in own.charges:
                counted = _lost(v, charge.columns)
                initial += self._initial(own, charge, v) * counted
                maintenance += charge.maintenance * counted
        return initial, maintenance

    def parts(self, vector: Floats) -> tuple[Part, ...]:
        found = []
        for own in self.underlyings:
            pnl, basis = self._pnl(own, vector), float(self._basis(own, vector))
            worst = int(pnl.argmin()) if len(pnl) else None
            if worst is None or basis < pnl[worst]:
                found.append(self._scenario(own.name, "basis", basis, self._basis_columns(own, vector)))
            else:
                columns = self._scenario_columns(own, worst, vector)
                found.append(self._scenario(own.name, self.labels[own.gains + worst].move, float(pnl[worst]), columns))
            for charge in own.charges:
                column = min(charge.columns, key=lambda c: vector[c])
                lost = float(_lost(vector, charge.columns))
                required = Requirement(float(self._initial(own, charge, vector)) * lost, charge.maintenance * lost)
                label = self.labels[column]
                found.append(Part(label.block, label.move, float(vector[column]), required, ((column, 1.0),)))
        return tuple(found)

    # --- the worst of scenarios ------------------------------------------------------------------------------------

    def _pnl(self, own: Underlying, v: Floats) -> Floats:
        """Of every scenario, shape (..., scenarios)."""
        count = len(self.book.scenarios)
        pnl = v[..., own.gains : own.gains + count]
        for each in own.expiries:
            pnl = pnl + np.minimum(*self._sides(each, v))
        return np.asarray(pnl)

    def _sides(self, each: Dated, v: Floats) -> tuple[Floats, Floats]:
        """An expiry's profits with its value at the least and its mark at the most that a vector says, and with its
        value at the most and its mark at the least: the same of an account, whose columns are each other's minus."""
        count = len(self.book.scenarios)
        low, high = v[..., each.first : each.first + count], -v[..., each.first + count : each.first + 2 * count]
        most, least = -v[..., each.marked + 1], v[..., each.marked]
        return (
            pmrm2.profits(low, most, self.book.scenarios, each.discounts),
            pmrm2.profits(high, least, self.book.scenarios, each.discounts),
        )

    def _basis(self, own: Underlying, v: Floats) -> Floats:
        total = np.zeros(v.shape[:-1])
        for each in own.expiries:
            total = total + np.minimum(v[..., each.marked + 2 : each.marked + 4].min(axis=-1), 0.0)
        return total

    def _initial(self, own: Underlying, charge: Charge, v: Floats) -> Floats | float:
        if charge.beside is None:
            return charge.initial
        return np.where(_lost(v, own.perpetual) > 0, charge.beside, charge.initial)

    # --- explained -------------------------------------------------------------------------------------------------

    def _scenario(self, name: str, said: str, pnl: float, columns: tuple[tuple[int, float], ...]) -> Part:
        required = Requirement(-self.initial_factor * min(pnl, 0.0), -self.book.margin.mm_factor * min(pnl, 0.0))
        return Part(name, said, pnl, required, columns)

    def _basis_columns(self, own: Underlying, vector: Floats) -> tuple[tuple[int, float], ...]:
        pairs = [min((each.marked + 2, each.marked + 3), key=lambda c: vector[c]) for each in own.expiries]
        return tuple((column, 1.0) for column in pairs if vector[column] < 0)

    def _scenario_columns(self, own: Underlying, number: int, vector: Floats) -> tuple[tuple[int, float], ...]:
        count, scenario = len(self.book.scenarios), self.book.scenarios[number]
        columns = [(own.gains + number, 1.0)]
        for each in own.expiries:
            value, mark = vector[each.first + number], vector[each.marked]
            factor = each.discounts[0 if value >= 0 else 1]
            turned = scenario.vol in pmrm2.SKEWED and value * factor - mark > 0
            first, marked = (each.first + count, each.marked) if turned else (each.first, each.marked + 1)
            columns += [(first + number, factor * scenario.dampening), (marked, scenario.dampening)]
        return tuple(columns)


def _lost(v: Floats, columns: Sequence[int]) -> Floats:
    return np.asarray(-np.minimum(v[..., list(columns)].min(axis=-1), 0.0))
