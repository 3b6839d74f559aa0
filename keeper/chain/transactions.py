"""Sending transactions: simulated first, one lane per key and chain, replaced where they get stuck."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import structlog
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from keeper.state.signer import Signer

from .abi import Revert, describe_revert
from .rpc import Rpc, RpcError, understood
from .wording import Meaning, meaning_of, minimum_of

log = structlog.get_logger()

LEAST_TIP = 10**9
"""What a block's producer is offered per gas at least, wei; more where the chain says that it takes more."""
_GAS_MARGIN = 1.25
"""Gas limit over the estimate: state may move between the two."""
_REPLACE_SECONDS = 15.0
_ATTEMPTS = 4
_BUMP = 1.25
"""Fee raise of a replacement."""
_LEAST_BUMP = 1.1
"""Nodes refuse a replacement that offers less than this times what it replaces."""
_RAISES = 12
"""How often one submission is raised where the node wants more: from 1 gwei beyond 10, or to what it names."""
_POLL_SECONDS = 0.1
_UNKNOWN_SECONDS = 5.0
"""How long a receipt may be missing once the account's count has passed the nonce: a busy node counts first."""


class TransactionError(Exception):
    """A transaction that did not do its work."""


class TransactionReverted(TransactionError):
    """The call reverts: found by simulation, or after it was mined."""

    def __init__(self, revert: Revert, mined: bool = False) -> None:
        super().__init__(str(revert))
        self.revert = revert
        self.mined = mined


class NonceTaken(TransactionError):
    """Another transaction of the same key was mined in its place: it was not executed, and may be sent again."""


class TransactionStuck(TransactionError):
    """Not mined after every replacement; the message names the nonce and the fee reached."""


@dataclass(frozen=True, slots=True)
class Fee:
    """Wei per gas: the most that is paid, and the part of it for the block's producer."""

    most: int
    tip: int

    def raised(self, factor: float, cap: int) -> Fee:
        return Fee(min(int(self.most * factor) + 1, cap), min(int(self.tip * factor) + 1, cap))

    def replaces(self, other: Fee) -> bool:
        """Whether a node takes it in the place of `other`: both parts are a tenth more."""
        return self.most >= other.most * _LEAST_BUMP and self.tip >= other.tip * _LEAST_BUMP


@dataclass(frozen=True, slots=True)
class Receipt:
    tx_hash: str
    block_number: int
    gas_used: int
    logs: tuple[Any, ...]


def sign_transaction(signer: Signer, chain_id: int, nonce: int, to: bytes, data: bytes, gas: int, fee: Fee) -> bytes:
    """A transaction of type 2, as it is sent. It moves none of the chain's coin."""
    fields: dict[str, Any] = {
        "type": 2,
        "chainId": chain_id,
        "nonce": nonce,
        "to": to,
        "value": 0,
        "data": data,
        "gas": gas,
        "maxFeePerGas": fee.most,
        "maxPriorityFeePerGas": fee.tip,
    }
    signature = signer.sign(bytes(TypedTransaction.from_dict(fields).hash()))
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    return bytes(TypedTransaction.from_dict({**fields, "v": signature[64] - 27, "r": r, "s": s}).encode())


@dataclass(slots=True)
class _Attempt:
    """One transaction in all its versions; `hashes` are of those that the provider may hold."""

    to: bytes
    data: bytes
    nonce: int
    gas: int
    hashes: list[str] = field(default_factory=list)
    passed: float = 0.0
    """When the account's count was first seen beyond the nonce, on the monotonic clock."""


