"""Sending transactions: simulated first, one lane per key and chain, replaced where they get stuck."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import structlog
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from keeper.state.signer import Signer

from .abi import Revert, describe_revert
from .rpc import Rpc, RpcError, understood

log = structlog.get_logger()

TIP = 10**9
"""What a block's producer is offered per gas, wei."""
_GAS_MARGIN = 1.25
"""Gas limit over the estimate: state may move between the two."""
_REPLACE_SECONDS = 15.0
_ATTEMPTS = 4
_BUMP = 1.25
"""Fee raise of a replacement; nodes want at least a tenth."""
_POLL_SECONDS = 0.1


class TransactionError(Exception):
    """A transaction that did not do its work."""


class TransactionReverted(TransactionError):
    """The call reverts: found by simulation, or after it was mined."""

    def __init__(self, revert: Revert, mined: bool = False) -> None:
        super().__init__(str(revert))
        self.revert = revert
        self.mined = mined


class TransactionStuck(TransactionError):
    """Not mined after every replacement; the message names the nonce and the fee reached."""


@dataclass(frozen=True, slots=True)
class Receipt:
    tx_hash: str
    block_number: int
    gas_used: int
    logs: tuple[Any, ...]


def sign_transaction(
    signer: Signer, chain_id: int, nonce: int, to: bytes, data: bytes, gas: int, fee: int, tip: int
) -> bytes:
    """A transaction of type 2 as it is sent. It moves no coin of the chain; `fee` is the most per gas, wei."""
    fields: dict[str, Any] = {
        "type": 2,
        "chainId": chain_id,
        "nonce": nonce,
        "to": to,
        "value": 0,
        "data": data,
        "gas": gas,
        "maxFeePerGas": fee,
        "maxPriorityFeePerGas": min(tip, fee),
    }
    signature = signer.sign(bytes(TypedTransaction.from_dict(fields).hash()))
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")
    return bytes(TypedTransaction.from_dict({**fields, "v": signature[64] - 27, "r": r, "s": s}).encode())


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
        self._slots = asyncio.Semaphore(in_flight)
        self._lane = asyncio.Lock()

    async def fee_per_gas(self) -> int:
        """What a transaction pays per gas in the next block, about: base fee and tip, wei.

        Raises:
            RpcUnavailable, RpcError: as `send`.
        """
        with understood(self._rpc):
            block = await self._rpc.call("eth_getBlockByNumber", ["latest", False])
            return min(int(block.get("baseFeePerGas", "0x0"), 16) + TIP, self._max_fee)

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
            nonce, tip = int(count, 16), TIP
            base = int(block.get("baseFeePerGas", "0x0"), 16)
            gas, fee = int(estimate * _GAS_MARGIN), min(2 * base + tip, self._max_fee)
            hashes = [await self._submit(to, data, nonce, gas, fee, tip)]
        for attempt in range(_ATTEMPTS):
            if attempt:
                fee = min(2 * base + tip, self._max_fee)
                hashes.append(await self._submit(to, data, nonce, gas, fee, tip))
            receipt = await self._await(hashes)
            if receipt is not None:
                return await self._judged(receipt, to, data)
            log.warning("transaction.replaced", chain=self._chain_id, nonce=nonce, fee=fee)
            base, tip = int(base * _BUMP) + 1, int(tip * _BUMP)
        raise TransactionStuck(f"chain {self._chain_id}: nonce {nonce} is not mined at {fee} wei per gas")

    async def _submit(self, to: bytes, data: bytes, nonce: int, gas: int, fee: int, tip: int) -> str:
        raw = sign_transaction(self._signer, self._chain_id, nonce, to, data, gas, fee, tip)
        try:
            return str(await self._rpc.call("eth_sendRawTransaction", ["0x" + raw.hex()]))
        except RpcError as error:
            # Mined meanwhile, or known already: the receipt will tell.
            if (
                "nonce too low" in error.message
                or "already known" in error.message
                or "already imported" in error.message
            ):
                return "0x" + keccak(raw).hex()
            raise

    async def _await(self, hashes: list[str]) -> dict[str, Any] | None:
        limit = time.monotonic() + _REPLACE_SECONDS
        while time.monotonic() < limit:
            for receipt in await self._rpc.batch([("eth_getTransactionReceipt", [h]) for h in hashes]):
                if receipt is not None:
                    return dict(receipt)
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
