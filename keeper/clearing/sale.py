"""An account as it is sold: what is offered of it, on what terms, and every corner of what else may be executed.

With q = equity ÷ maintenance margin at planning, a set of fills may cost an account at most (CM-41)

    q · relief           where equity ≥ 0, so that equity − q · maintenance margin stays ≥ 0,
    relief               where equity < 0, so that maintenance margin − equity does not grow,

with relief the maintenance margin that they free. Cost is what equity loses: concessions and flat fees, the funding
that a touch may book beyond the marks' index, less the haircut of collateral that becomes cash. Where an account is
sold for settlement token alone (CM-21), q = 1: equity − maintenance margin stays ≥ 0.

Requirements are convex in the fills and costs are linear, so the corners decide: each leg filled in full or not at all,
those of earlier batches too. It is asked for every subset of the permits live on the account, with the smaller of the
final q and that subset's own: legs answer for their own effect, not for a withdrawal that is permitted already, or an
unused permit would hold off every liquidation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from keeper.margin.listing import Listing
from keeper.margin.model import Floats, MarginModel, require_convex
from keeper.margin.owner import owner_book
from keeper.margin.parameters import BASIS
from keeper.margin.portfolio import Portfolio, portfolio
from keeper.margin.valuation import EXACT, Valuation, ceil_grain, ceil_usd
from keeper.market.marks import Marks
from keeper.state.batch import NO_DEPOSIT_TARGET, UNIT
from keeper.state.deployment import Profile
from keeper.state.ids import FUND, ZERO32, AccountId, AssetId, is_token, parse_instrument
from keeper.state.live import LegItem, LiveItem
from keeper.state.world import MarginAccount, World

from .effects import UNTOUCHED, Effect, Touches, leg_remaining, leg_side
from .exposure import Exposure, Figures, LiveEffect, live_effects, marked_assets

LOT = 10**12
"""Sizes are whole numbers of 1e-6 units (but for a whole position), concessions of 1e-6 USD per unit."""

MOST_LEGS = 8
"""Live legs of one account, those of earlier batches included."""

CORNER_ITEMS = 8
"""Live permits that change positions or collateral, of which every subset is tried; with more, no leg is signed."""

MOST_LINES = 12
"""Legs and live permits together: 4,096 corners."""

SLACK = 1e-5
"""USD kept back of what fills may cost, for the rounding of sums of doubles."""

EXPIRY_SECONDS = 60
"""An instrument that expires this soon after a batch is not offered: it settles before its leg is dead."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What accounts are sold at: the states at the cut, the batch's marks, and its time."""

    world: World
    marks: Marks
    model: MarginModel
    listing: Listing
    profile: Profile
    timestamp: int

    def book(self, account: MarginAccount) -> Portfolio:
        return portfolio(self.world, self.listing, account)

    @property
    def touches(self) -> Touches:
        return Touches.at(self.world, (self.marks,))


@dataclass(frozen=True, slots=True)
class Terms:
    """On which a position is offered: by auction; or to a `counterparty` at the mark, better for the account by `gain`
    (USD 1e18 per unit), up to `most` of it."""

    counterparty: bytes = ZERO32
    gain: int = 0
    most: int | None = None


AUCTION = Terms()


