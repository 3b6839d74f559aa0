"""The client without chains: what it signs, whom it believes, how it asks again."""

from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
import sys
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pytest
from attestors import PANEL, SIGNERS
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils.crypto import keccak
from scripted_node import HANGS, scripted
from worlds import ETH, A, B

from keeper.attest.requests import order_digest, permit_digest, request_digest
from keeper.attest.signatures import recover
from keeper.attest.signing import order_typed_data, request_for, request_typed_data
from keeper.client import (
    AsyncClient,
    Client,
    ClientError,
    LocalSigner,
    Refused,
    Unavailable,
    _reads,
)
from keeper.client._acts import Acts
from keeper.client._sync import Drafts
from keeper.state.actions import Action, Move, Order, Reserve, Takeover, Unlink, Withdraw
from keeper.state.ids import ZERO32, Address, account_id
from keeper.state.live import PermitItem

KEY = keccak(text="an owner")
OWNER = LocalSigner(KEY)
ME = account_id(OWNER.address)
OTHER = Address(b"\x0e" * 20)
NODE = "http://127.0.0.1:9"
NOW = 1_800_000_000
LEAVING = Withdraw(ME, PANEL.chains[A].settlement.address, 5_000_000, OWNER.address)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def client_of(url: str, **options: Any) -> AsyncClient:
    return AsyncClient.from_deployment(PANEL, url, **{"signer": KEY, "timeout": 5.0, **options})


def quorum(item: PermitItem, signers: list[LocalSigner]) -> str:
    digest = permit_digest(PANEL, item)
    return "0x" + b"".join(signer.sign(digest) for signer in signers).hex()


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_reads, "_PAUSE_SECONDS", 0.0)


# --- what is signed ------------------------------------------------------------------------------------------------


def wallet_digest(typed: dict[str, Any]) -> bytes:
    """What eth_account signs when it is given the JSON that is printed for a wallet."""
    read = json.loads(json.dumps(typed))
    message = encode_typed_data(full_message=read)
    return bytes(keccak(b"\x19" + message.version + message.header + message.body))


@pytest.mark.parametrize(
    "action",
    [
        LEAVING,
        Reserve(ME, OTHER, 500 * 10**18, 10**18, NOW),
        Reserve(ME, OTHER, 500 * 10**18, 10**18, NOW, OTHER),
        Takeover(ME, account_id(OTHER), ETH, 10**18),
        Move(ME, account_id(OWNER.address, 1), ZERO32, 7),
        Move(ME, account_id(OWNER.address, 1), ETH, -(10**18)),
        Unlink(ME, B),
    ],
)
def test_a_wallet_signs_what_the_attestors_check_for_requests(action: Action) -> None:
    item = request_for(PANEL, A, action, NOW, 2**255)
    assert wallet_digest(request_typed_data(PANEL, item)) == request_digest(PANEL, item)


@pytest.mark.parametrize("size", [10**18, -(2**100)])
def test_a_wallet_signs_what_the_attestors_check_for_orders(size: int) -> None:
    order = Order(ME, ETH, size, 3_000 * 10**18, 10**18, 2**200, NOW, OTHER)
    assert wallet_digest(order_typed_data(PANEL, A, order)) == order_digest(PANEL, A, order)


def test_a_request_is_signed_by_its_owner() -> None:
    async def work() -> None:
        async with client_of(NODE) as client:
            item = await client.request("A", LEAVING, deadline=NOW)
            assert recover(request_digest(PANEL, item), item.signatures[0]) == OWNER.address
            assert item.permit.deadline == NOW
            typed = await client.request_typed_data(item)
            signed = Account.sign_typed_data(KEY, full_message=typed)
            assert bytes(signed.signature) == item.signatures[0]

    run(work())


# --- permits: whom it believes, and how it asks again --------------------------------------------------------------


def test_a_quorum_over_exactly_this_request_is_believed() -> None:
    async def work() -> None:
        async with client_of(NODE) as offline:
            item = await offline.request("A", LEAVING, deadline=NOW)
        async with scripted((200, {"signatures": quorum(item, SIGNERS[:3])})) as node, client_of(node.url) as client:
            permit = await client.ask(item)
            assert permit.item == item
            assert len(node.asked) == 1
            assert node.asked[0][:2] == ("POST", "/v1/permits")

    run(work())


