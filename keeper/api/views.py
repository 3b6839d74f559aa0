"""What several answers have in common."""

from __future__ import annotations

from typing import Any

from keeper.margin.report import AccountReport
from keeper.node.node import Node
from keeper.node.view import NotReady
from keeper.state.batch import UNIT


def usd(value: int) -> float:
    """USD 1e18 as a number for people; the exact integer stands beside it where it matters."""
    return value / UNIT


def require_started(node: Node) -> None:
    """Raise NotReady, naming the chains, unless every chain was read."""
    unread = [chain_id for chain_id, follower in node.view.followers.items() if not follower.started]
    if unread:
        reasons = [
            f"chain {node.deployment.chains[chain_id].name} ({chain_id}) was not read yet"
            + (f": {node.view.errors[chain_id]}" if chain_id in node.view.errors else "")
            for chain_id in unread
        ]
        raise NotReady("; ".join(reasons))


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
