"""One account with everything live on it, at one set of marks: the bound over all subsets, and the exact corners.

Scenario profits and losses, equity and reservations all add up over what is executed. So the figures of any subset are
sums of lines computed once, and because margin requirements are convex, the worst of any partial executions lies at a
corner: each item executed in full or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keeper.margin.listing import Listing
from keeper.margin.model import Floats
from keeper.margin.portfolio import Portfolio
from keeper.margin.valuation import EXACT, Valuation, ceil_grain, ceil_usd, floor_grain
from keeper.state.actions import Move, Takeover
from keeper.state.batch import UNIT
from keeper.state.deployment import Profile
from keeper.state.ids import FUND, ZERO32, AccountId, AssetId, is_token
from keeper.state.live import LegItem, LiveItem, PermitItem
from keeper.state.world import ChainState, MarginAccount, World

from .effects import (
    UNTOUCHED,
    Effect,
    TakeoverTerms,
    Touches,
    counterparty_effect,
    effect_of,
    is_cash,
    leg_remaining,
    leg_side,
    legs_effect,
)

Prices = Mapping[AssetId, tuple[int, ...]]
"""The price of an asset at every set of marks that is judged at, USD 1e18."""

Exact = NDArray[np.object_]
"""Python's integers: no figure of a margin overflows."""


def exact(values: Sequence[int]) -> Exact:
    """An array of Python's integers."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one subset, USD 1e18, rounded to 1e-6 USD against the account. `cash_left`, which CM-21 wants ≥ 0,
    is cash and mark to market less the cash parts of reservations."""

    equity: int
    initial: int
    maintenance: int
    cash_left: int

    @property
    def free(self) -> int:
        return self.equity - self.initial


@dataclass(frozen=True, slots=True, eq=False)
class Corners:
    """`Figures` of many subsets as arrays of exact integers, shape (subsets,)."""

    equity: Exact
    initial: Exact
    maintenance: Exact
    cash_left: Exact

    @property
    def free(self) -> Exact:
        return np.asarray(self.equity - self.initial)

    def __getitem__(self, subset: int) -> Figures:
        return Figures(self.equity[subset], self.initial[subset], self.maintenance[subset], self.cash_left[subset])

    def __len__(self) -> int:
        return len(self.equity)


@dataclass(frozen=True)
class Line:
    """What holdings, or an act, add to every figure. Equity and cash exact (USD 1e18 · EXACT), P&L in USD, (S,)."""

    equity: int
    cash_left: int
    reserved: int
    pnl: Floats


