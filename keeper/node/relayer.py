"""The relayer: puts the newest quorum batch on every chain that needs it.

A chain needs it on a heartbeat, when an account's status changed, and whenever its liquidation legs, its settlement
entries or what is settled differ from those of the batch it holds, so that no leg outlives its reason and none waits;
but a batch with legs stands for some blocks, so that they can be bid on.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import structlog

from keeper.attest.batch import BatchContent
from keeper.attest.codec import to_abi
from keeper.attest.messages import QuorumBatch
from keeper.chain.abi import encode
from keeper.chain.rpc import RpcError, RpcUnavailable
from keeper.chain.transactions import Sender, TransactionError
from keeper.state.deployment import ChainDeployment, Deployment
from keeper.state.ids import AccountId, AssetId

from .batches import BatchBook, UnknownBatch
from .latency import Latencies
from .view import ChainsView

log = structlog.get_logger()

BIDDING_BLOCKS = 4
"""From its timestamp, for which a batch with legs stays a chain's latest: to be posted, seen, and bid on."""
_RETRY_SECONDS = 1.0


@dataclass
class Posting:
    """What the relayer last did on one chain."""

    epoch: int = -1
    gas_used: int = 0
    error: str | None = None
    posted: int = 0


@dataclass
class Relayer:
    """Posts batches on every chain, each chain by its own task."""

    deployment: Deployment
    view: ChainsView
    batches: BatchBook
    senders: dict[int, Sender]
    latencies: Latencies
    postings: dict[int, Posting] = field(default_factory=dict)

    async def run(self) -> None:
        """Post until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for chain_id in self.deployment.chains:
                self.postings[chain_id] = Posting()
                tasks.create_task(self._serve(chain_id))

    async def _serve(self, chain_id: int) -> None:
        while True:
            quorum = self.batches.latest
            if quorum is None or not self.view.followers[chain_id].started or not self.needs(chain_id, quorum):
                await asyncio.sleep(0.1)
                continue
            try:
                await self.post(chain_id, quorum)
            except (RpcUnavailable, RpcError, TransactionError) as error:
                self.postings[chain_id].error = str(error)
                log.warning("batch.not_posted", chain=chain_id, epoch=quorum.content.batch.epoch, reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS)

    def needs(self, chain_id: int, quorum: QuorumBatch) -> bool:
        """Whether `quorum` should be posted on a chain now, judged by what its head holds."""
        head = self.view.followers[chain_id].head
        newest = quorum.content.batch
        if newest.epoch <= head.posted_epoch:
            return False
        if (
            head.posted_epoch < 0
            or newest.timestamp - head.posted_timestamp >= self.deployment.profile.heartbeat_seconds
        ):
            return True
        try:
            held = self.batches.get(head.posted_epoch).content
        except UnknownBatch:
            return True
        if open_to_bids(held, self.deployment.chains[chain_id], newest.timestamp):
            return False
        return any(facts(held, chain_id) != facts(quorum.content, chain_id) for facts in (_legs, _statuses, _settled))

    async def post(self, chain_id: int, quorum: QuorumBatch) -> None:
        """Simulate, send and await one posting."""
        content = quorum.content
        arguments = (to_abi(content.batch), [to_abi(entry) for entry in content.cut], quorum.signatures)
        receipt = await self.senders[chain_id].send(
            self.deployment.chains[chain_id].contracts.verifier, encode("MarginVerifier", "postBatch", arguments)
        )
        posting = self.postings[chain_id]
        posting.epoch, posting.gas_used, posting.error = content.batch.epoch, receipt.gas_used, None
        posting.posted += 1
        self.latencies.record(quorum.stages, posted=time.time())
        log.info("batch.posted", chain=chain_id, epoch=content.batch.epoch, gas=receipt.gas_used)
        # What the head holds decides what is needed next: see this posting there first. A reorganisation may drop it
        # again, and the head will say so.
        follower = self.view.followers[chain_id]
        await self.view.wait(lambda: follower.head.block.number >= receipt.block_number, 5.0)


def open_to_bids(held: BatchContent, chain: ChainDeployment, now: int) -> bool:
    """Whether the batch that a chain holds offers legs there that bidders had no time for at `now`.

    A leg can be taken only while its batch is the chain's latest. In a falling market every batch has other legs; were
    each posted at once, no bid would find the leg that it was made for.
    """
    stands = BIDDING_BLOCKS * chain.block_seconds
    return now - held.batch.timestamp < stands and any(leg.chain_id == chain.chain_id for leg in held.legs)


def _legs(content: BatchContent, chain_id: int) -> set[tuple[bytes, bytes, int]]:
    """Legs of a chain by what they close; that the mark moved a little is no reason to post."""
    return {(leg.account_id, leg.asset, leg.close_limit) for leg in content.legs if leg.chain_id == chain_id}


def _settled(content: BatchContent, chain_id: int) -> tuple[set[tuple[int, AccountId]], set[AssetId]]:
    """Settlement entries of a chain, and what has its settlement price."""
    entries = {(leaf.cycle, leaf.account_id) for leaf in content.settlements if leaf.chain_id == chain_id}
    return entries, {leaf.asset for leaf in content.marks if leaf.settled_at}


def _statuses(content: BatchContent, chain_id: int) -> dict[bytes, tuple[bool, bool]]:
    return {
        leaf.account_id: (leaf.equity >= leaf.initial_margin, leaf.equity >= leaf.maintenance_margin)
        for leaf in content.accounts
        if leaf.chain_id == chain_id
    }
