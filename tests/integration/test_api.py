"""A running cluster as its users meet it: statuses, refusals, proofs that chains take, commands, a chain that stops."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio

from keeper import schema
from keeper.attest.codec import to_abi, to_tuple
from keeper.chain.rpc import Rpc
from keeper.client import Refused
from keeper.devnet.cluster import Cluster
from keeper.devnet.reader import ChainReader
from keeper.devnet.wallet import Wallet, trade
from keeper.state.actions import Move, Reserve, Withdraw
from keeper.state.batch import UNIT, MarginLeaf
from keeper.state.ids import ZERO32, AccountId, AssetId, perpetual
from keeper.state.wire import from_json, to_json

if TYPE_CHECKING:
    from keeper.devnet import Devnet

pytestmark = [pytest.mark.devnet, pytest.mark.timeout(180)]

A, B, C = 31_337_001, 31_337_002, 31_337_003
USDC = 10**6
STRANGER = "0x" + "5a" * 20
_USERS = iter(range(30, 37))


@pytest.fixture
def http(cluster: Cluster) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=cluster.keeper.url, timeout=10.0, trust_env=False) as client:
        yield client


@pytest_asyncio.fixture
async def owner(devnet: Devnet, cluster: Cluster, rpcs: dict[int, Rpc]) -> AsyncIterator[Wallet]:
    """1,000 USDC on A, linked to B and C, in the batches that the chains hold."""
    async with AsyncExitStack() as open_:
        wallet = Wallet(next(_USERS), devnet.deployment, rpcs, cluster.keeper.url)
        open_.push_async_callback(wallet.aclose)
        await wallet.deposit(A, "USDC", 1_000 * USDC, [B, C])
        await wallet.link(B, [A, C])
        await wallet.link(C, [A, B])
        await _eventually(lambda: _has_margin(wallet))
        yield wallet


async def _eventually(holds: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    for _ in range(int(seconds / 0.2)):
        if await holds():
            return
        await asyncio.sleep(0.2)
    raise AssertionError(f"not within {seconds:g} s")


async def _has_margin(wallet: Wallet) -> bool:
    """The batch that each chain holds has the account's leaf there with its equity."""
    path = f"/v1/accounts/0x{wallet.account().hex()}/proof?chain="
    try:
        proofs = [await wallet.get(path + str(chain_id)) for chain_id in (A, B, C)]
    except Refused:
        return False
    return all(int(proof["leaf"]["equity"]) == 1_000 * UNIT for proof in proofs)


def _until_ready(cluster: Cluster) -> None:
    _until(cluster, lambda answers: not any(answers.values()))


def _until(cluster: Cluster, holds: Any, seconds: float = 60) -> dict[str, list[str]]:
    """Poll every node's /ready until `holds` of the reasons by node."""
    answers: dict[str, list[str]] = {}
    with httpx.Client(timeout=5.0, trust_env=False) as client:
        for _ in range(int(seconds / 0.25)):
            answers = {name: client.get(node.url + "/ready").json()["reasons"] for name, node in cluster.nodes.items()}
            if holds(answers):
                return answers
            signal.sigtimedwait([], 0.25)
    raise AssertionError(answers)


def _keeper(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "keeper", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"COLUMNS": "120"},
    )


# --- reading --------------------------------------------------------------------------------------------------------


def test_health_ready_and_status(http: httpx.Client, cluster: Cluster) -> None:
    assert http.get("/health").json() == {"status": "alive", "name": "keeper"}
    ready = http.get("/ready")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "reasons": []})
    status = http.get("/v1/status").json()
    assert sorted(status["chains"]) == [str(A), str(B), str(C)]
    assert status["batch"]["signatures"] >= 3
    assert status["batch"]["lateChains"] == []
    attestor = httpx.get(cluster.attestors[0].url + "/v1/status", trust_env=False).json()["attestor"]
    assert (attestor["threshold"], attestor["attestors"]) == (3, 4)


