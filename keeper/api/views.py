"""What several answers have in common."""

from __future__ import annotations

from typing import Any

from keeper.margin.report import AccountReport
from keeper.state.batch import UNIT


def usd(value: int) -> float:
    """USD 1e18 as a number for people; the exact integer stands beside it where it matters."""
    return value / UNIT


def figures(report: AccountReport) -> dict[str, Any]:
    """An account's figures, exact and for people."""
    amounts = {
        "equity": report.equity,
        "initialMargin": report.initial_margin,
        "maintenanceMargin": report.maintenance_margin,
        "free": report.free,
        "reserved": report.reserved,
    }
    return {
        "status": report.status,
        **{name: str(amount) for name, amount in amounts.items()},
        "usd": {name: usd(amount) for name, amount in amounts.items()},
    }
