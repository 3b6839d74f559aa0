"""Whether a request for a permit is its owners' own, and says what its hashes say.

No other request is judged, journalled or counted, so nobody fills an account's list with what its owner never signed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from keeper.state.actions import Action, Move, Order, Permit, PermitRequest, Reserve, Trade
from keeper.state.batch import UNIT
from keeper.state.deployment import Deployment
from keeper.state.ids import ZERO32, Address, owner_of
from keeper.state.live import LegItem, LiveItem, PermitItem
from keeper.state.problem import Problem, echo

from .codec import ChainDomain, CodecError, digest, keccak, struct_hash, typed_data
from .signatures import SignatureError, recover

DEADLINE_SECONDS = 300
"""A permit's deadline is at most this long after its chain's head (CM-12)."""


class RequestError(ValueError):
    """A request that is not judged, and why: `problem.code` names the fault."""

    def __init__(
        self,
        code: str,
        message: str,
        field: str | None = None,
        got: Any = None,
        wanted: Any = None,
        unit: str | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message)
        self.problem = Problem(code, message, field, got, wanted, unit, details)

    @property
    def code(self) -> str:
        return self.problem.code


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
    return digest(permit_domain(deployment, item.chain_id), _asked(item))


def _asked(item: PermitItem) -> PermitRequest:
    permit = item.permit
    return PermitRequest(permit.account_id, permit.action_hash, permit.nonce, permit.deadline)


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
        where = f"{error.type_name}.{error.field}"
        raise RequestError("malformed", str(error), where, error.value, f"what fits {error.abi_type}") from None


def _check_item(item: LiveItem, deployment: Deployment) -> None:
    if isinstance(item, LegItem):
        _check_chain(item.leaf.chain_id, deployment)
        return
    permit, action = item.permit, item.action
    _check_chain(item.chain_id, deployment)
    kind = type(action).__name__
    if permit.attestor_set_id != deployment.attestor_set_id:
        ours = deployment.attestor_set_id
        told = f"the permit is of attestor set {permit.attestor_set_id}, the set is {ours}"
        raise RequestError("attestor_set", told, "permit.attestorSetId", permit.attestor_set_id, ours)
    wanted = 2 if isinstance(action, Trade) else 0
    if len(item.orders) != wanted:
        told = f"a {kind} with {len(item.orders)} orders, wanted {wanted}"
        raise RequestError("orders", told, "orders", len(item.orders), wanted, "orders")
    if isinstance(action, Move) and owner_of(action.source) != owner_of(action.target):
        told = "a move is between two accounts of one owner"
        raise RequestError("not_one_owner", told, "action.to", action.target, f"of 0x{owner_of(action.source).hex()}")
    _check_permit(permit, permit_for(deployment, action, permit.nonce, permit.deadline, item.orders))
    if isinstance(action, Trade):
        _check_trade(item, action, deployment)
    elif isinstance(action, Reserve) and action.clears:
        _check_clearance(item, action)
    elif len(item.signatures) != 1:
        told = f"one owner's signature wanted, got {len(item.signatures)}"
        raise RequestError("signatures", told, "signatures", len(item.signatures), 1, "signatures")
    else:
        check_signature(deployment, item, 0)


def _check_chain(chain_id: int, deployment: Deployment) -> None:
    if chain_id not in deployment.chains:
        known = ", ".join(f"{chain.chain_id} ({chain.name})" for chain in deployment.chains.values())
        told = f"no chain {echo(chain_id)} in this deployment"
        raise RequestError("unknown_chain", told, "chainId", chain_id, f"one of {known}")


def _check_permit(given: Permit, wanted: Permit) -> None:
    """The permit must name the accounts and the struct hash of its action; the first field that does not is said."""
    for name, field in (
        ("account_id", "accountId"),
        ("counterparty_id", "counterpartyId"),
        ("action_hash", "actionHash"),
    ):
        has, wants = bytes(getattr(given, name)), bytes(getattr(wanted, name))
        if has != wants:
            raise RequestError(
                "permit_mismatch",
                f"the permit's {field} is 0x{has.hex()}, by its action it is 0x{wants.hex()}",
                f"permit.{field}",
                has,
                wants,
            )


def clearance_for(deployment: Deployment, chain_id: int, owed: Reserve, deadline: int) -> PermitItem:
    """The request that `owed` of an integrator's claims be cleared. Anybody's: what is claimed is not the owner's."""
    permit = permit_for(deployment, owed, 0, deadline)
    return PermitItem(chain_id, replace(permit, nonce=_clearance_nonce(permit)), owed, ())


def _clearance_nonce(permit: Permit) -> int:
    """Nobody may choose a nonce for an owner: it would be spent when he comes with it."""
    return int.from_bytes(keccak(b"clearance" + permit.action_hash + permit.deadline.to_bytes(8, "big")), "big")


def _check_clearance(item: PermitItem, action: Reserve) -> None:
    if item.signatures:
        told = f"a clearance is nobody's to sign, got {len(item.signatures)} signature(s)"
        raise RequestError("signatures", told, "signatures", len(item.signatures), 0, "signatures")
    if action.cash_part != action.amount:
        told = f"it clears {action.cash_part} of {action.amount}, wanted all of it"
        raise RequestError("clearance", told, "action.cashPart", action.cash_part, action.amount, "USD 1e18")
    nonce = _clearance_nonce(item.permit)
    if item.permit.nonce != nonce:
        told = f"nonce {item.permit.nonce} is not that of its action and deadline"
        raise RequestError("clearance", told, "permit.nonce", item.permit.nonce, nonce)


