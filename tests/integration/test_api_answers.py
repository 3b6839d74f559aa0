"""What a running cluster answers has the form that it declares: deployments, accounts, what is live, what would be."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import pytest_asyncio
from eth_account.messages import encode_typed_data
from pydantic import BaseModel

from keeper import schema
from keeper.attest.codec import keccak
from keeper.attest.requests import permit_for, request_digest
from keeper.chain.rpc import Rpc
from keeper.client import Refused
from keeper.devnet.cluster import Cluster
from keeper.devnet.wallet import Wallet
from keeper.state.actions import Reserve, Withdraw
from keeper.state.batch import UNIT
from keeper.state.deployment import Deployment
from keeper.state.ids import Address, account_id
from keeper.state.live import PermitItem

if TYPE_CHECKING:
    from keeper.devnet import Devnet

pytestmark = [pytest.mark.devnet, pytest.mark.timeout(180)]

A, B, C = 31_337_001, 31_337_002, 31_337_003
USDC = 10**6
STRANGER = "0x" + "5a" * 20
_USERS = iter(range(37, 40))


@pytest.fixture
def http(cluster: Cluster) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=cluster.keeper.url, timeout=10.0, trust_env=False) as client:
        yield client


@pytest_asyncio.fixture
async def owner(devnet: Devnet, cluster: Cluster, rpcs: dict[int, Rpc]) -> AsyncIterator[Wallet]:
    """1,000 USDC on A, linked to B and C, in the batch that A holds."""
    async with AsyncExitStack() as open_:
        wallet = Wallet(next(_USERS), devnet.deployment, rpcs, cluster.keeper.url)
        open_.push_async_callback(wallet.aclose)
        await wallet.deposit(A, "USDC", 1_000 * USDC, [B, C])
        await wallet.link(B, [A, C])
        await wallet.link(C, [A, B])

        async def in_batch() -> bool:
            path = f"/v1/accounts/0x{wallet.account().hex()}/proof?chain="
            try:
                proofs = [await wallet.get(path + str(chain_id)) for chain_id in (A, B, C)]
            except Refused:
                return False
            return all(int(proof["leaf"]["equity"]) == 1_000 * UNIT for proof in proofs)

        await _eventually(in_batch)
        yield wallet


async def _eventually(holds: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    for _ in range(int(seconds / 0.2)):
        if await holds():
            return
        await asyncio.sleep(0.2)
    raise AssertionError(f"not within {seconds:g} s")


@pytest.mark.parametrize(
    "accounts",
    [5, None, [5], [None], [[]], ["0x" + "5a" * 20 + "/²"], ["0x" + "5a" * 20 + "/" + "9" * 5_000], ["0xzz"]],
)
def test_accounts_of_a_wrong_type_are_malformed_at_an_attestor_too(cluster: Cluster, accounts: Any) -> None:
    url = cluster.attestors[0].url + "/v1/attest/live"
    answer = httpx.post(url, json={"accounts": accounts}, trust_env=False)
    problem = schema.Problem.model_validate(answer.json())
    assert (answer.status_code, problem.code) == (422, "malformed")
    assert str(problem.field).startswith("body.accounts")
    assert len(answer.content) < 2_000


def test_the_deployment_is_the_file_and_what_one_signs_with(http: httpx.Client, devnet: Devnet) -> None:
    answer = http.get("/v1/deployment").json()
    assert Deployment.from_json(answer) == devnet.deployment
    read = schema.Deployment.model_validate(answer)
    assert read.plain() == devnet.deployment
    assert read.limits.permit_seconds == 300
    assert {entry["name"] for entry in http.get("/v1/abi/MarginVerifier").json() if entry["type"] == "function"} >= {
        "check",
        "prove",
    }
    withdraw = Withdraw(account_id(bytes(20)), devnet.deployment.chains[A].settlement.address, 5, Address(bytes(20)))
    item = PermitItem(A, permit_for(devnet.deployment, withdraw, 7, 9), withdraw, ())
    full = {
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
                {"name": "verifyingContract", "type": "address"},
            ],
            "PermitRequest": answer["types"]["PermitRequest"],
        },
        "primaryType": "PermitRequest",
        "domain": answer["domain"]["permit"][str(A)],
        "message": {
            "accountId": item.permit.account_id,
            "actionHash": item.permit.action_hash,
            "nonce": 7,
            "deadline": 9,
        },
    }
    signable = encode_typed_data(full_message=full)
    assert keccak(b"\x19" + signable.version + signable.header + signable.body) == request_digest(
        devnet.deployment, item
    )


def test_answers_have_the_form_that_the_document_declares(http: httpx.Client, cluster: Cluster) -> None:
    attestor = cluster.attestors[0].url
    paths: dict[str, type[BaseModel]] = {
        "/health": schema.Health,
        "/ready": schema.Ready,
        "/v1/status": schema.Status,
        "/v1/deployment": schema.Deployment,
        "/v1/liquidations": schema.Liquidations,
        "/v1/netting": schema.NettingFigures,
        f"/v1/marks/ETH/proof?chain={A}": schema.MarkProof,
    }
    for path, model in paths.items():
        for url in (path, attestor + path):
            _has_form(model, _answer_of(http, url))


def _answer_of(http: httpx.Client, url: str) -> Any:
    """Asked again while the chain still holds a batch of nodes that ran before these."""
    for _ in range(60):
        answer = http.get(url)
        if answer.status_code == httpx.codes.OK:
            return answer.json()
        assert answer.json()["code"] == "batch_unavailable"
        signal.sigtimedwait([], 0.5)
    raise AssertionError(answer.text)


def _has_form(model: type[BaseModel], answer: Any) -> Any:
    """Read by its model, and given back, an answer is as it was: nothing is missing and nothing undeclared."""
    read = model.model_validate(answer)
    assert read.model_dump(mode="json", by_alias=True, exclude_unset=True) == answer
    return read


# --- what is live, and what would be --------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_any_node_says_what_is_live_and_which_attestors_said_so(
    owner: Wallet, devnet: Devnet, cluster: Cluster
) -> None:
    integrator = devnet.deployment.chains[C].integrator
    assert integrator is not None
    action = Reserve(owner.account(), integrator, 5 * UNIT, 0, await owner.head_time(C) + 600)
    item = owner.signed_request(C, action, await owner.head_time(C) + 60, nonce=0)
    await owner.submit(item)
    path = f"/v1/accounts/0x{owner.account().hex()}"
    everyone = ["0x" + address.hex() for address in devnet.deployment.attestors]
    for node in (cluster.keeper, cluster.attestors[0]):
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            answer = (await client.get(node.url + path)).json()
        told = _has_form(schema.Account, answer)
        (live,) = told.live
        assert live.item == item
        assert (live.chain_id, live.until) == (C, item.permit.deadline)
        for said in ("reservation of 5 USD", f"chain {C}", str(item.permit.deadline)):
            assert said in live.description
        assert answer["liveFrom"] == everyone
        assert told.free_nonce == 1


@pytest.mark.asyncio
async def test_reservations_that_lapsed_stand_apart(owner: Wallet, devnet: Devnet) -> None:
    integrator = devnet.deployment.chains[B].integrator
    assert integrator is not None
    key = "0x" + integrator.hex()
    until = await owner.head_time(B) + 6
    await owner.use(await owner.request(B, Reserve(owner.account(), integrator, 7 * UNIT, 0, until)))

    async def holdings() -> Any:
        (entry,) = (await owner.get(f"/v1/accounts/0x{owner.account().hex()}"))["marginAccounts"]
        return entry, next(held for held in entry["holdings"] if held["chain"] == B)

    async def lapsed() -> bool:
        entry, held = await holdings()
        assert (key in held["reservations"]) == (entry["reserved"] == str(7 * UNIT))
        return key in held["lapsedReservations"]

    await _eventually(lapsed)
    entry, held = await holdings()
    assert (entry["reserved"], held["reservations"]) == ("0", {})
    assert held["lapsedReservations"][key] == {"amount": str(7 * UNIT), "cashPart": "0", "until": until}


@pytest.mark.asyncio
async def test_a_whatif_is_what_the_account_would_be(owner: Wallet, cluster: Cluster) -> None:
    changes = [
        {"kind": "trade", "asset": "ETH-PERP", "size": str(UNIT), "price": str(3_000 * UNIT), "chain": A},
        {"kind": "withdraw", "token": "USDC", "amount": str(100 * USDC), "chain": B},
        {"kind": "reserve", "amount": str(50 * UNIT)},
        {"kind": "cash", "amount": str(-UNIT)},
    ]
    asked = {"account": "0x" + owner.address.hex(), "changes": changes}
    async with httpx.AsyncClient(base_url=cluster.keeper.url, trust_env=False, timeout=10) as client:
        told = _has_form(schema.WhatIf, (await client.post("/v1/whatif", json=asked)).json())
        nobody = _has_form(schema.WhatIf, (await client.post("/v1/whatif", json={"changes": changes[:1]})).json())
    assert told.before.equity == 1_000 * UNIT
    assert told.after.usd.equity == pytest.approx(899, abs=5)
    assert told.after.reserved == 50 * UNIT
    assert told.after.initial_margin - 50 * UNIT == pytest.approx(534 * UNIT, rel=0.02)
    assert told.change_of_free == told.after.free - told.before.free
    assert told.before.binding is None
    assert told.after.binding
    assert (nobody.account_id, nobody.before.equity, nobody.after.status) == (None, 0, "liquidatable")


@pytest.mark.parametrize(
    ("asked", "status", "field"),
    [
        ({"account": STRANGER, "changes": []}, 404, "body.account"),
        ({"account": 5, "changes": []}, 422, "body.account"),
        ({"changes": [{"kind": "cash", "amount": "1"}] * 65}, 422, "body.changes"),
        ({"changes": [{"kind": "gift"}]}, 422, "body.changes.0"),
        ({"changes": [{"kind": "cash", "amount": "1e3"}]}, 422, "body.changes.0.cash.amount"),
        ({"changes": [{"kind": "cash", "amount": str(2**127)}]}, 422, "body.changes.0.amount"),
        ({"changes": [{"kind": "trade", "asset": "DOGE-PERP", "size": "1"}]}, 422, "body.changes.0.asset"),
        ({"changes": [{"kind": "trade", "asset": "ETH-PERP", "size": "0"}]}, 422, "body.changes.0.size"),
        ({"changes": [{"kind": "trade", "asset": "ETH", "size": "1", "price": "-1"}]}, 422, "body.changes.0.price"),
        ({"changes": [{"kind": "deposit", "token": "DOGE", "amount": "1", "chain": A}]}, 422, "body.changes.0.token"),
        ({"changes": [{"kind": "withdraw", "token": "WETH", "amount": "1", "chain": A}]}, 422, "body.changes"),
        ({"changes": [{"kind": "reserve", "amount": "1", "cashPart": "2"}]}, 422, "body.changes.0.cashPart"),
        ({"changes": [{"kind": "reserve", "amount": "1", "chain": 5}]}, 422, "body.changes.0.chain"),
        ({"changes": [], "chains": [5]}, 422, "body.chains"),
        ({"changes": [], "account_id": 1}, 422, "body.account_id"),
    ],
)
def test_a_whatif_that_cannot_be_says_which_field(http: httpx.Client, asked: Any, status: int, field: str) -> None:
    answer = http.post("/v1/whatif", json=asked)
    assert answer.status_code == status, answer.text
    assert answer.json()["field"] == field
