"""Deploy what a plan lists to one chain or several, check that it is wired as planned, write the deployments file.

Contracts name each other in constructors, so their addresses are computed beforehand from the deployer's nonce. The
same key with the same nonce on every chain gives the same addresses on every chain; anything else is refused.

Synchronous: a deployment is a command's only work.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from eth_abi.abi import encode as abi_encode
from eth_account import Account
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from keeper.chain.abi import encode, encode_creation
from keeper.chain.identity import check_identity, code_hashes
from keeper.chain.rpc import Rpc, RpcError, RpcUnavailable
from keeper.state.deployment import ChainDeployment, Deployment, DeploymentError
from keeper.state.ids import Address, address

from . import chains, liquidity
from .plan import ChainPlan, Part, PlanError
from .processes import DevnetError

_CALL_SECONDS = 60.0
_RECEIPT_SECONDS = 180.0
_POLL_SECONDS = 0.1
_WAVES = 3


@dataclass(frozen=True, slots=True)
class Signer:
    """Who deploys. `sign` turns a transaction's fields, as JSON-RPC names them, into the signed bytes."""

    address: Address
    sign: Callable[[dict[str, Any]], bytes]


def devnet_signer() -> Signer:
    """The devnet's deployer, whose key everyone knows."""
    deployer = chains.account(chains.DEPLOYER)
    key = Account.from_key(deployer.key)
    return Signer(deployer.address, lambda fields: bytes(key.sign_transaction(fields).raw_transaction))


def deploy(plan: dict[str, Any], out: Path, signer: Signer | None = None) -> Deployment:
    """Deploy `plan`, add its chains to the deployments file `out`, and return what that file then says.

    Without a signer the devnet's deployer signs, for the devnet's chains only.

    Raises:
        DevnetError: the plan cannot be carried out, an RPC serves another chain or does not answer, a transaction
            reverted, or a contract on chain says something else than was planned.
    """
    by = signer or devnet_signer()
    try:
        deployment, entries = _read(plan, by.address)
        merged(deployment, out)
    except (DeploymentError, KeyError, TypeError, ValueError) as error:
        raise DevnetError(f"the plan is unusable: {error!r}") from error
    if signer is None and not set(entries) <= {chain.chain_id for chain in chains.CHAINS}:
        raise DevnetError("--account is wanted outside the devnet: the devnet's keys are known to everyone")
    with httpx.Client(timeout=_CALL_SECONDS, trust_env=False) as http:
        sites = [_Site(http, chain_id, entry["rpc"], by) for chain_id, entry in entries.items()]
        results = _carry_out(deployment, entries, sites)
    complete = merged(replace(deployment, chains=results), out)
    fresh = out.with_suffix(".new")
    fresh.write_text(json.dumps(complete.to_json(), indent=2) + "\n")
    fresh.replace(out)
    return complete


def merged(fresh: Deployment, out: Path) -> Deployment:
    """`fresh` together with the chains that `out` has already, which must belong to the same deployment."""
    if not out.exists():
        return fresh
    known = Deployment.load(out)
    if replace(known, chains={}) != replace(fresh, chains={}):
        raise DevnetError(f"{out} describes another deployment: move it, or plan the same name, keys and profile")
    return replace(fresh, chains=dict(sorted({**known.chains, **fresh.chains}.items())))


def _read(plan: dict[str, Any], deployer: Address) -> tuple[Deployment, dict[int, dict[str, Any]]]:
    """The deployment without its chains, and the entries of the chains to deploy to."""
    head = {key: value for key, value in plan.items() if key not in ("chains", "salt")}
    entries = {int(chain_id): entry for chain_id, entry in plan["chains"].items()}
    identity = abi_encode(["string", "address", "uint256"], [plan["name"], deployer, plan["salt"]])
    return Deployment.from_json(head | {"deploymentId": "0x" + keccak(identity).hex(), "chains": {}}), entries


def _carry_out(
    deployment: Deployment, entries: dict[int, dict[str, Any]], sites: Sequence[_Site]
) -> dict[int, ChainDeployment]:
    nonces = {site.chain_id: site.nonce() for site in sites}
    if len(set(nonces.values())) > 1:
        raise DevnetError(
            f"0x{sites[0].signer.address.hex()} has sent {nonces} transactions: equal addresses on all chains need "
            "equal nonces"
        )
    domains = {c: int(entry["cctp"]["domain"]) for c, entry in entries.items() if "cctp" in entry}
    try:
        plans = {
            site.chain_id: ChainPlan(
                site.chain_id, entries[site.chain_id], site.signer.address, nonces[site.chain_id], domains
            )
            for site in sites
        }
        results = {chain_id: plan.complete(deployment) for chain_id, plan in plans.items()}
    except PlanError as error:
        raise DevnetError(str(error)) from error
    if len({(chain.contracts, chain.bridge) for chain in results.values()}) > 1:
        raise DevnetError("the chains' devnet parts differ, so their addresses would: plan the same parts")

    # Inside a wave nothing waits, and the chains mine side by side.
    for wave in range(_WAVES):
        sent = {site.chain_id: site.send(plans[site.chain_id], wave) for site in sites}
        for site in sites:
            block = site.wait(plans[site.chain_id].wave(wave), sent[site.chain_id])
            # Followers begin at the contracts: what comes before has no state.
            if wave == 1:
                results[site.chain_id] = replace(results[site.chain_id], deploy_block=block)
    return {chain_id: asyncio.run(_recorded(chain, deployment)) for chain_id, chain in results.items()}


