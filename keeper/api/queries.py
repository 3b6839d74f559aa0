"""What the HTTP interface answers, as plain JSON-ready values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from immutables import Map

from keeper.attest.batch import BatchContent
from keeper.attest.live import is_live
from keeper.attest.messages import QuorumBatch
from keeper.attest.signatures import QuorumError
from keeper.clearing.bidding import concession_now, open_size
from keeper.clearing.cycles import with_pending
from keeper.margin.explain import explain, netting
from keeper.margin.owner import owner_book
from keeper.margin.portfolio import per_chain
from keeper.margin.report import evaluate
from keeper.node.appraiser import Appraisal
from keeper.node.batches import UnknownBatch
from keeper.node.node import Node
from keeper.state.batch import UNIT, LiquidationLeaf
from keeper.state.ids import AccountId, AssetId, IdError, owner_of, perpetual, sub_account_of
from keeper.state.live import PermitItem
from keeper.state.wire import to_json
from keeper.state.world import MarginAccount, components


class NotFound(LookupError):
    """Nothing of that name is known; the message says what was looked for and where."""


def usd(value: int) -> float:
    """USD 1e18 as a number for people; the exact integer stands beside it where it matters."""
    return value / UNIT


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


def account(node: Node, account_id: AccountId) -> dict[str, Any]:
    """Every margin account of an id (one per connected component of its links), at this node's final blocks."""
    world = node.view.final_world()
    groups = components(world, account_id)
    if not groups:
        raise NotFound(f"no chain knows account 0x{account_id.hex()}")
    marks = node.observer.marks()
    world = with_pending(world, node.journal.entries(), node.listing)
    live = [item for item in node.journal.live([account_id]) if is_live(item, world)]
    used = {n for c in world.values() for (a, n) in c.used_nonces if a == account_id}
    taken = used | {item.permit.nonce for item in live if isinstance(item, PermitItem)}
    answers = []
    for chains in groups:
        margin_account = MarginAccount(account_id, chains)
        book = owner_book(world, node.listing, margin_account, marks, node.model)
        by_chain = {
            name: replace(piece, elsewhere=book.elsewhere)
            for name, piece in per_chain(world, node.listing, margin_account).items()
        }
        report = evaluate([book], marks, node.model)[0]
        answers.append(
            {
                "chains": list(chains),
                "status": report.status,
                "equity": str(report.equity),
                "initialMargin": str(report.initial_margin),
                "maintenanceMargin": str(report.maintenance_margin),
                "free": str(report.free),
                "reserved": str(report.reserved),
                "usd": {
                    "equity": usd(report.equity),
                    "initialMargin": usd(report.initial_margin),
                    "maintenanceMargin": usd(report.maintenance_margin),
                    "free": usd(report.free),
                    "reserved": usd(report.reserved),
                },
                "holdings": [_holdings(node, account_id, chain) for chain in chains],
                "explain": explain(book, marks, node.model),
                "nettingByChain": netting(book, marks, node.model, by_chain),
            }
        )
    return {
        "accountId": "0x" + account_id.hex(),
        "owner": "0x" + owner_of(account_id).hex(),
        "subAccount": sub_account_of(account_id),
        "marginAccounts": answers,
        "live": to_json(live, tagged=True),
        "nextNonce": next(n for n in range(len(taken) + 1) if n not in taken),
    }


def _holdings(node: Node, account_id: AccountId, chain_id: int) -> dict[str, Any]:
    state = node.view.followers[chain_id].final
    balances = state.balances.get(account_id, Map())
    return {
        "chain": chain_id,
        "cash": str(state.cash.get(account_id, 0)),
        "positions": {"0x" + a.hex(): str(s) for a, s in state.sizes.get(account_id, {}).items()},
        "balances": {
            "0x" + token.address.hex(): {"symbol": token.symbol, "decimals": token.decimals, "amount": str(amount)}
            for token in node.deployment.chains[chain_id].collateral
            if (amount := balances.get(token.address, 0))
        },
        "reservations": {"0x" + i.hex(): to_json(r) for i, r in state.reservations.get(account_id, {}).items()},
        "linked": sorted(state.links.get(account_id, ())),
    }


async def held_batch(node: Node, chain_id: int) -> QuorumBatch:
    """The batch a chain holds at its head, fetched from an attestor where this node does not know it yet."""
    follower = node.view.followers.get(chain_id)
    if follower is None:
        raise NotFound(f"no chain {chain_id}: the deployment has {sorted(node.deployment.chains)}")
    if not follower.started or follower.head.posted_epoch < 0:
        raise NotFound(f"chain {chain_id} holds no batch yet")
    epoch = follower.head.posted_epoch
    try:
        return node.batches.get(epoch)
    except UnknownBatch:
        pass
    for answer in (await node.peers.gather(lambda peer: node.peers.batch(peer, epoch))).values():
        if isinstance(answer, QuorumBatch):
            try:
                node.batches.verify(answer)
            except (QuorumError, ValueError):
                continue
            return answer
    raise NotFound(f"no node knows the batch of epoch {epoch}, which chain {chain_id} holds")


async def account_proof(node: Node, account_id: AccountId, chain_id: int) -> dict[str, Any]:
    """The account's leaf on `chain_id` and its proof, ready as arguments of `check` and `prove`."""
    content = (await held_batch(node, chain_id)).content
    leaf = content.leaves_by_account.get((account_id, chain_id))
    if leaf is None:
        raise NotFound(
            f"account 0x{account_id.hex()} has no leaf on chain {chain_id} in epoch {content.batch.epoch}: "
            "not linked there, or below the minimum equity"
        )
    return _proof(content, to_json(leaf), content.account_tree.proof(leaf))


async def mark_proof(node: Node, asset: str, chain_id: int) -> dict[str, Any]:
    """The mark of an asset (0x-hex id, or an underlying for its perpetual) and its proof against what a chain holds."""
    wanted = _asset(asset)
    content = (await held_batch(node, chain_id)).content
    leaf = next((mark for mark in content.marks if mark.asset == wanted), None)
    if leaf is None:
        raise NotFound(f"no mark for 0x{wanted.hex()} in epoch {content.batch.epoch}")
    return _proof(content, to_json(leaf), content.mark_tree.proof(leaf))


def _asset(text: str) -> AssetId:
    if not text.startswith("0x"):
        return perpetual(text.upper())
    try:
        raw = bytes.fromhex(text[2:])
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise IdError(f"an asset is 0x and 64 hex digits, or an underlying, got {text!r}")
    return AssetId(raw)


def _proof(content: BatchContent, leaf: Any, proof: list[bytes]) -> dict[str, Any]:
    return {
        "epoch": content.batch.epoch,
        "timestamp": content.batch.timestamp,
        "leaf": leaf,
        "proof": ["0x" + node.hex() for node in proof],
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
