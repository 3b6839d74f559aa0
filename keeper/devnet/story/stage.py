"""Who and what is on stage: the chains, the nodes, the wallets, and the reader of every chain."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from keeper.chain.rpc import Rpc
from keeper.devnet.chains import CHAINS, FIRST_USER, LIQUIDATOR
from keeper.devnet.cluster import Cluster, NodeProcess
from keeper.devnet.launch import Devnet
from keeper.devnet.narrator import Narrator, StepFailed
from keeper.devnet.reader import ChainReader
from keeper.devnet.wallet import Wallet
from keeper.state.batch import UNIT
from keeper.state.deployment import Deployment
from keeper.state.ids import AccountId, AssetId, perpetual

A, B, C = (chain.chain_id for chain in CHAINS)
ETH = perpetual("ETH")
PRICE = 3_000 * UNIT
USDC = 10**6


@dataclass
class Stage:
    """Everything a chapter needs. Wallets are named by what they are in the story."""

    devnet: Devnet
    cluster: Cluster
    tell: Narrator
    rpcs: dict[int, Rpc]
    readers: dict[int, ChainReader]
    wallets: dict[str, Wallet] = field(default_factory=dict)
    http: httpx.AsyncClient = field(default_factory=lambda: httpx.AsyncClient(timeout=5.0, trust_env=False))

    dated: tuple[AssetId, ...] = ()
    """The future and the call that the story trades."""

    NAMES = ("owner", "hedger", "maker", "unhedged", "isolated", "racer")

    @classmethod
    def open(cls, devnet: Devnet, cluster: Cluster, tell: Narrator) -> Stage:
        deployment = devnet.deployment
        rpcs = {chain_id: Rpc(chain.rpc, timeout=10.0) for chain_id, chain in deployment.chains.items()}
        stage = cls(
            devnet, cluster, tell, rpcs, {c: ChainReader(chain, rpcs[c]) for c, chain in deployment.chains.items()}
        )
        serving = cluster.keeper.url
        for index, name in enumerate(cls.NAMES):
            stage.wallets[name] = Wallet(FIRST_USER + index, deployment, rpcs, serving)
        stage.wallets["liquidator"] = Wallet(LIQUIDATOR, deployment, rpcs, serving)
        return stage

    async def close(self) -> None:
        for wallet in self.wallets.values():
            await wallet.aclose()
        for rpc in self.rpcs.values():
            await rpc.aclose()
        await self.http.aclose()

    @property
    def deployment(self) -> Deployment:
        return self.devnet.deployment

    def name(self, chain_id: int) -> str:
        return self.deployment.chains[chain_id].name

    def __getitem__(self, name: str) -> Wallet:
        return self.wallets[name]

    async def get(self, path: str, node: NodeProcess | None = None) -> Any:
        """A node's JSON, whatever its status code; None where it does not answer."""
        try:
            response = await self.http.get((node or self.cluster.keeper).url + path)
        except httpx.HTTPError:
            return None
        return orjson.loads(response.content) if response.content else None

    async def margin(self, account: AccountId, node: NodeProcess | None = None) -> dict[str, Any] | None:
        """The account's first margin account as a node reports it; None while it knows none."""
        answer = await self.get(f"/v1/accounts/0x{account.hex()}", node)
        if not isinstance(answer, dict) or "marginAccounts" not in answer:
            return None
        return dict(answer["marginAccounts"][0])

    async def until(
        self, what: str, ask: Callable[[], Awaitable[Any]], seconds: float, holds: Callable[[Any], bool] = bool
    ) -> Any:
        """Ask until the answer holds; StepFailed with the last answer after `seconds`."""
        self.tell.doing(f"waiting until {what}")
        limit = time.monotonic() + seconds
        answer = await ask()
        while not holds(answer):
            if time.monotonic() > limit:
                raise StepFailed(f"{what} within {seconds:g} s", answer)
            await asyncio.sleep(0.15)
            answer = await ask()
        return answer

    async def until_margin(
        self, what: str, account: AccountId, holds: Callable[[dict[str, Any]], bool], seconds: float = 30.0
    ) -> dict[str, Any]:
        """Wait for an account's margin, as the keeper sees it at final blocks, to hold."""
        answer: dict[str, Any] = await self.until(
            what, lambda: self.margin(account), seconds, lambda found: found is not None and holds(found)
        )
        return answer

    async def until_equity(self, account: AccountId, equity: float, chains: int) -> None:
        """Wait until every attestor sees the account with this much equity on so many chains."""
        await self.until_everyone_sees(account, lambda m: m["usd"]["equity"] >= equity and len(m["chains"]) == chains)

    async def until_everyone_sees(
        self, account: AccountId, holds: Callable[[dict[str, Any]], bool], seconds: float = 30.0
    ) -> None:
        """As `until_margin`, for every attestor: each judges by its own view."""
        for node in self.cluster.attestors:
            await self.until(
                f"{node.name} sees it final",
                lambda node=node: self.margin(account, node),  # type: ignore[misc]
                seconds,
                lambda found: found is not None and holds(found),
            )
