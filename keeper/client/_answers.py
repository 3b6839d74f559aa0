"""What a node answers, typed: checked to be of what was asked, and ready for a contract call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from keeper.attest.codec import CodecError, to_abi
from keeper.state.batch import LiquidationLeaf, MarginLeaf, MarkLeaf
from keeper.state.wire import WireError, from_json

from ._errors import Unavailable

L = TypeVar("L", MarginLeaf, MarkLeaf, LiquidationLeaf)


@dataclass(frozen=True, slots=True)
class Proof(Generic[L]):
    """A leaf of the batch of `epoch`, and what proves it to the chain that holds that batch.

    `timestamp` is the batch's, unix seconds; amounts in the leaf are USD 1e18. Contracts verify the proof themselves.
    """

    epoch: int
    timestamp: int
    leaf: L
    proof: tuple[bytes, ...]

    @property
    def arguments(self) -> tuple[tuple[Any, ...], list[bytes]]:
        """Leaf and proof as a contract call takes them, with web3.py or eth_abi.

        Example:
            verifier.functions.prove(*proof.arguments).transact()
            verifier.functions.check(*proof.arguments, 60, 120).call()
        """
        return to_abi(self.leaf), list(self.proof)


def proof_of(kind: type[L], answer: Any, where: str) -> Proof[L]:
    """Read a proof. Raises Unavailable where the answer is none: what a node says is not trusted to have a form."""
    try:
        leaf = from_json(kind, answer["leaf"])
        to_abi(leaf)  # every field fits its type
        proof = tuple(bytes.fromhex(str(node).removeprefix("0x")) for node in answer["proof"])
        if any(len(node) != 32 for node in proof):
            raise ValueError("a node of the proof has not 32 bytes")
        return Proof(int(answer["epoch"]), int(answer["timestamp"]), leaf, proof)
    except (KeyError, TypeError, ValueError, WireError, CodecError) as error:
        raise Unavailable(f"{where}: the answer is no proof: {error!r:.200}") from None
