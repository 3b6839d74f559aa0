"""Who bears what an account cannot (CM-43): the fund as far as it goes, then counterparties by deleveraging.

Deleveraging closes an insolvent account at its bankruptcy price, at which nothing is left of it: each position at the
mark, worse for its counterparties by a share of the debt in proportion to notional. They are accounts with the other
side on the same chain, ranked by profit × leverage: the return on the entry price × gross notional ÷ equity where there
is a profit, after them those with a loss, by return ÷ leverage. None bears more than its equity.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .population import MICRO
from .requirement import Floats, Ints
from .venue import Venue


def cover(needs: Floats, free: float) -> Floats:
    """What a fund of so much pays of each, one after the other until it is spent. A larger one pays no less of any."""
    before = np.cumsum(needs) - needs
    return np.clip(free - before, 0.0, needs)


def pay_and_deleverage(venue: Venue, rows: NDArray[np.intp], prices: Floats, free: float) -> None:
    """Close accounts that cannot be sold: the fund pays what it can, their counterparties bear the rest."""
    if not len(rows):
        return
    debts = np.maximum(0.0, -venue.equity(prices)[rows])
    venue.cover(rows, np.floor(cover(debts, max(0.0, free)) * MICRO).astype(np.int64))
    deleverage(venue, rows, prices)


def deleverage(venue: Venue, rows: NDArray[np.intp], prices: Floats) -> None:
    """Close these accounts against their counterparties; one that has equity keeps it, being closed at the mark."""
    accounts = venue.accounts
    equity = venue.equity(prices)
    debts = np.maximum(0.0, -equity[rows])
    marked = accounts.size[rows] * prices
    gross = np.abs(marked).sum(axis=(1, 2))
    due = np.rint(marked + np.abs(marked) * (debts * MICRO / np.maximum(gross, 1e-9))[:, None, None]).astype(np.int64)
    _leave_nothing(due, accounts.size[rows], np.where(debts > 0, -accounts.cash[rows], due.sum(axis=(1, 2))))
    venue.sold[rows] += gross / MICRO
    able = equity > 0
    able[rows] = False
    for chain, underlying in np.argwhere((accounts.size[rows] != 0).any(axis=0)).tolist():
        held = accounts.size[rows, chain, underlying]
        for side in (1, -1):
            mine = held * side > 0
            if mine.any():
                cell = (chain, underlying)
                loss = _pass_on(
                    venue, able, equity, prices, cell, int(held[mine].sum()), int(due[mine][:, *cell].sum())
                )
                venue.ledger.deleveraged += loss
    lots = -accounts.size[rows]
    venue.exchange(rows, lots, -due.sum(axis=(1, 2)))


def _leave_nothing(due: Ints, size: Ints, wanted: Ints) -> None:
    """Put what rounding leaves on the last position of each row, so that rows sum to `wanted`."""
    flat, held = due.reshape(len(due), -1), size.reshape(len(size), -1) != 0
    last = held.shape[1] - 1 - held[:, ::-1].argmax(axis=1)
    flat[np.arange(len(due)), last] += wanted - flat.sum(axis=1)


def _pass_on(
    venue: Venue,
    able: NDArray[np.bool_],
    equity: Floats,
    prices: Floats,
    cell: tuple[int, int],
    lots: int,
    cash: int,
) -> int:
    """Give `lots` (signed) of one perpetual to its counterparties for `cash`; `equity` follows. The market takes what
    they do not. Returns what all of that costs against the mark, micro-USD."""
    chain, underlying = cell
    accounts, price = venue.accounts, float(prices[underlying])
    worse = max(0.0, cash - lots * price) / abs(lots)
    found = rank(venue, able, equity, prices, cell, 1 if lots > 0 else -1)
    most = np.abs(accounts.size[found, chain, underlying]).astype(float)
    if worse > 0:
        most = np.minimum(most, np.floor(equity[found] * MICRO / worse))
    upto = np.minimum(np.cumsum(most), abs(lots)).astype(np.int64)
    taken = np.diff(upto, prepend=0)
    found, taken = found[taken > 0], taken[taken > 0]
    upto = np.cumsum(taken)
    paid = np.diff(np.rint(upto / abs(lots) * cash).astype(np.int64), prepend=0)
    if len(upto) and upto[-1] == abs(lots):
        paid[-1] += cash - int(paid.sum())
    loss = taken * worse / MICRO
    venue.taken[found] += taken * price / MICRO
    venue.lost[found] += loss
    equity[found] -= loss
    moved = np.zeros((len(found), *accounts.size.shape[1:]), dtype=np.int64)
    moved[:, chain, underlying] = taken if lots > 0 else -taken
    venue.exchange(found, moved, paid)
    return round(cash - lots * price)


def rank(
    venue: Venue, able: NDArray[np.bool_], equity: Floats, prices: Floats, cell: tuple[int, int], side: int
) -> NDArray[np.intp]:
    """Accounts that hold the other side of a position of this side, the first to be closed first."""
    chain, underlying = cell
    accounts = venue.accounts
    found = np.flatnonzero(able & (accounts.size[:, chain, underlying] * side < 0) & (equity > 0))
    profit = -side * (prices[underlying] / accounts.entry[found, chain, underlying] - 1.0)
    gross = np.abs(accounts.size[found] * prices).sum(axis=(1, 2)) / MICRO
    leverage = gross / equity[found]
    score = np.where(profit > 0, profit * leverage, profit / np.maximum(leverage, 1e-12))
    return found[np.argsort(-score, kind="stable")]
