"""A provider of another chain, or of another deployment, is refused by name, serves nothing, and is taken up again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest
import pytest_asyncio

from keeper.api.app import create_app
from keeper.chain import identity
from keeper.chain.follower import DeepReorg
from keeper.chain.identity import Provider, WrongChain, check_identity
from keeper.chain.rpc import Rpc, RpcUnavailable
from keeper.chain.transactions import Sender
from keeper.devnet.chains import RELAYER, account
from keeper.devnet.cluster import Cluster
from keeper.devnet.wallet import Wallet
from keeper.node.config import ChainSection, NodeConfig
from keeper.node.node import Node
from keeper.node.view import ChainsView, NotReady
from keeper.state.deployment import ChainDeployment, Deployment
from keeper.testing.proxy import CountingProxy

if TYPE_CHECKING:
    from keeper.devnet import Devnet

pytestmark = [pytest.mark.devnet, pytest.mark.asyncio, pytest.mark.timeout(180)]

A, B, C = 31_337_001, 31_337_002, 31_337_003
USDC = 10**6
_SECONDS = 60
_USER = 60
_OTHER = bytes(range(20))


@pytest_asyncio.fixture
async def proxy(devnet: Devnet) -> AsyncIterator[CountingProxy]:
    """Stands before chain C; what is behind it can be changed."""
    async with CountingProxy(devnet.deployment.chains[C].rpc).running() as running:
        yield running


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(identity, "_LAST_PAUSE", 0.2)


def _down(calls: list[dict[str, Any]], answer: bytes) -> bytes:
    return b"<html>502 Bad Gateway</html>"


# --- what is compared -----------------------------------------------------------------------------------------------


async def test_every_chain_of_a_deployment_is_itself_and_none_of_the_others(
    devnet: Devnet, rpcs: dict[int, Rpc]
) -> None:
    for asked, rpc in rpcs.items():
        for wanted in rpcs:
            before = rpc.requests
            if asked == wanted:
                await check_identity(rpc, devnet.deployment, wanted)
            else:
                with pytest.raises(WrongChain) as refusal:
                    await check_identity(rpc, devnet.deployment, wanted)
                found = refusal.value
                assert (found.chain_id, found.chain) == (wanted, devnet.deployment.chains[wanted].name)
                assert (found.field, found.got, found.wanted) == ("eth_chainId", str(asked), str(wanted))
                assert found.provider == devnet.deployment.chains[asked].rpc.removeprefix("http://")
            assert rpc.requests - before <= 2


def _chain(change: Callable[[ChainDeployment], ChainDeployment]) -> Callable[[Deployment], Deployment]:
    return lambda deployment: replace(deployment, chains={**deployment.chains, C: change(deployment.chains[C])})


def _profile(**changes: int) -> Callable[[Deployment], Deployment]:
    return lambda deployment: replace(deployment, profile=replace(deployment.profile, **changes))


def _decimals(chain: ChainDeployment) -> ChainDeployment:
    first, *others = chain.collateral
    return replace(chain, collateral=(replace(first, decimals=first.decimals - 1), *others))


DIFFERENCES: dict[str, tuple[Callable[[Deployment], Deployment], str]] = {
    "name": (lambda d: replace(d, name="Another"), "contracts.verifier.eip712Domain().name"),
    "version": (lambda d: replace(d, version="9"), "contracts.verifier.eip712Domain().version"),
    "deployment id": (lambda d: replace(d, deployment_id=bytes(32)), "contracts.verifier.eip712Domain().salt"),
    "parameters": (lambda d: replace(d, parameters_hash=bytes(32)), "contracts.verifier.PARAMETERS_HASH()"),
    "threshold": (lambda d: replace(d, threshold=2), "contracts.verifier.THRESHOLD()"),
    "set": (lambda d: replace(d, attestor_set_id=2), "contracts.verifier.ATTESTOR_SET_ID()"),
    "an attestor": (
        lambda d: replace(d, attestors=(_OTHER, *d.attestors)),
        f"contracts.verifier.isAttestor(0x{_OTHER.hex()})",
    ),
    "epoch": (_profile(epoch_seconds=9), "contracts.verifier.EPOCH_SECONDS()"),
    "heartbeat": (_profile(heartbeat_seconds=9), "contracts.verifier.HEARTBEAT()"),
    "skew": (_profile(max_skew_seconds=9), "contracts.verifier.MAX_SKEW()"),
    "grace": (_profile(grace_seconds=9), "contracts.verifier.GRACE()"),
    "permits": (_profile(max_permit_seconds=9), "contracts.verifier.MAX_PERMIT_SECONDS()"),
    "band": (_profile(price_band=9), "contracts.clearing_house.PRICE_BAND()"),
    "fee": (_profile(fee_rate=9), "contracts.clearing_house.FEE_RATE()"),
    "flat fee": (_profile(flat_fee=9), "contracts.clearing_house.FLAT_FEE()"),
    "fund": (_profile(fund_share=9), "contracts.clearing_house.FUND_SHARE()"),
    "funding": (_profile(max_funding_rate=9), "contracts.clearing_house.MAX_FUNDING_RATE()"),
    "ramp": (_profile(ramp_seconds=9), "contracts.clearing_house.RAMP_SECONDS()"),
    "age": (_profile(max_age_seconds=9), "contracts.clearing_house.MAX_AGE()"),
    "decimals": (_chain(_decimals), "tokens.WETH.decimals()"),
    "bridge": (_chain(lambda c: replace(c, bridge=None)), "contracts.vault.BRIDGE()"),
    "code": (
        _chain(lambda c: replace(c, code_hashes={**c.code_hashes, "feeds.ETH": bytes(32)})),
        "hash of the code of feeds.ETH",
    ),
    "no code": (
        _chain(lambda c: replace(c, contracts=replace(c.contracts, lens=_OTHER))),
        f"code of contracts.lens at 0x{_OTHER.hex()}",
    ),
    "two exchanged": (
        _chain(lambda c: replace(c, contracts=replace(c.contracts, vault=c.contracts.lens, lens=c.contracts.vault))),
        "hash of the code of contracts.vault",
    ),
}


@pytest.mark.parametrize("kind", DIFFERENCES)
async def test_what_the_file_says_and_the_contracts_do_not_is_named(
    devnet: Devnet, rpcs: dict[int, Rpc], kind: str
) -> None:
    change, field = DIFFERENCES[kind]
    with pytest.raises(WrongChain) as refusal:
        await check_identity(rpcs[C], change(devnet.deployment), C)
    assert refusal.value.field == field
    assert refusal.value.got != refusal.value.wanted


async def test_a_token_at_the_wrong_decimals_in_the_vault_too(devnet: Devnet, rpcs: dict[int, Rpc]) -> None:
    """A feed in the place of a token has code, and is no token."""
    chain = devnet.deployment.chains[C]
    weth = replace(chain.collateral[0], address=chain.feeds["ETH"])
    code = {**chain.code_hashes, "tokens.WETH": chain.code_hashes["feeds.ETH"]}
    changed = replace(chain, collateral=(weth, *chain.collateral[1:]), code_hashes=code)
    with pytest.raises(WrongChain) as refusal:
        await check_identity(rpcs[C], replace(devnet.deployment, chains={C: changed}), C)
    assert refusal.value.field == "tokens.WETH.decimals()"


# --- when it is asked ------------------------------------------------------------------------------------------------


async def test_a_provider_is_asked_once_until_it_fails(devnet: Devnet, proxy: CountingProxy) -> None:
    provider = Provider(devnet.deployment, C, proxy.url, timeout=20.0)
    await asyncio.gather(*(provider.call("eth_blockNumber") for _ in range(8)))
    assert proxy.calls["eth_chainId"] == 1
    proxy.fault = _down
    with pytest.raises(RpcUnavailable, match="not JSON"):
        await provider.call("eth_blockNumber")
    proxy.fault = None
    await provider.batch([("eth_blockNumber", [])])
    await provider.batch([("eth_blockNumber", [])])
    assert proxy.calls["eth_chainId"] == 2
    await provider.aclose()


async def test_who_waits_for_the_answer_shares_it(devnet: Devnet, proxy: CountingProxy) -> None:
    """Else each would wait for a timeout of its own, one after the other."""
    provider = Provider(devnet.deployment, C, proxy.url, timeout=20.0)
    proxy.fault = _down
    answers = await asyncio.gather(*(provider.call("eth_blockNumber") for _ in range(8)), return_exceptions=True)
    assert all(isinstance(answer, RpcUnavailable) for answer in answers)
    assert (proxy.requests, proxy.calls["eth_blockNumber"]) == (1, 0)
    await provider.aclose()


async def test_a_wrong_provider_is_asked_again_with_pauses_and_nothing_is_sent_to_it(
    devnet: Devnet, proxy: CountingProxy, quick: None
) -> None:
    right, proxy.target = proxy.target, devnet.deployment.chains[B].rpc
    provider = Provider(devnet.deployment, C, proxy.url, timeout=20.0)
    sender = Sender(provider, C, account(RELAYER).key)
    token = devnet.deployment.chains[C].settlement.address
    for _ in range(20):
        with pytest.raises(WrongChain, match=f"eth_chainId is {B}, wanted {C}"):
            await sender.send(token, bytes(4))
    assert proxy.requests < 20
    assert not proxy.calls.keys() & {"eth_estimateGas", "eth_call", "eth_sendRawTransaction"}
    proxy.target = right
    async with asyncio.timeout(_SECONDS):
        while True:
            try:
                assert int(await provider.call("eth_chainId"), 16) == C
                break
            except WrongChain:
                await asyncio.sleep(0.05)
    await provider.aclose()


async def test_a_secret_in_the_url_is_in_no_message(devnet: Devnet) -> None:
    rpc = Provider(devnet.deployment, C, "http://user:secret@127.0.0.1:1/v2/secret?key=secret")
    with pytest.raises(RpcUnavailable) as refusal:
        await rpc.call("eth_blockNumber")
    assert "secret" not in str(refusal.value)
    assert "127.0.0.1:1" in str(refusal.value)
    await rpc.aclose()


# --- what a node does with it ----------------------------------------------------------------------------------------


def _config(folder: Path, devnet: Devnet, url: str, peers: dict[str, str]) -> NodeConfig:
    return NodeConfig(
        deployment=devnet.deployments_file,
        state_dir=folder,
        profile="devnet",
        chains={C: ChainSection(rpc=url, timeout_seconds=20.0)},
        peers=peers,
    )


@pytest_asyncio.fixture
async def follower(
    devnet: Devnet, cluster: Cluster, proxy: CountingProxy, tmp_path: Path, quick: None
) -> AsyncIterator[tuple[Node, httpx.AsyncClient]]:
    """A node that serves and follows the cluster, with the proxy for chain C; begun with chain B behind that."""
    proxy.target = devnet.deployment.chains[B].rpc
    peers = {"0x" + member.address.hex(): member.url for member in cluster.attestors if member.address}
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(Node(_config(tmp_path, devnet, proxy.url, peers), devnet.deployment))
        transport = httpx.ASGITransport(create_app(node))
        client = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://node"))
        running = asyncio.create_task(node.run())
        try:
            yield node, client
        finally:
            running.cancel()
            await asyncio.wait([running])


async def _until(holds: Callable[[], bool]) -> None:
    for _ in range(_SECONDS * 10):
        if holds():
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"not within {_SECONDS} s")


async def test_a_node_with_a_provider_of_another_chain_serves_nothing_until_it_is_the_right_one(
    devnet: Devnet, proxy: CountingProxy, rpcs: dict[int, Rpc], follower: tuple[Node, httpx.AsyncClient]
) -> None:
    node, client = follower
    wallet = Wallet(_USER, devnet.deployment, rpcs, "http://nobody.invalid")
    await wallet.deposit(C, "USDC", 70 * USDC)
    said = f"chain C ({C}): {proxy.url.removeprefix('http://')}: eth_chainId is {B}, wanted {C}"
    await _until(lambda: C in node.view.refused and node.view.followers[A].started and node.view.followers[B].started)
    for path in ("/ready", f"/v1/accounts/0x{wallet.account().hex()}", "/v1/netting"):
        answer = await client.get(path)
        assert answer.status_code == 503, path
        assert said in answer.text, path
    assert said == (await client.get("/v1/status")).json()["chains"][str(C)]["late"]

    proxy.target = devnet.deployment.chains[C].rpc
    await _until(lambda: not node.faults() and node.view.followers[C].final.block.number >= wallet.last_block)
    assert (await client.get("/ready")).status_code == 200
    shown = await client.get(f"/v1/accounts/0x{wallet.account().hex()}")
    assert shown.status_code == 200
    assert str(70 * 10**18) in shown.text

    # It becomes another one while the node runs, first seen to fail and then at once.
    for failing in (True, False):
        if failing:
            proxy.fault = _down
            await _until(lambda: C in node.view.errors)
        known = node.view.followers[C].final.block
        proxy.target, proxy.fault = devnet.deployment.chains[B].rpc, None
        await _until(lambda: C in node.view.refused)
        assert said in (await client.get("/ready")).json()["reasons"]
        assert node.view.followers[C].final.block.number - known.number <= 64
        with pytest.raises(NotReady, match=f"eth_chainId is {B}"):
            node.view.require_timely()
        assert {entry.chain_id for entry in node.view.cut() if entry.late} == {C}
        proxy.target = devnet.deployment.chains[C].rpc
        await _until(lambda: not node.faults())
    await wallet.aclose()


async def _until_refused(view: ChainsView) -> None:
    """Until refused once more."""
    view.refused.clear()
    async with asyncio.timeout(_SECONDS):
        while C not in view.refused:
            await view.poll(C)
            await asyncio.sleep(0.3)


async def test_another_chain_of_one_number_is_no_deep_reorganisation(
    devnet: Devnet, proxy: CountingProxy, tmp_path: Path, quick: None
) -> None:
    """The id is right and the contracts are not: refused, and the node goes on; one that really went back ends it."""
    view = ChainsView(devnet.deployment, _config(tmp_path, devnet, proxy.url, {}))
    async with asyncio.timeout(_SECONDS):
        while not view.followers[C].started:
            await view.poll(C)
            await asyncio.sleep(0.1)
    final = view.followers[C].final
    other = "0x" + "77" * 32
    codes = True

    def impostor(calls: list[dict[str, Any]], answer: bytes) -> bytes:
        answers = orjson.loads(answer)
        for call, one in zip(calls, answers if isinstance(answers, list) else [answers], strict=True):
            if call["method"] == "eth_getBlockByNumber":
                number = int(one["result"]["number"], 16)
                one["result"]["parentHash" if number > final.block.number else "hash"] = other
            if codes and call["method"] == "eth_getCode":
                one["result"] = "0x6001"
        return orjson.dumps(answers)

    proxy.fault = impostor
    await _until_refused(view)
    assert "hash of the code of contracts.history" in view.errors[C]
    assert view.followers[C].final.block.number == final.block.number
    codes = False
    with pytest.raises(DeepReorg, match=f"final block {final.block.number} was"):
        await _until_refused(view)
    await view.close()
