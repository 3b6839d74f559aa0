"""Waiting for what chains do, and CM-42 of the take-overs that one logged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from keeper.devnet.reader import ChainReader
from keeper.devnet.wallet import Wallet
from keeper.state.batch import UNIT
from keeper.state.ids import FUND, AssetId


async def eventually(holds: Callable[[], Awaitable[Any]], seconds: float = 60) -> Any:
    limit = time.monotonic() + seconds
    while not (found := await holds()):
        assert time.monotonic() < limit, f"not within {seconds:g} s"
        await asyncio.sleep(0.2)
    return found


async def conserved(reader: ChainReader, asset: AssetId, takers: list[Wallet]) -> None:
    """CM-42 in every block that took something: cash of accounts, takers and fund adds up to what it was, and the
    accounts lost concession and fee at the mark."""
    taken = await reader.take_overs()
    assert taken
    for block in {entry.block for entry in taken if entry.taker in {w.account() for w in takers}}:
        here = [entry for entry in taken if entry.block == block]
        parties = {party for entry in here for party in (entry.account, entry.taker)} | {FUND}
        cash, sizes = await reader.changes(parties, asset, block)
        assert sum(cash.values()) == 0
        assert sum(sizes.values()) == 0
        for entry in here:
            assert 0 <= entry.to_fund <= entry.size * entry.concession // UNIT
