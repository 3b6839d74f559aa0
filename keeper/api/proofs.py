"""Leaves and proofs against the batch that a chain holds, ready as arguments of its contracts."""

from __future__ import annotations

from typing import Any

from keeper.attest.batch import BatchContent
from keeper.attest.codec import to_tuple
from keeper.attest.messages import QuorumBatch
from keeper.attest.signatures import QuorumError
from keeper.node.batches import UnknownBatch
from keeper.node.node import Node
from keeper.state.batch import MarginLeaf, MarkLeaf
from keeper.state.ids import AccountId, AssetId
from keeper.state.problem import Problem
from keeper.state.wire import to_json

from .problems import ApiError

_SECONDS = 1.0
"""How long a provider that failed once may take to answer again."""


async def held_batch(node: Node, chain_id: int) -> QuorumBatch:
    """The batch a chain holds at its head, fetched from an attestor where this node does not know it yet.

    Raises:
        ApiError: 404 for a chain that is not of the deployment, or holds no batch yet; 503 for one that does not
            answer, or whose batch nobody has.
    """
    follower = node.view.followers.get(chain_id)
    if follower is None:
        wanted = f"one of {sorted(node.deployment.chains)}"
        raise ApiError.not_found(f"no chain {chain_id} in this deployment, {wanted}", "query.chain", chain_id, wanted)
    name = node.deployment.chains[chain_id].name
    view = node.view
    await view.wait(lambda: follower.started and chain_id not in view.errors, _SECONDS)
    reason = view.errors.get(chain_id) or (None if follower.started else "no block read yet")
    if reason is not None:
        raise ApiError.chain(chain_id, name, reason)
    if follower.head.posted_epoch < 0:
        raise ApiError.not_found(f"chain {name} ({chain_id}) holds no batch yet", "query.chain", chain_id)
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
    told = f"no attestor gives the batch of epoch {epoch}, which chain {name} ({chain_id}) holds"
    raise ApiError(503, Problem("batch_unavailable", told, details={"epoch": epoch, "chainId": chain_id}))


async def account_proof(node: Node, account_id: AccountId, chain_id: int) -> dict[str, Any]:
    """The account's leaf on `chain_id` and its proof, ready as arguments of `check` and `prove`."""
    content = (await held_batch(node, chain_id)).content
    leaf = content.leaves_by_account.get((account_id, chain_id))
    if leaf is None:
        raise ApiError.not_found(
            f"account 0x{account_id.hex()} has no leaf on chain {chain_id} in epoch {content.batch.epoch}: "
            "not linked there, or below the minimum equity",
            "path.account",
            account_id,
        )
    return _proof(content, leaf, content.account_tree.proof(leaf))


async def mark_proof(node: Node, asset: AssetId, chain_id: int) -> dict[str, Any]:
    """The mark of an asset and its proof against what a chain holds."""
    content = (await held_batch(node, chain_id)).content
    leaf = next((mark for mark in content.marks if mark.asset == asset), None)
    if leaf is None:
        raise ApiError.not_found(f"no mark for 0x{asset.hex()} in epoch {content.batch.epoch}", "path.asset", asset)
    return _proof(content, leaf, content.mark_tree.proof(leaf))


def _proof(content: BatchContent, leaf: MarginLeaf | MarkLeaf, proof: list[bytes]) -> dict[str, Any]:
    nodes = ["0x" + node.hex() for node in proof]
    # In the order of the ABI: web3.py, ethers and viem take hex for bytes32 and decimal text for integers.
    words = ["0x" + word.hex() if isinstance(word, bytes) else str(word) for word in to_tuple(leaf)]
    return {
        "epoch": content.batch.epoch,
        "timestamp": content.batch.timestamp,
        "leaf": to_json(leaf),
        "proof": nodes,
        "arguments": [words, nodes],
    }
