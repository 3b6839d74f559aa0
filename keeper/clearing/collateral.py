"""Accounts that owe settlement token against collateral (CM-21): nobody borrows other people's for long.

Net cash is cash and mark to market over linked chains. One that stays below zero beyond a floor, for a term, has
collateral sold even where margin is fine.
"""

from __future__ import annotations

from collections.abc import Iterable

from keeper.margin.model import MarginModel
from keeper.margin.parameters import MarginParameters
from keeper.margin.portfolio import Portfolio
from keeper.margin.report import AccountReport
from keeper.market.marks import Marks
from keeper.state.batch import UNIT
from keeper.state.ids import has_margin
from keeper.state.world import MarginAccount


def floors(reports: Iterable[AccountReport], parameters: MarginParameters) -> dict[MarginAccount, int]:
    """What each account with net cash below zero may owe without a sale, USD 1e18.

    The parameters' floor; nothing where the accounts linked to one of its chains owe more than the limit together.
    """
    owing = [report for report in reports if report.net_cash < 0 and has_margin(report.account.account_id)]
    totals: dict[int, int] = {}
    for report in owing:
        for chain_id in report.account.chains:
            totals[chain_id] = totals.get(chain_id, 0) - report.net_cash
    crowded = {chain_id for chain_id, total in totals.items() if total > parameters.cash_limit}
    return {r.account: 0 if crowded & set(r.account.chains) else parameters.cash_floor for r in owing}


def short_accounts(reports: Iterable[AccountReport], parameters: MarginParameters) -> dict[MarginAccount, int]:
    """Accounts that owe more than their floor, with it; how long is not asked. Those below maintenance margin are
    liquidated anyway."""
    reports = list(reports)
    floor = floors(reports, parameters)
    return {
        r.account: floor[r.account]
        for r in reports
        if r.account in floor and -r.net_cash > floor[r.account] and r.equity >= r.maintenance_margin
    }


def short_since(history: Iterable[tuple[int, int]], floor: int) -> int | None:
    """Since when an account has owed more than `floor` without a break, None where it does not.

    Args:
        history: (batch timestamp, net cash at its cut and marks), newest first.
    """
    since = None
    for timestamp, net_cash in history:
        if -net_cash <= floor:
            break
        since = timestamp
    return since


def net_cash_at(book: Portfolio, marks: Marks, model: MarginModel) -> int:
    """Cash and mark to market with accrued funding, USD 1e18, rounded down."""
    marked = sum(
        size * (model.price(asset, marks) - marks.funding.get(asset, 0)) for asset, size in book.positions.items()
    )
    return book.cash + (marked + book.funding) // UNIT
