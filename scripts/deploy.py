"""Deploy to one chain or several: `ape run deploy --plan PLAN.json --out deployments.json [--account ALIAS]`.

The plan has the shape of the deployments file, with what is not yet known left out: a token without an address becomes
a devnet token, a feed with an `answer` instead of an address a devnet feed, `integrator` with its two ages a devnet
lender, `pool` with a token, a fee and a depth a Uniswap pool filled with devnet tokens, and `cctp` with an `attester`
stand-ins of Circle's contracts. All these are refused outside the devnet's chain ids.

A chain whose `cctp` names `messenger`, `transmitter`, `domain`, `maxFeeBps` and `minFinalityThreshold` gets an adapter
that ships to every other chain of the plan that has one; a chain that is deployed to later is not among them.

Contracts name each other in constructors, so their addresses are computed beforehand from the deployer's nonce. The
same key with the same nonce on every chain gives the same addresses on every chain; anything else is refused.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from ape import accounts, networks, project
from ape.contracts import ContractContainer
from eth_abi import encode
from eth_utils import keccak, to_checksum_address
from ethpm_types import ContractType

from keeper.chain.identity import check_identity, code_hashes
from keeper.chain.rpc import Rpc, RpcError, RpcUnavailable
from keeper.devnet import liquidity
from keeper.devnet.chains import CHAINS
from keeper.devnet.plan import ChainPlan, Part, PlanError
from keeper.state.deployment import ChainDeployment, Deployment, DeploymentError
from keeper.state.ids import Address, address

RECEIPT_SECONDS = 180
CALL_SECONDS = 60.0
WAVES = 3


def container(contract: str) -> ContractContainer:
    """One of the project's contracts, or Uniswap's factory as its package has it compiled."""
    if contract != liquidity.FACTORY:
        return project.get_contract(contract)
    compiled = liquidity.artifact(contract)
    code = {"bytecode": compiled["bytecode"]}
    return ContractContainer(
        ContractType.model_validate({"contractName": contract, "abi": compiled["abi"], "deploymentBytecode": code})
    )


def send(plan: ChainPlan, parts: list[Part], deployer: Any, provider: Any) -> list[bytes]:
    """Sign and send without waiting: later parts of a wave share blocks with earlier ones."""
    hashes = []
    for part in parts:
        options = {"sender": deployer, "nonce": plan.first + plan.parts.index(part)}
        if part.method:
            method = getattr(container(part.contract).at(to_checksum_address(part.where)), part.method)
            transaction = method.as_transaction(*part.arguments, **options)
        else:
            transaction = container(part.contract).constructor.serialize_transaction(*part.arguments, **options)
        prepared = deployer.prepare_transaction(transaction)
        # The estimate is for the block that was the newest then; a pool's first entry of the next one costs more.
        prepared.gas_limit = prepared.gas_limit * 5 // 4
        signed = deployer.sign_transaction(prepared)
        hashes.append(provider.web3.eth.send_raw_transaction(signed.serialize_transaction()))
    return hashes


def wait(plan: ChainPlan, parts: list[Part], hashes: list[bytes], provider: Any) -> int:
    """Returns the first block that holds one of them."""
    blocks = []
    for part, transaction in zip(parts, hashes, strict=True):
        receipt = provider.web3.eth.wait_for_transaction_receipt(transaction, RECEIPT_SECONDS, 0.1)
        what = f"chain {plan.chain_id}: {part.contract} ({part.name})"
        if receipt["status"] != 1:
            raise click.ClickException(f"{what} reverted, transaction 0x{bytes(transaction).hex()}")
        if not part.method and address(receipt["contractAddress"]) != part.where:
            raise click.ClickException(f"{what} is at {receipt['contractAddress']}, predicted 0x{part.where.hex()}")
        blocks.append(receipt["blockNumber"])
    return min(blocks, default=2**63)


async def recorded(chain: ChainDeployment, deployment: Deployment) -> ChainDeployment:
    """`chain` with the hashes of its contracts' code, once the contracts say that they are wired as planned.

    Raises:
        ClickException: an answer is not what was planned, or there is none.
    """
    rpc = Rpc(chain.rpc, timeout=CALL_SECONDS)
    try:
        complete = replace(chain, code_hashes=await code_hashes(rpc, chain))
        await check_identity(rpc, replace(deployment, chains={chain.chain_id: complete}), chain.chain_id)
    except (RpcUnavailable, RpcError) as error:
        raise click.ClickException(f"not as planned: {error}") from error
    finally:
        await rpc.aclose()
    return complete


def merged(fresh: Deployment, out: Path) -> Deployment:
    """`fresh` together with the chains that `out` has already, which must belong to the same deployment."""
    if not out.exists():
        return fresh
    known = Deployment.load(out)
    if replace(known, chains={}) != replace(fresh, chains={}):
        raise click.ClickException(
            f"{out} describes another deployment: move it, or plan the same name, keys and profile"
        )
    return replace(fresh, chains=dict(sorted({**known.chains, **fresh.chains}.items())))


def connect(chain_id: int, context: Any, deployer: str) -> int:
    """Returns the deployer's nonce; refuses an RPC that serves another chain."""
    with context as provider:
        if provider.chain_id != chain_id:
            raise click.ClickException(f"the RPC of chain {chain_id} serves chain {provider.chain_id}")
        return int(provider.get_nonce(deployer))


