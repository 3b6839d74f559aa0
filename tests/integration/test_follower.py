"""Following real chains through real faults: what is final stays, the head is thrown away, nonsense is survived."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import pytest_asyncio

from keeper.chain import follower as following
from keeper.chain.follower import DeepReorg, Follower
from keeper.chain.rpc import Rpc, RpcError, RpcUnavailable
from keeper.devnet.wallet import Wallet
from keeper.testing.proxy import CountingProxy

if TYPE_CHECKING:
    from keeper.devnet import Devnet

pytestmark = [pytest.mark.devnet, pytest.mark.asyncio]

C = 31_337_003
USDC = 10**6
_USERS = iter(range(40, 50))


@pytest_asyncio.fixture
async def provider(devnet: Devnet) -> AsyncIterator[CountingProxy]:
    async with CountingProxy(devnet.deployment.chains[C].rpc).running() as proxy:
        yield proxy


@pytest_asyncio.fixture
async def rpc(provider: CountingProxy) -> AsyncIterator[Rpc]:
    rpc = Rpc(provider.url, timeout=10.0)
    yield rpc
    await rpc.aclose()


@pytest_asyncio.fixture
async def owner(devnet: Devnet) -> AsyncIterator[Wallet]:
    rpc = Rpc(devnet.deployment.chains[C].rpc, timeout=10.0)
    wallet = Wallet(next(_USERS), devnet.deployment, {C: rpc}, "http://nobody.invalid")
    yield wallet
    await wallet.aclose()
    await rpc.aclose()


async def _until_final(follower: Follower, number: int) -> None:
    async with asyncio.timeout(30):
        while not follower.started or follower.final.block.number < number:
            await follower.poll()
            await asyncio.sleep(0.05)


async def _poll_on(follower: Follower) -> None:
    async with asyncio.timeout(30):
        while True:
            await follower.poll()
            await asyncio.sleep(0.05)


async def test_cm10_what_is_new_is_at_the_head_first_and_final_later(devnet: Devnet, rpc: Rpc, owner: Wallet) -> None:
    follower = Follower(devnet.deployment.chains[C], rpc)
    await owner.deposit(C, "USDC", 70 * USDC)
    account = owner.account()
    async with asyncio.timeout(30):
        while not follower.started or follower.head_block.number < owner.last_block:
            await follower.poll()
    assert follower.head.cash[account] == 70 * 10**18
    if follower.final.block.number < owner.last_block:
        assert account not in follower.final.cash
    await _until_final(follower, owner.last_block)
    assert follower.final.cash[account] == 70 * 10**18
    before = follower.at(owner.last_block - 1)
    assert before is not None
    assert account not in before.cash
    assert follower.at(follower.head_block.number + 1) is None
    assert follower.feeds["ETH"][3]


async def test_cm10_a_reorganisation_above_finality_changes_the_head_alone(
    devnet: Devnet, rpc: Rpc, owner: Wallet
) -> None:
    follower = Follower(devnet.deployment.chains[C], rpc, finality=8)
    await owner.deposit(C, "USDC", 70 * USDC)
    account = owner.account()
    async with asyncio.timeout(30):
        while not follower.started or account not in follower.head.cash:
            await follower.poll()
    final = follower.final
    await asyncio.to_thread(devnet.reorg, C, 6)  # dropped: mint, approval and deposit
    async with asyncio.timeout(30):
        while account in follower.head.cash:
            await follower.poll()
            await asyncio.sleep(0.05)
    assert follower.final.block.number >= final.block.number
    await _until_final(follower, follower.head_block.number)
    assert account not in follower.final.cash


async def test_a_reorganisation_below_finality_stops_it(devnet: Devnet, rpc: Rpc) -> None:
    follower = Follower(devnet.deployment.chains[C], rpc, finality=0)
    await _until_final(follower, 1)
    known = follower.final.block
    head = int(await rpc.call("eth_blockNumber", []), 16)
    # What is mined while this is on its way is to be replaced as well: two seconds more.
    await asyncio.to_thread(devnet.reorg, C, head - known.number + 5)
    with pytest.raises(DeepReorg, match=rf"chain C \({C}\): final block {known.number} was 0x{known.hash.hex()}"):
        await _poll_on(follower)


async def test_a_provider_that_lags_takes_nothing_back(devnet: Devnet, provider: CountingProxy, rpc: Rpc) -> None:
    follower = Follower(devnet.deployment.chains[C], rpc)
    await _until_final(follower, 1)
    blocks = [("eth_getBlockByNumber", [tag, False]) for tag in ("finalized", "latest")]
    old = await rpc.batch([("eth_chainId", []), *blocks])
    await _until_final(follower, int(old[-1]["number"], 16))
    final, head = follower.final, follower.head

    def lag(calls: list[dict[str, Any]], _: bytes) -> bytes:
        return orjson.dumps([{"id": call["id"], "result": block} for call, block in zip(calls, old, strict=True)])

    provider.fault = lag
    assert not await follower.poll()
    assert (follower.final, follower.head) == (final, head)
    provider.fault = None
    await _until_final(follower, final.block.number + 1)


def _without_number(calls: list[dict[str, Any]], answer: bytes) -> bytes:
    return answer.replace(b'"number"', b'"numero"')


def _short_data(calls: list[dict[str, Any]], answer: bytes) -> bytes:
    """Feeds cut off in the middle of a word."""
    answers = orjson.loads(answer)
    for call, one in zip(calls, answers, strict=True):
        if call["method"] == "eth_call":
            one["result"] = one["result"][:101]
    return orjson.dumps(answers)


NONSENSE = {
    "a page of HTML": lambda calls, answer: b"<html>502 Bad Gateway</html>",
    "nothing": lambda calls, answer: b"",
    "a number": lambda calls, answer: b"7",
    "an answer too few": lambda calls, answer: orjson.dumps(orjson.loads(answer)[:-1]),
    "blocks without numbers": _without_number,
    "blocks that are none": lambda calls, answer: orjson.dumps([{"id": c["id"], "result": "0x1"} for c in calls]),
    "no blocks": lambda calls, answer: orjson.dumps([{"id": c["id"], "result": None} for c in calls]),
    "an error": lambda calls, answer: orjson.dumps(
        [{"id": c["id"], "error": {"code": -32005, "message": "limit exceeded"}} for c in calls]
    ),
    "short data": _short_data,
}


@pytest.mark.parametrize("kind", NONSENSE)
async def test_nonsense_is_survived(devnet: Devnet, provider: CountingProxy, rpc: Rpc, kind: str) -> None:
    """It counts as no answer: nothing that is known changes, and afterwards all goes on."""
    follower = Follower(devnet.deployment.chains[C], rpc)
    await _until_final(follower, 1)
    final = follower.final
    provider.fault = NONSENSE[kind]
    with pytest.raises((RpcUnavailable, RpcError)):
        await _poll_on(follower)
    assert follower.final == final
    provider.fault = None
    await _until_final(follower, final.block.number + 1)


async def test_backfill_asks_for_what_the_provider_allows(
    devnet: Devnet, provider: CountingProxy, rpc: Rpc, owner: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Halving until the provider allows it, and the state is the one that is read block by block."""
    await owner.deposit(C, "USDC", 70 * USDC)
    plain = Follower(devnet.deployment.chains[C], rpc)
    await _until_final(plain, owner.last_block)
    most = 7
    refused = 0

    def limit(calls: list[dict[str, Any]], answer: bytes) -> bytes:
        nonlocal refused
        answers = orjson.loads(answer)
        for call, one in zip(calls, answers if isinstance(answers, list) else [answers], strict=True):
            if call["method"] == "eth_getLogs":
                asked = call["params"][0]
                if int(asked["toBlock"], 16) - int(asked["fromBlock"], 16) >= most:
                    one.pop("result", None)
                    one["error"] = {"code": -32005, "message": "query returned more than allowed"}
                    refused += 1
        return orjson.dumps(answers)

    provider.fault = limit
    monkeypatch.setattr(following, "_HEADERS", 3)
    limited = Follower(devnet.deployment.chains[C], rpc)
    await _until_final(limited, plain.final.block.number)
    assert refused > 0
    assert limited.log_range <= most + 1
    provider.fault = None
    await _until_final(plain, limited.final.block.number)
    assert plain.at(limited.final.block.number) == limited.final


async def test_a_halted_chain_gives_no_answer(devnet: Devnet) -> None:
    rpc = Rpc(devnet.deployment.chains[C].rpc, timeout=0.3)
    follower = Follower(devnet.deployment.chains[C], rpc)
    await _until_final(follower, 1)
    final = follower.final
    await asyncio.to_thread(devnet.halt, C)
    try:
        with pytest.raises(RpcUnavailable, match="Timeout"):
            await follower.poll()
    finally:
        await asyncio.to_thread(devnet.resume, C)
    assert follower.final == final
    await _until_final(follower, final.block.number + 1)
    await rpc.aclose()
