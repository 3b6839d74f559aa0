"""The liquidator: takes legs over when that pays by its rule, on its own margin, and sells the tokens it took.

Several may run against each other. A permit names one taker and one size and dies within seconds, a take-over is
simulated before it is sent, and what another took first is a revert that costs little: the next look is at a new head.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import structlog

from keeper.attest.batch import BatchContent
from keeper.attest.codec import to_abi
from keeper.attest.live import is_live
from keeper.chain.abi import encode
from keeper.chain.rpc import RpcError, RpcUnavailable
from keeper.chain.transactions import Receipt, Sender, TransactionError, TransactionReverted
from keeper.clearing.bidding import Bid
from keeper.state.actions import Takeover
from keeper.state.batch import UNIT, LiquidationLeaf
from keeper.state.deployment import Deployment
from keeper.state.ids import AccountId, AssetId, is_token
from keeper.state.live import LegItem, LiveItem, PermitItem

from .appraiser import Appraisal, Appraiser
from .batches import BatchBook, UnknownBatch
from .inventory import Inventory
from .latency import Latencies
from .peers import PeerUnavailable
from .permits import Declined, Granted, PermitClient
from .view import ChainsView

log = structlog.get_logger()

_LOOK_SECONDS = 0.2
_DEADLINE_SECONDS = 10
"""Of a permit, or four blocks where that is longer: while it lives it takes of the own margin, used or not."""
_BACK_OFF_SECONDS = (0.5, 8.0)
"""After the first refusal or miss, and at most; doubled each time."""

_REMEMBERED = 200
"""Missed bids."""

LegKey = tuple[int, AccountId, AssetId]
"""Chain, account, asset."""


@dataclass(frozen=True, slots=True)
class Taken:
    """One executed take-over. `profit` in USD 1e18 as it was bid for; `blocks` of its chain and `seconds` of block time
    from the batch that first listed the leg to the mined transaction."""

    account_id: AccountId
    chain_id: int
    asset: AssetId
    size: int
    gas_used: int
    profit: int
    blocks: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Missed:
    """A bid that came to nothing: refused a permit, or reverted; `mined` where that cost gas."""

    account_id: AccountId
    chain_id: int
    asset: AssetId
    size: int
    reason: str
    mined: bool


@dataclass(frozen=True, slots=True)
class _Listing:
    """When a leg came up: time of the batch, and its chain's head there."""

    timestamp: int
    block: int


@dataclass
class _BackOff:
    until: float
    tries: int
    reason: str


