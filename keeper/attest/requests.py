"""Whether a request for a permit is its owners' own, and says what its hashes say.

No other request is judged, journalled or counted, so nobody fills an account's list with what its owner never signed.
"""

from __future__ import annotations

from dataclasses import replace

from keeper.state.actions import Action, Move, Order, Permit, PermitRequest, Reserve, Takeover, Trade, Withdraw
from keeper.state.deployment import Deployment
from keeper.state.ids import ZERO32, AccountId, owner_of
from keeper.state.live import LegItem, LiveItem, PermitItem

from .codec import ChainDomain, CodecError, digest, keccak, struct_hash
from .signatures import SignatureError, recover

DEADLINE_SECONDS = 300
"""A permit's deadline is at most this long after its chain's head (CM-12)."""


class RequestError(ValueError):
    """A request that is not judged; `code` names the fault, the message the values."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def permit_domain(deployment: Deployment, chain_id: int) -> ChainDomain:
    """The domain of permits and permit requests on one chain."""
    return ChainDomain(deployment.name, deployment.version, chain_id, deployment.chains[chain_id].contracts.verifier)


def order_domain(deployment: Deployment, chain_id: int) -> ChainDomain:
    return ChainDomain(
        deployment.name, deployment.version, chain_id, deployment.chains[chain_id].contracts.clearing_house
    )


def permit_digest(deployment: Deployment, item: PermitItem) -> bytes:
    return digest(permit_domain(deployment, item.chain_id), item.permit)


def request_digest(deployment: Deployment, item: PermitItem) -> bytes:
    """What the owner signs to ask for this permit."""
    permit = item.permit
    request = PermitRequest(permit.account_id, permit.action_hash, permit.nonce, permit.deadline)
    return digest(permit_domain(deployment, item.chain_id), request)


def order_digest(deployment: Deployment, chain_id: int, order: Order) -> bytes:
    return digest(order_domain(deployment, chain_id), order)


def permit_for(
    deployment: Deployment,
    action: Action,
    nonce: int,
    deadline: int,
    orders: tuple[Order, ...] = (),
) -> Permit:
    """The permit that an action needs. Of a Trade the taker's account is the counterparty, of a Move the target."""
    if isinstance(action, Trade):
        account, counterparty = orders[0].account_id, bytes(orders[1].account_id)
    elif isinstance(action, Move):
        account, counterparty = action.source, bytes(action.target)
    else:
        account, counterparty = action.account_id, ZERO32
    return Permit(account, counterparty, struct_hash(action), nonce, deadline, deployment.attestor_set_id)


def check_item(item: LiveItem, deployment: Deployment) -> None:
    """Raise RequestError unless the item is well-formed and, for a permit, asked for by its owners."""
    try:
        _check_item(item, deployment)
    except CodecError as error:
        raise RequestError("malformed", str(error)) from None


def _check_item(item: LiveItem, deployment: Deployment) -> None:
    if isinstance(item, LegItem):
        if item.leaf.chain_id not in deployment.chains:
            raise RequestError("unknown_chain", f"no chain {item.leaf.chain_id} in this deployment")
        return
    permit, action = item.permit, item.action
    if item.chain_id not in deployment.chains:
        raise RequestError("unknown_chain", f"no chain {item.chain_id} in this deployment")
    if not isinstance(action, Withdraw | Trade | Reserve | Takeover | Move):
        raise RequestError("unsupported_action", f"{type(action).__name__} is not permitted in this protocol version")
    if permit.attestor_set_id != deployment.attestor_set_id:
        raise RequestError("attestor_set", f"set {permit.attestor_set_id}, ours is {deployment.attestor_set_id}")
    if len(item.orders) != (2 if isinstance(action, Trade) else 0):
        raise RequestError("orders", f"a {type(action).__name__} with {len(item.orders)} orders")
    if isinstance(action, Move) and owner_of(action.source) != owner_of(action.target):
        raise RequestError("not_one_owner", "a move is between two accounts of one owner")
    if permit != permit_for(deployment, action, permit.nonce, permit.deadline, item.orders):
        raise RequestError("permit_mismatch", "the permit does not name the action's accounts and hash")
    if isinstance(action, Trade):
        _check_trade(item, action, deployment)
    elif isinstance(action, Reserve) and action.clears:
        _check_clearance(item, action)
    else:
        _check_signature(permit.account_id, request_digest(deployment, item), item.signatures)


def clearance_for(deployment: Deployment, chain_id: int, owed: Reserve, deadline: int) -> PermitItem:
    """The request that `owed` of an integrator's claims be cleared. Anybody's: what is claimed is not the owner's."""
    permit = permit_for(deployment, owed, 0, deadline)
    return PermitItem(chain_id, replace(permit, nonce=_clearance_nonce(permit)), owed, ())


def _clearance_nonce(permit: Permit) -> int:
    """Nobody may choose a nonce for an owner: it would be spent when he comes with it."""
    return int.from_bytes(keccak(b"clearance" + permit.action_hash + permit.deadline.to_bytes(8, "big")), "big")


def _check_clearance(item: PermitItem, action: Reserve) -> None:
    if item.signatures:
        raise RequestError("signatures", f"a clearance is nobody's to sign, got {len(item.signatures)} signature(s)")
    if action.cash_part != action.amount:
        raise RequestError("clearance", f"it clears {action.cash_part} of {action.amount}, wanted all of it")
    if item.permit.nonce != _clearance_nonce(item.permit):
        raise RequestError("clearance", f"nonce {item.permit.nonce} is not that of its action and deadline")


def _check_trade(item: PermitItem, action: Trade, deployment: Deployment) -> None:
    maker, taker = item.orders
    if (action.maker_order, action.taker_order) != (struct_hash(maker), struct_hash(taker)):
        raise RequestError("order_hash", "the trade does not name the orders given")
    if len(item.signatures) != 2:
        raise RequestError("signatures", f"a Trade wants both owners' signatures, got {len(item.signatures)}")
    for order, signature in zip(item.orders, item.signatures, strict=True):
        _check_signature(order.account_id, order_digest(deployment, item.chain_id, order), (signature,))
    faults = [
        (maker.asset != taker.asset, "the orders name different assets"),
        (owner_of(maker.account_id) == owner_of(taker.account_id), "both orders are one owner's"),
        (action.size == 0 or (action.size > 0) != (maker.size > 0), f"size {action.size} is not the maker's side"),
        ((maker.size > 0) == (taker.size > 0), "both orders are on one side"),
        (abs(action.size) > min(abs(maker.size), abs(taker.size)), f"size {action.size} exceeds an order"),
        (any(order.deadline < item.permit.deadline for order in item.orders), "an order ends before the permit"),
    ]
    for order in item.orders:
        worse = action.price > order.limit_price if order.size > 0 else action.price < order.limit_price
        faults.append((worse, f"price {action.price} is beyond the limit {order.limit_price}"))
    for wrong, message in faults:
        if wrong:
            raise RequestError("trade_terms", message)


def _check_signature(account: AccountId, digest_: bytes, signatures: tuple[bytes, ...]) -> None:
    if len(signatures) != 1:
        raise RequestError("signatures", f"one owner's signature wanted, got {len(signatures)}")
    try:
        signer = recover(digest_, signatures[0])
    except SignatureError as error:
        raise RequestError("owner_signature", f"the owner's signature: {error}") from None
    if signer != owner_of(account):
        raise RequestError("owner_signature", f"signed by 0x{signer.hex()}, the owner is 0x{owner_of(account).hex()}")
