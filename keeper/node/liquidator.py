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
from keeper.attest.signing import SignedPermit
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
from .permits import Declined, PermitClient
from .view import ChainsView

log = structlog.get_logger()

AT_ONCE = 8
"""Bids under way on one chain: as many fit into one block."""

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
    _bids: dict[LegKey, asyncio.Task[bool]] = field(default_factory=dict)
    _granted: dict[LegKey, SignedPermit] = field(default_factory=dict)
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
        try:
            while True:
                await asyncio.sleep(_LOOK_SECONDS)
                try:
                    await self.start(chain_id)
                except (RpcUnavailable, RpcError) as error:
                    log.warning("legs.not_appraised", chain=chain_id, reason=str(error))
                    await asyncio.sleep(_BACK_OFF_SECONDS[0])
        finally:
            for task in self._bids.values():
                task.cancel()

    async def start(self, chain_id: int) -> list[asyncio.Task[bool]]:
        """Weigh a chain's legs and start a bid for each that is due, the most profitable first.

        Every bid counts on what those before it leave of the margin. A bid's task is done once the head shows its
        outcome: true where it took something. What a bid raised that is no outcome is raised here.

        Raises:
            RpcUnavailable, RpcError: the chain's provider does not answer what the weighing needs.
        """
        for key in [key for key, task in self._bids.items() if task.done()]:
            self._bids.pop(key).result()
        self._note(chain_id)
        started: list[asyncio.Task[bool]] = []
        while sum(key[0] == chain_id for key in self._bids) < AT_ONCE:
            content = self._held(chain_id)
            due = [each for each in await self._weighed(chain_id, content) if self._due(each)]
            if content is None or not due or due[0].bid is None:
                break
            leg, bid = due[0].leg, due[0].bid
            request = self._request(chain_id, content, leg, bid.size)
            task = asyncio.create_task(self._bid(content, leg, bid, request))
            self._bids[_key(leg)] = task
            started.append(task)
        return started

    async def _weighed(self, chain_id: int, content: BatchContent | None) -> list[Appraisal]:
        """The chain's legs; weighed again where anything that they depend on has changed."""
        legs = [] if content is None else [leg for leg in content.legs if leg.chain_id == chain_id]
        live = self.live()
        moment = (content is None, self._moment(chain_id), tuple(item.key for item in live))
        if self._moments.get(chain_id) != moment:
            self.appraisals[chain_id] = await self.appraiser.appraise(chain_id, legs, live) if legs else []
            self._moments[chain_id] = moment
        return self.appraisals[chain_id]

    def _due(self, appraisal: Appraisal) -> bool:
        return appraisal.ready and not self.waits(appraisal.leg)

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
        if _key(leg) in self._bids:
            return "a bid is under way"
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

    def _request(self, chain_id: int, content: BatchContent, leg: LiquidationLeaf, size: int) -> PermitItem:
        """What to ask for, for exactly this bid: a permit that is left over, or a new one. It counts from now on."""
        head = self.view.followers[chain_id].head.block
        block_seconds = self.deployment.chains[chain_id].block_seconds
        action = Takeover(self.account, leg.account_id, leg.asset, size)
        left = self._granted.get(_key(leg))
        if left is not None and left.item.action == action and left.item.permit.deadline > head.time + block_seconds:
            return left.item
        deadline = head.time + max(_DEADLINE_SECONDS, int(4 * block_seconds))
        item = self.permits.signed(chain_id, action, deadline)
        self._live.append((item, LegItem(leg, content.batch.timestamp)))
        return item

    async def _bid(self, content: BatchContent, leg: LiquidationLeaf, bid: Bid, request: PermitItem) -> bool:
        head = self.view.followers[leg.chain_id].head.block
        first = self._listed.get(_key(leg), _Listing(content.batch.timestamp, head.number))
        try:
            granted = await self._permit(leg, request)
            receipt = await self._execute(content, leg, granted)
        except Declined as refusal:
            self.last_refusal = refusal.problem.to_json()
            self._miss(leg, bid, str(refusal))
        except TransactionReverted as error:
            # Somebody was first, or the batch that listed it is no longer the latest.
            self._miss(leg, bid, error.revert.name, mined=error.mined)
        except (RpcUnavailable, RpcError, TransactionError, PeerUnavailable) as error:
            self._miss(leg, bid, str(error))
        else:
            await self._record(leg, bid, receipt, first)
            return True
        return False

    async def _permit(self, leg: LiquidationLeaf, request: PermitItem) -> SignedPermit:
        left = self._granted.get(_key(leg))
        if left is not None and left.item.key == request.key:
            return left
        try:
            granted = await self.permits.ask(request)
        except Declined as refusal:
            if "refusals" not in refusal.problem.details:  # the first that was asked refused: nobody signed
                self._live = [(item, listed) for item, listed in self._live if item.key != request.key]
            raise
        self._granted[_key(leg)] = granted
        return granted

    async def _execute(self, content: BatchContent, leg: LiquidationLeaf, granted: SignedPermit) -> Receipt:
        action = granted.item.action
        assert isinstance(action, Takeover)
        arguments = (to_abi(leg), content.leg_tree.proof(leg), self.account, action.size, *granted.calldata)
        house = self.deployment.chains[leg.chain_id].contracts.clearing_house
        data = encode("ClearingHouse", "liquidate", arguments)
        return await self.senders[leg.chain_id].send(house, data, contested=True)

    async def _record(self, leg: LiquidationLeaf, bid: Bid, receipt: Receipt, first: _Listing) -> None:
        key, chain_id = _key(leg), leg.chain_id
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

    def _miss(self, leg: LiquidationLeaf, bid: Bid, reason: str, *, mined: bool = False) -> None:
        """Leave a leg alone for a while, longer each time, and not as long as another bidder would."""
        self.missed.append(Missed(leg.account_id, leg.chain_id, leg.asset, bid.size, reason, mined))
        key = _key(leg)
        tries = self._back_off[key].tries + 1 if key in self._back_off else 1
        least, most = _BACK_OFF_SECONDS
        pause = min(most, least * 2 ** (tries - 1)) * self.appraiser.haste(leg)
        self._back_off[key] = _BackOff(time.monotonic() + pause, tries, reason)
        log.info(
            "leg.missed", chain=leg.chain_id, account="0x" + leg.account_id.hex(), reason=reason, pause=round(pause, 2)
        )


def _key(leg: LiquidationLeaf) -> LegKey:
    return (leg.chain_id, leg.account_id, leg.asset)
