"""Netting as a running cluster serves it: two owners trade on two chains, and the figures follow."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio

from keeper.chain.rpc import Rpc
from keeper.client import Refused
from keeper.devnet.cluster import Cluster
from keeper.devnet.wallet import Wallet, trade
from keeper.state.batch import UNIT
from keeper.state.ids import perpetual

if TYPE_CHECKING:
    from keeper.devnet import Devnet

pytestmark = [pytest.mark.devnet, pytest.mark.timeout(180)]

A, B, C = 31_337_001, 31_337_002, 31_337_003
USDC = 10**6
ETH = perpetual("ETH")
PRICE = 3_000 * UNIT
_USERS = iter(range(78, 80))


@pytest_asyncio.fixture
async def wallets(devnet: Devnet, cluster: Cluster, rpcs: dict[int, Rpc]) -> AsyncIterator[tuple[Wallet, Wallet]]:
    """Two owners, linked on A and B, with 5,000 USDC on each of them."""
    async with AsyncExitStack() as open_:
        found = []
        for _ in range(2):
            wallet = Wallet(next(_USERS), devnet.deployment, rpcs, cluster.keeper.url)
            open_.push_async_callback(wallet.aclose)
            await wallet.deposit(A, "USDC", 5_000 * USDC, [B])
            await wallet.deposit(B, "USDC", 5_000 * USDC, [A])
            found.append(wallet)
        for wallet in found:
            await _eventually(lambda wallet=wallet: _in_batch(wallet))
        yield found[0], found[1]


async def _in_batch(wallet: Wallet) -> bool:
    try:
        proofs = [await wallet.get(f"/v1/accounts/0x{wallet.account().hex()}/proof?chain={c}") for c in (A, B)]
    except Refused:
        return False
    return all(int(proof["leaf"]["equity"]) == 10_000 * UNIT for proof in proofs)


async def _eventually(holds: Callable[[], Awaitable[Any]], seconds: float = 60) -> Any:
    for _ in range(int(seconds / 0.25)):
        if found := await holds():
            return found
        await asyncio.sleep(0.25)
    raise AssertionError(f"not within {seconds:g} s")


@pytest.mark.asyncio
async def test_what_is_long_on_one_chain_and_short_on_another_nets(
    wallets: tuple[Wallet, Wallet], cluster: Cluster, devnet: Devnet
) -> None:
    """The taker buys 1 ETH on A and sells 1 on B: each side has 2 ETH gross and none net, and pays on one chain what
    it is paid on the other."""
    maker, taker = wallets
    before = await taker.get("/v1/netting")
    gross = int(before["underlyings"].get("ETH", {"gross": {"units": "0"}})["gross"]["units"])
    payments = before["payments"]
    for chain_id, size in ((A, UNIT), (B, -UNIT)):
        await trade(maker, taker, chain_id, ETH, size, PRICE)

    async def traded() -> Any:
        answer = await taker.get("/v1/netting?accounts=1000")
        own = _accounts(answer, wallets)
        eth = answer["underlyings"].get("ETH")
        return answer if eth and int(eth["gross"]["units"]) == gross + 4 * UNIT and len(own) == 2 else None

    answer = await _eventually(traded)
    eth = answer["underlyings"]["ETH"]
    assert int(eth["gross"]["usd"]) * UNIT == int(eth["gross"]["units"]) * int(eth["index"])
    assert eth["overall"] == {"usd": "0", "units": "0"}
    for own in _accounts(answer, wallets):
        assert own["chains"] == [A, B]
        assert (int(own["portfolio"]), own["efficiency"], own["capitalEfficiency"]) == (0, 1.0, None)
        # 1 ETH alone on either chain: 15 % of scenarios and 2.8 % of the notional.
        assert int(own["isolated"]) / UNIT == pytest.approx(2 * 0.178 * 3_000, rel=0.05)
    assert int(answer["margin"]["isolated"]) > int(answer["margin"]["portfolio"])
    # 3,000 USD on A are paid from 5,000 of cash there: nobody's cash became negative, so nothing more is to be settled.
    assert answer["payments"] == payments

    await trade(maker, taker, A, ETH, UNIT, PRICE)  # the buyer's cash on A is then 5,000 − 6,000 and fees

    async def owes() -> Any:
        answer = await taker.get("/v1/netting")
        owing = answer["payments"]["transfers"]["gross"]
        return answer if owing == payments["transfers"]["gross"] + 1 else None

    answer = await _eventually(owes)
    more = int(answer["payments"]["value"]["gross"]) - int(payments["value"]["gross"])
    assert 1_000 * UNIT <= more <= 1_030 * UNIT
    assert answer["payments"]["transfers"]["net"] >= 1

    async def sampled() -> Any:
        """One a batch."""
        history = (await taker.get("/v1/netting"))["history"]
        epochs = [point["epoch"] for point in history]
        assert epochs == sorted(set(epochs))
        return history if len(history) >= 3 and history[-1]["transfers"] is not None else None

    history = await _eventually(sampled)
    assert set(history[-1]) == {"epoch", "time", "exposure", "value", "transfers", "margin", "capitalEfficiency"}
    await _shown(devnet)


def _accounts(answer: dict[str, Any], wallets: tuple[Wallet, Wallet]) -> list[dict[str, Any]]:
    wanted = {"0x" + wallet.account().hex() for wallet in wallets}
    return [each for each in answer["accounts"] if each["accountId"] in wanted]


async def _shown(devnet: Devnet) -> None:
    state = str(devnet.folder)
    text = await asyncio.to_thread(_keeper, "netting", "--state", state)
    assert text.returncode == 0, text.stderr
    for said in ("delta by underlying", "by chain, each alone", "what netting saves", "capital efficiency"):
        assert said in text.stdout
    told = await asyncio.to_thread(_keeper, "netting", "--state", state, "--json", "--accounts", "1")
    answer = json.loads(told.stdout)
    assert len(answer["accounts"]) == 1
    assert answer["payments"]["transfers"]["gross"] >= 1


def _keeper(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "keeper", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_an_attestor_answers_too_and_numbers_out_of_range_are_refused(cluster: Cluster) -> None:
    with httpx.Client(timeout=10.0, trust_env=False) as client:
        answer = client.get(cluster.attestors[0].url + "/v1/netting?accounts=0&history=1")
        assert answer.status_code == 200
        assert answer.json()["accounts"] == []
        assert len(answer.json()["history"]) == 1
        for query in ("accounts=-1", "accounts=1001", "history=513", "accounts=x"):
            refused = client.get(f"{cluster.keeper.url}/v1/netting?{query}")
            assert refused.status_code == 422
            assert refused.json()["code"] == "malformed"
            assert refused.json()["message"].startswith(f"query.{query.split('=')[0]}: ")