@pytest.mark.parametrize(
    "lie",
    [
        "too few",
        "of another request",
        "of strangers",
        "no signatures",
        "no object",
        "no hexadecimal",
    ],
)
def test_signatures_that_are_no_quorums_are_no_answer(lie: str) -> None:
    async def work() -> None:
        async with client_of(NODE) as offline:
            item = await offline.request("A", LEAVING, deadline=NOW)
        other = replace(item, permit=replace(item.permit, nonce=item.permit.nonce + 1))
        strangers = sorted((LocalSigner(bytes([n]) * 32) for n in (1, 2, 3)), key=lambda each: each.address)
        answers: dict[str, Any] = {
            "too few": {"signatures": quorum(item, SIGNERS[:2])},
            "of another request": {"signatures": quorum(other, SIGNERS[:3])},
            "of strangers": {"signatures": quorum(item, strangers)},
            "no signatures": {},
            "no object": ["0x"],
            "no hexadecimal": {"signatures": "0xzz"},
        }
        async with scripted((200, answers[lie])) as node, client_of(node.url, attempts=2) as client:
            with pytest.raises(Unavailable, match="no permit"):
                await client.ask(item)
            assert len(node.asked) == 2

    run(work())


@pytest.mark.parametrize(
    "first",
    [
        (200, b"<html>gateway</html>"),
        (500, {"code": "internal", "message": "a fault"}),
        (503, {"code": "no_attestor", "message": "no attestor answers"}),
        (502, b"<html>bad gateway</html>"),
        (409, {"code": "no_quorum", "message": "two signed", "details": {"refusals": [{"code": "chain_late"}]}}),
    ],
)
def test_the_same_request_is_sent_again_until_it_is_answered(first: tuple[int, Any]) -> None:
    async def work() -> None:
        async with client_of(NODE) as offline:
            item = await offline.request("A", LEAVING, deadline=NOW)
        good = (200, {"signatures": quorum(item, SIGNERS[1:])})
        async with scripted(first, first, good) as node, client_of(node.url) as client:
            assert (await client.ask(item)).item == item
            assert len(node.asked) == 3
            assert node.asked[0] == node.asked[1] == node.asked[2]

    run(work())


def test_a_node_that_hangs_is_given_up_and_asked_again() -> None:
    async def work() -> None:
        async with client_of(NODE) as offline:
            item = await offline.request("A", LEAVING, deadline=NOW)
        good = (200, {"signatures": quorum(item, SIGNERS[:3])})
        async with scripted(HANGS, good) as node, client_of(node.url, timeout=0.5) as client:
            assert (await client.ask(item)).item == item
            assert len(node.asked) == 2
        async with scripted(HANGS) as node, client_of(node.url, timeout=0.2, attempts=2) as client:
            with pytest.raises(Unavailable, match=r"no answer within 0\.2 s"):
                await client.ask(item)

    run(work())


def test_a_refusal_is_final_where_nobody_signed() -> None:
    told = {
        "code": "insufficient_free_margin",
        "message": "free 3, asked 5",
        "field": "action.amount",
        "got": "5",
        "wanted": "at most 3",
        "unit": "USD",
        "details": {"free": "3"},
    }

    async def work() -> None:
        async with scripted((409, told)) as node, client_of(node.url) as client:
            with pytest.raises(Refused) as refused:
                await client.permit("A", LEAVING, deadline=NOW)
            assert len(node.asked) == 1
            assert refused.value.code == "insufficient_free_margin"
            assert refused.value.problem.to_json() == told

    run(work())


def test_refusals_of_some_are_raised_after_the_last_attempt() -> None:
    told = {"code": "no_quorum", "message": "one signed", "details": {"refusals": []}}

    async def work() -> None:
        async with scripted((409, told)) as node, client_of(node.url, attempts=3) as client:
            with pytest.raises(Refused, match="no_quorum: one signed"):
                await client.permit("A", LEAVING, deadline=NOW)
            assert len(node.asked) == 3

    run(work())


