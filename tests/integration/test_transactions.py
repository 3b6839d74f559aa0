"""Sending on a real chain: one nonce each, refusals by name, replacement where nothing is mined."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import pytest_asyncio

from keeper.attest.signing import LocalSigner
from keeper.chain import transactions
from keeper.chain.abi import encode
from keeper.chain.rpc import Rpc, RpcError, RpcUnavailable, provider_name
from keeper.chain.transactions import NonceTaken, Sender, TransactionReverted, TransactionStuck
from keeper.devnet.chains import account
from keeper.testing.proxy import CountingProxy, Fault

if TYPE_CHECKING:
    from keeper.devnet import Devnet

pytestmark = [pytest.mark.devnet, pytest.mark.asyncio]

B = 31_337_002
_USERS = iter(range(110, 140))


@pytest_asyncio.fixture
async def provider(devnet: Devnet) -> AsyncIterator[CountingProxy]:
    async with CountingProxy(devnet.deployment.chains[B].rpc).running() as proxy:
        yield proxy


@pytest_asyncio.fixture
async def sender(provider: CountingProxy) -> AsyncIterator[Sender]:
    rpc = Rpc(provider.url, timeout=10.0)
    yield Sender(rpc, B, LocalSigner(account(next(_USERS)).key))
    await rpc.aclose()


def _token(devnet: Devnet) -> bytes:
    return bytes(devnet.deployment.chains[B].settlement.address)


def _mint(sender: Sender, amount: int = 1) -> bytes:
    return encode("DevnetToken", "mint", [sender.address, amount])


async def test_sent_at_once_they_wait_for_each_other(devnet: Devnet, sender: Sender) -> None:
    before = devnet.call(B, "eth_getTransactionCount", [sender.address, "latest"])
    receipts = await asyncio.gather(*(sender.send(_token(devnet), _mint(sender)) for _ in range(3)))
    nonces = [int(devnet.call(B, "eth_getTransactionByHash", [r.tx_hash])["nonce"], 16) for r in receipts]
    assert sorted(nonces) == [int(before, 16) + n for n in range(3)]
    assert all(receipt.gas_used > 21_000 and receipt.logs for receipt in receipts)


async def test_side_by_side_they_share_a_block_and_a_revert_among_them_takes_no_nonce(
    devnet: Devnet, sender: Sender
) -> None:
    rpc = Rpc(devnet.deployment.chains[B].rpc, timeout=10.0)
    beside = Sender(rpc, B, LocalSigner(account(next(_USERS)).key), in_flight=4)
    refused = encode("DevnetToken", "transfer", [sender.address, 10**30])
    calls = [_mint(beside), _mint(beside), refused, _mint(beside), _mint(beside)]
    try:
        outcomes = await asyncio.gather(*(beside.send(_token(devnet), call) for call in calls), return_exceptions=True)
    finally:
        await rpc.aclose()
    assert isinstance(outcomes.pop(2), TransactionReverted)
    receipts = [outcome for outcome in outcomes if isinstance(outcome, transactions.Receipt)]
    assert len(receipts) == 4
    nonces = [int(devnet.call(B, "eth_getTransactionByHash", [r.tx_hash])["nonce"], 16) for r in receipts]
    assert sorted(nonces) == [min(nonces) + n for n in range(4)]
    assert len({receipt.block_number for receipt in receipts}) < 4  # one after another each would wait for its own


async def test_a_revert_is_named_before_anything_is_sent(
    devnet: Devnet, provider: CountingProxy, sender: Sender
) -> None:
    vault = bytes(devnet.deployment.chains[B].contracts.vault)
    stranger = account(0).address + b"\0" * 12
    data = encode("CollateralVault", "link", [stranger, [1]])
    for attempt in (sender.simulate, sender.send):
        with pytest.raises(TransactionReverted, match="NotOwner") as caught:
            await attempt(vault, data)
        assert caught.value.revert.arguments["accountId"] == stranger
        assert not caught.value.mined
    assert provider.calls["eth_sendRawTransaction"] == 0


async def test_who_comes_second_to_what_is_pending_sends_nothing(devnet: Devnet, sender: Sender) -> None:
    """CM-42: of two bids for one leg the second costs no gas, once the first is known to the provider."""
    rpc = Rpc(devnet.deployment.chains[B].rpc, timeout=10.0)
    owner, rival = (Sender(rpc, B, LocalSigner(account(next(_USERS)).key)) for _ in range(2))
    try:
        await owner.send(_token(devnet), _mint(owner, 100))
        for spender in (sender, rival):
            await owner.send(_token(devnet), encode("DevnetToken", "approve", [spender.address, 100]))
        before, sent = await _count(rpc, rival, "latest"), await _count(rpc, sender, "latest")
        takes = {
            who: encode("DevnetToken", "transferFrom", [owner.address, who.address, 100]) for who in (sender, rival)
        }
        first = asyncio.create_task(rival.send(_token(devnet), takes[rival]))
        async with asyncio.timeout(10):
            while await _count(rpc, rival, "pending") == before:  # noqa: ASYNC110  a chain tells nobody
                await asyncio.sleep(0.01)
        with pytest.raises(TransactionReverted, match="ERC20InsufficientBalance") as reverted:
            await sender.send(_token(devnet), takes[sender], contested=True)
        assert not reverted.value.mined
        await first
        assert await _count(rpc, sender, "pending") == sent
    finally:
        await rpc.aclose()


async def _count(rpc: Rpc, sender: Sender, tag: str) -> int:
    return int(await rpc.call("eth_getTransactionCount", [sender.address, tag]), 16)


async def test_a_key_without_money_says_so(devnet: Devnet, provider: CountingProxy) -> None:
    rpc = Rpc(provider.url, timeout=10.0)
    poor = Sender(rpc, B, LocalSigner(b"\7" * 32))
    with pytest.raises(RpcError, match=r"(?i)insufficient funds"):
        await poor.send(_token(devnet), _mint(poor))
    await rpc.aclose()


async def test_replaced_until_it_is_mined(
    devnet: Devnet, provider: CountingProxy, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No blocks for a while: the same nonce with higher fees, and one of them is mined, once."""
    monkeypatch.setattr(transactions, "_REPLACE_SECONDS", 0.5)
    monkeypatch.setattr(transactions, "_ATTEMPTS", 20)
    count = int(devnet.call(B, "eth_getTransactionCount", [sender.address, "latest"]), 16)
    thrice = asyncio.Event()

    def watch(_: list[dict[str, Any]], answer: bytes) -> bytes:
        if provider.calls["eth_sendRawTransaction"] >= 3:
            thrice.set()
        return answer

    provider.fault = watch
    devnet.call(B, "evm_setIntervalMining", [0])
    try:
        sending = asyncio.create_task(sender.send(_token(devnet), _mint(sender, 5)))
        async with asyncio.timeout(30):
            await thrice.wait()
    finally:
        devnet.call(B, "evm_setIntervalMining", [1])
    receipt = await sending
    mined = devnet.call(B, "eth_getTransactionByHash", [receipt.tx_hash])
    assert int(mined["nonce"], 16) == count
    assert int(devnet.call(B, "eth_getTransactionCount", [sender.address, "latest"]), 16) == count + 1
    assert int(mined["maxPriorityFeePerGas"], 16) > 10**9  # one of the replacements


