"""How positions are sold: to the market at once, or to bidders by a concession that grows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .market import Impact
from .population import MICRO
from .requirement import Floats, Ints, Requirements
from .settings import Rules
from .venue import BIDDERS, FUND, MARKET, Venue
from .waterfall import cover, pay_and_deleverage

Rows = NDArray[np.intp]

_LEAST = 1e-9
"""Of impact: below, selling on costs bidders nothing."""


@dataclass(slots=True, eq=False)
class Desk:
    """All that a sale touches, in one block: `mark` are the prices before it."""

    venue: Venue
    need: Requirements
    impact: Impact
    rules: Rules
    mark: Floats


def at_market(desk: Desk, rows: Rows, lots: Ints) -> float:
    """Sell `lots` (signed as the positions) of accounts together, all of one underlying at one price: the mean on the
    way of what all of them sell less what they buy. Returns the notional sold, USD.

    An account that is closed and would owe more than the fund has left is not sold: it is deleveraged.
    """
    venue, mark = desk.venue, desk.mark
    equity = venue.equity(mark)[rows]
    whole = (lots == venue.accounts.size[rows]).all(axis=(1, 2))
    free = venue.free(mark, desk.need)
    kept = np.ones(len(rows), dtype=bool)
    while True:
        flow = -(lots[kept].sum(axis=(0, 1)) / MICRO * mark)
        price = mark * np.exp(desk.impact.mean(flow) - desk.impact.log)
        after = equity + (lots.sum(axis=1) / MICRO) @ (price - mark)
        needs = np.where(kept & whole, np.maximum(0.0, -after), 0.0)
        refused = cover(needs, max(0.0, free)) < needs
        if not refused.any():
            break
        kept &= ~refused
    sold = np.abs(lots[kept] * mark).sum(axis=(1, 2)) / MICRO
    venue.sold[rows[kept]] += sold
    venue.ledger.slipped += round(float((lots[kept] * (mark - price)).sum()))
    venue.fill(rows[kept], lots[kept], price, MARKET)
    venue.settle(rows[kept])
    desk.impact.add(flow)
    gone = rows[~kept]
    closed = np.abs(venue.accounts.size[gone] * mark).sum() / MICRO
    pay_and_deleverage(venue, gone, mark, venue.free(mark, desk.need))
    return float(sold.sum() + closed)


def to_bidders(desk: Desk, rows: Rows, lots: Ints, concession: Floats, patience: NDArray[np.bool_]) -> float:
    """Offer `lots` at a `concession`, shape (rows, underlyings), fraction of the mark. Returns the notional, USD.

    Of insolvent accounts the fund must be able to pay what they will owe, else they are deleveraged. Where bidders have
    been waited for long enough (`patience`), it takes what nobody bid for, if it can hold it.
    """
    venue, mark = desk.venue, desk.mark
    equity = venue.equity(mark)[rows]
    offered = np.abs(lots).sum(axis=1) / MICRO * mark
    cost = (offered * concession).sum(axis=1)
    # The plan's equity may be some blocks old: nobody concedes more than he has.
    left = np.where(equity < 0, 1.0, np.minimum(1.0, np.maximum(equity, 0.0) / np.maximum(cost, 1e-12)))
    concession = concession * left[:, None]
    needs = np.where(equity < 0, cost - equity, 0.0)
    refused = cover(needs, max(0.0, venue.free(mark, desk.need))) < needs
    taken = _bids(desk, lots * ~refused[:, None, None], concession)
    _sell(desk, rows, taken, mark * concession[:, None, :])
    venue.settle(rows)
    closed = np.abs(taken * mark).sum(axis=(1, 2)) / MICRO
    waited = np.flatnonzero((equity < 0) & ~refused & patience)
    closed[waited] += fund_takes(desk, rows[waited])
    venue.sold[rows] += closed
    gone = rows[refused]
    deleveraged = float(np.abs(venue.accounts.size[gone] * mark).sum()) / MICRO
    pay_and_deleverage(venue, gone, mark, venue.free(mark, desk.need))
    return float(closed.sum()) + deleveraged


def fund_takes(desk: Desk, rows: Rows) -> Floats:
    """The fund takes insolvent accounts over, one after the other, as far as it can margin what it then holds.

    Returns the notional of each that it took, USD.
    """
    venue, found = desk.venue, np.zeros(len(rows))
    for i, row in enumerate(rows.tolist()):
        worth = float(venue.equity(desk.mark)[row])
        if worth >= 0 or not venue.accounts.size[row].any():
            continue
        held = (venue.party_size[FUND].sum(axis=0) + venue.accounts.size[row].sum(axis=0)) / MICRO
        initial = float(desk.need.of(held[None, :], desk.mark)[0][0])
        if venue.party_equity(desk.mark)[FUND] + worth >= initial:
            found[i] = np.abs(venue.accounts.size[row] * desk.mark).sum() / MICRO
            venue.hand_over(row, round(-worth * MICRO))
    return found


def unload(desk: Desk, share: float) -> None:
    """Bidders and the fund sell a share of what they hold to the market."""
    venue = desk.venue
    lots = np.rint(share * venue.party_size[[BIDDERS, FUND]]).astype(np.int64)
    if not lots.any():
        return
    flow = -(lots.sum(axis=(0, 1)) / MICRO * desk.mark)
    price = desk.mark * np.exp(desk.impact.mean(flow) - desk.impact.log)
    for party, own in zip((BIDDERS, FUND), lots, strict=True):
        paid = np.rint(own * price).astype(np.int64)
        venue.party_size[party] -= own
        venue.party_size[MARKET] += own
        venue.between(MARKET, party, int(paid.sum()))
    venue.ledger.unloaded += round(float((lots * (desk.mark - price)).sum()))
    desk.impact.add(flow)


def room(wanted: Floats, held: float, scale: float, volume: float, rules: Rules) -> Floats:
    """USD that bidders who hold `held` (signed by the side offered) take at concessions `wanted`, fractions.

    They ask for their profit and for what it costs to sell all they then hold: 2/3 · Y · σ · √(held ÷ V), the mean
    impact of the whole. So they take as much as makes that the concession, and never hold more than their capacity.
    """
    left = np.maximum(0.0, wanted - rules.profit)
    holds = volume * (left / max(2 / 3 * scale, _LEAST)) ** 2
    most = np.minimum(holds, rules.capacity * volume) - held
    return np.where(wanted >= rules.profit, np.maximum(0.0, most), 0.0)


def _bids(desk: Desk, lots: Ints, concession: Floats) -> Ints:
    """What bidders take of each leg: those that concede most first, as far as there is room."""
    taken = np.zeros_like(lots)
    held = desk.venue.party_size[BIDDERS].sum(axis=0) / MICRO * desk.mark
    for underlying in range(lots.shape[2]):
        for side in (1, -1):
            row, chain = np.nonzero(lots[:, :, underlying] * side > 0)
            if not len(row):
                continue
            order = np.argsort(-concession[row, underlying], kind="stable")
            row, chain = row[order], chain[order]
            offered = np.abs(lots[row, chain, underlying])
            usd = offered / MICRO * desk.mark[underlying]
            most = room(
                concession[row, underlying],
                side * float(held[underlying]),
                float(desk.impact.scale[underlying]),
                float(desk.need.volume[underlying]),
                desk.rules,
            )
            fills = np.clip(most - (np.cumsum(usd) - usd), 0.0, usd)
            # The last of a leg goes whole: a share just below 1 would leave a lot.
            filled = np.where(fills >= usd, offered, np.floor(offered * (fills / np.maximum(usd, 1e-12))))
            taken[row, chain, underlying] = side * filled.astype(np.int64)
    return taken


def _sell(desk: Desk, rows: Rows, taken: Ints, given: Floats) -> None:
    """Bidders take lots for the mark less what is conceded, and hand the fund its share."""
    venue = desk.venue
    sign = np.sign(taken)
    venue.fill(rows, taken, desk.mark - sign * given, BIDDERS)
    conceded = float((np.abs(taken) * given).sum())
    shared = round(desk.rules.fund_share * conceded)
    venue.between(BIDDERS, FUND, shared)
    venue.ledger.conceded += round(conceded)
    venue.ledger.shared += shared
