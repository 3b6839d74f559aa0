"""What is deployed where, and what a stranger must know to sign for it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from keeper.attest.batch import batch_domain
from keeper.attest.codec import TYPES, ChainDomain, type_members
from keeper.attest.permits import MOST_ASSETS
from keeper.attest.requests import DEADLINE_SECONDS, order_domain, permit_domain
from keeper.chain.abi import AbiError, abi_of
from keeper.node.node import Node
from keeper.schema import MOST_CHANGES
from keeper.state.problem import ECHO
from keeper.state.wire import to_json

from .netting import HISTORY, MOST_ACCOUNTS
from .problems import MAX_BODY, ApiError

_SIGNED_BY_OWNERS = ("PermitRequest", "Order", "Withdraw", "Trade", "Reserve", "Takeover", "Move", "Unlink", "Permit")
CONTRACTS = (
    "ClearingHouse",
    "CollateralVault",
    "Errors",
    "Events",
    "MarginLens",
    "MarginReservations",
    "MarginVerifier",
)
"""Those of a deployment, whatever its chains."""


def deployment(node: Node) -> dict[str, Any]:
    """The deployments file's fields, as `Deployment.from_json` reads them, and what one signs with."""
    deployed = node.deployment
    batch = batch_domain(deployed)
    plain: dict[str, Any] = to_json(deployed.to_json())
    return plain | {
        "domain": {
            "batch": {"name": batch.name, "version": batch.version, "salt": "0x" + batch.salt.hex()},
            "permit": {str(chain): _domain(permit_domain(deployed, chain)) for chain in deployed.chains},
            "order": {str(chain): _domain(order_domain(deployed, chain)) for chain in deployed.chains},
        },
        "types": {name: type_members(TYPES[name]) for name in _SIGNED_BY_OWNERS},
        "limits": {
            "permitSeconds": DEADLINE_SECONDS,
            "bodyBytes": MAX_BODY,
            "nettingAccounts": MOST_ACCOUNTS,
            "nettingHistory": HISTORY,
            "whatIfChanges": MOST_CHANGES,
            "assets": MOST_ASSETS,
            "echoCharacters": ECHO,
        },
        "node": {"name": node.config.name, "roles": sorted(node.config.roles), "version": version("keeper")},
    }


def abi(contract: str) -> list[dict[str, Any]]:
    """A contract's ABI. Raises ApiError."""
    if contract not in CONTRACTS:
        wanted = ", ".join(CONTRACTS)
        raise ApiError.not_found(f"no contract of that name: there are {wanted}", "path.contract", contract, wanted)
    try:
        return abi_of(contract)
    except AbiError as error:
        raise ApiError.not_found(str(error), "path.contract", contract) from None


def _domain(domain: ChainDomain) -> dict[str, Any]:
    return {
        "name": domain.name,
        "version": domain.version,
        "chainId": domain.chain_id,
        "verifyingContract": "0x" + domain.verifying_contract.hex(),
    }
