"""The settler: carries out on every chain what the attestors signed and nobody bids for.

Settlement entries and shipments between chains, arrivals from the bridge, settlement of what expired, positions that
the fund or a counterparty takes, clearances and payouts of integrators' claims. Anyone may do all of it; it needs a
quorum's signature or nothing, so a mistake here costs gas and no more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import structlog

from keeper.attest.batch import BatchContent
from keeper.attest.codec import to_abi
from keeper.attest.requests import clearance_for
from keeper.chain.abi import encode
from keeper.chain.cctp import Attested, CctpError, Iris, IrisUnavailable, Shipment, delivered, shipments
from keeper.chain.rpc import RpcError, RpcUnavailable
from keeper.chain.transactions import Sender, TransactionError
from keeper.clearing.settlement import is_shipment, unapplied
from keeper.state.actions import Reserve
from keeper.state.batch import LiquidationLeaf, MarkLeaf, SettlementLeaf
from keeper.state.deployment import ChainDeployment, Deployment
from keeper.state.ids import ZERO32, Address, AssetId, is_token
from keeper.state.world import ChainState

from .batches import BatchBook, UnknownBatch
from .peers import Peers, PeerUnavailable
from .permits import Declined, ask
from .view import ChainsView

log = structlog.get_logger()

MOST_AT_ONCE = 40
"""Leaves, or accounts, in one transaction."""

_PAUSE_SECONDS = 0.5
_RETRY_SECONDS = 2.0
_FUNDING_SECONDS = 3_600
"""Age of a stored funding index at which it is brought up."""
_CLEAR_SECONDS = 5.0
"""Until the clearance of a claim is asked for again: a cycle or a sale takes longer."""
_CLEARANCE_SECONDS = 60
"""How long a clearance may be executed."""


@dataclass(frozen=True, slots=True)
class Call:
    """One thing to do on a chain: `key` names it, so that it is not sent again before the head shows it done."""

    key: tuple[object, ...]
    to: Address
    data: bytes


@dataclass
class Settler:
    """Works off each chain's list, each chain by its own task."""

    deployment: Deployment
    view: ChainsView
    batches: BatchBook
    senders: dict[int, Sender]
    iris: Iris
    peers: Peers
    done: dict[str, int] = field(default_factory=dict)
    """How often each kind of call was mined."""
    _under_way: dict[int, list[Shipment]] = field(default_factory=dict)
    _scanned: dict[int, int] = field(default_factory=dict)
    _asked: dict[tuple[object, ...], tuple[float, int]] = field(default_factory=dict)
    """By claim: when its clearance may be asked for again, on the monotonic clock, and how often halved."""

    async def run(self) -> None:
        """Settle until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for chain_id in self.deployment.chains:
                tasks.create_task(self._serve(chain_id))
                tasks.create_task(self._deliver(chain_id))

    async def _serve(self, chain_id: int) -> None:
        while True:
            await asyncio.sleep(_PAUSE_SECONDS)
            for call in [*self.due(chain_id), *await self._clearances(chain_id)]:
                try:
                    receipt = await self.senders[chain_id].send(call.to, call.data)
                except (RpcUnavailable, RpcError, TransactionError) as error:
                    log.info("settler.waits", chain=chain_id, call=call.key[0], reason=str(error))
                    await asyncio.sleep(_RETRY_SECONDS)
                    continue
                kind = str(call.key[0])
                self.done[kind] = self.done.get(kind, 0) + 1
                log.info("settler.done", chain=chain_id, call=kind, gas=receipt.gas_used)
                follower = self.view.followers[chain_id]
                number = receipt.block_number
                await self.view.wait(lambda f=follower, n=number: f.head.block.number >= n, 5.0)  # type: ignore[misc]

    def due(self, chain_id: int) -> list[Call]:
        """What can be done on a chain by the batch that it holds, judged by its head."""
        follower = self.view.followers[chain_id]
        if not follower.started or follower.head.posted_epoch < 0:
            return []
        head, chain = follower.head, self.deployment.chains[chain_id]
        try:
            content = self.batches.get(head.posted_epoch).content
        except UnknownBatch:
            return []
        return [
            *self._assigned(chain, head, content),
            *self._entries(chain, head, content),
            *self._expired(chain, head, content.marks, content),
            *self._funding(chain, head, content),
            *self._payouts(chain, head),
        ]

    def _entries(self, chain: ChainDeployment, head: ChainState, content: BatchContent) -> list[Call]:
        """Entries that the chain has not applied, many in a call; each shipment in its own, since it may wait."""
        own = [leaf for leaf in content.settlements if leaf.chain_id == chain.chain_id]
        waiting = unapplied(own, {chain.chain_id: head})
        entries = [leaf for leaf in waiting if not is_shipment(leaf)]
        scale = 10 ** (18 - chain.settlement.decimals)
        shipped = [leaf for leaf in waiting if is_shipment(leaf) and -leaf.cash_delta <= head.held * scale]
        groups = [entries[i : i + MOST_AT_ONCE] for i in range(0, len(entries), MOST_AT_ONCE)]
        return [self._apply(chain, content, group) for group in (*groups, *([leaf] for leaf in shipped))]

    def _apply(self, chain: ChainDeployment, content: BatchContent, leaves: Sequence[SettlementLeaf]) -> Call:
        arguments = ([to_abi(leaf) for leaf in leaves], [content.settlement_tree.proof(leaf) for leaf in leaves])
        kind = "shipment" if is_shipment(leaves[0]) else "entries"
        key = (kind, *((leaf.cycle, leaf.account_id) for leaf in leaves))
        return Call(key, chain.contracts.clearing_house, encode("ClearingHouse", "applySettlement", arguments))

    def _expired(
        self, chain: ChainDeployment, head: ChainState, marks: Sequence[MarkLeaf], content: BatchContent
    ) -> list[Call]:
        """The price of what expired, once; then the accounts that still hold it."""
        house, calls = chain.contracts.clearing_house, []
        for mark in marks:
            if not mark.settled_at or mark.settled_at > head.block.time:
                continue
            holders = sorted(account for account, sizes in head.sizes.items() if mark.asset in sizes)
            if not holders:
                continue
            if mark.asset not in head.settlement_prices:
                data = encode("ClearingHouse", "fixSettlement", (to_abi(mark), content.mark_tree.proof(mark)))
                calls.append(Call(("price", mark.asset), house, data))
                continue
            for first in range(0, len(holders), MOST_AT_ONCE):
                accounts = holders[first : first + MOST_AT_ONCE]
                data = encode("ClearingHouse", "settleExpired", (mark.asset, accounts))
                calls.append(Call(("expiry", mark.asset, *accounts), house, data))
        return calls

    def _assigned(self, chain: ChainDeployment, head: ChainState, content: BatchContent) -> list[Call]:
        """Legs that name who takes them: the fund, or an account on the other side."""
        calls = []
        for leg in content.legs:
            if leg.chain_id != chain.chain_id or leg.counterparty == ZERO32:
                continue
            size = _open(leg, head, chain)
            if size > 0:
                data = encode("ClearingHouse", "deleverage", (to_abi(leg), content.leg_tree.proof(leg), size))
                key = ("deleverage", leg.account_id, leg.asset, leg.counterparty)
                calls.append(Call(key, chain.contracts.clearing_house, data))
        return calls

    def _funding(self, chain: ChainDeployment, head: ChainState, content: BatchContent) -> list[Call]:
        """Funding indexes that nobody has touched for long. What a contract takes in one step is by the price of then:
        after a day of silence and a fall by half it would take no trade until hours had passed."""
        held = {asset for sizes in head.sizes.values() for asset in sizes}
        calls = []
        for mark in content.marks:
            stored = head.funding.get(mark.asset)
            if stored is None or mark.asset not in held or content.batch.timestamp - stored.time < _FUNDING_SECONDS:
                continue
            data = encode("ClearingHouse", "accrue", (to_abi(mark), content.mark_tree.proof(mark), []))
            calls.append(Call(("funding", mark.asset, stored.time), chain.contracts.clearing_house, data))
        return calls

    def _payouts(self, chain: ChainDeployment, head: ChainState) -> list[Call]:
        """Claims that tokens have come for."""
        scale = 10 ** (18 - chain.settlement.decimals)
        available = head.held * scale + min(0, head.claims)
        calls = []
        for account, by_integrator in head.owed.items():
            for integrator, owed in by_integrator.items():
                if min(available, owed.cash) >= scale:
                    data = encode("MarginReservations", "payout", (account, integrator))
                    calls.append(Call(("payout", account, integrator), chain.contracts.reservations, data))
        return calls

    async def _clearances(self, chain_id: int) -> list[Call]:
        """Claims' rests that a quorum finds net cash for: asked for whole, then by halves while there is less."""
        follower, chain = self.view.followers[chain_id], self.deployment.chains[chain_id]
        if not follower.started or not self.peers.urls:
            return []
        calls = []
        scale = 10 ** (18 - chain.settlement.decimals)
        for account, by_integrator in follower.final.owed.items():
            for integrator, owed in by_integrator.items():
                key = ("clearance", chain_id, account, integrator)
                after, halves = self._asked.get(key, (0.0, 0))
                if not owed.rest or time.monotonic() < after:
                    continue
                amount = max(owed.rest >> halves, min(owed.rest, scale))
                action = Reserve(account, integrator, amount, amount, 0)
                deadline = follower.head.block.time + _CLEARANCE_SECONDS
                try:
                    granted = await ask(
                        self.deployment, self.peers, clearance_for(self.deployment, chain_id, action, deadline)
                    )
                except (Declined, PeerUnavailable) as refused:
                    log.info("settler.waits", chain=chain_id, call="clearance", reason=str(refused))
                    lacking = isinstance(refused, Declined) and refused.code == "net_cash" and amount > scale
                    self._asked[key] = (time.monotonic() + _CLEAR_SECONDS, halves + 1 if lacking else 0)
                    continue
                self._asked[key] = (time.monotonic() + _CLEAR_SECONDS, 0)
                data = encode("MarginReservations", "clearRest", (to_abi(action), *granted.calldata))
                calls.append(Call(key, chain.contracts.reservations, data))
        return calls

    # --- arrivals --------------------------------------------------------------------------------------------------

    async def _deliver(self, chain_id: int) -> None:
        """Complete what this chain shipped, on the chains it goes to."""
        while self.deployment.chains[chain_id].bridge is not None:
            await asyncio.sleep(1.0)
            try:
                async for target, nonce in self._arrivals(chain_id):
                    log.info("shipment.arrived", source=chain_id, target=target, nonce="0x" + nonce.hex())
                    self.done["arrival"] = self.done.get("arrival", 0) + 1
            except (RpcUnavailable, RpcError, TransactionError, IrisUnavailable, CctpError) as error:
                log.info("shipment.waits", chain=chain_id, reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS)

    async def _arrivals(self, chain_id: int) -> AsyncIterator[tuple[int, bytes]]:
        chain, follower = self.deployment.chains[chain_id], self.view.followers[chain_id]
        if not follower.started or chain.cctp is None:
            return
        first = self._scanned.get(chain_id, chain.deploy_block)
        # No more blocks at once than the provider is known to answer for; the rest with the next looks.
        last = min(follower.final.block.number, first + follower.log_range - 1)
        if last >= first:
            found = await shipments(self.view.rpcs[chain_id], chain, first, last)
            self._under_way.setdefault(chain_id, []).extend(found)
            self._scanned[chain_id] = last + 1
        for shipment in list(self._under_way.get(chain_id, ())):
            target = self.deployment.chains[shipment.to_chain]
            messages = await self.iris.attested(chain.cctp.domain, shipment.tx_hash)
            assert target.cctp is not None
            mine = [m for m in messages if _is_own(m, chain, target)]
            if not mine:
                continue
            for message in mine:
                if target.bridge is None or await delivered(
                    self.view.rpcs[target.chain_id], target, message.burn.nonce
                ):
                    continue
                await self.senders[target.chain_id].send(target.bridge, message.completion)
                yield target.chain_id, message.burn.nonce
            self._under_way[chain_id].remove(shipment)


