"""Many transactions of one key at once: nonces counted here, several in a block, receipts asked for together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from keeper.attest.signing import LocalSigner
from keeper.chain.rpc import Rpc
from keeper.chain.transactions import Fee, sign_transaction
from keeper.devnet.processes import DevnetError

_AT_ONCE = 100
"""Requests in one HTTP request."""
_POLL_SECONDS = 0.25
_MINED_SECONDS = 60.0
_FEE = Fee(100 * 10**9, 10**9)
"""On the devnet the base fee starts at 1 gwei and full blocks raise it by an eighth."""


@dataclass(frozen=True, slots=True)
class Call:
    """One transaction to be sent, with the gas it may use."""

    to: bytes
    data: bytes
    gas: int


class Lane:
    """One key on one chain. Nobody else may send for that key meanwhile."""

    def __init__(self, rpc: Rpc, chain_id: int, key: bytes) -> None:
        self._rpc = rpc
        self._chain_id = chain_id
        self._signer = LocalSigner(key)
        self._nonce: int | None = None
        self._lane = asyncio.Lock()

    async def send(self, calls: Sequence[Call]) -> list[dict[str, Any]]:
        """Send all, in this order, and wait until all are mined; their receipts, whatever their status.

        Raises:
            DevnetError: one is not mined within a minute.
        """
        async with self._lane:  # what has a lower nonce is sent before
            hashes = await self._submit(calls)
        return await mined(self._rpc, hashes)

    async def _submit(self, calls: Sequence[Call]) -> list[str]:
        if self._nonce is None:
            address = "0x" + self._signer.address.hex()
            self._nonce = int(await self._rpc.call("eth_getTransactionCount", [address, "latest"]), 16)
        signed = [self._signed(call, self._nonce + number) for number, call in enumerate(calls)]
        hashes: list[str] = []
        for first in range(0, len(signed), _AT_ONCE):
            part = signed[first : first + _AT_ONCE]
            hashes += await self._rpc.batch([("eth_sendRawTransaction", [raw]) for raw in part])
        self._nonce += len(calls)
        return hashes

    def _signed(self, call: Call, nonce: int) -> str:
        raw = sign_transaction(self._signer, self._chain_id, nonce, call.to, call.data, call.gas, _FEE)
        return "0x" + raw.hex()


async def mined(rpc: Rpc, hashes: Sequence[str]) -> list[dict[str, Any]]:
    """The receipts of transactions, in order, once all have one. Raises DevnetError after a minute."""
    found: dict[str, dict[str, Any]] = {}
    limit = time.monotonic() + _MINED_SECONDS
    while waiting := [each for each in hashes if each not in found]:
        if time.monotonic() > limit:
            raise DevnetError(f"{rpc.url}: {len(waiting)} transactions are not mined after {_MINED_SECONDS:g} s")
        asked = waiting[:_AT_ONCE]
        receipts = await rpc.batch([("eth_getTransactionReceipt", [each]) for each in asked])
        found |= {each: receipt for each, receipt in zip(asked, receipts, strict=True) if receipt is not None}
        if len(found) < len(hashes):
            await asyncio.sleep(_POLL_SECONDS)
    return [found[each] for each in hashes]


async def together(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all at once; the first failure ends the others and is raised by itself."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for one in work:
                tasks.create_task(one)
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
