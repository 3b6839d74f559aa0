"""What is wrong with the legs that somebody else planned for an account: every property of them, never the choice.

Computed from the leaves alone, by what executing them does to the account in exact integers, not by the planner's code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from keeper.margin.valuation import EXACT, GRAIN
from keeper.state.batch import UNIT, LiquidationLeaf
from keeper.state.ids import ZERO32, AssetId, is_token
from keeper.state.live import LegItem, LiveItem
from keeper.state.world import MarginAccount

from .exposure import Exposure, live_effects, marked_assets
from .legs import Leg, smaller
from .plan import Search
from .sale import MOST_LEGS, MOST_LINES, SLACK, Offered, Sale, Setting, Terms, closes, deposit_target, sale_of

_TOLERANCE = 2 * GRAIN
"""USD: two roundings of 1e-6. A target or a price may differ by it, or by 1e-9 of the account's gross notional."""
_NOTIONAL = 10**9


def check_legs(
    legs: Sequence[LiquidationLeaf],
    account: MarginAccount,
    setting: Setting,
    live: Sequence[LiveItem] = (),
    *,
    for_cash: bool = False,
    gains: Mapping[tuple[int, AssetId], int] | None = None,
) -> list[str]:
    """What is wrong with all the legs of one account in a batch, together; empty where nothing is.

    The account is due; each leg names what it holds on that chain and may be offered, on its side, at the batch's mark,
    and concedes no more than its standalone requirement allows; none is larger than what restores the account; and they
    keep CM-41 at every corner beside everything live.

    Args:
        for_cash: whether they are legs of an account that is only short of settlement token (CM-21).
        gains: by chain and asset, what a leg with a counterparty executes better than the mark at, USD 1e18 per unit.
            Whether that counterparty may be named is not asked here.
    """
    sale = sale_of(account, setting, live, for_cash=for_cash)
    if not sale.due:
        return ["the account is not short of cash" if for_cash else "the account is not below maintenance margin"]
    gains = gains or {}
    faults = []
    if len(legs) > sale.most_legs:
        faults.append(f"{len(legs)} legs beside what is live, at most {min(MOST_LEGS, sale.most_legs)}")
    if len({(leaf.chain_id, leaf.asset) for leaf in legs}) < len(legs):
        faults.append("two legs on one position")
    offered = {position.key: position for position in sale.offered}
    planned: list[Leg] = []
    for leaf in legs:
        position = offered.get((leaf.chain_id, leaf.asset))
        if position is None or leaf.account_id != account.account_id:
            faults.append(f"{_name(leaf)}: the account has no such position to offer")
            continue
        gain = gains.get(position.key, 0)
        faults += [f"{_name(leaf)}: {fault}" for fault in _shape(leaf, position, sale, setting, gain)]
        size = abs(leaf.close_limit) - position.closed
        if size > 0:
            mark = sale.valuation.prices[leaf.asset]
            terms = Terms(leaf.counterparty, position.side * (leaf.mark_price - mark))
            position = replace(position, terms=terms)
            planned.append(Leg(position, size, leaf.max_concession, sale.fee(position, size)))
    if faults or not legs:
        return faults
    return _conceded(planned, sale) + _together(legs, account, setting, live, sale) + _excessive(planned, sale)


def _name(leaf: LiquidationLeaf) -> str:
    return f"chain {leaf.chain_id}, 0x{leaf.asset.hex()}"


