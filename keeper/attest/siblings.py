"""The other accounts of a candidate's owner (CM-11): what is counted per owner holds for all of them.

What an account is charged for concentration grows with what its owner's others hold. So each of those counts at the
greatest net delta that any subset of what is live on it may leave it with, and an act that enlarges its own account's
is judged for the others too: where it raises what one of them requires, that one must have the margin free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from keeper.clearing.effects import Effect
from keeper.clearing.exposure import Exact, Exposure, Figures, leg_is_live_on
from keeper.margin.owner import positive
from keeper.margin.parameters import MarginParameters
from keeper.margin.portfolio import Portfolio
from keeper.margin.valuation import Valuation, ceil_usd, floor_usd
from keeper.state.ids import AssetId
from keeper.state.live import LegItem
from keeper.state.world import MarginAccount, World

from .corners import Failed, buffer_of, heaviest, usd

_LEAST, _MOST, _AFTER = range(3)
"""Absolute net delta of an account over what is live on it: the least, the most, and the most with the candidate."""

Deltas = Mapping[str, int]
"""Absolute net delta by underlying, USD 1e18."""


@dataclass(frozen=True, slots=True)
class Account:
    """One account of an owner as a candidate finds it: `lines` are live on it, `acts` what the candidate does to it.

    Of several acts, one is executed. `judged` where the candidate is judged for it anyhow.
    """

    book: Portfolio
    lines: tuple[Effect, ...]
    acts: tuple[Effect, ...] = ()
    judged: bool = False

    @property
    def assets(self) -> frozenset[AssetId]:
        """Everything that it holds or may hold."""
        effects = (*self.lines, *self.acts)
        return frozenset((*self.book.assets, *(asset for effect in effects for asset in effect.assets)))


@dataclass(frozen=True)
class Siblings:
    """The judged account, first, and its owner's others, at one set of marks; `valuation` has every asset of all."""

    accounts: tuple[Account, ...]
    valuation: Valuation

    @property
    def least(self) -> Deltas:
        """What the others hold at least, whatever is executed of what is live on them, without the candidate."""
        return self._beside(0, _LEAST)

    @property
    def most(self) -> Deltas:
        """What the others hold at most, whatever is executed of what is live on them, without the candidate."""
        return self._beside(0, _MOST)

    @property
    def after(self) -> Deltas:
        """The same once the candidate is executed."""
        return self._beside(0, _AFTER)

    def rise(self, held: Deltas) -> Deltas:
        """How much more the others hold than at least; less where negative."""
        return {name: held.get(name, 0) - self.least.get(name, 0) for name in sorted({*held, *self.least})}

    def overcharged(
        self, parameters: MarginParameters, legs: Sequence[LegItem], world: World
    ) -> tuple[MarginAccount, Exposure, Failed] | None:
        """The first of the others that the candidate costs margin it does not have, as it is without the candidate.

        With every account at its most, before and with the candidate: in every subset of what is live on it a sibling
        requires no more than before, or keeps the buffer free, which while a leg of it is live will not do.
        """
        for number in self._charged():
            account = self.accounts[number].book.account
            before = self._exposure(number, _MOST)
            was, will = heaviest(before).corners(), heaviest(self._exposure(number, _AFTER)).corners()
            fine = (will.free >= buffer_of(will.initial, parameters)).astype(bool)
            fine &= not leg_is_live_on(account, legs, world)
            bad = np.flatnonzero(~fine & (will.initial > was.initial).astype(bool))
            if len(bad):
                worst = min(bad.tolist(), key=lambda subset: will.free[subset])
                return account, before, _why(will[worst], will.initial[worst] - was.initial[worst], parameters)
        return None

    def _charged(self) -> list[int]:
        """Those of the others that require more with the candidate where they hold most, as one product.

        Where that costs an account nothing, no less will: what is charged only grows with what is held.
        """
        numbers = [
            number
            for number, account in enumerate(self.accounts)
            if number and not account.judged and self._beside(number, _AFTER) != self._beside(number, _MOST)
        ]
        if not numbers:
            return []
        was, will = (
            self.valuation.scenario_pnl([self._book(number, column) for number in numbers])
            for column in (_MOST, _AFTER)
        )
        for row, number in enumerate(numbers):
            if lines := self.accounts[number].lines:
                worst = np.minimum(0.0, self.valuation.scenario_pnl(lines)).sum(axis=0)
                was[row] += worst
                will[row] += worst
        required = self.valuation.scenarios.requirements
        return [numbers[row] for row in np.flatnonzero(required(will)[0] > required(was)[0])]

    def _exposure(self, number: int, column: int) -> Exposure:
        return Exposure.of(self._book(number, column), self.accounts[number].lines, self.valuation)

    def _book(self, number: int, column: int) -> Portfolio:
        return replace(self.accounts[number].book, elsewhere=self._beside(number, column))

    def _beside(self, number: int, column: int) -> Deltas:
        """What all but one account hold."""
        amounts = self._totals[column] - self._reach[number, column]
        return positive(dict(zip(self.valuation.scenarios.held, amounts.tolist(), strict=True)))

    @cached_property
    def _totals(self) -> Exact:
        return np.asarray(self._reach.sum(axis=0))

    @cached_property
    def _reach(self) -> Exact:
        """What each account holds, USD 1e18 as integers, shape (accounts, 3, underlyings): see `_LEAST` and so on."""
        low = self.valuation.net_deltas([account.book for account in self.accounts])
        high, after = low.copy(), np.zeros(low.shape)
        for number, account in enumerate(self.accounts):
            if account.lines:
                lines = self.valuation.net_deltas(account.lines)
                low[number] += np.minimum(lines, 0.0).sum(axis=0)
                high[number] += np.maximum(lines, 0.0).sum(axis=0)
            acts = self.valuation.net_deltas(account.acts) if account.acts else np.zeros((1, low.shape[1]))
            after[number] = np.maximum(high[number] + acts, -(low[number] + acts)).max(axis=0)
        found = np.zeros((len(self.accounts), 3, low.shape[1]), dtype=object)
        for column, held, rounded in (
            (_LEAST, np.maximum(0.0, np.maximum(low, -high)), floor_usd),
            (_MOST, np.maximum(high, -low), ceil_usd),
            (_AFTER, after, ceil_usd),
        ):
            found[:, column] = [[rounded(usd_) for usd_ in row] for row in held.tolist()]
        return found


def _why(will: Figures, raised: int, parameters: MarginParameters) -> Failed:
    return Failed(
        "owner_concentration",
        f"it raises by {usd(raised)} what another account of the owner must hold for concentration, whose free margin "
        f"would be {usd(will.free)}, a buffer of {usd(buffer_of(will.initial, parameters))} is wanted",
    )