def _check_trade(item: PermitItem, action: Trade, deployment: Deployment) -> None:
    maker, taker = item.orders
    if (action.maker_order, action.taker_order) != (struct_hash(maker), struct_hash(taker)):
        named = (action.maker_order, action.taker_order)
        at = next(n for n in (0, 1) if named[n] != struct_hash(item.orders[n]))
        where, has = ("action.makerOrder", "action.takerOrder")[at], struct_hash(item.orders[at])
        told = f"the trade names order 0x{named[at].hex()}, the one given hashes to 0x{has.hex()}"
        raise RequestError("order_hash", told, where, named[at], has)
    if len(item.signatures) != 2:
        told = f"a Trade wants both owners' signatures, maker first, got {len(item.signatures)}"
        raise RequestError("signatures", told, "signatures", len(item.signatures), 2, "signatures")
    for number, order in enumerate(item.orders):
        check_signature(deployment, item, number, order)
    for wrong, message, where, got, wanted, unit in _trade_faults(item, action, maker, taker):
        if wrong:
            raise RequestError("trade_terms", message, where, got, wanted, unit)


def _trade_faults(
    item: PermitItem, action: Trade, maker: Order, taker: Order
) -> Iterator[tuple[bool, str, str, Any, Any, str | None]]:
    """(whether it is wrong, message, field, got, wanted, unit) of every term of a match, in the contract's order."""
    size, price = "units of 1e18", "USD 1e18 a unit"
    yield (
        maker.asset != taker.asset,
        "the orders name different assets",
        "orders[1].asset",
        taker.asset,
        maker.asset,
        None,
    )
    one = owner_of(maker.account_id) == owner_of(taker.account_id)
    yield one, "both orders are one owner's", "orders[1].accountId", taker.account_id, "another owner's account", None
    side = action.size == 0 or (action.size > 0) != (maker.size > 0)
    told = f"size {action.size / UNIT:.12g} is not on the maker's side"
    yield side, told, "action.size", action.size, "not 0, and the sign of the maker's order", size
    same = (maker.size > 0) == (taker.size > 0)
    yield same, "both orders are on one side", "orders[1].size", taker.size, "the sign opposite to the maker's", size
    most = min(abs(maker.size), abs(taker.size))
    told = f"size {abs(action.size) / UNIT:.12g} exceeds an order"
    yield abs(action.size) > most, told, "action.size", action.size, f"at most {most} either way", size
    for number, order in enumerate(item.orders):
        told = f"an order ends at {order.deadline}, before the permit, at {item.permit.deadline}"
        early = order.deadline < item.permit.deadline
        yield early, told, f"orders[{number}].deadline", order.deadline, item.permit.deadline, "unix seconds"
    for number, order in enumerate(item.orders):
        worse = action.price > order.limit_price if order.size > 0 else action.price < order.limit_price
        told = f"price {action.price / UNIT:.12g} is beyond the order's limit {order.limit_price / UNIT:.12g}"
        bound = f"orders[{number}].limitPrice {order.limit_price} or better"
        yield worse, told, "action.price", action.price, bound, price


def check_signature(deployment: Deployment, item: PermitItem, number: int, order: Order | None = None) -> None:
    """Raise RequestError unless signature `number` of the item is the owner's: of `order`, or of the request."""
    if order is None:
        account, domain = item.permit.account_id, permit_domain(deployment, item.chain_id)
        wanted, kind = request_digest(deployment, item), "PermitRequest"
    else:
        account, domain = order.account_id, order_domain(deployment, item.chain_id)
        wanted, kind = order_digest(deployment, item.chain_id, order), "Order"
    signature, owner = item.signatures[number], owner_of(account)
    typed = typed_data(domain, _asked(item) if order is None else order)
    details: dict[str, Any] = {k: typed[k] for k in ("primaryType", "domain")} | {"digest": "0x" + wanted.hex()}
    where = f"signatures[{number}]"
    try:
        signer = recover(wanted, signature)
    except SignatureError as error:
        told = f"the owner's signature: {error}"
        raise RequestError("owner_signature", told, where, signature, "65 bytes: r, s, v", **details) from None
    if signer != owner:
        hint = _signed_instead(deployment, item, order, signature, owner)
        told = (
            f"signed by 0x{signer.hex()} where it is read as a {kind} of digest 0x{wanted.hex()}, "
            f"the owner is 0x{owner.hex()}" + ("" if hint is None else f": the owner signed {hint}")
        )
        raise RequestError("owner_signature", told, where, signer, owner, "signer", **details, signedInstead=hint)


def _signed_instead(
    deployment: Deployment, item: PermitItem, order: Order | None, signature: bytes, owner: Address
) -> str | None:
    """What the owner's signature is over, where it is one of the usual mistakes; None where it is none of them."""
    value = item.permit if order is None else order
    asked = _asked(item) if order is None else order
    here = permit_domain(deployment, item.chain_id) if order is None else order_domain(deployment, item.chain_id)
    right = digest(here, asked)
    guesses = [(f"it for chain {chain}", digest(replace(here, chain_id=chain), asked)) for chain in deployment.chains]
    other = order_domain(deployment, item.chain_id) if order is None else permit_domain(deployment, item.chain_id)
    guesses += [
        (f"it for the contract 0x{other.verifying_contract.hex()}", digest(other, asked)),
        ("the Permit in place of the PermitRequest", digest(here, value)),
        ("the struct hash in place of the digest", struct_hash(asked)),
        ("the digest as a message (EIP-191)", keccak(b"\x19Ethereum Signed Message:\n32" + right)),
    ]
    for hint, guess in guesses:
        try:
            if guess != right and recover(guess, signature) == owner:
                return hint
        except SignatureError:
            continue
    return None