@dataclass(frozen=True, slots=True)
class Offered:
    """A position, or a collateral token, on one chain: `size` signed, 1e18; `closed` is the chain's counter for it.

    Sizes are multiples of `lot`. Live legs on it may still close `standing` of it, at a cost of `standing_cost` USD per
    unit against the mark, by limits of `standing_limit` at least (0 where none pays the flat fee).
    """

    chain_id: int
    asset: AssetId
    size: int
    closed: int = 0
    lot: int = LOT
    terms: Terms = AUCTION
    standing: int = 0
    standing_cost: float = 0.0
    standing_limit: int = 0

    @property
    def side(self) -> int:
        return 1 if self.size > 0 else -1

    @property
    def whole(self) -> int:
        """The most that may be closed."""
        return abs(self.size) if self.terms.most is None else min(abs(self.size), self.terms.most)

    @property
    def auctioned(self) -> bool:
        return self.terms.counterparty == ZERO32

    @property
    def key(self) -> tuple[int, AssetId]:
        return (self.chain_id, self.asset)

    def lots(self, size: int) -> int:
        """`size` rounded up to whole lots; at most what may be closed."""
        return min(-(-size // self.lot) * self.lot, self.whole)


@dataclass(frozen=True)
class Sale:
    """An account that is to be sold, and the terms.

    `concession` in basis points of the standalone maintenance margin of a leg, `flat_fee` USD 1e18 a leg. `permits` are
    the effects of live permits, `fixed` those of live legs on what is not offered again. `for_cash` where the account
    is only short of settlement token (CM-21).
    """

    portfolio: Portfolio
    offered: tuple[Offered, ...]
    valuation: Valuation
    concession: int
    flat_fee: int
    permits: tuple[Effect, ...] = ()
    fixed: tuple[Effect, ...] = ()
    touches: Touches = UNTOUCHED
    for_cash: bool = False

    def __post_init__(self) -> None:
        """Raises NotConvex for a model of which the corners bound nothing."""
        require_convex(self.valuation.model)

    @cached_property
    def final(self) -> Figures:
        """With nothing live executed."""
        return Exposure.of(self.portfolio, [], self.valuation).bound()

    @property
    def equity(self) -> float:
        return self.valuation.equity(self.portfolio) / (EXACT * UNIT)

    @property
    def net_cash(self) -> float:
        return self.valuation.net_cash(self.portfolio) / (EXACT * UNIT)

    @property
    def reserved(self) -> float:
        return ceil_grain(self.portfolio.reserved * EXACT) / UNIT

    @property
    def missing(self) -> int:
        """What a deposit must bring: equity up to initial margin, or net cash up to zero. USD 1e18."""
        if self.for_cash:
            return max(0, -(self.valuation.net_cash(self.portfolio) // EXACT))
        return max(0, self.final.initial - self.final.equity)

    @property
    def due(self) -> bool:
        return self.missing > 0 if self.for_cash else self.final.equity < self.final.maintenance

    @cached_property
    def subsets(self) -> Subsets:
        return Subsets.of(self)

    @property
    def most_legs(self) -> int:
        """How many may be planned; 0 beside more live permits than corners are tried of."""
        moving, cash = parted(self.permits)
        if len(moving) > CORNER_ITEMS:
            return 0
        left = MOST_LINES - len(moving) - bool(cash)
        return max(0, min(MOST_LEGS, left) - len(self.fixed))

    def row(self, position: Offered) -> Floats:
        """What closing one unit takes from the account's vector."""
        pnl = self.valuation.pnl[self.valuation.assets.index(position.asset)]
        return np.asarray(position.side * pnl)

    def most_concession(self, position: Offered) -> float:
        """USD per unit: a share of the standalone maintenance margin, whatever the price."""
        if not position.auctioned:
            return 0.0
        _, maintenance = self.valuation.scenarios.requirements(self.row(position))
        return ceil_usd(float(maintenance)) / UNIT * self.concession / BASIS

    def drag(self, position: Offered) -> float:
        """What closing a unit at the mark costs, USD: the funding of a touch at its worst, less a token's haircut, less
        what a counterparty pays beyond the mark."""
        gain = position.terms.gain / UNIT
        if is_token(position.asset):
            price, credit = self.valuation.prices[position.asset], self.valuation.credits[position.asset]
            return -(price - credit / BASIS) / UNIT - gain
        touched = self.touches.worst(position.chain_id, position.asset, -position.side * UNIT) / UNIT
        accrued = position.side * self.valuation.funding.get(position.asset, 0)
        return -(accrued + touched) / UNIT - gain

    def proceeds(self, position: Offered) -> float:
        """What a unit adds to net cash at the mark, USD: a position's is part of it already."""
        return self.valuation.prices[position.asset] / UNIT if is_token(position.asset) else 0.0

    def fee(self, position: Offered, size: int) -> int:
        """The flat fee of a fill of all that may be closed, USD 1e18, rounded up; `size` of it by a new leg, if any."""
        limits = [position.closed + size] if position.auctioned and size else []
        if position.standing and position.standing_limit:
            limits.append(position.standing_limit)
        return -(-self.flat_fee * max(size, position.standing) // min(limits)) if limits else 0


@dataclass(frozen=True)
class Subsets:
    """Every subset of the live permits on an account, the empty one first; figures in USD, as doubles.

    `share` is q, `spare` what equity exceeds the requirement by where that may be spent (CM-21).
    """

    pnl: Floats
    equity: Floats
    maintenance: Floats
    share: Floats
    spare: Floats

    @classmethod
    def of(cls, sale: Sale) -> Subsets:
        moving, cash = parted(sale.permits)
        # What takes only cash or margin counts together: it changes no relief.
        effects = [*moving, *([_together(cash)] if cash else [])]
        equity, _, reserved, pnl = Exposure.of(sale.portfolio, effects, sale.valuation).sums()
        worth = np.array([value / (EXACT * UNIT) for value in equity])
        maintenance = sale.valuation.scenarios.requirements(pnl)[1]
        margin = maintenance + np.array([ceil_grain(value * EXACT) / UNIT for value in reserved])
        ratio = np.divide(worth, margin, out=np.ones_like(worth), where=margin > 0)
        final = min(float(ratio[0]), 1.0) if worth[0] >= 0 else 1.0
        share = np.where(worth >= 0, np.minimum(ratio, final), 1.0)
        spare = np.zeros_like(worth)
        if sale.for_cash:
            share = np.where(worth >= margin, 1.0, share)
            spare = np.maximum(0.0, worth - margin)
        return cls(pnl, worth, np.asarray(maintenance), share, spare)

    def __len__(self) -> int:
        return len(self.equity)


def sale_of(account: MarginAccount, setting: Setting, live: Sequence[LiveItem] = (), *, for_cash: bool = False) -> Sale:
    """The account with everything live on it. For settlement token only what is no settlement token is offered."""
    marks, model, listing, world = setting.marks, setting.model, setting.listing, setting.world
    # The owner's other accounts count as they finally are: a leg answers for its own effect, not for theirs.
    book = owner_book(world, listing, account, marks, model)
    prices = {asset: (model.price(asset, marks),) for asset in marked_assets(live)}
    effects = live_effects(account, live, world, listing, setting.profile, prices, touches=setting.touches)
    held = _held(account, setting)
    # Positions of several chains that net to nothing are not in the portfolio.
    assets = {*book.assets, *(asset for _, asset, _ in held), *(a for e in effects for a in e.effect.assets)}
    valuation = Valuation.of(marks, model, assets)
    offered: list[Offered] = []
    again: set[int] = set()
    own = [entry for entry in effects if closes(entry, account.account_id)]
    # A takeover is permitted for the side of its leg, so no leg of the other side is signed while one is live.
    live_legs = [i for i in live if isinstance(i, LegItem) and i.leaf.account_id == account.account_id]
    barred = {(i.leaf.chain_id, i.leaf.asset, -leg_side(i)) for i in live_legs if _remains(i, world)}
    for chain_id, asset, size in held:
        if for_cash and not is_token(asset):
            continue
        side = 1 if size > 0 else -1
        if (chain_id, asset, side) in barred:
            continue
        here = [
            e for e in own if (_leg(e).leaf.chain_id, _leg(e).leaf.asset, leg_side(_leg(e))) == (chain_id, asset, side)
        ]
        lot = max(LOT, listing.collateral[asset].scale) if is_token(asset) else LOT
        position = Offered(chain_id, asset, size, world[chain_id].closed.get((account.account_id, asset), 0), lot)
        offered.append(_with_standing(position, here, valuation))
        again.update(id(entry) for entry in here)
    return Sale(
        portfolio=book,
        offered=tuple(offered),
        valuation=valuation,
        concession=model.parameters.concession,
        flat_fee=setting.profile.flat_fee,
        permits=_heaviest([e.effect for e in effects if not closes(e, account.account_id)], valuation),
        fixed=tuple(entry.effect for entry in own if id(entry) not in again),
        touches=setting.touches,
        for_cash=for_cash,
    )


def _heaviest(permits: Sequence[Effect], valuation: Valuation) -> tuple[Effect, ...]:
    """The CORNER_ITEMS of those that move anything which lose most, and all others: unused permits hold off nothing."""
    moving, cash = parted(permits)
    if len(moving) > CORNER_ITEMS:
        worst = valuation.scenario_pnl(moving).min(axis=1).tolist()
        kept = sorted(range(len(moving)), key=lambda number: worst[number])[:CORNER_ITEMS]
        moving = [moving[number] for number in sorted(kept)]
    return (*moving, *cash)


def deposit_target(sale: Sale, chain_id: int, setting: Setting) -> int:
    """Cumulative deposits, in the token's decimals, at which the account's legs on a chain are void: what it has
    deposited there and what is missing, rounded up. The fund's own legs have none."""
    account_id = sale.portfolio.account.account_id
    if account_id == FUND:
        return NO_DEPOSIT_TARGET
    scale = setting.listing.settlement[chain_id].scale
    return setting.world[chain_id].deposited.get(account_id, 0) - (-sale.missing // scale)


def parted(effects: Sequence[Effect]) -> tuple[list[Effect], list[Effect]]:
    """Effects that change positions or collateral, and the others."""
    return [e for e in effects if e.assets], [e for e in effects if not e.assets]


def subset_rows(count: int) -> Floats:
    """Every subset of so many legs as a row of ones and zeros, the empty one first, shape (2**count, count)."""
    executed = (np.arange(2**count)[:, None] >> np.arange(count)[None, :]) & 1
    return np.asarray(executed, dtype=float)


def _held(account: MarginAccount, setting: Setting) -> list[tuple[int, AssetId, int]]:
    """Chain, asset and size of everything that may be sold: by chain, tokens first, each by id."""
    found = []
    for chain_id in account.chains:
        if chain_id not in setting.world:
            continue
        state = setting.world[chain_id]
        balances = state.balances.get(account.account_id)
        for asset, token in sorted(setting.listing.collateral.items()):
            if (
                token.chain_id == chain_id
                and balances is not None
                and (balance := balances.get(token.token.address, 0))
            ):
                found.append((chain_id, asset, balance * token.scale))
        sizes = state.sizes.get(account.account_id)
        for asset, size in sorted(sizes.items()) if sizes is not None else ():
            expiry = parse_instrument(asset).expiry
            if not expiry or (expiry > setting.timestamp + EXPIRY_SECONDS and asset not in setting.marks.settled):
                found.append((chain_id, asset, size))
    return found


def _with_standing(position: Offered, entries: Sequence[LiveEffect], valuation: Valuation) -> Offered:
    for entry in entries:
        legs = [item for item in entry.items if isinstance(item, LegItem)]
        closed = entry.effect.positions.get(position.asset, 0) + entry.effect.collateral.get(position.asset, 0)
        mark, side = valuation.prices[position.asset], position.side
        worst = max(side * (mark - leg.leaf.mark_price) + leg.leaf.max_concession for leg in legs)
        limits = [abs(leg.leaf.close_limit) for leg in legs if leg.leaf.counterparty == ZERO32]
        position = replace(
            position, standing=abs(closed), standing_cost=worst / UNIT, standing_limit=min(limits, default=0)
        )
    return position


def _remains(leg: LegItem, world: World) -> bool:
    return leg.leaf.chain_id in world and leg_remaining(leg, world[leg.leaf.chain_id]) > 0


def _closed_by(leg: LegItem) -> tuple[int, AssetId, int]:
    return (leg.leaf.chain_id, leg.leaf.asset, leg_side(leg))


def _leg(entry: LiveEffect) -> LegItem:
    item = entry.items[0]
    assert isinstance(item, LegItem)
    return item


def closes(entry: LiveEffect, account_id: AccountId) -> bool:
    """Whether it is a leg of the account, not a permit or a leg that names it as counterparty."""
    item = entry.items[0]
    return isinstance(item, LegItem) and item.leaf.account_id == account_id


def _together(effects: Sequence[Effect]) -> Effect:
    return Effect(cash=sum(effect.cash for effect in effects), reserved=sum(effect.reserved for effect in effects))