@pytest.mark.parametrize(
    ("path", "code", "says"),
    [
        (f"/v1/accounts/{STRANGER}", 404, f"no chain knows account {STRANGER}"),
        ("/v1/accounts/0x1234", 422, "an account id has 32 bytes or an owner's 20, got 2"),
        (f"/v1/accounts/{STRANGER}/proof?chain=1", 404, "no chain 1"),
        (f"/v1/accounts/{STRANGER}/proof?chain={A}", 404, "no leaf on chain"),
        (f"/v1/accounts/{STRANGER}/proof?chain=-1", 422, "query.chain"),
        (f"/v1/accounts/{STRANGER}/proof?chain=1e30", 422, "query.chain"),
        (f"/v1/accounts/{STRANGER}/proof?chain=18446744073709551616", 422, "query.chain"),
        (f"/v1/accounts/{'5a' * 30_000}", 422, "path.account"),
        ("/v1/accounts/%F0%9F%A6%94", 422, "path.account"),
        ("/v1/batches/9223372036854775808", 422, "path.epoch"),
        ("/v1/batches/9223372036854775807", 404, "9223372036854775807"),
        ("/v1/batches/-1", 422, "path.epoch"),
        ("/v1/batches/latest?after=9223372036854775808", 422, "query.after"),
        ("/v1/abi/Owned", 404, "MarginVerifier"),
        (f"/v1/accounts/{STRANGER}/proof?chain=three", 422, "query.chain"),
        (f"/v1/accounts/{STRANGER}/proof", 422, "query.chain"),
        (f"/v1/marks/DOGE/proof?chain={A}", 404, "no mark"),
        (f"/v1/marks/0xzz/proof?chain={A}", 422, "0xzz"),
        ("/v1/batches/1", 404, "1"),
        ("/v1/attest/batch", 404, "no route"),
        ("/v1/permits", 405, "takes POST"),
    ],
)
def test_what_is_not_there_is_said(http: httpx.Client, path: str, code: int, says: str) -> None:
    answer = http.get(path)
    assert answer.status_code == code
    problem = schema.Problem.model_validate(answer.json())
    assert says in f"{problem.field} {problem.message} {problem.wanted}"
    assert len(answer.content) < 2_000


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        (b"{", 422, "not JSON"),
        (b"[]", 422, "wanted an object"),
        (b"{}", 422, "chainId: missing"),
        (b'{"chainId": "x"}', 422, "wanted an integer, got 'x'"),
        (b'{"chain": 1}', 422, "unknown field 'chain'"),
        (b" " * (8 * 1024 * 1024 + 1), 413, "at most 8388608"),
    ],
)
def test_malformed_requests_say_which_field(http: httpx.Client, body: bytes, code: int, says: str) -> None:
    answer = http.post("/v1/permits", content=body)
    assert answer.status_code == code
    problem = schema.Problem.model_validate(answer.json())
    assert says in problem.message
    assert problem.code == ("too_large" if code == 413 else "malformed")
    assert problem.field


@pytest.mark.asyncio
async def test_cm06_a_proof_from_the_api_is_checked_by_every_chain(owner: Wallet, devnet: Devnet) -> None:
    for chain_id, chain in devnet.deployment.chains.items():
        answer = await owner.get(f"/v1/accounts/0x{owner.account().hex()}/proof?chain={chain_id}")
        leaf = from_json(MarginLeaf, answer["leaf"])
        proof = [bytes.fromhex(node[2:]) for node in answer["proof"]]
        rpc = Rpc(chain.rpc, timeout=10.0)
        try:
            reader = ChainReader(chain, rpc)
            verifier = chain.contracts.verifier
            checked = await reader.call("MarginVerifier", verifier, "check", [to_abi(leaf), proof, 60, 60])
        finally:
            await rpc.aclose()
        assert (leaf.chain_id, leaf.equity) == (chain_id, 1_000 * UNIT)
        assert (checked[0], checked[1]) == (True, leaf.equity)
        told = schema.AccountProof.model_validate(answer)
        assert told.model_dump(mode="json", by_alias=True) == answer
        assert told.call() == (to_tuple(leaf), proof)
        assert answer["arguments"] == [
            ["0x" + leaf.account_id.hex(), *map(str, to_tuple(leaf)[1:])],
            answer["proof"],
        ]


# --- permits --------------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_refusal_says_what_was_free_what_was_asked_and_what_else_is_live(owner: Wallet, devnet: Devnet) -> None:
    integrator = devnet.deployment.chains[C].integrator
    assert integrator is not None
    until = await owner.head_time(C) + 600
    held = await owner.request(C, Reserve(owner.account(), integrator, 900 * UNIT, 0, until))
    with pytest.raises(Refused) as refused:
        await owner.request(B, Reserve(owner.account(), integrator, 200 * UNIT, 0, until))
    answer = refused.value.problem.to_json()
    assert answer["code"] == "insufficient_free_margin"
    assert "free margin would be -100.00 USD" in answer["message"]
    assert (answer["details"]["free"], answer["details"]["asked"]) == (str(100 * UNIT), str(200 * UNIT))
    assert answer["details"]["equity"] == str(1_000 * UNIT)
    assert len(answer["details"]["live"]) == 1
    assert "900" in answer["details"]["live"][0]
    await owner.use(held)  # and the first one holds


