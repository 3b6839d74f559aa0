"""Messages of CCTP version 2, and what a client makes of an attestation service's answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from eth_abi.abi import encode as abi_encode
from eth_utils.crypto import keccak
from fastapi import FastAPI
from fastapi.responses import Response

from keeper.chain.abi import decode_result, function
from keeper.chain.cctp import Attested, BurnMessage, CctpError, Iris, IrisUnavailable, sent_messages
from keeper.state.ids import Address

TRANSMITTER = Address(b"\x11" * 20)


def _address(number: int) -> bytes:
    return number.to_bytes(32, "big")


def _message(**changed: bytes) -> bytes:
    """Field by field, in the order in which Circle documents MessageV2 and BurnMessageV2."""
    fields = {
        "version": (1).to_bytes(4, "big"),
        "sourceDomain": (7).to_bytes(4, "big"),
        "destinationDomain": (9).to_bytes(4, "big"),
        "nonce": b"\xaa" * 32,
        "sender": _address(1),
        "recipient": _address(2),
        "destinationCaller": _address(3),
        "minFinalityThreshold": (2_000).to_bytes(4, "big"),
        "finalityThresholdExecuted": (1_000).to_bytes(4, "big"),
        "bodyVersion": (1).to_bytes(4, "big"),
        "burnToken": _address(4),
        "mintRecipient": _address(5),
        "amount": (10**12).to_bytes(32, "big"),
        "messageSender": _address(6),
        "maxFee": (700).to_bytes(32, "big"),
        "feeExecuted": (650).to_bytes(32, "big"),
        "expirationBlock": (8).to_bytes(32, "big"),
    }
    return b"".join((fields | changed).values())


def test_a_burn_message_is_read_field_by_field() -> None:
    assert BurnMessage.read(_message() + b"hook") == BurnMessage(
        source_domain=7,
        destination_domain=9,
        nonce=b"\xaa" * 32,
        sender=Address(_address(1)[12:]),
        recipient=Address(_address(2)[12:]),
        min_finality=2_000,
        finality=1_000,
        burn_token=Address(_address(4)[12:]),
        mint_recipient=Address(_address(5)[12:]),
        amount=10**12,
        message_sender=Address(_address(6)[12:]),
        max_fee=700,
        fee=650,
    )


def test_what_is_no_burn_message_is_named() -> None:
    with pytest.raises(CctpError, match="at least 376 bytes, got 375"):
        BurnMessage.read(_message()[:-1])
    with pytest.raises(CctpError, match=f"0x{'bb' * 32} is no address of the EVM"):
        BurnMessage.read(_message(messageSender=b"\xbb" * 32))  # a Solana key, say


def test_completion_is_the_adapters_call() -> None:
    attested = Attested(_message(), b"\1" * 65)
    types = [item["type"] for item in function("CctpBridge", "receiveMessage")["inputs"]]
    assert types == ["bytes", "bytes"]
    selector = keccak(text="receiveMessage(bytes,bytes)")[:4]
    assert attested.completion == selector + abi_encode(types, [attested.message, attested.attestation])
    assert decode_result("CctpBridge", "receiveMessage", b"") == ()


def test_messages_are_found_among_a_transactions_logs() -> None:
    def log(where: bytes, event: str, message: bytes) -> dict[str, Any]:
        topic = "0x" + keccak(text=event).hex()
        return {"address": "0x" + where.hex(), "topics": [topic], "data": "0x" + abi_encode(["bytes"], [message]).hex()}

    logs = [
        log(TRANSMITTER, "MessageSent(bytes)", b"one"),
        log(b"\x22" * 20, "MessageSent(bytes)", b"another contract's"),
        log(TRANSMITTER, "MessageReceived(bytes)", b"another event"),
        log(TRANSMITTER, "MessageSent(bytes)", b"two"),
    ]
    assert sent_messages(logs, TRANSMITTER) == [b"one", b"two"]


@asynccontextmanager
async def _service(status: int, body: str) -> AsyncIterator[Iris]:
    """A service on the loopback that answers everything with this."""
    app = FastAPI()

    @app.get("/v2/messages/{domain}")
    async def answer(domain: int) -> Response:
        return Response(body, status)

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off"))
        serving = asyncio.create_task(server._serve([listening]))
        iris = Iris(f"http://127.0.0.1:{listening.getsockname()[1]}/")
        try:
            yield iris
        finally:
            await iris.aclose()
            server.should_exit = True
            await serving


_COMPLETE = f'{{"message": "0x{_message().hex()}", "attestation": "0x{"01" * 65}", "status": "complete"}}'
_PENDING = '{"message": "0x", "attestation": "PENDING", "status": "pending_confirmations"}'


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("status", "body", "found"),
    [
        (404, '{"code": 404, "message": "Message not found"}', 0),
        (200, '{"messages": []}', 0),
        (200, f'{{"messages": [{_PENDING}]}}', 0),
        (200, f'{{"messages": [{_PENDING}, {_COMPLETE}]}}', 1),
    ],
)
async def test_only_complete_messages_are_attested(status: int, body: str, found: int) -> None:
    async with _service(status, body) as iris:
        assert await iris.attested(7, "0x" + "00" * 32) == [Attested(_message(), b"\1" * 65)] * found


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (429, "slow down", "HTTP 429: slow down"),
        (500, "", "HTTP 500"),
        (200, "<html>", "malformed answer"),
        (200, "[]", "malformed answer"),
        (200, '{"messages": [{"status": "complete"}]}', "malformed answer"),
        (200, '{"messages": [{"status": "complete", "message": "0x", "attestation": "0x01"}]}', "empty message"),
        (200, '{"messages": [{"status": "complete", "message": "0xzz", "attestation": "0x01"}]}', "malformed answer"),
    ],
)
async def test_nonsense_is_no_answer(status: int, body: str, reason: str) -> None:
    async with _service(status, body) as iris:
        with pytest.raises(IrisUnavailable, match=reason):
            await iris.attested(7, "0x" + "00" * 32)


@pytest.mark.asyncio
async def test_nobody_there_is_said() -> None:
    iris = Iris("http://127.0.0.1:1")
    with pytest.raises(IrisUnavailable, match="ConnectError"):
        await iris.attested(7, "0x" + "00" * 32)
    await iris.aclose()
