"""What an act would do before it is done: what there is to sign, and what would be sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from keeper.attest.signing import SignedPermit
from keeper.chain.abi import encode
from keeper.chain.transactions import Receipt
from keeper.state.actions import Order
from keeper.state.ids import Address
from keeper.state.live import PermitItem
from keeper.state.signer import Signer
from keeper.state.wire import to_json


@dataclass(frozen=True, slots=True)
class Call:
    """One transaction of ours to a contract. `contract` names its ABI, `arguments` are as web3.py and eth_abi take
    them: structs as tuples, amounts as integers."""

    chain_id: int
    contract: str
    to: Address
    function: str
    arguments: tuple[Any, ...]

    @property
    def data(self) -> bytes:
        """Calldata."""
        return encode(self.contract, self.function, self.arguments)

    def to_json(self) -> dict[str, Any]:
        return {
            "chainId": self.chain_id,
            "contract": self.contract,
            "function": self.function,
            "to": "0x" + self.to.hex(),
            "arguments": to_json(list(self.arguments)),
            "data": "0x" + self.data.hex(),
        }


@dataclass(frozen=True, slots=True)
class Draft:
    """An act that nothing was signed or sent for.

    `typed_data` is what the owner signs, as `eth_signTypedData_v4` takes it. `calls` are sent in this order; where a
    permit is wanted, the last one lacks the attestors' signatures, which are asked for when the draft is executed.
    There are none where the permit is for somebody else to use.
    """

    act: str
    calls: tuple[Call, ...]
    typed_data: tuple[dict[str, Any], ...] = ()
    sign: Callable[[Signer], PermitItem] | None = None
    """Signs the typed data: the request for the permit; None where none is wanted."""
    permitted: Callable[[SignedPermit], Awaitable[Call]] | None = None
    """The last call, with the permit; None where somebody else makes it."""

    def to_json(self) -> dict[str, Any]:
        return {
            "act": self.act,
            "typedData": list(self.typed_data),
            "transactions": [call.to_json() for call in self.calls],
            "attestorsSign": self.sign is not None,
        }


@dataclass(frozen=True, slots=True)
class Done:
    """An act that the chain took: the permit it used, if any, and the receipts of what was sent, in order."""

    act: str
    permit: SignedPermit | None
    receipts: tuple[Receipt, ...]

    @property
    def receipt(self) -> Receipt:
        """Of the last transaction: the act itself. None was sent where the permit is for somebody else to use."""
        return self.receipts[-1]

    def to_json(self) -> dict[str, Any]:
        sent = [{"hash": r.tx_hash, "block": r.block_number, "gasUsed": r.gas_used} for r in self.receipts]
        permit = None
        if self.permit is not None:
            permit = {"item": to_json(self.permit.item), "signatures": "0x" + self.permit.signatures.hex()}
        return {"act": self.act, "permit": permit, "transactions": sent}


@dataclass(frozen=True, slots=True)
class SignedOrder:
    """An order with its owner's signature, as it is handed to whoever takes it."""

    chain_id: int
    order: Order
    signature: bytes
