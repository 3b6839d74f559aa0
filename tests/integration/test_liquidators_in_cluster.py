"""Two liquidators in a cluster: failed accounts are closed once, and neither bidder loses."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from take_overs import conserved, eventually

from keeper.chain.rpc import Rpc
from keeper.client import Refused
from keeper.devnet.chains import LIQUIDATORS
from keeper.devnet.cluster import KEEPER, Cluster
from keeper.devnet.reader import ChainReader
from keeper.devnet.wallet import Wallet, trade
from keeper.state.batch import UNIT
from keeper.state.ids import perpetual

if TYPE_CHECKING:
    from keeper.devnet import Devnet

pytestmark = [pytest.mark.devnet, pytest.mark.asyncio, pytest.mark.timeout(240)]

B = 31_337_002
USDC = 10**6
ETH = perpetual("ETH")
_USERS = range(92, 96)


async def test_cm42_two_liquidators_in_a_cluster_close_failed_accounts_once_and_neither_loses(
    devnet: Devnet, rpcs: dict[int, Rpc]
) -> None:
    """CM-40, CM-42: two nodes beside each other on one devnet; three accounts fail at once. What the chain logged adds
    up to what the accounts lost of their positions, and either bidder is worth no less than what it put in."""
    cluster = await asyncio.to_thread(Cluster.up, devnet.folder, liquidators=2)
    start = devnet.price("ETH")
    async with AsyncExitStack() as open_:
        open_.callback(cluster.down)
        open_.callback(_restore, devnet, start)
        http = await open_.enter_async_context(httpx.AsyncClient(timeout=5.0, trust_env=False))

        def wallet(index: int) -> Wallet:
            found = Wallet(index, devnet.deployment, rpcs, cluster.keeper.url)
            open_.push_async_callback(found.aclose)
            return found

        async def get(node: str, path: str) -> Any:
            return (await http.get(cluster.nodes[node].url + path)).json()

        async def ready() -> bool:
            return bool((await get(KEEPER, "/ready"))["ready"])

        await eventually(ready)
        names = [KEEPER, "liquidator-2"]
        bidders = [wallet(index) for index in LIQUIDATORS[:2]]
        maker, *failing = (wallet(index) for index in _USERS)
        reader = ChainReader(devnet.deployment.chains[B], rpcs[B])
        logged = len(await reader.take_overs())
        deposits = [await reader.cash(bidder.account()) for bidder in bidders]
        for party, amount in (
            (maker, 100_000),
            *((each, 700) for each in failing),
            *((each, 20_000) for each in bidders),
        ):
            await party.deposit(B, "USDC", amount * USDC)
        deposits = [before + 20_000 * UNIT for before in deposits]
        price = start * 10**10
        for each in failing:
            await eventually(lambda each=each: _traded(maker, each, price))
        sizes = [await reader.position(each.account(), ETH) for each in failing]
        assert sizes == [UNIT] * 3

        await asyncio.to_thread(devnet.shock, "ETH", -14)

        async def healthy() -> bool:
            for each in failing:
                answer = await get(KEEPER, f"/v1/accounts/0x{each.account().hex()}")
                if answer["marginAccounts"][0]["status"] != "healthy":
                    return False
                if await reader.position(each.account(), ETH) == UNIT:
                    return False
            return True

        seen: list[dict[str, Any]] = []

        async def closed() -> bool:
            for name in names:
                seen.extend((await get(name, "/v1/liquidations"))["legs"])
            return await healthy()

        await eventually(closed, 90)
        assert seen
        for leg in seen:
            assert 0 <= int(leg["concession"]) <= int(leg["maxConcession"])
            assert int(leg["open"]) <= int(leg["closeLimit"])
        reasons = [leg["bid"]["reason"] or "" for leg in seen]
        assert any("each second" in reason or "below the least" in reason for reason in reasons)
        entries = (await reader.take_overs())[logged:]
        for each, size in zip(failing, sizes, strict=True):
            own = [entry for entry in entries if entry.account == each.account()]
            assert sum(entry.size for entry in own) == size - await reader.position(each.account(), ETH)
            assert all(entry.closed < 0 for entry in own)
        assert {entry.taker for entry in entries} <= {bidder.account() for bidder in bidders}
        await conserved(reader, ETH, bidders)

        answers = [await get(name, "/v1/liquidations") for name in names]
        assert sum(len(answer["taken"]) for answer in answers) == len(entries)
        for answer in answers:
            assert all(int(taken["profit"]) >= UNIT for taken in answer["taken"])  # min_profit_usd is 1
            # Who is second in a block pays for a revert; every other loser sees it before.
            assert sum(missed["mined"] for missed in answer["missed"]) <= len(entries)
        for name, bidder, deposited in zip(names, bidders, deposits, strict=True):

            async def worth(name: str = name, bidder: Wallet = bidder) -> int:
                answer = await get(name, f"/v1/accounts/0x{bidder.account().hex()}")
                return int(answer["marginAccounts"][0]["equity"])

            assert await worth() >= deposited - UNIT // 100  # to what the marks moved by rounding
        latencies = (await get(names[0], "/v1/status"))["latencies"], (await get(names[1], "/v1/status"))["latencies"]
        assert sum(each["liquidation_blocks"]["count"] for each in latencies if "liquidation_blocks" in each) == len(
            entries
        )


async def _traded(maker: Wallet, taker: Wallet, price: int) -> bool:
    """A trade of one ETH, once the attestors see the deposits."""
    try:
        await trade(maker, taker, B, ETH, UNIT, price)
    except Refused:
        return False
    return True


def _restore(devnet: Devnet, start: int) -> None:
    for name in ("ETH", "ETH-PERP"):
        devnet.set_price(name, start)
    devnet.arbitrage()
