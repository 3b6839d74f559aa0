"""Shipments over Circle's CCTP version 2: finding them, their attestations, and the calldata that completes them.

A shipment is a burn by the adapter of one chain (`CctpBridge`, event BridgeSent). Once its block is final, Circle's
attestation service, Iris, fills in the message's nonce and fee and signs it; handing both to the adapter of the other
chain mints the tokens to that chain's vault.

`Iris` speaks to Circle's service at https://iris-api.circle.com, for test networks at
https://iris-api-sandbox.circle.com, and on the devnet to its stand-in. Circle takes 35 requests a second and, beyond,
answers 429 for five minutes: ask every few seconds. Formats: Circle's evm-cctp-contracts, src/messages/v2; Iris's
`GET /v2/messages/{sourceDomainId}?transactionHash=`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
from eth_abi.abi import decode
from eth_utils.crypto import keccak

from keeper.state.deployment import ChainDeployment
from keeper.state.ids import Address

from .abi import encode, topic
from .rpc import Rpc, understood

HEADER = 148
"""Bytes of a message before its body."""
BURN = 228
"""Bytes of a burn message before its hook data."""
_MESSAGE_SENT = keccak(text="MessageSent(bytes)")


class CctpError(ValueError):
    """A message that is no burn message, or a chain that ships nothing."""


class IrisUnavailable(Exception):
    """The attestation service did not answer, or nonsense; ask again later."""


@dataclass(frozen=True, slots=True)
class BurnMessage:
    """A message of CCTP version 2 with a burn as its body. Amounts in token decimals.

    As the sending chain emits it, `nonce`, `finality` and `fee` are zero: its attestation comes with them filled in.
    """

    source_domain: int
    destination_domain: int
    nonce: bytes
    sender: Address
    recipient: Address
    min_finality: int
    finality: int
    burn_token: Address
    mint_recipient: Address
    amount: int
    message_sender: Address
    max_fee: int
    fee: int

    @classmethod
    def read(cls, message: bytes) -> BurnMessage:
        """Raises CctpError for one that is too short, or whose addresses are none of the EVM."""
        if len(message) < HEADER + BURN:
            raise CctpError(f"a burn message has at least {HEADER + BURN} bytes, got {len(message)}")
        body = message[HEADER:]
        return cls(
            source_domain=_number(message[4:8]),
            destination_domain=_number(message[8:12]),
            nonce=message[12:44],
            sender=_address(message[44:76]),
            recipient=_address(message[76:108]),
            min_finality=_number(message[140:144]),
            finality=_number(message[144:148]),
            burn_token=_address(body[4:36]),
            mint_recipient=_address(body[36:68]),
            amount=_number(body[68:100]),
            message_sender=_address(body[100:132]),
            max_fee=_number(body[132:164]),
            fee=_number(body[164:196]),
        )


@dataclass(frozen=True, slots=True)
class Attested:
    """A message with its nonce and fee, and the signatures of it."""

    message: bytes
    attestation: bytes

    @property
    def burn(self) -> BurnMessage:
        return BurnMessage.read(self.message)

    @property
    def completion(self) -> bytes:
        """Calldata to the adapter of the chain it goes to; anybody may send it."""
        return encode("CctpBridge", "receiveMessage", [self.message, self.attestation])


@dataclass(frozen=True, slots=True)
class Shipment:
    """What an adapter sent, as its chain logged it. `tx_hash` is 0x-hex, what the attestation is asked for by."""

    to_chain: int
    amount: int
    block_number: int
    tx_hash: str


class Iris:
    """Circle's attestation service, or one that answers like it."""

    def __init__(self, url: str, timeout: float = 5.0) -> None:
        self.url = url.rstrip("/")
        self._client = httpx.AsyncClient(timeout=timeout, trust_env=False)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def attested(self, source_domain: int, tx_hash: str) -> list[Attested]:
        """The attested messages of one transaction, in the order of its logs; those still waiting are left out.

        A transaction that ships to several chains has a message for each. Empty where the service has not seen the
        transaction, or waits for its block to be final.

        Raises:
            IrisUnavailable: no answer, an error, or nonsense.
        """
        try:
            response = await self._client.get(
                f"{self.url}/v2/messages/{source_domain}", params={"transactionHash": tx_hash}
            )
        except httpx.HTTPError as error:
            raise IrisUnavailable(f"{self.url}: {type(error).__name__} {error}".rstrip()) from None
        if response.status_code == httpx.codes.NOT_FOUND:
            return []
        if response.status_code != httpx.codes.OK:
            raise IrisUnavailable(f"{self.url}: HTTP {response.status_code}: {response.text[:120]}")
        try:
            entries = orjson.loads(response.content)["messages"]
            return [_attested(entry) for entry in entries if entry["status"] == "complete"]
        except (KeyError, TypeError, ValueError) as error:
            raise IrisUnavailable(f"{self.url}: malformed answer: {error!r}") from None


async def shipments(rpc: Rpc, chain: ChainDeployment, from_block: int, to_block: int) -> list[Shipment]:
    """What the chain's adapter sent in these blocks, both included, in order.

    Raises:
        CctpError: the chain has no adapter.
        RpcError, RpcUnavailable: the provider failed, or answered nonsense.
    """
    if chain.bridge is None:
        raise CctpError(f"chain {chain.name} has no bridge")
    wanted = {
        "address": "0x" + chain.bridge.hex(),
        "topics": ["0x" + topic("BridgeSent").hex()],
        "fromBlock": hex(from_block),
        "toBlock": hex(to_block),
    }
    with understood(rpc):
        return [
            Shipment(
                int(entry["topics"][1], 16),
                int(entry["data"][2:66], 16),
                int(entry["blockNumber"], 16),
                entry["transactionHash"],
            )
            for entry in await rpc.call("eth_getLogs", [wanted])
        ]


async def delivered(rpc: Rpc, chain: ChainDeployment, nonce: bytes, block: str = "latest") -> bool:
    """Whether the message of that nonce was delivered on the chain it goes to.

    Raises:
        CctpError: nothing is shipped to the chain.
        RpcError, RpcUnavailable: the provider failed, or answered nonsense.
    """
    if chain.cctp is None:
        raise CctpError(f"chain {chain.name} has no CCTP")
    data = keccak(text="usedNonces(bytes32)")[:4] + nonce
    call = {"to": "0x" + chain.cctp.transmitter.hex(), "data": "0x" + data.hex()}
    with understood(rpc):
        return int(await rpc.call("eth_call", [call, block]), 16) != 0


def sent_messages(logs: Iterable[Mapping[str, Any]], transmitter: Address) -> list[bytes]:
    """The messages that a transaction's logs (JSON-RPC) say were sent by a message transmitter, in order."""
    emitted = [
        entry["data"]
        for entry in logs
        if entry["address"].lower() == "0x" + transmitter.hex() and entry["topics"][0] == "0x" + _MESSAGE_SENT.hex()
    ]
    return [decode(["bytes"], bytes.fromhex(data[2:]))[0] for data in emitted]


def _attested(entry: Mapping[str, Any]) -> Attested:
    return Attested(_bytes(entry["message"]), _bytes(entry["attestation"]))


def _bytes(text: str) -> bytes:
    value = bytes.fromhex(text.removeprefix("0x"))
    if not value:
        raise ValueError("empty message or attestation")
    return value


def _number(word: bytes) -> int:
    return int.from_bytes(word, "big")


def _address(word: bytes) -> Address:
    if any(word[:12]):
        raise CctpError(f"0x{word.hex()} is no address of the EVM")
    return Address(word[12:])