@pytest.mark.asyncio
async def test_one_nonce_is_one_permit_within_its_time(owner: Wallet, cluster: Cluster) -> None:
    token = owner.deployment.chains[A].settlement.address
    action = Withdraw(owner.account(), token, 10 * USDC, owner.address)
    item = owner.signed_request(A, action, await owner.head_time(A) + 60)
    first = await owner.submit(item)
    again = await owner.submit(item, cluster.attestors[1].url)
    assert first.item == again.item
    await owner.use(again)
    # Seen by the chain's head, or by the journal.
    with pytest.raises(Refused, match=r"nonce_used|nonce_conflict"):
        await owner.submit(owner.signed_request(A, action, item.permit.deadline + 1, item.permit.nonce))
    for seconds in (-5, 10_000):
        with pytest.raises(Refused) as refused:
            await owner.submit(owner.signed_request(A, action, await owner.head_time(A) + seconds))
        assert refused.value.code == "deadline"


# --- commands -------------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_commands_show_and_fail_in_one_line(cluster: Cluster, devnet: Devnet, owner: Wallet) -> None:
    state = str(devnet.folder)
    shown = await asyncio.to_thread(_keeper, "status", "--state", state)
    assert shown.returncode == 0, shown.stderr
    assert "keeper (liquidate, relay, serve): ready" in shown.stdout
    account = await asyncio.to_thread(_keeper, "account", "0x" + owner.address.hex(), "--state", state)
    assert "healthy" in account.stdout
    assert "cash 1,000.00" in account.stdout
    for arguments, says in (
        (("account", "0x12", "--state", state), "an account id has 32 bytes"),
        (("account", STRANGER, "--state", state), f"not_found: no chain knows account {STRANGER}"),
        (("status", "--node", "http://127.0.0.1:1"), "no answer from http://127.0.0.1:1"),
        (("run", "--config", "nowhere.toml"), "no configuration file at nowhere.toml"),
    ):
        failed = await asyncio.to_thread(_keeper, *arguments)
        assert failed.returncode == 1, arguments
        assert failed.stdout == ""
        assert failed.stderr.startswith(f"keeper: {says}"), failed.stderr
        assert len(failed.stderr.splitlines()) == 1


def test_a_second_process_on_a_journal_is_refused(cluster: Cluster) -> None:
    """CM-13: two processes with one key could sign twice."""
    second = _keeper("run", "--config", str(cluster.attestors[0].config))
    assert second.returncode == 1
    assert second.stderr.startswith("keeper: ")
    assert "journal.db" in second.stderr
    assert len(second.stderr.splitlines()) == 1
    _until_ready(cluster)


def test_a_configuration_with_unknown_keys_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(cluster.keeper.config.read_text() + "\nmax_leverge = 3\n")
    refused = _keeper("run", "--config", str(config), "--check")
    assert refused.returncode == 1
    assert "max_leverge" in refused.stderr


def test_interrupted_a_node_ends_at_once_and_well(cluster: Cluster) -> None:
    node = cluster.attestors[3]
    process = node.process
    assert process is not None
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    cluster.start(node.name)
    _until_ready(cluster)


