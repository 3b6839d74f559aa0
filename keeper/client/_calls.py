"""The transaction of each permitted act: which contract, which function, which arguments."""

from __future__ import annotations

from typing import Any

from keeper.attest.codec import to_abi
from keeper.attest.signing import SignedPermit
from keeper.state.actions import Move, Reserve, Takeover, Trade, Unlink, Withdraw
from keeper.state.batch import LiquidationLeaf, MarkLeaf
from keeper.state.deployment import ChainDeployment, Deployment
from keeper.state.ids import ZERO32, Address

from ._answers import Proof
from ._draft import Call

CONTRACTS = {
    "ClearingHouse": "clearing_house",
    "CollateralVault": "vault",
    "MarginReservations": "reservations",
    "MarginVerifier": "verifier",
    "MarginLens": "lens",
}
"""The deployment's name of each contract, by that of its ABI."""

NO_MARK: tuple[Any, ...] = (ZERO32, 0, 0, 0, 0, 0)
"""In place of a mark that is not read: of a move of cash."""


def call_of(chain: ChainDeployment, contract: str, function: str, *arguments: Any) -> Call:
    """A call of one of the deployment's contracts."""
    to: Address = getattr(chain.contracts, CONTRACTS[contract])
    return Call(chain.chain_id, contract, to, function, arguments)


def withdraw_call(deployment: Deployment, permit: SignedPermit) -> Call:
    return _simple(deployment, permit, Withdraw, "CollateralVault", "withdraw")


def unlink_call(deployment: Deployment, permit: SignedPermit) -> Call:
    return _simple(deployment, permit, Unlink, "CollateralVault", "unlink")


def reserve_call(deployment: Deployment, permit: SignedPermit) -> Call:
    """A reservation, or what clears a claim."""
    action = permit.item.action
    clears = isinstance(action, Reserve) and action.clears
    return _simple(deployment, permit, Reserve, "MarginReservations", "clearRest" if clears else "reserve")


def move_call(deployment: Deployment, permit: SignedPermit, mark: Proof[MarkLeaf] | None) -> Call:
    """`mark` is of the position that moves; None for cash."""
    action = permit.item.action
    assert isinstance(action, Move)
    leaf, proof = (NO_MARK, []) if mark is None else mark.arguments
    chain = deployment.chains[permit.item.chain_id]
    return call_of(chain, "ClearingHouse", "move", to_abi(action), leaf, proof, *permit.calldata)


def match_call(deployment: Deployment, permit: SignedPermit, mark: Proof[MarkLeaf]) -> Call:
    """The match that a permit for a trade permits, at the mark in the batch that the chain holds."""
    item = permit.item
    action = item.action
    assert isinstance(action, Trade)
    (maker, taker), signatures = item.orders, item.signatures
    match = (
        to_abi(maker),
        signatures[0],
        to_abi(taker),
        signatures[1],
        action.size,
        action.price,
        *mark.arguments,
        *permit.calldata,
    )
    return call_of(deployment.chains[item.chain_id], "ClearingHouse", "matchOrders", match)


def liquidate_call(deployment: Deployment, permit: SignedPermit, leg: Proof[LiquidationLeaf]) -> Call:
    """The take-over that a permit permits, of a leg in the newest batch that the chain holds."""
    action = permit.item.action
    assert isinstance(action, Takeover)
    chain = deployment.chains[permit.item.chain_id]
    arguments = (*leg.arguments, action.account_id, action.size, *permit.calldata)
    return call_of(chain, "ClearingHouse", "liquidate", *arguments)


def _simple(deployment: Deployment, permit: SignedPermit, kind: type, contract: str, function: str) -> Call:
    action = permit.item.action
    assert isinstance(action, kind)
    chain = deployment.chains[permit.item.chain_id]
    return call_of(chain, contract, function, to_abi(action), *permit.calldata)