class Sender:
    """Sends for one key on one chain: one transaction after another, or up to `in_flight` side by side.

    The nonce is the account's own count: at the latest block with one transaction in flight, with what the provider
    holds pending where there may be more. With one process per key nothing else decides it. `max_fee` is the highest
    fee per gas ever offered, wei.
    """

    def __init__(self, rpc: Rpc, chain_id: int, signer: Signer, max_fee: int = 500 * 10**9, in_flight: int = 1) -> None:
        self._rpc = rpc
        self._chain_id = chain_id
        self._signer = signer
        self.address = to_checksum_address(signer.address)
        self._max_fee = max_fee
        self._counted_at = "latest" if in_flight == 1 else "pending"
        self._offered: dict[int, Fee] = {}
        """The most that was offered under each nonce that is not known to be mined."""
        self._slots = asyncio.Semaphore(in_flight)
        self._lane = asyncio.Lock()

    async def fee_per_gas(self) -> int:
        """What a transaction pays per gas in the next block, about: base fee and tip, wei.

        Raises:
            RpcUnavailable, RpcError: as `send`.
        """
        with understood(self._rpc):
            block = await self._rpc.call("eth_getBlockByNumber", ["latest", False])
            return min(int(block.get("baseFeePerGas", "0x0"), 16) + await self._tip(), self._max_fee)

    async def _tip(self) -> int:
        """What the chain says a producer wants now, and `LEAST_TIP` where that is more or it says nothing."""
        try:
            return max(int(await self._rpc.call("eth_maxPriorityFeePerGas"), 16), LEAST_TIP)
        except RpcError:  # not every chain has it
            return LEAST_TIP

    async def simulate(self, to: bytes, data: bytes) -> None:
        """Raise TransactionReverted where the call reverts at the latest block."""
        with understood(self._rpc):
            await self._call("eth_call", [self._body(to, data), "latest"])

    async def send(self, to: bytes, data: bytes, *, contested: bool = False) -> Receipt:
        """Simulate, sign, send, and wait until mined; replace at the same nonce with a higher fee while stuck.

        Args:
            contested: whether others may send what makes this revert: then it is simulated on what the provider holds
                pending, so that who comes second sends nothing and pays nothing.

        Raises:
            TransactionReverted: in simulation, or mined and failed.
            TransactionStuck: not mined after every replacement.
            NonceTaken: another transaction of this key was mined in its place.
            RpcUnavailable, RpcError: the provider failed, or answered nonsense; whether the transaction was sent is
                then unknown.
        """
        async with self._slots:
            with understood(self._rpc):
                return await self._send(to, data, "pending" if contested else "latest")

    async def _send(self, to: bytes, data: bytes, simulated_at: str) -> Receipt:
        async with self._lane:  # until it is known to the provider, which then counts it
            estimate = int(await self._call("eth_estimateGas", [self._body(to, data), simulated_at]), 16)
            count, block = await self._rpc.batch(
                [
                    ("eth_getTransactionCount", [self.address, self._counted_at]),
                    ("eth_getBlockByNumber", ["latest", False]),
                ]
            )
            tip = await self._tip()
            base = int(block.get("baseFeePerGas", "0x0"), 16)
            one = _Attempt(to, data, int(count, 16), int(estimate * _GAS_MARGIN))
            fee = Fee(min(2 * base + tip, self._max_fee), min(tip, self._max_fee))
            waiting = self._offered.get(one.nonce)
            if waiting is not None and not fee.replaces(waiting):
                # An earlier one of ours is stuck at this nonce: a node takes nothing that offers less.
                fee = waiting.raised(_BUMP, self._max_fee)
            fee = await self._submit(one, fee)
        for attempt in range(_ATTEMPTS):
            raised = fee.raised(_BUMP, self._max_fee)
            if attempt and raised.replaces(fee):  # at the cap, what the nodes know may still be mined
                log.warning("transaction.replaced", chain=self._chain_id, nonce=one.nonce, fee=raised.most)
                fee = await self._submit(one, raised)
            receipt = await self._await(one)
            if receipt is not None:
                self._offered = {nonce: offered for nonce, offered in self._offered.items() if nonce > one.nonce}
                return await self._judged(receipt, to, data)
        raise TransactionStuck(f"chain {self._chain_id}: nonce {one.nonce} is not mined at {fee.most} wei per gas")

    async def _submit(self, one: _Attempt, fee: Fee) -> Fee:
        """Hand a transaction to the provider, with more than `fee` where it wants more; returns what is offered.

        Raises:
            RpcError: it is refused for good, and none of its hashes was ever taken.
        """
        for _ in range(_RAISES):
            raw = sign_transaction(self._signer, self._chain_id, one.nonce, one.to, one.data, one.gas, fee)
            try:
                await self._rpc.call("eth_sendRawTransaction", ["0x" + raw.hex()])
            except RpcError as error:
                meaning = meaning_of(error.message)
                if meaning in (Meaning.NOT_RAISED, Meaning.FEE_TOO_LOW):
                    more = self._more(fee, minimum_of(error.message))
                    if more is not None:
                        fee = more
                        continue
                if meaning not in (Meaning.KNOWN, Meaning.NONCE_USED):
                    if one.hashes:  # an earlier one of these is known, or mined: its receipt will tell
                        return fee
                    raise
            one.hashes.append("0x" + keccak(raw).hex())
            self._offered[one.nonce] = fee
            return fee
        raise TransactionStuck(f"chain {self._chain_id}: nonce {one.nonce} is not taken at {fee.most} wei per gas")

    def _more(self, fee: Fee, minimum: int | None) -> Fee | None:
        """A fee that a node which refused `fee` may take; None where the cap leaves none."""
        raised = fee.raised(_BUMP, self._max_fee)
        if minimum is not None and minimum > raised.tip:
            raised = Fee(min(raised.most + minimum - raised.tip, self._max_fee), min(minimum, self._max_fee))
        return raised if raised.replaces(fee) else None

    async def _await(self, one: _Attempt) -> dict[str, Any] | None:
        """The receipt of whichever version is mined; None where none is for a while.

        Raises:
            NonceTaken: another transaction of this key was mined under the nonce, so none of these can be.
        """
        limit = time.monotonic() + _REPLACE_SECONDS
        while time.monotonic() < limit:
            count, *receipts = await self._rpc.batch(
                [
                    ("eth_getTransactionCount", [self.address, "latest"]),
                    *(("eth_getTransactionReceipt", [h]) for h in one.hashes),
                ]
            )
            for receipt in receipts:
                if receipt is not None:
                    return dict(receipt)
            if int(count, 16) > one.nonce:
                one.passed = one.passed or time.monotonic()
                if time.monotonic() - one.passed > _UNKNOWN_SECONDS:
                    raise NonceTaken(f"chain {self._chain_id}: another transaction of this key took nonce {one.nonce}")
            await asyncio.sleep(_POLL_SECONDS)
        return None

    async def _judged(self, receipt: dict[str, Any], to: bytes, data: bytes) -> Receipt:
        if int(receipt["status"], 16) != 1:
            try:
                await self._call("eth_call", [self._body(to, data), receipt["blockNumber"]])
            except TransactionReverted as reverted:
                raise TransactionReverted(reverted.revert, mined=True) from None
            raise TransactionReverted(describe_revert(b""), mined=True)
        return Receipt(
            tx_hash=receipt["transactionHash"],
            block_number=int(receipt["blockNumber"], 16),
            gas_used=int(receipt["gasUsed"], 16),
            logs=tuple(receipt["logs"]),
        )

    async def _call(self, method: str, params: list[Any]) -> str:
        try:
            return str(await self._rpc.call(method, params))
        except RpcError as error:
            data = error.data.get("data") if isinstance(error.data, dict) else error.data
            if isinstance(data, str) and data.startswith("0x"):
                raise TransactionReverted(describe_revert(bytes.fromhex(data[2:]))) from None
            raise

    def _body(self, to: bytes, data: bytes) -> dict[str, str]:
        return {"from": self.address, "to": "0x" + to.hex(), "data": "0x" + data.hex()}