@dataclass(frozen=True)
class Exposure:
    """`base` is what is final; `lines` what each live effect would add."""

    valuation: Valuation
    base: Line
    lines: tuple[Line, ...]

    @classmethod
    def of(cls, portfolio: Portfolio, effects: Sequence[Effect], valuation: Valuation) -> Exposure:
        """Figures of a portfolio and of effects on it; `valuation` has every asset of both."""
        pnl = valuation.scenario_pnl([portfolio, *effects])
        base = Line(
            valuation.equity(portfolio),
            valuation.net_cash(portfolio) - portfolio.cash_parts * EXACT,
            portfolio.reserved,
            pnl[0],
        )
        lines = tuple(
            Line(
                valuation.equity(effect),
                valuation.net_cash(effect) - effect.cash_part * EXACT,
                effect.reserved,
                pnl[row],
            )
            for row, effect in enumerate(effects, start=1)
        )
        return cls(valuation, base, lines)

    def plus(self, line: Line) -> Exposure:
        """The same with `line` executed."""
        return Exposure(self.valuation, _add(self.base, line), self.lines)

    def bound(self) -> Figures:
        """No subset is worse: every scenario, and every other figure, with each line counted only where it loses."""
        return self.keeping(()).corners()[0]

    def keeping(self, lines: Iterable[int]) -> Exposure:
        """The same with all lines but these (by number) counted only where they lose: no subset of them is worse."""
        kept = sorted(set(lines))
        worst = self.base
        for number, line in enumerate(self.lines):
            if number not in kept:
                worst = _add(
                    worst,
                    Line(min(0, line.equity), min(0, line.cash_left), max(0, line.reserved), np.minimum(0.0, line.pnl)),
                )
        return Exposure(self.valuation, worst, tuple(self.lines[number] for number in kept))

    def heaviest(self, count: int) -> list[int]:
        """The numbers of the lines that cost most where each is counted only where it loses, ascending."""
        losses = np.array([np.minimum(0.0, line.pnl) for line in self.lines])
        initial, _ = self.valuation.scenarios.requirements(losses)
        costs = [
            required + (max(0, -line.equity) / EXACT + max(0, line.reserved)) / UNIT
            for required, line in zip(initial.tolist(), self.lines, strict=True)
        ]
        return sorted(sorted(range(len(costs)), key=lambda number: -costs[number])[:count])

    def corners(self) -> Corners:
        """Every subset, in the order of `sums`."""
        equity, cash_left, reserved, pnl = self.sums()
        initial, maintenance = self.valuation.scenarios.requirements(pnl)
        held = exact([ceil_grain(amount * EXACT) for amount in reserved])
        return Corners(
            exact([floor_grain(value) for value in equity]),
            exact([ceil_usd(value) for value in initial.tolist()]) + held,
            exact([ceil_usd(value) for value in maintenance.tolist()]) + held,
            exact([floor_grain(value) for value in cash_left]),
        )

    def sums(self) -> tuple[list[int], list[int], list[int], Floats]:
        """Equity, cash left, reserved and P&L of every subset, 2**len(lines) of each, as in `Line`.

        Line i is executed where bit i of the index is set.
        """
        equity, cash_left, reserved = [self.base.equity], [self.base.cash_left], [self.base.reserved]
        for line in self.lines:
            equity += [value + line.equity for value in equity]
            cash_left += [value + line.cash_left for value in cash_left]
            reserved += [value + line.reserved for value in reserved]
        count = len(self.lines)
        executed = (np.arange(2**count)[:, None] >> np.arange(count)[None, :]) & 1
        lines = np.array([line.pnl for line in self.lines]).reshape(count, len(self.base.pnl))
        pnl = executed.astype(np.float64) @ lines
        pnl += self.base.pnl
        return equity, cash_left, reserved, pnl


@dataclass(frozen=True, slots=True)
class LiveEffect:
    """What an item, or the legs on one position together, would do to an account."""

    effect: Effect
    items: tuple[LiveItem, ...]

    @property
    def is_leg(self) -> bool:
        return isinstance(self.items[0], LegItem)


def live_effects(
    account: MarginAccount,
    live: Iterable[LiveItem],
    world: World,
    listing: Listing,
    profile: Profile,
    prices: Prices,
    adding: Sequence[tuple[int, Effect]] = (),
    touches: Touches = UNTOUCHED,
) -> list[LiveEffect]:
    """What live items would do to `account`, those that do nothing left out; permits first, then legs.

    A takeover whose leg is not among `live` may be of either side, and counts as both. Legs can take what the position
    may have become: its final size and everything live, or in `adding` (chain id and effect), that enlarges it there.
    `prices` are those of the judged marks, of what takeovers take and moves move.

    Raises:
        UnknownAsset, UnsupportedAction: as `effect_of`.
    """
    ordered = sorted(live, key=_order)
    legs = [item for item in ordered if isinstance(item, LegItem)]
    permits: list[tuple[int, LiveEffect]] = []
    for item in ordered:
        if isinstance(item, PermitItem):
            for terms in takeover_terms(item, account.account_id, legs, prices):
                effect = effect_of(item, account, listing, profile, terms, touches)
                if not effect.nothing:
                    permits.append((item.chain_id, LiveEffect(effect, (item,))))
    changes = [*((chain_id, entry.effect) for chain_id, entry in permits), *adding]

    def reachable(chain_id: int, asset: AssetId, side: int) -> int:
        position = held_on(world[chain_id], account.account_id, asset, listing)
        grown = sum(
            max(0, side * (e.positions.get(asset, 0) + e.collateral.get(asset, 0)))
            for chain, e in changes
            if chain == chain_id
        )
        return max(0, side * position + grown)

    found = [entry for _, entry in permits]
    here = [leg for leg in legs if leg.leaf.chain_id in account.chains and leg.leaf.chain_id in world]
    for (chain_id, _, asset, side), group in _grouped(here, account.account_id, liquidated=True):
        effect = legs_effect(group, world[chain_id], reachable(chain_id, asset, side), profile, touches)
        if not effect.nothing:
            found.append(LiveEffect(effect, tuple(group)))
    for (chain_id, _, asset, side), group in _grouped(here, account.account_id, liquidated=False):
        most = None if account.account_id == FUND else reachable(chain_id, asset, -side)
        effect = counterparty_effect(group, world[chain_id], most, touches)
        if not effect.nothing:
            found.append(LiveEffect(effect, tuple(group)))
    return found


