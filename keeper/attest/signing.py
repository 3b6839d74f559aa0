"""What owners sign: requests for permits, and orders. Built here for everybody who asks, checked in `requests`.

Both use the same domains and digests, so what a client signs and what an attestor checks cannot drift apart. A permit
comes back as a `SignedPermit`, and only where a quorum signed exactly the permit that was asked for.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from coincurve import PrivateKey

from keeper.state.actions import Action, Order, PermitRequest, Trade
from keeper.state.deployment import Deployment
from keeper.state.ids import Address
from keeper.state.live import PermitItem
from keeper.state.signer import Signer

from .codec import keccak, struct_hash, to_abi, typed_data
from .requests import order_digest, order_domain, permit_digest, permit_domain, permit_for, request_digest
from .signatures import check_quorum, sign_digest


class LocalSigner:
    """Signs with a key in memory, 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.address = Address(keccak(PrivateKey(key).public_key.format(compressed=False)[1:])[12:])

    def sign(self, digest: bytes) -> bytes:
        return sign_digest(digest, self._key)


@dataclass(frozen=True, slots=True)
class SignedPermit:
    """A permit that a quorum signed: `signatures` are 65 bytes each, ascending by signer, as contracts want them."""

    item: PermitItem
    signatures: bytes

    @property
    def calldata(self) -> tuple[Any, bytes]:
        """The two last arguments of the contract function whose act it permits."""
        return to_abi(self.item.permit), self.signatures


def new_nonce() -> int:
    """A nonce for a permit or an order. They are unordered: the time in nanoseconds never repeats, and survives a
    restart without a store."""
    return time.time_ns()


def request_for(
    deployment: Deployment, chain_id: int, action: Action, deadline: int, nonce: int | None = None
) -> PermitItem:
    """The request for a permit of `action` until `deadline` (unix seconds), still to be signed. Not for a Trade, which
    its two orders ask for."""
    permit = permit_for(deployment, action, new_nonce() if nonce is None else nonce, deadline)
    return PermitItem(chain_id, permit, action, ())


def signed_request(deployment: Deployment, item: PermitItem, signer: Signer) -> PermitItem:
    """A request with its owner's signature, as the attestors take it."""
    return replace(item, signatures=(signer.sign(request_digest(deployment, item)),))


def signed_order(deployment: Deployment, chain_id: int, order: Order, signer: Signer) -> bytes:
    """The owner's signature on an order, 65 bytes."""
    return signer.sign(order_digest(deployment, chain_id, order))


def trade_request(
    deployment: Deployment,
    chain_id: int,
    orders: tuple[Order, Order],
    signatures: tuple[bytes, bytes],
    size: int,
    price: int,
    deadline: int | None = None,
) -> PermitItem:
    """The request for a match of two signed orders, maker first, of `size` (the maker's, negative where it sells) at
    `price`, both 1e18; until `deadline` (unix seconds), or for as long as both orders live. It wants no signature but
    the orders'."""
    action = Trade(struct_hash(orders[0]), struct_hash(orders[1]), size, price)
    ends = min(order.deadline for order in orders)
    permit = permit_for(deployment, action, new_nonce(), ends if deadline is None else min(ends, deadline), orders)
    return PermitItem(chain_id, permit, action, signatures, orders)


def request_typed_data(deployment: Deployment, item: PermitItem) -> dict[str, Any]:
    """What an owner's wallet is given to sign for a permit, as `eth_signTypedData_v4` takes it."""
    permit = item.permit
    request = PermitRequest(permit.account_id, permit.action_hash, permit.nonce, permit.deadline)
    return typed_data(permit_domain(deployment, item.chain_id), request)


def order_typed_data(deployment: Deployment, chain_id: int, order: Order) -> dict[str, Any]:
    """What an owner's wallet is given to sign for an order, as `eth_signTypedData_v4` takes it."""
    return typed_data(order_domain(deployment, chain_id), order)


def granted(deployment: Deployment, item: PermitItem, answer: Mapping[str, Any]) -> SignedPermit:
    """The permit in somebody's answer to `item`; what the answer says of the item itself is not read.

    Raises:
        ValueError: its signatures are not a quorum's over this very permit.
    """
    signatures = bytes.fromhex(str(answer.get("signatures")).removeprefix("0x"))
    check_quorum(permit_digest(deployment, item), signatures, deployment.attestors, deployment.threshold)
    return SignedPermit(item, signatures)