def _is_own(message: Attested, chain: ChainDeployment, target: ChainDeployment) -> bool:
    """Whether it is a shipment of our adapter: the transaction may have sent anything else beside it."""
    assert target.cctp is not None
    try:
        burn = message.burn
    except CctpError:
        return False
    return burn.destination_domain == target.cctp.domain and burn.message_sender == chain.bridge


def _open(leg: LiquidationLeaf, head: ChainState, chain: ChainDeployment) -> int:
    """What of a leg that names its taker can be closed at the head, 1e18, unsigned."""
    closed = head.closed.get((leg.account_id, leg.asset), 0)
    left = abs(leg.close_limit) - closed
    if is_token(leg.asset):
        token = chain.token_assets().get(leg.asset)
        balances = head.balances.get(leg.account_id)
        held = 0 if token is None or balances is None else balances.get(token.address, 0) * 10 ** (18 - token.decimals)
        return max(0, min(left, held))
    position = _size(head, leg.account_id, leg.asset)
    if position == 0 or (position > 0) != (leg.close_limit > 0):
        return 0
    return max(0, min(left, abs(position)))


def _size(head: ChainState, account: bytes, asset: AssetId) -> int:
    sizes = head.sizes.get(account)  # type: ignore[call-overload]
    return 0 if sizes is None else int(sizes.get(asset, 0))