async def test_given_up_after_every_replacement(
    devnet: Devnet, provider: CountingProxy, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "_REPLACE_SECONDS", 0.3)
    count = int(devnet.call(B, "eth_getTransactionCount", [sender.address, "latest"]), 16)
    devnet.call(B, "evm_setIntervalMining", [0])
    try:
        with pytest.raises(TransactionStuck, match=rf"chain {B}: nonce {count} is not mined at \d+ wei per gas"):
            await sender.send(_token(devnet), _mint(sender))
    finally:
        devnet.call(B, "evm_setIntervalMining", [1])
    assert provider.calls["eth_sendRawTransaction"] == 4
    # The next one finds it at its nonce, offers more than it, and takes its place.
    receipt = await sender.send(_token(devnet), _mint(sender))
    assert int(devnet.call(B, "eth_getTransactionByHash", [receipt.tx_hash])["nonce"], 16) == count


@pytest.mark.parametrize("method", ["eth_estimateGas", "eth_getBlockByNumber", "eth_getTransactionReceipt"])
async def test_nonsense_is_no_answer(devnet: Devnet, provider: CountingProxy, sender: Sender, method: str) -> None:
    """It ends this sending with the provider's name, not the node; the next one goes through."""

    def nonsense(calls: list[dict[str, Any]], answer: bytes) -> bytes:
        found = orjson.loads(answer)
        for call, one in zip(calls, found if isinstance(found, list) else [found], strict=True):
            if call["method"] == method:
                one["result"] = "nonsense"
        return orjson.dumps(found)

    provider.fault = nonsense
    with pytest.raises(RpcUnavailable, match=f"{provider_name(provider.url)}: malformed answer"):
        await sender.send(_token(devnet), _mint(sender))
    provider.fault = None
    await sender.send(_token(devnet), _mint(sender))


