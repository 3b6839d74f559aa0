"""The liquidator: takes a leg over at its concession when that pays, on its own margin."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import structlog

from keeper.attest.batch import BatchContent
from keeper.attest.codec import to_abi
from keeper.attest.requests import permit_for, request_digest
from keeper.chain.abi import encode
from keeper.chain.rpc import RpcError, RpcUnavailable
from keeper.chain.transactions import Sender, TransactionError
from keeper.clearing.effects import concession_at
from keeper.state.actions import Takeover
from keeper.state.batch import UNIT, LiquidationLeaf
from keeper.state.deployment import Deployment
from keeper.state.ids import AccountId, AssetId, account_id
from keeper.state.live import PermitItem
from keeper.state.wire import from_json
from keeper.state.world import ChainState

from .batches import BatchBook, UnknownBatch
from .latency import Latencies
from .peers import Peers, PeerUnavailable
from .signer import Signer
from .view import ChainsView

log = structlog.get_logger()

_DEADLINE_SECONDS = 20
_COOL_DOWN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Taken:
    """One executed take-over. `seconds` from the leg's batch to the mined transaction."""

    account_id: AccountId
    chain_id: int
    asset: AssetId
    size: int
    gas_used: int
    seconds: float


@dataclass
class Liquidator:
    """Bids on every chain with one account."""

    deployment: Deployment
    view: ChainsView
    batches: BatchBook
    peers: Peers
    signer: Signer
    senders: dict[int, Sender]
    latencies: Latencies
    min_profit: int
    """USD 1e18 of concession and flat fee below which a leg is left to ripen."""
    sub_account: int = 0
    taken: list[Taken] = field(default_factory=list)
    last_refusal: dict[str, Any] | None = None

    @property
    def account(self) -> AccountId:
        return account_id(self.signer.address, self.sub_account)

    async def run(self) -> None:
        """Bid until cancelled, on each chain by its own task."""
        async with asyncio.TaskGroup() as tasks:
            for chain_id in self.deployment.chains:
                tasks.create_task(self._serve(chain_id))

    async def _serve(self, chain_id: int) -> None:
        while True:
            await asyncio.sleep(0.2)
            for content, leg in self.open_legs(chain_id):
                try:
                    await self._take(chain_id, content, leg)
                except (RpcUnavailable, RpcError, TransactionError, PeerUnavailable) as error:
                    log.warning("leg.not_taken", chain=chain_id, account="0x" + leg.account_id.hex(), reason=str(error))
                    await asyncio.sleep(_COOL_DOWN_SECONDS)

    def open_legs(self, chain_id: int) -> list[tuple[BatchContent, LiquidationLeaf]]:
        """Legs of the batch the chain holds at its head that still have something to take and pay enough."""
        follower = self.view.followers[chain_id]
        if not follower.started or follower.head.posted_epoch < 0:
            return []
        head = follower.head
        try:
            content = self.batches.get(head.posted_epoch).content
        except UnknownBatch:
            return []
        return [
            (content, leg)
            for leg in content.legs
            if leg.chain_id == chain_id and leg.account_id != self.account and self._pays(leg, head)
        ]

    def _size(self, leg: LiquidationLeaf, head: ChainState) -> int:
        closed = head.closed.get((leg.account_id, leg.asset), 0)
        position = head.sizes[leg.account_id].get(leg.asset, 0) if leg.account_id in head.sizes else 0
        if position == 0 or (position > 0) != (leg.close_limit > 0):
            return 0
        return max(0, min(abs(leg.close_limit) - closed, abs(position)))

    def _pays(self, leg: LiquidationLeaf, head: ChainState) -> bool:
        size = self._size(leg, head)
        profile = self.deployment.profile
        gain = concession_at(leg, head.block.time, profile.ramp_seconds) * size // UNIT
        gain += profile.flat_fee * size // max(1, abs(leg.close_limit))
        return size > 0 and gain >= self.min_profit

    async def _take(self, chain_id: int, content: BatchContent, leg: LiquidationLeaf) -> None:
        head = self.view.followers[chain_id].head
        size = self._size(leg, head)
        action = Takeover(self.account, leg.account_id, leg.asset, size)
        # Nonces are unordered: the time in nanoseconds never repeats, and survives a restart without a store.
        permit = permit_for(self.deployment, action, time.time_ns(), head.block.time + _DEADLINE_SECONDS)
        item = PermitItem(chain_id, permit, action, ())
        signature = self.signer.sign(request_digest(self.deployment, item))
        item = PermitItem(chain_id, permit, action, (signature,))
        status, answer = await self._request(item)
        if status != 200:
            self.last_refusal = answer
            log.info("takeover.refused", chain=chain_id, code=answer.get("code"), reason=answer.get("message"))
            await asyncio.sleep(_COOL_DOWN_SECONDS)
            return
        signed = from_json(PermitItem, answer["item"])
        arguments = (
            to_abi(leg),
            content.leg_tree.proof(leg),
            self.account,
            size,
            to_abi(signed.permit),
            bytes.fromhex(answer["signatures"][2:]),
        )
        receipt = await self.senders[chain_id].send(
            self.deployment.chains[chain_id].contracts.clearing_house, encode("ClearingHouse", "liquidate", arguments)
        )
        seconds = time.time() - content.batch.timestamp
        self.taken.append(Taken(leg.account_id, chain_id, leg.asset, size, receipt.gas_used, seconds))
        self.latencies.add("liquidation", seconds)
        log.info(
            "leg.taken", chain=chain_id, account="0x" + leg.account_id.hex(), size=size / UNIT, gas=receipt.gas_used
        )
        # The head that shows the position gone is a poll away; do not bid for it again before.
        await self.view.wait(lambda: self.view.followers[chain_id].head.block.number >= receipt.block_number, 5.0)

    async def _request(self, item: PermitItem) -> tuple[int, dict[str, Any]]:
        failure: PeerUnavailable | None = None
        for peer in self.peers.urls:
            try:
                return await self.peers.request_permit(peer, item, forwarded=False)
            except PeerUnavailable as error:
                failure = error
        raise failure or PeerUnavailable("no attestor is configured")
