"""What a run comes to, against the same run in which sales cost as much and move no mark."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .engine import Trace, World, run
from .population import MICRO
from .requirement import Floats
from .settings import Rules
from .venue import BIDDERS, FUND, MARKET

RECOVERED = 0.01
"""Of the path's price: within so much of it, the price has recovered."""


def measure(world: World, rules: Rules) -> tuple[dict[str, Any], Trace]:
    """Figures of one run beside its twin in which marks do not follow sales, USD and fractions, and the run."""
    with_impact = run(world, rules)
    without = run(world, replace(rules, feedback=False)) if rules.impact and rules.feedback else with_impact
    return figures(world, with_impact, without), with_impact


def figures(world: World, trace: Trace, without: Trace) -> dict[str, Any]:
    """See `keeper simulate --help` and docs/simulation.md for what each of them means."""
    return {
        "rules": {
            name: getattr(trace.rules, name) for name in ("margin", "liquidation", "sale", "latency", "fund", "impact")
        },
        "liquidated": _liquidated(world, trace, without),
        "beyond_path": _beyond(world, trace),
        "deficit": _deficit(trace),
        "deleveraged": {
            "notional": float(trace.venue.taken.sum()),
            "accounts": int((trace.venue.taken > 0).sum()),
            "loss": trace.venue.ledger.deleveraged / MICRO,
        },
        "payers": payers(trace),
        "flows": flows(trace),
        "contagion": _contagion(world, trace, without),
    }


def series(world: World, trace: Trace) -> dict[str, Any]:
    """Block by block: minutes, prices and the path without sales by underlying, USD sold, negative equity, the fund."""
    names = world.need.names
    return {
        "minutes": (np.arange(len(trace.sold)) * world.scene.block_seconds / 60).tolist(),
        "prices": dict(zip(names, trace.prices.T.tolist(), strict=True)),
        "path": dict(zip(names, world.path.T.tolist(), strict=True)),
        "sold": trace.sold.tolist(),
        "deficit": trace.deficit.tolist(),
        "fund": trace.fund.tolist(),
    }


def payers(trace: Trace) -> dict[str, float]:
    """What each group's equity changed by from the first block to the last, USD; they sum to zero."""
    change = trace.end - trace.start
    hit, taken = trace.liquidated, trace.venue.taken > 0
    parties = trace.parties[1] - trace.parties[0]
    groups = {
        "liquidated": float(change[hit].sum()),
        "counterparties": float(change[~hit & taken].sum()),
        "others": float(change[~hit & ~taken].sum()),
        "market": float(parties[MARKET]),
        "bidders": float(parties[BIDDERS]),
        "fund": float(parties[FUND]),
    }
    return groups | {"sum": float(np.sum(np.concatenate((change, parties))))}


def flows(trace: Trace) -> dict[str, float]:
    """What liquidations moved beside the price, USD: see `Ledger`."""
    ledger = trace.venue.ledger
    names = ("slipped", "conceded", "shared", "unloaded", "covered", "deleveraged")
    return {name: getattr(ledger, name) / MICRO for name in names}


def _liquidated(world: World, trace: Trace, without: Trace) -> dict[str, Any]:
    sold, alone = float(trace.venue.sold.sum()), float(without.venue.sold.sum())
    hit = trace.liquidated
    more = int((hit & ~without.liquidated).sum())
    sizes = world.population.size / MICRO * world.need.start
    return {
        "notional": sold,
        "accounts": int(hit.sum()),
        "owners": len(np.unique(trace.venue.accounts.owner[hit])),
        "share_of_open_interest": sold / max(float(np.maximum(sizes, 0).sum()), 1e-9),
        "notional_without_impact": alone,
        "because_of_impact": max(0.0, sold - alone) / sold if sold else 0.0,
        "accounts_because_of_impact": more,
    }


def _beyond(world: World, trace: Trace) -> dict[str, Any]:
    apart = np.abs(trace.prices / world.path - 1)
    worst = int(apart.max(axis=0).argmax())
    return {
        "by_underlying": dict(zip(world.need.names, apart.max(axis=0).tolist(), strict=True)),
        "worst": float(apart.max()),
        "worst_underlying": world.need.names[worst],
        "drawdown": dict(zip(world.need.names, _drawdown(trace.prices).tolist(), strict=True)),
        "drawdown_of_path": dict(zip(world.need.names, _drawdown(world.path).tolist(), strict=True)),
        "recovery_minutes": recovery(apart[:, worst], world.scene.block_seconds),
    }


def recovery(apart: Floats, block_seconds: float) -> float | None:
    """Minutes from the worst block until the price is within RECOVERED of the path for good; None: not by the end."""
    if apart.max() <= RECOVERED:
        return 0.0
    if apart[-1] > RECOVERED:
        return None
    last = int(np.flatnonzero(apart > RECOVERED)[-1])
    return (last + 1 - int(apart.argmax())) * block_seconds / 60


def _drawdown(prices: Floats) -> Floats:
    """The greatest fall from a price to a later one, fraction, per column."""
    return np.asarray((1 - prices / np.maximum.accumulate(prices, axis=0)).max(axis=0))


def _deficit(trace: Trace) -> dict[str, float]:
    """Of all accounts that ended below zero: what the fund paid, what counterparties bore, what is open at the end."""
    ledger, still = trace.venue.ledger, float(trace.deficit[-1])
    covered, borne = ledger.covered / MICRO, ledger.deleveraged / MICRO
    return {
        "total": covered + borne + still,
        "fund_paid": covered,
        "counterparties_bore": borne,
        "open_at_end": still,
        "worst_at_once": float(trace.deficit.max()),
        "fund_at_end": float(trace.fund[-1]),
    }


def _contagion(world: World, trace: Trace, without: Trace) -> dict[str, Any]:
    """Of owners who hold nothing of what is shocked: what sales of others cost those of them who lost by it."""
    lost = np.maximum(0.0, without.bystanders - trace.bystanders).sum(axis=1)
    return {
        "bystanders": len(world.bystanders),
        "equity": float(trace.bystanders[0].sum()),
        "worst_loss": float(lost.max()),
        "loss_at_end": float(lost[-1]),
        "liquidated": len(_owners(world, trace) - _owners(world, without)),
    }


def _owners(world: World, trace: Trace) -> set[int]:
    """Bystanders of whose accounts one was liquidated."""
    owners: NDArray[np.int64] = trace.venue.accounts.owner[trace.liquidated]
    return set(np.intersect1d(owners, world.bystanders).tolist())