def _refusing(message: str, times: int) -> Fault:
    """Answers the first `times` submissions with an error."""
    left = [times]

    def refuse(calls: list[dict[str, Any]], answer: bytes) -> bytes:
        if calls[0]["method"] != "eth_sendRawTransaction" or not left[0]:
            return answer
        left[0] -= 1
        return orjson.dumps({"jsonrpc": "2.0", "id": calls[0]["id"], "error": {"code": -32000, "message": message}})

    return refuse


async def test_the_chain_says_what_tip_it_wants(devnet: Devnet, provider: CountingProxy, sender: Sender) -> None:
    """A chain whose producers take no less than 30 gwei: it is asked, and believed up to the cap."""

    def dear(calls: list[dict[str, Any]], answer: bytes) -> bytes:
        if calls[0]["method"] != "eth_maxPriorityFeePerGas":
            return answer
        return orjson.dumps({"jsonrpc": "2.0", "id": calls[0]["id"], "result": hex(30 * 10**9)})

    provider.fault = dear
    receipt = await sender.send(_token(devnet), _mint(sender))
    assert _offered(devnet, receipt.tx_hash) == 30 * 10**9


async def test_a_node_that_names_its_minimum_gets_it(devnet: Devnet, provider: CountingProxy, sender: Sender) -> None:
    provider.fault = _refusing("transaction underpriced: gas tip cap 1000000000, minimum needed 90000000000", 1)
    receipt = await sender.send(_token(devnet), _mint(sender))
    assert _offered(devnet, receipt.tx_hash) == 90 * 10**9


async def test_what_another_process_left_at_the_nonce_is_outbid(
    devnet: Devnet, provider: CountingProxy, sender: Sender
) -> None:
    usual = int(devnet.call(B, "eth_maxPriorityFeePerGas"), 16)
    provider.fault = _refusing("ReplacementNotAllowed, existing transaction pays more", 3)
    receipt = await sender.send(_token(devnet), _mint(sender))
    assert _offered(devnet, receipt.tx_hash) > 1.9 * usual


@pytest.mark.parametrize("message", ["AlreadyKnown", "Known transaction"])
async def test_a_refusal_of_what_was_taken_is_no_failure(
    devnet: Devnet, provider: CountingProxy, sender: Sender, message: str
) -> None:
    """The provider took it and says that it has it: whatever its words, the receipt tells."""

    def known(calls: list[dict[str, Any]], answer: bytes) -> bytes:
        if calls[0]["method"] != "eth_sendRawTransaction":
            return answer
        return orjson.dumps({"jsonrpc": "2.0", "id": calls[0]["id"], "error": {"code": -32000, "message": message}})

    provider.fault = known
    assert (await sender.send(_token(devnet), _mint(sender))).gas_used > 21_000


async def test_a_cap_that_is_refused_is_said(devnet: Devnet, provider: CountingProxy) -> None:
    rpc = Rpc(provider.url, timeout=10.0)
    frugal = Sender(rpc, B, LocalSigner(account(next(_USERS)).key), max_fee=4 * 10**9)
    provider.fault = _refusing("transaction underpriced: gas tip cap 1000000000, minimum needed 25000000000", 99)
    with pytest.raises(RpcError, match="minimum needed 25000000000"):
        await frugal.send(_token(devnet), _mint(frugal))
    await rpc.aclose()


async def test_a_nonce_that_another_took_is_named(devnet: Devnet, provider: CountingProxy, sender: Sender) -> None:
    """Two processes with one key by mistake: who comes second learns that nothing of his was mined."""
    rpc = Rpc(devnet.deployment.chains[B].rpc, timeout=10.0)
    other = Sender(rpc, B, sender._signer)

    def behind(calls: list[dict[str, Any]], answer: bytes) -> bytes:
        found = orjson.loads(answer)
        if calls[0]["method"] == "eth_getTransactionCount" and len(calls) == 2 and "ByNumber" in calls[1]["method"]:
            found[0]["result"] = hex(int(found[0]["result"], 16) - 1)
        return orjson.dumps(found)

    await other.send(_token(devnet), _mint(sender))
    provider.fault = behind
    with pytest.raises(NonceTaken, match="took nonce"):
        await sender.send(_token(devnet), _mint(sender))
    await rpc.aclose()


def _offered(devnet: Devnet, tx_hash: str) -> int:
    return int(devnet.call(B, "eth_getTransactionByHash", [tx_hash])["maxPriorityFeePerGas"], 16)