def _grouped(
    legs: Iterable[LegItem], account: AccountId, *, liquidated: bool
) -> list[tuple[tuple[int, AccountId, AssetId, int], list[LegItem]]]:
    """The legs that close positions of the account, or that name it as counterparty, by position and side."""
    groups: dict[tuple[int, AccountId, AssetId, int], list[LegItem]] = {}
    for leg in legs:
        leaf = leg.leaf
        if (leaf.account_id if liquidated else leaf.counterparty) == account:
            groups.setdefault((leaf.chain_id, leaf.account_id, leaf.asset, leg_side(leg)), []).append(leg)
    return sorted(groups.items(), key=lambda entry: entry[0])


def takeover_terms(
    item: PermitItem, account: AccountId, legs: Sequence[LegItem], prices: Prices
) -> tuple[TakeoverTerms | None, ...]:
    """The terms that a takeover may execute at, one per side that its known legs have, or both where none is known.

    The price is the worst for the taker of the judged marks and the marks of the legs, without any concession. A
    position is moved at a mark too: the worst of them for `account`.
    """
    action = item.action
    if isinstance(action, Move) and not is_cash(action):
        buys = (action.amount > 0) == (account == action.target)
        marks = prices.get(AssetId(action.asset), (0,))
        return (TakeoverTerms(1, max(marks) if buys else min(marks)),)
    if not isinstance(action, Takeover):
        return (None,)
    known = legs_for(item, legs)
    terms = []
    for side in sorted({leg_side(leg) for leg in known} or {-1, 1}):
        of_legs = [leg.leaf.mark_price for leg in known if leg_side(leg) == side]
        marks = (*prices.get(action.asset, (0,)), *of_legs)
        terms.append(TakeoverTerms(side, max(marks) if side > 0 else min(marks)))
    return tuple(terms)


def marked_assets(items: Iterable[LiveItem]) -> list[AssetId]:
    """What live takeovers take and moves move, whose mark sets what is paid; ascending."""
    actions = [item.action for item in items if isinstance(item, PermitItem)]
    taken = {action.asset for action in actions if isinstance(action, Takeover)}
    moved = {AssetId(action.asset) for action in actions if isinstance(action, Move) and not is_cash(action)}
    return sorted(taken | moved)


def legs_for(item: PermitItem, legs: Iterable[LegItem]) -> list[LegItem]:
    """The legs that a takeover may execute against: none that names its counterparty."""
    action = item.action
    if not isinstance(action, Takeover):
        return []
    wanted = (action.liquidated, item.chain_id, action.asset, ZERO32)
    leaves = ((leg, leg.leaf) for leg in legs)
    return [leg for leg, leaf in leaves if (leaf.account_id, leaf.chain_id, leaf.asset, leaf.counterparty) == wanted]


def held_on(state: ChainState, account: AccountId, asset: AssetId, listing: Listing) -> int:
    """What an account holds of an instrument, or of a collateral token of this chain, 1e18, signed."""
    if is_token(asset):
        if asset not in listing.collateral:
            return 0
        token = listing.collateral[asset]
        balances = state.balances.get(account)
        return 0 if balances is None else balances.get(token.token.address, 0) * token.scale
    sizes = state.sizes.get(account)
    return 0 if sizes is None else sizes.get(asset, 0)


def leg_is_live_on(account: MarginAccount, live: Iterable[LiveItem], world: World) -> bool:
    """Whether a liquidation leg of `account` may still be filled."""
    return any(
        isinstance(item, LegItem)
        and item.leaf.account_id == account.account_id
        and item.leaf.chain_id in account.chains
        and item.leaf.chain_id in world
        and leg_remaining(item, world[item.leaf.chain_id]) > 0
        for item in live
    )


def _order(item: LiveItem) -> tuple[bool, bytes]:
    return isinstance(item, LegItem), repr(item.key).encode()


def _add(one: Line, other: Line) -> Line:
    return Line(
        one.equity + other.equity,
        one.cash_left + other.cash_left,
        one.reserved + other.reserved,
        one.pnl + other.pnl,
    )
