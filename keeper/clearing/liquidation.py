"""Liquidation legs: which position of an account below maintenance margin is offered, how much of it, and how cheaply.

One leg per account: the smallest size of one position that restores initial margin at the worst price, else as much of
it as lowers the requirement. Every leg keeps CM-41, which `check_leg` verifies of a leg that somebody else planned.

With q = equity ÷ maintenance margin, the most that filling a leg may cost, concession and flat fee, is

    q · relief            where equity ≥ 0, so that equity − q · maintenance margin stays ≥ 0,
    relief                where equity < 0, so that maintenance margin − equity does not grow,

with relief the maintenance margin that the fill frees. Requirements are convex, so relief per unit only falls with
size, and what holds for the full fill holds for every part. It is asked for every subset of the permits live on the
account, with the smaller of the final q and that subset's own: a leg answers for its own effect, not for a withdrawal
that is permitted already, or an unused permit would hold off every liquidation. A leg that would strip a hedge in any
subset frees nothing there, and is not signed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from keeper.margin.listing import Listing
from keeper.margin.model import Floats, MarginModel, require_convex
from keeper.margin.owner import owner_book
from keeper.margin.parameters import BASIS
from keeper.margin.portfolio import Portfolio
from keeper.margin.valuation import EXACT, GRAIN, Valuation, ceil_grain, ceil_usd, floor_usd
from keeper.market.marks import Marks
from keeper.state.batch import NO_DEPOSIT_TARGET, UNIT, LiquidationLeaf
from keeper.state.deployment import Profile
from keeper.state.ids import ZERO32, AssetId
from keeper.state.live import LegItem, LiveItem
from keeper.state.world import MarginAccount, World, component_of

from .effects import Effect, leg_remaining, leg_side
from .exposure import Exposure, Figures, LiveEffect, live_effects, marked_assets

LOT = 10**12
"""Sizes are whole numbers of 1e-6 units (but for a whole position), concessions of 1e-6 USD per unit."""

CORNER_ITEMS = 8
"""Live permits that change positions or collateral, of which every subset is tried; with more, no leg is signed."""

_SLACK = 10 * GRAIN
"""Kept back from what a fill may cost, for the rounding of the figures it is computed from: 1e-5 USD."""

_STEPS = 10**6

_EXCESS = 100
"""A leg may be larger than what restores initial margin by one part in so many."""


@dataclass(frozen=True, slots=True)
class Position:
    """A position on one chain that may be offered, `size` signed; `closed` is the chain's counter for it."""

    chain_id: int
    asset: AssetId
    size: int
    closed: int

    @property
    def side(self) -> int:
        return 1 if self.size > 0 else -1


@dataclass(frozen=True, slots=True)
class Offer:
    """`size` (unsigned) of a position at a worst `concession` per unit, with the flat `fee` of a full fill.

    `relief` is the maintenance margin it frees; `restores` whether equity is at least initial margin after it.
    """

    position: Position
    size: int
    concession: int
    fee: int
    relief: int
    restores: bool

    @property
    def cost(self) -> int:
        """What the account loses against the mark by a full fill at the worst price, USD 1e18."""
        return _ceil(self.size * self.concession, UNIT) + self.fee


def plan_leg(
    account: MarginAccount,
    world: World,
    marks: Marks,
    model: MarginModel,
    listing: Listing,
    profile: Profile,
    timestamp: int,
    auction_start: int,
    live: Sequence[LiveItem] = (),
) -> LiquidationLeaf | None:
    """The leg to sign for an account below maintenance margin, None where none is safe beside what is live.

    The cheapest offer that restores initial margin, else the one that relieves most. While a leg of the account is
    live, only its position is offered again: two legs in two batches must not both be filled.

    Args:
        live: permits and legs that are live on the account.
        timestamp: of the batch that will carry the leg; the auction starts no later.
    """
    book = _Book(account, world, marks, model, listing, profile, live)
    offers = [offer for position in book.positions if (offer := book.offer(position)) is not None]
    if not book.due or not offers:
        return None
    restoring = [offer for offer in offers if offer.restores]
    best = min(restoring, key=lambda o: o.cost) if restoring else max(offers, key=lambda o: o.relief)
    position = best.position
    return LiquidationLeaf(
        account_id=account.account_id,
        chain_id=position.chain_id,
        asset=position.asset,
        close_limit=position.side * (position.closed + best.size),
        mark_price=book.valuation.prices[position.asset],
        max_concession=best.concession,
        auction_start=min(auction_start, timestamp),
    )