def read_plan(path: Path, deployer: Address) -> tuple[Deployment, dict[int, dict[str, Any]]]:
    """The deployment without its chains, and the entries of the chains to deploy to."""
    plan = json.loads(path.read_text())
    entries = {int(chain_id): entry for chain_id, entry in plan.pop("chains").items()}
    identity = encode(["string", "address", "uint256"], [plan["name"], bytes(deployer), plan.pop("salt")])
    return Deployment.from_json(plan | {"deploymentId": "0x" + keccak(identity).hex(), "chains": {}}), entries


@click.command()
@click.option("--plan", "plan_file", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Deployments file; merged into."
)
@click.option("--account", "alias", help="An account of ape's; without it the devnet's deployer, for the devnet only.")
def cli(plan_file: Path, out: Path, alias: str | None) -> None:
    """Deploy what a plan lists, check that it is wired as planned, and write the deployments file."""
    deployer = accounts.load(alias) if alias else accounts.test_accounts[0]
    try:
        deployment, entries = read_plan(plan_file, address(deployer.address))
        merged(deployment, out)
    except (DeploymentError, KeyError, TypeError, ValueError) as error:
        raise click.ClickException(f"{plan_file}: {error!r}") from error
    if not alias and not set(entries) <= {chain.chain_id for chain in CHAINS}:
        raise click.ClickException("--account is wanted outside the devnet: the devnet's keys are known to everyone")

    contexts = {chain_id: networks.parse_network_choice(entry["rpc"]) for chain_id, entry in entries.items()}
    nonces = {chain_id: connect(chain_id, context, deployer.address) for chain_id, context in contexts.items()}
    if len(set(nonces.values())) > 1:
        raise click.ClickException(
            f"{deployer.address} has sent {nonces} transactions: equal addresses on all chains need equal nonces"
        )
    domains = {c: int(entry["cctp"]["domain"]) for c, entry in entries.items() if "cctp" in entry}
    try:
        plans = {c: ChainPlan(c, entry, address(deployer.address), nonces[c], domains) for c, entry in entries.items()}
        results = {chain_id: plan.complete(deployment) for chain_id, plan in plans.items()}
    except PlanError as error:
        raise click.ClickException(str(error)) from error
    if len({(chain.contracts, chain.bridge) for chain in results.values()}) > 1:
        raise click.ClickException("the chains' devnet parts differ, so their addresses would: plan the same parts")

    # Inside a wave nothing waits, and the chains mine side by side.
    for wave in range(WAVES):
        sent = {}
        for chain_id, plan in plans.items():
            with contexts[chain_id] as provider:
                sent[chain_id] = send(plan, plan.wave(wave), deployer, provider)
        for chain_id, plan in plans.items():
            with contexts[chain_id] as provider:
                block = wait(plan, plan.wave(wave), sent[chain_id], provider)
                # Followers begin at the contracts: what comes before has no state.
                if wave == 1:
                    results[chain_id] = replace(results[chain_id], deploy_block=block)

    for chain_id, chain in results.items():
        results[chain_id] = asyncio.run(recorded(chain, deployment))
        click.echo(f"chain {chain.name} ({chain_id}): {len(plans[chain_id].parts)} contracts, wired as planned")
    complete = merged(replace(deployment, chains=results), out)
    fresh = out.with_suffix(".new")
    fresh.write_text(json.dumps(complete.to_json(), indent=2) + "\n")
    fresh.replace(out)
    click.echo(f"{out} written")