class _Site:
    """One chain that is deployed to, by its JSON-RPC. Refuses an RPC that serves another chain."""

    def __init__(self, http: httpx.Client, chain_id: int, rpc: str, signer: Signer) -> None:
        self.chain_id, self.signer = chain_id, signer
        self._http, self._rpc = http, rpc
        served = int(self._call("eth_chainId"), 16)
        if served != chain_id:
            raise DevnetError(f"the RPC of chain {chain_id} serves chain {served}")

    def nonce(self) -> int:
        """How many transactions the deployer has sent."""
        return int(self._call("eth_getTransactionCount", _hex(self.signer.address), "latest"), 16)

    def send(self, plan: ChainPlan, wave: int) -> list[str]:
        """Sign and send without waiting: later parts of a wave share blocks with earlier ones."""
        tip = int(self._call("eth_maxPriorityFeePerGas"), 16)
        base = int(self._call("eth_getBlockByNumber", "latest", False)["baseFeePerGas"], 16)
        hashes = []
        for part in plan.wave(wave):
            body = {"from": _hex(self.signer.address), "data": _hex(_data(part))}
            if part.method:
                body["to"] = to_checksum_address(part.where)
            fields = {key: value for key, value in body.items() if key != "from"} | {
                "type": 2,
                "chainId": self.chain_id,
                "nonce": plan.first + plan.parts.index(part),
                "value": 0,
                # The estimate is for the newest block; a pool's first entry of the next one costs more.
                "gas": int(self._call("eth_estimateGas", body), 16) * 5 // 4,
                "maxFeePerGas": 2 * base + tip,
                "maxPriorityFeePerGas": tip,
            }
            hashes.append(str(self._call("eth_sendRawTransaction", _hex(self.signer.sign(fields)))))
        return hashes

    def wait(self, parts: Sequence[Part], hashes: Sequence[str]) -> int:
        """Returns the first block that holds one of them."""
        blocks, limit = [], time.monotonic() + _RECEIPT_SECONDS
        for part, transaction in zip(parts, hashes, strict=True):
            what = f"chain {self.chain_id}: {part.contract} ({part.name})"
            while (receipt := self._call("eth_getTransactionReceipt", transaction)) is None:
                if time.monotonic() > limit:
                    raise DevnetError(f"{what} is not mined after {_RECEIPT_SECONDS:g} s, transaction {transaction}")
                time.sleep(_POLL_SECONDS)
            if int(receipt["status"], 16) != 1:
                raise DevnetError(f"{what} reverted, transaction {transaction}")
            if not part.method and address(receipt["contractAddress"]) != part.where:
                raise DevnetError(f"{what} is at {receipt['contractAddress']}, predicted {_hex(part.where)}")
            blocks.append(int(receipt["blockNumber"], 16))
        return min(blocks, default=2**63)

    def _call(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        try:
            answer = self._http.post(self._rpc, json=body).json()
        except (httpx.HTTPError, json.JSONDecodeError) as error:
            raise DevnetError(f"chain {self.chain_id} does not answer {method}: {error!r}") from error
        if "error" in answer:
            raise DevnetError(f"chain {self.chain_id} refuses {method}: {answer['error'].get('message')}")
        return answer["result"]


def _data(part: Part) -> bytes:
    if part.method:
        return encode(part.contract, part.method, part.arguments)
    if part.contract == liquidity.FACTORY:
        return bytes.fromhex(liquidity.artifact(part.contract)["bytecode"][2:])
    return encode_creation(part.contract, part.arguments)


async def _recorded(chain: ChainDeployment, deployment: Deployment) -> ChainDeployment:
    """`chain` with the hashes of its contracts' code, once the contracts say that they are wired as planned."""
    rpc = Rpc(chain.rpc, timeout=_CALL_SECONDS)
    try:
        complete = replace(chain, code_hashes=await code_hashes(rpc, chain))
        await check_identity(rpc, replace(deployment, chains={chain.chain_id: complete}), chain.chain_id)
    except (RpcUnavailable, RpcError) as error:
        raise DevnetError(f"not as planned: {error}") from error
    finally:
        await rpc.aclose()
    return complete


def _hex(value: bytes) -> str:
    return "0x" + value.hex()