def test_answers_of_another_form_or_subject_are_no_answers() -> None:
    leaf = {
        "accountId": "0x" + account_id(OTHER).hex(),
        "chainId": A,
        "equity": "1",
        "initialMargin": "0",
        "maintenanceMargin": "0",
        "escapeLimit": "0",
    }
    proof = {"epoch": 1, "timestamp": NOW, "leaf": leaf, "proof": ["0x" + "11" * 32]}
    broken = [{**proof, "proof": ["0x11"]}, {**proof, "leaf": {**leaf, "equity": str(2**300)}}, {}, [], None]

    async def work() -> None:
        async with scripted((200, proof)) as node, client_of(node.url) as client:
            with pytest.raises(Unavailable, match="another account"):
                await client.proof(chain="A")
            found = await client.proof("0x" + OTHER.hex(), chain="A")
            assert found.arguments == ((account_id(OTHER), A, 1, 0, 0, 0), [b"\x11" * 32])
        for answer in broken:
            async with scripted((200, answer)) as node, client_of(node.url) as client:
                with pytest.raises(Unavailable, match="no proof"):
                    await client.proof("0x" + OTHER.hex(), chain="A")
        async with scripted((200, {"chains": 7})) as node, AsyncClient(node.url) as client:
            for ask in (client.deployment, client.status, client.netting, client.liquidations):
                with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1"):
                    await ask()
        async with scripted((200, {"content": {}, "signatures": "0x"})) as node, client_of(node.url) as client:
            with pytest.raises(Unavailable, match="no signed batch"):
                await client.batch()
        async with scripted((204, b"")) as node, client_of(node.url) as client:
            with pytest.raises(Unavailable, match="no batch is signed yet"):
                await client.batch()

    run(work())


# --- one client in two forms ---------------------------------------------------------------------------------------


def public(kind: type) -> dict[str, Any]:
    return {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}


def test_both_clients_have_the_same_methods_with_the_same_signatures() -> None:
    theirs, ours = public(AsyncClient), public(Client)
    apart = {"aclose", "close", "signer"}
    assert set(theirs) ^ set(ours) == apart
    for name in set(theirs) & set(ours):
        if inspect.isfunction(theirs[name]):
            assert inspect.signature(theirs[name]) == inspect.signature(ours[name]), name
            assert inspect.iscoroutinefunction(inspect.unwrap(theirs[name])) or name in ("account_id",), name
            assert not inspect.iscoroutinefunction(ours[name]), name
            assert "await" not in (ours[name].__doc__ or ""), name
    assert str(inspect.signature(AsyncClient.__init__)) == str(inspect.signature(Client.__init__))


def test_every_act_can_be_drafted_by_either_client() -> None:
    acts = {name for name in public(Acts) if name != "call_for"}
    assert acts == set(public(Drafts))
    for name in acts:
        draft, act = inspect.signature(getattr(Acts, name)), inspect.signature(getattr(AsyncClient, name))
        assert draft.parameters == act.parameters
        assert (draft.return_annotation, act.return_annotation) == ("Draft", "Done")
        assert inspect.signature(getattr(Drafts, name)) == draft
        assert getattr(AsyncClient, name).__doc__ == getattr(Acts, name).__doc__


def test_every_method_is_documented_and_acts_have_examples() -> None:
    for name, method in public(AsyncClient).items():
        assert method.__doc__ or name == "node_url", name
    for name in public(Drafts):
        assert "Example:" in getattr(Acts, name).__doc__, name


def test_the_synchronous_client_asks_and_refuses_to_block_a_loop() -> None:
    with Client.from_deployment(PANEL, NODE, signer=KEY) as client:
        item = client.request("A", LEAVING, deadline=NOW)
        assert recover(request_digest(PANEL, item), item.signatures[0]) == OWNER.address

        async def inside() -> None:
            with pytest.raises(ClientError, match=r"an event loop runs here: use keeper\.AsyncClient"):
                client.chain("A")

        asyncio.run(inside())
        assert client.chain("A").chain_id == A


def test_importing_the_package_loads_no_client() -> None:
    code = (
        "import sys, keeper; assert 'keeper.client' not in sys.modules and 'httpx' not in sys.modules;"
        "keeper.Client, keeper.AsyncClient; assert 'keeper.client' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
