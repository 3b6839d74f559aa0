"""Whatever else the transaction of a shipment sent."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from worlds import DEPLOYMENT, A, B

from keeper.chain.abi import describe_revert
from keeper.chain.cctp import Attested, Shipment
from keeper.chain.transactions import TransactionReverted
from keeper.node import settler as module
from keeper.node.peers import Peers
from keeper.node.settler import Settler
from keeper.state.deployment import Cctp
from keeper.state.ids import Address

BRIDGE = Address(b"\x33" * 20)


def chain(chain_id: int, domain: int) -> Any:
    return replace(
        DEPLOYMENT.chains[chain_id], bridge=BRIDGE, cctp=Cctp(Address(b"\x44" * 20), Address(b"\x55" * 20), domain)
    )


def message(sender: Address, nonce: int) -> Attested:
    def word(value: bytes) -> bytes:
        return b"\0" * 12 + value

    header = (1).to_bytes(4, "big") + (0).to_bytes(4, "big") + (1).to_bytes(4, "big") + nonce.to_bytes(32, "big")
    header += word(b"\x44" * 20) * 2 + bytes(32) + (2000).to_bytes(4, "big") * 2
    body = (1).to_bytes(4, "big") + word(b"\x05" * 20) + word(BRIDGE) + (10**8).to_bytes(32, "big") + word(sender)
    return Attested(header + body + bytes(96), b"signed")


class Target:
    def __init__(self) -> None:
        self.sent: list[bytes] = []

    async def send(self, to: bytes, data: bytes) -> Any:
        if b"\x66" * 20 in data:  # as the adapter does
            raise TransactionReverted(describe_revert(b""))
        self.sent.append(data)


@pytest.mark.parametrize(
    "other",
    [Attested(bytes(148) + b"any body", b"signed"), message(Address(b"\x66" * 20), 1)],
    ids=["no burn at all", "somebody else's burn"],
)
def test_a_foreign_message_holds_up_no_arrival(monkeypatch: pytest.MonkeyPatch, other: Attested) -> None:
    own = message(BRIDGE, 2)

    class Iris:
        async def attested(self, domain: int, tx_hash: str) -> list[Attested]:
            return [other, own]

    async def found(*args: Any) -> list[Shipment]:
        return [Shipment(B, 10**8, 5, "0x01")]

    async def delivered(*args: Any) -> bool:
        return False

    monkeypatch.setattr(module, "shipments", found)
    monkeypatch.setattr(module, "delivered", delivered)
    final = SimpleNamespace(block=SimpleNamespace(number=10))
    view = SimpleNamespace(
        followers={A: SimpleNamespace(started=True, final=final, log_range=100)}, rpcs={A: None, B: None}
    )
    target = Target()
    deployment = replace(DEPLOYMENT, chains={A: chain(A, 0), B: chain(B, 1)})
    settler = Settler(deployment, view, None, {B: target}, Iris(), Peers({}))  # type: ignore[arg-type]

    async def work() -> None:
        monkeypatch.setattr(module, "_RETRY_SECONDS", 0.01)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.5):
                await settler._deliver(A)

    asyncio.run(work())
    assert target.sent, "the shipment never arrives"