@dataclass
class Liquidator:
    """Bids on every chain with one account."""

    deployment: Deployment
    view: ChainsView
    batches: BatchBook
    permits: PermitClient
    senders: dict[int, Sender]
    latencies: Latencies
    appraiser: Appraiser
    inventory: Inventory
    taken: list[Taken] = field(default_factory=list)
    missed: deque[Missed] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    appraisals: dict[int, list[Appraisal]] = field(default_factory=dict)
    """Of each chain's open legs, as last looked at."""
    last_refusal: dict[str, Any] | None = None
    _moments: dict[int, object] = field(default_factory=dict)
    _granted: dict[LegKey, Granted] = field(default_factory=dict)
    """Permits not used yet: the same bid again needs no other."""
    _live: list[tuple[PermitItem, LegItem]] = field(default_factory=list)
    _back_off: dict[LegKey, _BackOff] = field(default_factory=dict)
    _listed: dict[LegKey, _Listing] = field(default_factory=dict)

    @property
    def account(self) -> AccountId:
        return self.appraiser.account

    async def run(self) -> None:
        """Bid until cancelled, on each chain by its own task."""
        async with asyncio.TaskGroup() as tasks:
            for chain_id in self.deployment.chains:
                tasks.create_task(self._serve(chain_id))
                tasks.create_task(self.inventory.serve(chain_id))

    async def _serve(self, chain_id: int) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await self.look(chain_id)
            except (RpcUnavailable, RpcError) as error:
                log.warning("legs.not_appraised", chain=chain_id, reason=str(error))
                await asyncio.sleep(_BACK_OFF_SECONDS[0])

    async def look(self, chain_id: int) -> bool:
        """Weigh a chain's legs and bid for the most profitable one that is due; True where it was taken.

        Raises:
            RpcUnavailable, RpcError: the chain's provider does not answer what the weighing needs.
        """
        content = self._held(chain_id)
        legs = [] if content is None else [leg for leg in content.legs if leg.chain_id == chain_id]
        self._note(chain_id)
        live = self.live()
        moment = (content is None, self._moment(chain_id), tuple(item.key for item in live))
        if self._moments.get(chain_id) != moment:
            self.appraisals[chain_id] = await self.appraiser.appraise(chain_id, legs, live) if legs else []
            self._moments[chain_id] = moment
        for appraisal in self.appraisals[chain_id]:
            if content is not None and appraisal.bid is not None and appraisal.ready and not self.waits(appraisal.leg):
                return await self._bid(chain_id, content, appraisal.leg, appraisal.bid)
        return False

    def _moment(self, chain_id: int) -> tuple[int, ...]:
        """What an appraisal depends on: while it is the same, so are they."""
        own = self.view.followers[chain_id]
        if not self.view.started:
            return ()
        finals = (follower.final.block.number for follower in self.view.followers.values())
        return (own.head.block.number, own.head.posted_epoch, self.view.newest_head_time, *finals)

    def live(self) -> list[LiveItem]:
        """Own take-overs that may still execute by this node's final blocks, and the legs that they take from."""
        if not self._live:
            return []
        world = self.view.final_world()
        self._live = [(item, leg) for item, leg in self._live if is_live(item, world)]
        items: list[LiveItem] = [item for item, _ in self._live]
        return [*items, *{leg.key: leg for _, leg in self._live}.values()]

    def waits(self, leg: LiquidationLeaf) -> str:
        """Why nothing is tried for a leg just now; empty where it may be."""
        back_off = self._back_off.get(_key(leg))
        if back_off is None or back_off.until <= time.monotonic():
            return ""
        return f"{back_off.until - time.monotonic():.1f} s after: {back_off.reason}"

    def _held(self, chain_id: int) -> BatchContent | None:
        """The batch that a chain holds at its head, where it is known here."""
        follower = self.view.followers[chain_id]
        if not self.view.started or follower.head.posted_epoch < 0:
            return None
        try:
            return self.batches.get(follower.head.posted_epoch).content
        except UnknownBatch:
            return None

    def _note(self, chain_id: int) -> None:
        """Remember when each leg of the newest batch came up; forget those that it does not list."""
        latest = self.batches.latest
        if latest is None:
            return
        content = latest.content
        keys = {_key(leg) for leg in content.legs if leg.chain_id == chain_id}
        for key in [key for key in self._listed if key[0] == chain_id and key not in keys]:
            del self._listed[key]
            self._back_off.pop(key, None)
            self._granted.pop(key, None)
        block = next((cut.head_number for cut in content.cut if cut.chain_id == chain_id), 0)
        for key in keys:
            self._listed.setdefault(key, _Listing(content.batch.timestamp, block))

    # --- one bid ---------------------------------------------------------------------------------------------------

    async def _bid(self, chain_id: int, content: BatchContent, leg: LiquidationLeaf, bid: Bid) -> bool:
        first = self._listed.get(
            _key(leg), _Listing(content.batch.timestamp, self.view.followers[chain_id].head.block.number)
        )
        try:
            granted = await self._permit(chain_id, content, leg, bid.size)
            receipt = await self._execute(chain_id, content, leg, granted)
        except Declined as refusal:
            self.last_refusal = refusal.answer
            self._miss(chain_id, leg, bid, str(refusal))
        except TransactionReverted as error:
            # Somebody was first, or the batch that listed it is no longer the latest.
            self._miss(chain_id, leg, bid, error.revert.name, mined=error.mined)
        except (RpcUnavailable, RpcError, TransactionError, PeerUnavailable) as error:
            self._miss(chain_id, leg, bid, str(error))
        else:
            await self._record(chain_id, leg, bid, receipt, first)
            return True
        return False

    async def _permit(self, chain_id: int, content: BatchContent, leg: LiquidationLeaf, size: int) -> Granted:
        """A permit for exactly this bid: one that is left over, or a new one."""
        head = self.view.followers[chain_id].head.block
        block_seconds = self.deployment.chains[chain_id].block_seconds
        action = Takeover(self.account, leg.account_id, leg.asset, size)
        left = self._granted.get(_key(leg))
        if left is not None and left.item.action == action and left.item.permit.deadline > head.time + block_seconds:
            return left
        deadline = head.time + max(_DEADLINE_SECONDS, int(4 * block_seconds))
        item, listed = self.permits.signed(chain_id, action, deadline), LegItem(leg, content.batch.timestamp)
        # Other chains' bids count on what this one leaves, from before it is asked for.
        self._live.append((item, listed))
        try:
            granted = await self.permits.ask(item)
        except Declined as refusal:
            if "refusals" not in refusal.answer:  # the first that was asked refused: nobody signed
                self._live.remove((item, listed))
            raise
        self._granted[_key(leg)] = granted
        return granted

    async def _execute(self, chain_id: int, content: BatchContent, leg: LiquidationLeaf, granted: Granted) -> Receipt:
        action = granted.item.action
        assert isinstance(action, Takeover)
        arguments = (to_abi(leg), content.leg_tree.proof(leg), self.account, action.size, *granted.calldata)
        house = self.deployment.chains[chain_id].contracts.clearing_house
        return await self.senders[chain_id].send(house, encode("ClearingHouse", "liquidate", arguments))

    async def _record(self, chain_id: int, leg: LiquidationLeaf, bid: Bid, receipt: Receipt, first: _Listing) -> None:
        key = _key(leg)
        self._granted.pop(key, None)
        self._back_off.pop(key, None)
        gas = self.appraiser.gas_used
        gas[chain_id] = max(gas.get(chain_id, 0), receipt.gas_used)
        # The head that shows the position gone is a poll away; do not bid for it again before.
        follower = self.view.followers[chain_id]
        await self.view.wait(lambda: follower.head.block.number >= receipt.block_number, 5.0)
        if is_token(leg.asset):
            self.inventory.wake(chain_id)
        blocks = max(0, receipt.block_number - first.block)
        seconds = float(max(0, await self._time(chain_id, receipt) - first.timestamp))
        self.taken.append(
            Taken(leg.account_id, chain_id, leg.asset, bid.size, receipt.gas_used, bid.profit, blocks, seconds)
        )
        self.latencies.add("liquidation", seconds)
        self.latencies.add("liquidation_blocks", blocks)
        log.info(
            "leg.taken",
            chain=chain_id,
            account="0x" + leg.account_id.hex(),
            size=bid.size / UNIT,
            profit=round(bid.profit / UNIT, 2),
            gas=receipt.gas_used,
            blocks=blocks,
        )

    async def _time(self, chain_id: int, receipt: Receipt) -> int:
        """Time of the block that took it; of the head, where the provider does not say."""
        try:
            block = await self.view.rpcs[chain_id].call("eth_getBlockByNumber", [hex(receipt.block_number), False])
            return int(block["timestamp"], 16)
        except (RpcUnavailable, RpcError, KeyError, TypeError, ValueError):
            return self.view.followers[chain_id].head.block.time

    def _miss(self, chain_id: int, leg: LiquidationLeaf, bid: Bid, reason: str, *, mined: bool = False) -> None:
        """Leave a leg alone for a while, longer each time, and not as long as another bidder would."""
        self.missed.append(Missed(leg.account_id, chain_id, leg.asset, bid.size, reason, mined))
        key = _key(leg)
        tries = self._back_off[key].tries + 1 if key in self._back_off else 1
        least, most = _BACK_OFF_SECONDS
        pause = min(most, least * 2 ** (tries - 1)) * self.appraiser.haste(leg)
        self._back_off[key] = _BackOff(time.monotonic() + pause, tries, reason)
        log.info(
            "leg.missed", chain=chain_id, account="0x" + leg.account_id.hex(), reason=reason, pause=round(pause, 2)
        )


def _key(leg: LiquidationLeaf) -> LegKey:
    return (leg.chain_id, leg.account_id, leg.asset)