def check_leg(
    leaf: LiquidationLeaf,
    world: World,
    marks: Marks,
    model: MarginModel,
    listing: Listing,
    profile: Profile,
    timestamp: int,
    live: Sequence[LiveItem] = (),
) -> list[str]:
    """What is wrong with a leg that somebody else planned at these marks; empty where nothing is.

    Checks properties, not the choice: the account is below maintenance margin, the leg names what it holds there,
    closes no more than restores initial margin or still frees some, and keeps CM-41 beside everything live.
    """
    account = component_of(world, leaf.account_id, leaf.chain_id)
    book = _Book(account, world, marks, model, listing, profile, live)
    found = [p for p in book.positions if (p.chain_id, p.asset) == (leaf.chain_id, leaf.asset)]
    if not found:
        return ["the account has no such position, or another leg of it is live"]
    position = found[0]
    size = abs(leaf.close_limit) - position.closed
    price = book.valuation.prices[leaf.asset]
    faults = [
        message
        for wrong, message in (
            (not book.due, "the account is not below maintenance margin"),
            ((leaf.close_limit > 0) != (position.size > 0), f"its side is not that of the position {position.size}"),
            (not 0 < size <= abs(position.size), f"it closes {size}, the position is {position.size}"),
            (leaf.mark_price != price, f"its mark is {leaf.mark_price}, the batch's is {price}"),
            (leaf.max_concession < 0, f"a concession of {leaf.max_concession}"),
            (leaf.auction_start > timestamp, f"its auction starts at {leaf.auction_start}, after {timestamp}"),
            (leaf.deposit_target != NO_DEPOSIT_TARGET, "it has a deposit target"),
            (leaf.counterparty != ZERO32, "it names a counterparty"),
        )
        if wrong
    ]
    if faults:
        return faults
    allowed = book.most_concession(position, size)
    if allowed is None:
        faults.append("beside what is live it frees less margin than it costs (CM-41)")
    elif leaf.max_concession > allowed:
        faults.append(f"its concession {leaf.max_concession / UNIT:g} exceeds {allowed / UNIT:g} (CM-41)")
    less = size - size // _EXCESS - LOT
    if less > 0 and book.restored(position, less, leaf.max_concession):
        faults.append(f"closing {less / UNIT:g} of {size / UNIT:g} restores initial margin already")
    elif less > 0 and not faults and not book.frees_more(position, less, size):
        faults.append(f"closing {size / UNIT:g} frees no more than closing {less / UNIT:g}")
    return faults


def concession_at(leg: LiquidationLeaf, time: int, ramp_seconds: int) -> int:
    """What a leg concedes per unit at a block's time, USD 1e18: from 0 to its most in `ramp_seconds`, rounded down.

    The chain starts the clock later than the leg says after a time without batches.
    """
    return leg.max_concession * min(max(0, time - leg.auction_start), ramp_seconds) // ramp_seconds