def _shape(leaf: LiquidationLeaf, position: Offered, sale: Sale, setting: Setting, gain: int) -> list[str]:
    size = abs(leaf.close_limit) - position.closed
    price = sale.valuation.prices[leaf.asset] + position.side * gain
    target = deposit_target(sale, leaf.chain_id, setting)
    gross = sale.valuation.gross_notional(sale.portfolio) // EXACT
    near = max(_TOLERANCE, gross // _NOTIONAL)
    scale = setting.listing.settlement[leaf.chain_id].scale
    terms = Terms(leaf.counterparty)
    most = 0.0 if leaf.counterparty != ZERO32 else sale.most_concession(replace(position, terms=terms))
    return [
        message
        for wrong, message in (
            ((leaf.close_limit > 0) != (position.size > 0), f"its side is not that of the position {position.size}"),
            (not 0 < size <= abs(position.size), f"it closes {size}, the position is {position.size}"),
            (is_token(leaf.asset) and size % position.lot and size != abs(position.size), f"{size} is no whole amount"),
            (
                leaf.mark_price != price if not gain else abs(leaf.mark_price - price) > near,
                f"its mark is {leaf.mark_price}, wanted {price}",
            ),
            (leaf.mark_price < 0, f"a price of {leaf.mark_price}"),
            (
                not 0 <= leaf.max_concession <= most * UNIT + GRAIN // 1000,
                f"its concession {leaf.max_concession / UNIT:g} is not between 0 and {most:g}",
            ),
            (leaf.auction_start > setting.timestamp, f"its auction starts at {leaf.auction_start}, in the future"),
            (
                abs(leaf.deposit_target - target) > -(-near // scale),
                f"its deposit target is {leaf.deposit_target}, {target} restores the account",
            ),
        )
        if wrong
    ]


def _conceded(legs: Sequence[Leg], sale: Sale) -> list[str]:
    """Σ concession · size ≤ equity while equity ≥ 0."""
    cost = sum(leg.size * leg.concession // UNIT for leg in legs)
    if sale.final.equity >= 0 and cost > sale.final.equity:
        return [f"its legs may concede {cost / UNIT:,.6f} USD, the equity is {sale.final.equity / UNIT:,.6f}"]
    return []


def _together(
    legs: Sequence[LiquidationLeaf], account: MarginAccount, setting: Setting, live: Sequence[LiveItem], sale: Sale
) -> list[str]:
    """CM-41 at every corner: each of the legs, and everything live, executed in full or not at all."""
    new = [LegItem(leaf, setting.timestamp) for leaf in legs]
    prices = {asset: (setting.model.price(asset, setting.marks),) for asset in marked_assets(live)}
    entries = live_effects(
        account,
        [*live, *new],
        setting.world,
        setting.listing,
        setting.profile,
        prices,
        touches=setting.touches,
    )
    keys = {item.key for item in new}
    closing = [entry for entry in entries if closes(entry, account.account_id)]
    # A live leg on the same position is one of these: together they close what the larger may, at the worst of prices.
    fresh = [entry.effect for entry in closing if any(item.key in keys for item in entry.items)]
    older = [entry.effect for entry in closing if not any(item.key in keys for item in entry.items)]
    lines = len(sale.subsets).bit_length() - 1 + len(fresh) + len(older)
    if len(fresh) + len(older) > MOST_LEGS or lines > MOST_LINES:
        return [
            f"{len(fresh) + len(older)} legs are live, at most {MOST_LEGS}; {lines} with permits, {MOST_LINES} at most"
        ]
    found = Exposure.of(sale.portfolio, [*fresh, *older], sale.valuation)
    equity, _, _, vectors = found.sums()
    # Costs and vectors add up: those of the legs are the same beside every subset of permits.
    costs = np.array([(equity[0] - value) / (EXACT * UNIT) for value in equity])
    subsets = sale.subsets
    beside = (vectors - found.base.pnl)[:, None, :] + subsets.pnl[None, :, :]
    _, maintenance = sale.valuation.scenarios.requirements(beside)
    allowed = subsets.spare + subsets.share * (subsets.maintenance - maintenance)
    with_new = np.arange(len(costs)) % 2 ** len(fresh) != 0
    worst = float((allowed - costs[:, None])[with_new].min(initial=0.0))
    return [f"some fills cost {-worst:,.6f} USD more than they free beside what is live (CM-41)"] if worst < 0 else []


def _excessive(legs: Sequence[Leg], sale: Sale) -> list[str]:
    """A leg is not larger than what restores the account, or than what still frees anything."""
    named = {leg.position.key for leg in legs}
    beside = [p for p in sale.offered if p.standing and p.key not in named]
    sale = replace(sale, offered=(*(leg.position for leg in legs), *beside))
    search = Search(sale, range(len(sale.subsets)))
    restored = search.restores(legs)
    faults = []
    for leg in legs:
        name = f"chain {leg.position.chain_id}, 0x{leg.position.asset.hex()}"
        less = smaller(leg)
        if less is None:
            continue
        rest = [other if other is not leg else less for other in legs]
        # A smaller leg that is not allowed, for the flat fee's sake, is no alternative.
        if search.restores(rest):
            if search.allows(rest):
                part = f"{less.size / UNIT:g} of {leg.size / UNIT:g}"
                faults.append(f"{name}: closing {part} restores the account already")
        elif not restored and not search.frees(legs, leg, -SLACK) and search.allows(rest):
            part = f"{leg.size / UNIT:g} frees no more than it costs beyond {less.size / UNIT:g}"
            faults.append(f"{name}: closing {part}")
    return faults
