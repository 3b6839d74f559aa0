"""What became of every account, and how long it took: judged from the chains' history and the nodes' figures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keeper.state.batch import UNIT
from keeper.state.ids import FUND, AccountId

from .history import RUNGS, ChainHistory, Closed, payments
from .watch import LegKey

DUST = 10**16
"""A cent: what may be missing of an equity of nothing, USD 1e18."""


@dataclass(frozen=True, slots=True)
class Fate:
    """How one account ended.

    `kind` is `untouched` (healthy, and no leg of it was ever filled), `restored` (healthy again after `rung`),
    `closed` (nothing left to close), or a fault: `below` (below maintenance margin with something left) or `unpaid`
    (nothing left, and it owes). `rung` is the last of the waterfall that it needed, "" for none. USD 1e18.
    """

    account: AccountId
    role: str
    kind: str
    rung: str
    equity: int
    maintenance: int

    @property
    def sound(self) -> bool:
        return self.kind in ("untouched", "restored", "closed")

    @property
    def name(self) -> str:
        if self.rung:
            return f"{self.kind} by {self.rung}"
        # Without a leg, and nobody trades any more: what it had has expired.
        return "closed at expiry" if self.kind == "closed" else self.kind


def fate_of(
    account: AccountId,
    role: str,
    groups: Collection[tuple[int, int]],
    histories: Sequence[ChainHistory],
    paid: Mapping[AccountId, int],
) -> Fate:
    """Judge one account. `groups` are equity and maintenance margin, USD 1e18, of each of its margin accounts."""
    used = {entry.rung for history in histories for entry in history.closed if entry.account == account}
    used |= {"payment"} if account in paid else set()
    rung = max(used, key=RUNGS.index, default="")
    holds = any(account in history.state.sizes or account in history.state.balances for history in histories)
    below = [equity for equity, maintenance in groups if equity < maintenance]
    if not holds:
        kind = "unpaid" if any(equity < -DUST for equity in below) else "closed"
    elif below:
        kind = "below"
    else:
        kind = "restored" if used else "untouched"
    return Fate(account, role, kind, rung, sum(e for e, _ in groups), sum(m for _, m in groups))


def figures_of(entries: Iterable[Mapping[str, Any]]) -> set[tuple[int, int]]:
    """Equity and maintenance margin of an account's leaves in a batch, or of its margin accounts as a node answers."""
    return {(int(each["equity"]), int(each["maintenanceMargin"])) for each in entries}


def tally(fates: Iterable[Fate]) -> dict[str, int]:
    """How many accounts ended in each way, by name."""
    return dict(sorted(Counter(fate.name for fate in fates).items()))


# --- latency -------------------------------------------------------------------------------------------------------


def latencies(history: ChainHistory, legs: Mapping[int, frozenset[LegKey]]) -> list[tuple[Closed, int, int]]:
    """Of every fill of a leg of `legs`: blocks and seconds from the posting that first listed the leg.

    A leg is listed from the first batch on the chain that names account and asset, after one that did not, on.
    """
    chain_id = history.state.chain_id
    listed: dict[tuple[bytes, bytes], int] = {}
    found = []
    postings = iter([*history.posted, (2**63, -1)])
    block, epoch = next(postings)
    for entry in sorted(history.closed, key=lambda each: each.block):
        while block <= entry.block:
            here = {(account, asset) for chain, account, asset in legs.get(epoch, ()) if chain == chain_id}
            listed = {key: listed.get(key, block) for key in here}
            block, epoch = next(postings)
        first = listed.get((entry.account, entry.asset))
        if entry.account != FUND and first is not None:
            seconds = history.times[entry.block] - history.times[first]
            found.append((entry, entry.block - first, seconds))
    return found


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """p50 and p99 by nearest rank, and how many there are; zeros where there are none."""
    ordered = sorted(values)
    if not ordered:
        return {"p50": 0, "p99": 0, "most": 0, "count": 0}
    rank = {name: ordered[max(0, math.ceil(share * len(ordered)) - 1)] for name, share in (("p50", 0.5), ("p99", 0.99))}
    return {**rank, "most": ordered[-1], "count": len(ordered)}


# --- the cascade ---------------------------------------------------------------------------------------------------


def cascade(histories: Sequence[ChainHistory]) -> dict[str, Any]:
    """What was closed by each rung: fills, accounts, value at execution, what it cost the accounts, USD."""
    found: dict[str, Any] = {}
    closed = [entry for history in histories for entry in history.closed if entry.account != FUND]
    for rung in RUNGS:
        own = [entry for entry in closed if entry.rung == rung]
        if own:
            found[rung] = {
                "fills": len(own),
                "accounts": len({entry.account for entry in own}),
                "value": usd(sum(entry.value for entry in own)),
                "cost": usd(sum(entry.cost for entry in own)),
                "toFund": usd(sum(entry.to_fund for entry in own)),
            }
    paid = payments(histories)
    if paid:
        found["payment"] = {"accounts": len(paid), "value": usd(paid.total())}
    sold = [entry for history in histories for entry in history.closed if entry.account == FUND]
    if sold:
        found["sold by the fund"] = {"fills": len(sold), "value": usd(sum(entry.value for entry in sold))}
    return found


def usd(value: int) -> float:
    """USD 1e18 as a number to show."""
    return round(value / UNIT, 2)