# --- isolated accounts ---------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_cash_and_positions_move_to_an_isolated_account_and_count_there(
    owner: Wallet, devnet: Devnet, cluster: Cluster, rpcs: dict[int, Rpc]
) -> None:
    """By permits judged for both accounts, executed on chain; what is not free may not leave."""
    eth = perpetual("ETH")
    isolated = owner.account(1)
    await owner.use(await owner.request(A, Move(owner.account(), isolated, ZERO32, 400 * UNIT)))
    await _eventually(lambda: _has(owner, isolated, 400))
    with pytest.raises(Refused) as refused:
        await owner.request(A, Move(owner.account(), isolated, ZERO32, 601 * UNIT))
    assert refused.value.code == "insufficient_free_margin"
    async with AsyncExitStack() as open_:
        maker = Wallet(next(_USERS), devnet.deployment, rpcs, cluster.keeper.url)
        open_.push_async_callback(maker.aclose)
        await maker.deposit(A, "USDC", 1_000 * USDC)
        await _eventually(lambda: _in_batch(maker, 1_000))
        await trade(maker, owner, A, eth, UNIT // 10, 3_000 * UNIT)
    await _eventually(lambda: _holds(owner, owner.account(), eth, UNIT // 10))
    await owner.use(await owner.request(A, Move(owner.account(), isolated, eth, UNIT // 10)))
    await _eventually(lambda: _holds(owner, isolated, eth, UNIT // 10))
    (entry,) = (await owner.get(f"/v1/accounts/0x{isolated.hex()}"))["marginAccounts"]
    # 0.1 ETH at 3,000: 45 of scenarios and 8.4 of the notional; paid for at its mark.
    assert entry["usd"]["initialMargin"] == pytest.approx(53.4, abs=1e-5)
    assert entry["usd"]["equity"] == pytest.approx(400, abs=1e-5)
    assert entry["explain"]["liquidationPrices"]["ETH"]["below"] is None


async def _in_batch(wallet: Wallet, usd: int) -> bool:
    """A quorum knows the account with this equity on A, not this node alone."""
    try:
        proof = await wallet.get(f"/v1/accounts/0x{wallet.account().hex()}/proof?chain={A}")
    except Refused:
        return False
    return int(proof["leaf"]["equity"]) == usd * UNIT


async def _has(wallet: Wallet, account: AccountId, usd: int) -> bool:
    return any(entry["usd"]["equity"] == usd for entry in await _margins(wallet, account))


async def _holds(wallet: Wallet, account: AccountId, asset: AssetId, size: int) -> bool:
    held = [holding for entry in await _margins(wallet, account) for holding in entry["holdings"]]
    return any(int(holding["positions"].get("0x" + asset.hex(), 0)) == size for holding in held)


async def _margins(wallet: Wallet, account: AccountId) -> list[dict[str, Any]]:
    try:
        return list((await wallet.get(f"/v1/accounts/0x{account.hex()}"))["marginAccounts"])
    except Refused:
        return []


# --- a chain that stops ---------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_with_a_chain_late_nothing_is_permitted_and_the_node_says_which(
    owner: Wallet, devnet: Devnet, cluster: Cluster
) -> None:
    token = devnet.deployment.chains[A].settlement.address
    # No more blocks, but its provider goes on answering: all nodes come to the same final block. (Were it stopped, two
    # nodes could be left with one final block and two with another, and no three would sign until it answers again.)
    await asyncio.to_thread(devnet.call, C, "evm_setIntervalMining", [0])
    try:
        reasons = await asyncio.to_thread(_until, cluster, lambda answers: all(map(_names_c, answers.values())))
        assert all(f"chain C ({C}): head is" in " ".join(lines) for lines in reasons.values())
        with pytest.raises(Refused) as refused:
            await owner.request(A, Withdraw(owner.account(), token, USDC, owner.address))
        assert refused.value.code == "chain_late"
        assert f"chain C ({C})" in str(refused.value)

        async def flagged() -> bool:
            return bool((await owner.get("/v1/status"))["batch"]["lateChains"] == [C])

        await _eventually(flagged)  # batches go on
    finally:
        await asyncio.to_thread(devnet.call, C, "evm_setIntervalMining", [1])
    await asyncio.to_thread(_until_ready, cluster)
    await owner.use(await owner.request(A, Withdraw(owner.account(), token, USDC, owner.address)))


def _names_c(reasons: list[str]) -> bool:
    return any(f"chain C ({C})" in reason for reason in reasons)


def test_a_permit_survives_json() -> None:
    """Amounts leave as strings, so that no reader loses a digit; either form is read."""
    leaf = MarginLeaf(bytes(32), C, 7, 2**60, 0)  # type: ignore[arg-type]
    written = to_json(leaf)
    assert written == {
        "accountId": "0x" + "00" * 32,
        "chainId": C,
        "equity": "7",
        "initialMargin": str(2**60),
        "maintenanceMargin": "0",
        "escapeLimit": "0",
    }
    assert from_json(MarginLeaf, written) == leaf
    assert from_json(MarginLeaf, {**written, "equity": 7}) == leaf
