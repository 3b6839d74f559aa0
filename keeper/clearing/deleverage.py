"""Auto-deleveraging: who on the other side closes a position that nobody takes, how much of it, and at what price.

The last rung of the waterfall (CM-43): when an account owes more than it has and the fund can not pay, accounts with
the opposite position close theirs against it, those that won most with most leverage first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from keeper.margin.model import MarginModel
from keeper.margin.parameters import BASIS
from keeper.margin.portfolio import Portfolio
from keeper.margin.report import AccountReport
from keeper.margin.valuation import GRAIN, Valuation, ceil_usd
from keeper.market.marks import Marks
from keeper.state.batch import UNIT, LiquidationLeaf
from keeper.state.ids import AssetId, has_margin, is_token
from keeper.state.live import LegItem, LiveItem
from keeper.state.world import MarginAccount, component_of

from .collateral import net_cash_at
from .effects import leg_remaining, leg_side
from .exposure import Exposure, Line, LiveEffect, live_effects, marked_assets
from .sale import Offered, Sale, Setting

CORNER_ITEMS = 8
"""Live items of a counterparty of which every subset is tried, the heaviest; the others count where they lose."""

_HALVINGS = 30


@dataclass(frozen=True, slots=True)
class Ranked:
    """An account on the other side, its position there, and what it is ranked by."""

    account: MarginAccount
    position: int
    score: int


def ranked(
    setting: Setting, reports: Mapping[MarginAccount, AccountReport], chain_id: int, asset: AssetId, side: int
) -> list[Ranked]:
    """Accounts with a position opposite to `side` on a chain that are not due themselves, the first to close first.

        profit   = (size · mark − cost) ÷ |cost| of that position, its cost the average one that the chain's fills say
        leverage = gross notional ÷ equity of the whole margin account
        score    = profit · leverage where profit ≥ 0, profit ÷ leverage where it is a loss

    in whole basis points, rounded down, so that any winner stands before any loser; ties by account id. `reports` are
    of every account at the cut.
    """
    state, price = setting.world[chain_id], setting.model.price(asset, setting.marks)
    found = []
    for account_id, sizes in state.sizes.items():
        size = sizes.get(asset, 0)
        if size * side >= 0 or not has_margin(account_id):
            continue
        report = reports.get(component_of(setting.world, account_id, chain_id))
        if report is None or report.equity <= 0 or report.equity < report.maintenance_margin:
            continue
        worth = size * price // UNIT
        cost = state.costs.get((account_id, asset), worth)
        profit = (worth - cost) * BASIS // max(1, abs(cost))
        leverage = max(1, report.gross_notional * BASIS // report.equity)
        score = profit * leverage if profit >= 0 else profit * BASIS // leverage
        found.append(Ranked(report.account, size, score))
    return sorted(found, key=lambda each: (-each.score, each.account.account_id))


def shortfall(book: Portfolio, marks: Marks, model: MarginModel) -> int:
    """What an account owes beyond all it has, collateral at its full mark: USD 1e18, rounded up to 1e-6, at least 0."""
    collateral = sum(amount * model.price(asset, marks) for asset, amount in book.collateral.items())
    worth = net_cash_at(book, marks, model) + collateral // UNIT
    return max(0, -(worth // GRAIN) * GRAIN)


def bankruptcy_gains(sale: Sale, setting: Setting) -> dict[tuple[int, AssetId], int]:
    """How much better than the mark positions must be closed so that, all of them closed, exactly no deficit is left.

    By chain and asset, USD 1e18 per unit, rounded down to 1e-6: the shortfall spread over every instrument the account
    may be offered of, by standalone maintenance margin. Nothing where it owes nothing: a counterparty is never given
    more than the mark. Nothing is bought back at less than zero.
    """
    owed = shortfall(sale.portfolio, setting.marks, setting.model)
    instruments = [p for p in sale.offered if not is_token(p.asset)]
    weights = {p.key: _standalone(sale, p) for p in instruments}
    total = sum(weights[p.key] * abs(p.size) for p in instruments)
    gains = {}
    for position in instruments:
        gain = owed * weights[position.key] * UNIT // total // GRAIN * GRAIN if total else 0
        gains[position.key] = min(gain, sale.valuation.prices[position.asset]) if position.side < 0 else gain
    return gains


def room_of(
    account: MarginAccount, leaf: LiquidationLeaf, size: int, lot: int, setting: Setting, live: Sequence[LiveItem]
) -> int:
    """How much of `size` an account can close as the counterparty of a leg, beside what is live on it: whole lots.

    CM-41 for the counterparty, with q = 1: for every subset of the rest equity less maintenance margin stays ≥ 0, or
    does not fall where it is below already. 0 where a live leg on the same position names it for more than that.
    """
    exposure, mine = against(account, leaf, size, setting, live)
    if exposure is None or mine is None:
        return 0
    exposure = exposure.keeping({0, *(n for n in exposure.heaviest(CORNER_ITEMS + 1) if n)})
    whole = _size_of(mine, leaf.asset)
    room = fitting(exposure, whole, lot, _stays_sound)
    return room if room >= _standing(mine, leaf, setting) else 0


def against(
    account: MarginAccount, leaf: LiquidationLeaf, size: int, setting: Setting, live: Sequence[LiveItem]
) -> tuple[Exposure | None, LiveEffect | None]:
    """An account with `size` of a leg that names it as line 0 and all else live as the others; None where it could not
    be filled at all."""
    closed = setting.world[leaf.chain_id].closed.get((leaf.account_id, leaf.asset), 0)
    new = LegItem(replace(leaf, close_limit=_side(leaf) * (closed + size)), setting.timestamp)
    others = [item for item in live if item.key != new.key]
    prices = {asset: (setting.model.price(asset, setting.marks),) for asset in marked_assets(others)}
    entries = live_effects(
        account, [*others, new], setting.world, setting.listing, setting.profile, prices, touches=setting.touches
    )
    mine = [entry for entry in entries if new in entry.items]
    if not mine:
        return None, None
    ordered = [*mine, *(entry for entry in entries if new not in entry.items)]
    book = setting.book(account)
    assets = {*book.assets, *(each for entry in ordered for each in entry.effect.assets)}
    valuation = Valuation.of(setting.marks, setting.model, assets)
    return Exposure.of(book, [entry.effect for entry in ordered], valuation), mine[0]


def fitting(exposure: Exposure, whole: int, lot: int, holds: Callable[[Exposure], bool]) -> int:
    """The largest part of line 0, of `whole` in full, with which `holds` is true: all, or whole lots by halving."""
    if holds(exposure):
        return whole
    low, high = 0, -(-whole // lot)
    for _ in range(_HALVINGS):
        if high - low <= 1:
            break
        middle = (low + high) // 2
        part = _scaled(exposure.lines[0], middle * lot, whole)
        fits = holds(replace(exposure, lines=(part, *exposure.lines[1:])))
        low, high = (middle, high) if fits else (low, middle)
    return low * lot


def _stays_sound(exposure: Exposure) -> bool:
    corners = exposure.corners()
    spare = [equity - margin for equity, margin in zip(corners.equity, corners.maintenance, strict=True)]
    # Line 0 is the fill: every odd corner has it, the one before is the same without.
    return all(spare[n + 1] >= min(0, spare[n]) for n in range(0, len(spare), 2))


def _scaled(line: Line, part: int, whole: int) -> Line:
    return Line(
        line.equity * part // whole,
        line.cash_left * part // whole,
        line.reserved,
        line.pnl * (part / whole),
    )


def _standing(mine: LiveEffect, leaf: LiquidationLeaf, setting: Setting) -> int:
    state = setting.world[leaf.chain_id]
    older = [item for item in mine.items if isinstance(item, LegItem) and item.timestamp != setting.timestamp]
    return min(max((leg_remaining(item, state) for item in older), default=0), _size_of(mine, leaf.asset))


def _size_of(entry: LiveEffect, asset: AssetId) -> int:
    return abs(entry.effect.positions.get(asset, 0) + entry.effect.collateral.get(asset, 0))


def _side(leaf: LiquidationLeaf) -> int:
    return leg_side(LegItem(leaf, 0))


def _standalone(sale: Sale, position: Offered) -> int:
    """Maintenance margin of one unit held alone, USD 1e18."""
    return ceil_usd(float(sale.valuation.scenarios.requirements(sale.row(position))[1]))