class _Book:
    """An account below maintenance margin, and what is live on it, as offers are weighed against it."""

    def __init__(
        self,
        account: MarginAccount,
        world: World,
        marks: Marks,
        model: MarginModel,
        listing: Listing,
        profile: Profile,
        live: Sequence[LiveItem],
    ) -> None:
        require_convex(model)
        self.profile = profile
        self.model = model
        # The owner's other accounts count as they finally are: a leg answers for its own effect, not for theirs.
        self.portfolio: Portfolio = owner_book(world, listing, account, marks, model)
        prices = {asset: (model.price(asset, marks),) for asset in marked_assets(live)}
        self.live = live_effects(account, live, world, listing, profile, prices)
        self.positions = _positions(account, world, live)
        # Positions of several chains that net to nothing are not in the portfolio.
        own = {*self.portfolio.assets, *(position.asset for position in self.positions)}
        taken = {asset for entry in self.live for asset in entry.effect.assets}
        self.valuation = Valuation.of(marks, model, own | taken)
        self._subsets: dict[Position, _Subsets] = {}

    @cached_property
    def final(self) -> Figures:
        return Exposure.of(self.portfolio, [], self.valuation).bound()

    @property
    def due(self) -> bool:
        return self.final.equity < self.final.maintenance

    def offer(self, position: Position) -> Offer | None:
        """The smallest size that restores initial margin, else the one that relieves most; None where none is safe."""
        whole = abs(position.size)
        # Whole lots, but at most a million steps: what one step frees stays far above the noise of the sums.
        step = _ceil(whole, _STEPS * LOT) * LOT
        subsets = self._subsets_of(position)

        def size_at(steps: int) -> int:
            return min(steps * step, whole)

        last = _ceil(whole, step)
        most = _first(last, lambda k: subsets.budget(size_at(k + 1)) <= subsets.budget(size_at(k)))
        if most == 0 or self.most_concession(position, size_at(most)) is None:
            return None
        size = size_at(most)
        if self._restores(position, size):
            size = size_at(_first(most, lambda k: k > 0 and self._restores(position, size_at(k))))
        concession = self.most_concession(position, size)
        if concession is None:
            return None
        return Offer(
            position,
            size,
            concession,
            self._fee(position, size),
            subsets.relief(size),
            self.restored(position, size, concession),
        )

    def most_concession(self, position: Position, size: int) -> int | None:
        """The most that filling `size` may concede per unit, USD 1e18, in whole LOTs; None where not even 0 is safe."""
        budget = floor_usd(self._subsets_of(position).budget(size))
        left = budget - _SLACK - self._fee(position, size)
        if left < 0:
            return None
        most = self._standalone(position) * self.model.parameters.concession // BASIS
        return min(most, left * UNIT // size) // LOT * LOT

    def restored(self, position: Position, size: int, concession: int) -> bool:
        """Whether equity is at least initial margin after a full fill at the worst price."""
        cost = _ceil(size * concession, UNIT) + self._fee(position, size)
        return self.final.equity - cost >= self._subsets_of(position).initial_after(size)

    def frees_more(self, position: Position, less: int, size: int) -> bool:
        """Whether `size` still frees more than `less`: past the size that hedges best, requirements rise again."""
        subsets = self._subsets_of(position)
        return subsets.budget(size) > subsets.budget(less)

    def _restores(self, position: Position, size: int) -> bool:
        concession = self.most_concession(position, size)
        return concession is not None and self.restored(position, size, concession)

    def _fee(self, position: Position, size: int) -> int:
        return _ceil(self.profile.flat_fee * size, position.closed + size)

    def _standalone(self, position: Position) -> int:
        """Maintenance margin of one unit held alone, USD 1e18."""
        _, maintenance = self.valuation.scenarios.requirements(position.side * self._row(position))
        return ceil_usd(float(maintenance))

    def _row(self, position: Position) -> Floats:
        row: Floats = self.valuation.pnl[self.valuation.assets.index(position.asset)]
        return row

    def _subsets_of(self, position: Position) -> _Subsets:
        if position not in self._subsets:
            others = [entry for entry in self.live if not _is_leg_of(entry, position)]
            self._subsets[position] = _Subsets(self, position.side * self._row(position), others)
        return self._subsets[position]


class _Subsets:
    """Every subset of what is live beside one position's legs; index 0 is the final state alone. USD as doubles."""

    def __init__(self, book: _Book, row: Floats, others: Sequence[LiveEffect]) -> None:
        cash = [entry.effect for entry in others if not entry.effect.assets]
        moving = [entry.effect for entry in others if entry.effect.assets]
        self._row = row
        self._scenarios = book.valuation.scenarios
        self._reserved = ceil_grain(book.portfolio.reserved * EXACT)
        # What takes only cash or margin counts together: it changes no relief.
        lines = Exposure.of(book.portfolio, [*moving, *([_together(cash)] if cash else [])], book.valuation)
        self.safe = len(moving) <= CORNER_ITEMS
        if not self.safe:
            lines = replace(lines, lines=())
        equity, _, reserved, self._pnl = lines.sums()
        worth = np.array([value / (EXACT * UNIT) for value in equity])
        self._before = self._scenarios.requirements(self._pnl)[1]
        margin = self._before + np.array([value / UNIT for value in reserved])
        ratio = np.divide(worth, margin, out=np.ones_like(worth), where=margin > 0)
        final = min(float(ratio[0]), 1.0) if worth[0] >= 0 else 1.0
        self._share = np.where(worth >= 0, np.minimum(ratio, final), 1.0)

    def budget(self, size: int) -> float:
        """The most that a full fill of `size` may cost, concession and fee: the least over the subsets."""
        if not self.safe:
            return -1.0
        after = self._scenarios.requirements(self._pnl - size / UNIT * self._row)[1]
        return float((self._share * (self._before - after)).min())

    def relief(self, size: int) -> int:
        """Maintenance margin that the fill frees in the final state, USD 1e18."""
        after = self._scenarios.requirements(self._pnl[0] - size / UNIT * self._row)[1]
        return floor_usd(float(self._before[0] - after))

    def initial_after(self, size: int) -> int:
        """Initial margin after the fill, in the final state, USD 1e18."""
        return self._reserved + ceil_usd(float(self._scenarios.requirements(self._pnl[0] - size / UNIT * self._row)[0]))


def _positions(account: MarginAccount, world: World, live: Sequence[LiveItem]) -> list[Position]:
    """What may be offered, by chain and asset: where legs are live that can still be filled, their positions alone.

    Never a position of which a leg of the other side is live: a takeover is permitted for the side of its leg.
    """
    legs = {(item.leaf.chain_id, item.leaf.asset, leg_side(item)) for item in _own_legs(account, live, world)}
    found = []
    for chain_id in account.chains:
        sizes = world[chain_id].sizes.get(account.account_id) if chain_id in world else None
        for asset, size in sorted(sizes.items()) if sizes is not None else ():
            position = Position(chain_id, asset, size, world[chain_id].closed.get((account.account_id, asset), 0))
            if (chain_id, asset, -position.side) not in legs:
                found.append(position)
    return [p for p in found if (p.chain_id, p.asset, p.side) in legs] or found


def _own_legs(account: MarginAccount, live: Sequence[LiveItem], world: World) -> list[LegItem]:
    return [
        item
        for item in live
        if isinstance(item, LegItem)
        and item.leaf.account_id == account.account_id
        and item.leaf.chain_id in account.chains
        and item.leaf.chain_id in world
        and leg_remaining(item, world[item.leaf.chain_id]) > 0
    ]


def _is_leg_of(entry: LiveEffect, position: Position) -> bool:
    item = entry.items[0]
    return isinstance(item, LegItem) and (item.leaf.chain_id, item.leaf.asset, leg_side(item)) == (
        position.chain_id,
        position.asset,
        position.side,
    )


def _together(effects: Sequence[Effect]) -> Effect:
    return Effect(cash=sum(effect.cash for effect in effects), reserved=sum(effect.reserved for effect in effects))


def _first(count: int, holds: Callable[[int], bool]) -> int:
    """The smallest k in 0 … count − 1 from which `holds` is true on, `count` where it never is."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _ceil(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
