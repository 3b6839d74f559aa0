"""What is deployed where, and what one must know to sign for it."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import ConfigDict, Field, JsonValue

from keeper.state.deployment import Deployment as Deployed

from .base import Answer, Count, Hex20, Hex32


class BatchDomain(Answer):
    """The EIP-712 domain of batches: one signature for every chain of the deployment."""

    name: str
    version: str
    salt: Hex32


class ChainDomain(Answer):
    """An EIP-712 domain on one chain."""

    name: str
    version: str
    chain_id: Count
    verifying_contract: Hex20


class Domains(Answer):
    """By chain id: `permit` is the domain of permits and of requests for them, `order` that of orders."""

    batch: BatchDomain
    permit: dict[str, ChainDomain]
    order: dict[str, ChainDomain]


class Member(Answer):
    name: str
    type: str


class Limits(Answer):
    """What a node takes at most."""

    permit_seconds: int = Field(description="A permit's deadline after its chain's head, seconds")
    body_bytes: int = Field(description="Of a request")
    netting_accounts: int = Field(description="Accounts that /v1/netting lists")
    netting_history: int = Field(description="Batches that /v1/netting remembers")
    what_if_changes: int = Field(description="Changes of one what-if")
    assets: int = Field(description="Different assets of an account, what is live counted with them")
    echo_characters: int = Field(description="Of a value that a problem repeats")


class NodeInfo(Answer):
    name: str
    roles: list[str]
    version: str


class Token(Answer):
    address: Hex20
    decimals: int
    underlying: str | None = Field(default=None, description="Whose price it counts at; none of the settlement token")


class Chain(Answer):
    """One chain: its contracts, tokens and feeds."""

    model_config = ConfigDict(extra="allow")

    name: str
    rpc: str
    block_seconds: float
    deploy_block: int
    contracts: dict[str, Hex20]
    tokens: dict[str, Token]
    feeds: dict[str, Hex20]


_CHAIN: dict[str, Any] = {
    "name": "A",
    "rpc": "http://127.0.0.1:8545",
    "blockSeconds": 1.0,
    "deployBlock": 1,
    "contracts": {
        name: f"0x{number:040x}"
        for number, name in enumerate(("history", "verifier", "clearing_house", "vault", "reservations", "lens"), 1)
    },
    "tokens": {
        "USDC": {"address": "0x" + "a0" * 20, "decimals": 6},
        "WETH": {"address": "0x" + "b0" * 20, "decimals": 18, "underlying": "ETH"},
    },
    "feeds": {"ETH": "0x" + "c0" * 20, "USDC": "0x" + "c1" * 20},
}
_DOMAIN: dict[str, Any] = {"name": "margin", "version": "1", "chainId": 31337001, "verifyingContract": f"0x{2:040x}"}


class Deployment(Answer):
    """A deployment over several chains: the deployments file's fields, and what one signs with."""

    EXTRA: ClassVar[frozenset[str]] = frozenset({"domain", "types", "limits", "node"})
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "margin",
                    "version": "1",
                    "deploymentId": "0x" + "d1" * 32,
                    "parametersHash": "0x" + "d2" * 32,
                    "attestors": ["0x" + digit * 40 for digit in "1234"],
                    "threshold": 3,
                    "attestorSetId": 1,
                    "profile": {"epoch_seconds": 2, "max_age_seconds": 60, "flat_fee": "1000000000000000000"},
                    "chains": {"31337001": _CHAIN},
                    "instruments": [],
                    "domain": {
                        "batch": {"name": "margin", "version": "1", "salt": "0x" + "d1" * 32},
                        "permit": {"31337001": _DOMAIN},
                        "order": {"31337001": {**_DOMAIN, "verifyingContract": f"0x{3:040x}"}},
                    },
                    "types": {
                        "Unlink": [{"name": "accountId", "type": "bytes32"}, {"name": "chainId", "type": "uint64"}]
                    },
                    "limits": {
                        "permitSeconds": 300,
                        "bodyBytes": 8388608,
                        "nettingAccounts": 1000,
                        "nettingHistory": 512,
                        "whatIfChanges": 64,
                        "assets": 64,
                        "echoCharacters": 120,
                    },
                    "node": {"name": "keeper", "roles": ["serve"], "version": "0.1.0"},
                }
            ]
        }
    )

    name: str
    version: str
    deployment_id: Hex32
    parameters_hash: Hex32
    attestors: list[Hex20] = Field(description="Ascending")
    threshold: int
    attestor_set_id: int
    profile: dict[str, JsonValue] = Field(description="Constants of the contracts; integers beyond 2**53 are text")
    chains: dict[str, Chain] = Field(description="By chain id")
    instruments: list[Hex32] = Field(description="Futures and options that trade")
    domain: Domains
    types: dict[str, list[Member]] = Field(
        description="EIP-712 types by name, as eth_signTypedData takes them: requests for permits, actions, orders"
    )
    limits: Limits
    node: NodeInfo

    def plain(self) -> Deployed:
        """The same as the value that everything is computed with. Raises ValueError where a field has a wrong form."""
        told: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return Deployed.from_json({name: value for name, value in told.items() if name not in self.EXTRA})
