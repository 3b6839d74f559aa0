"""What tests on the shared chains have in common."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import pytest_asyncio

from keeper.chain.rpc import Rpc
from keeper.devnet.cluster import Cluster
from keeper.testing import Panel

if TYPE_CHECKING:
    from keeper.devnet import Devnet


@pytest.fixture(scope="module")
def cluster(devnet: Devnet) -> Iterator[Cluster]:
    """Four attestors and a keeper that run, ready, with a batch on every chain."""
    with Cluster.up(devnet.folder) as running:
        with httpx.Client(base_url=running.keeper.url, timeout=5.0, trust_env=False) as client:
            for _ in range(240):
                posted = [chain.get("postedEpoch", -1) for chain in client.get("/v1/status").json()["chains"].values()]
                if min(posted) >= 0 and client.get("/ready").status_code == httpx.codes.OK:
                    break
                signal.sigtimedwait([], 0.25)
        yield running


@pytest_asyncio.fixture
async def panel(devnet: Devnet, tmp_path: Path) -> AsyncIterator[Panel]:
    """Four attestors that look at the chains when they are told to."""
    async with Panel(devnet.deployment, tmp_path) as panel:
        yield panel


@pytest_asyncio.fixture
async def rpcs(devnet: Devnet) -> AsyncIterator[dict[int, Rpc]]:
    """A connection to every chain."""
    async with AsyncExitStack() as open_:
        found = {chain_id: Rpc(chain.rpc, timeout=10.0) for chain_id, chain in devnet.deployment.chains.items()}
        for rpc in found.values():
            open_.push_async_callback(rpc.aclose)
        yield found
