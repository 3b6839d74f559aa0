"""What a node says of itself: its chains, batches, postings and latencies, and what its liquidator does."""

from __future__ import annotations

from typing import Any

from keeper.attest.messages import QuorumBatch
from keeper.clearing.bidding import concession_now, open_size
from keeper.node.appraiser import Appraisal
from keeper.node.node import Node
from keeper.state.batch import LiquidationLeaf
from keeper.state.wire import to_json

from .views import usd


def status(node: Node) -> dict[str, Any]:
    """Chains, batches, attestation, postings, latencies."""
    latest = node.batches.latest
    late = {entry.chain_id: entry.reason for entry in node.view.late()}
    faults = node.faults()
    return {
        "name": node.config.name,
        "roles": sorted(node.config.roles),
        "ready": not faults,
        "reasons": faults,
        "chains": {str(c): _chain(node, c, late.get(c)) for c in sorted(node.deployment.chains)},
        "batch": None if latest is None else _batch_summary(latest),
        "attestor": None
        if node.attestor is None or node.proposer is None
        else {
            "address": "0x" + node.attestor.signer.address.hex(),
            "threshold": node.deployment.threshold,
            "attestors": len(node.deployment.attestors),
            "lastProposal": node.proposer.failure or "signed",
            "live": node.live_count(),
        },
        "relayer": None
        if node.relayer is None
        else {
            str(c): {"epoch": p.epoch, "posted": p.posted, "gasUsed": p.gas_used, "error": p.error}
            for c, p in node.relayer.postings.items()
        },
        "latencies": node.latencies.quantiles(),
    }


def _chain(node: Node, chain_id: int, late: str | None) -> dict[str, Any]:
    follower = node.view.followers[chain_id]
    answer: dict[str, Any] = {
        "name": node.deployment.chains[chain_id].name,
        "late": late,
        "error": node.view.errors.get(chain_id),
        "requests": node.view.rpcs[chain_id].requests,
    }
    if follower.started:
        final, head = follower.final, follower.head_block
        answer |= {
            "final": {"number": final.block.number, "hash": "0x" + final.block.hash.hex(), "time": final.block.time},
            "head": {"number": head.number, "time": head.time},
            "postedEpoch": follower.head.posted_epoch,
            "accounts": len(final.accounts()),
        }
    return answer


def _batch_summary(quorum: QuorumBatch) -> dict[str, Any]:
    batch = quorum.content.batch
    return {
        "epoch": batch.epoch,
        "timestamp": batch.timestamp,
        "accounts": len(quorum.content.accounts),
        "legs": len(quorum.content.legs),
        "signatures": len(quorum.signatures) // 65,
        "lateChains": list(quorum.content.late),
        "prices": {name: usd(price) for name, price in quorum.content.prices.prices.items()},
    }


def liquidations(node: Node) -> dict[str, Any]:
    """Legs of the newest batch with what is open of them and conceded now, and what this node's liquidator did."""
    latest = node.batches.latest
    liquidator = node.liquidator
    legs = [] if latest is None or not node.view.started else latest.content.legs
    return {
        "legs": [_leg(node, leg) for leg in legs],
        "taken": [] if liquidator is None else to_json(list(liquidator.taken)),
        "missed": [] if liquidator is None else to_json(list(liquidator.missed)),
        "lastRefusal": None if liquidator is None else liquidator.last_refusal,
        "sales": None
        if liquidator is None
        else {
            "done": liquidator.inventory.done,
            "waiting": {str(chain): reason for chain, reason in liquidator.inventory.waiting.items()},
        },
    }


def _leg(node: Node, leg: LiquidationLeaf) -> dict[str, Any]:
    """One leg, by this node's head of its chain; `bid` is null where this node does not liquidate."""
    head = node.view.followers[leg.chain_id].head
    appraisals = [] if node.liquidator is None else node.liquidator.appraisals.get(leg.chain_id, [])
    found = next((a for a in appraisals if (a.leg.account_id, a.leg.asset) == (leg.account_id, leg.asset)), None)
    concession = concession_now(leg, head.block.time, leg.auction_start, node.deployment.profile)
    answer = {
        **to_json(leg),
        "open": str(open_size(leg, head, node.listing)),
        "concession": str(concession if found is None else found.concession),
        "bid": None,
    }
    if node.liquidator is not None:
        bid = None if found is None else found.bid
        answer["bid"] = {
            "size": str(0 if bid is None else bid.size),
            "profit": str(0 if bid is None else bid.profit),
            "reason": _no_bid(found, node.liquidator.waits(leg)),
        }
    return answer


def _no_bid(found: Appraisal | None, waits: str) -> str | None:
    """Why this node does not bid for a leg now; None where it does."""
    if found is None:
        return "nothing of it is open by the batch that the chain holds"
    return found.reason or waits or None
