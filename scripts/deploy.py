"""Deploy to one chain or several: `ape run deploy --plan PLAN.json --out deployments.json [--account ALIAS]`.

The plan has the shape of the deployments file, with what is not yet known left out: a token without an address becomes
a devnet token, a feed with an `answer` instead of an address a devnet feed, `integrator` with its two ages a devnet
lender. These three are refused outside the devnet's chain ids.

Contracts name each other in constructors, so their addresses are computed beforehand from the deployer's nonce. The
same key with the same nonce on every chain gives the same addresses on every chain; anything else is refused.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import click
import rlp
from ape import accounts, networks, project
from eth_abi import encode
from eth_utils import keccak, to_checksum_address

from keeper.devnet.chains import CHAINS
from keeper.state.deployment import ChainDeployment, Contracts, Deployment, DeploymentError, Token
from keeper.state.ids import Address, address

RECEIPT_SECONDS = 180
FIRST_WAVE = ("DevnetToken", "DevnetFeed")
CORE = ("history", "verifier", "clearing_house", "vault", "reservations", "lens")
"""In the order of deployment; devnet tokens and feeds come before, the devnet lender after."""


class Part(NamedTuple):
    """One contract to create; `deployed` is its predicted address. (ape runs scripts outside sys.modules, where a
    dataclass cannot be defined.)"""

    name: str
    contract: str
    arguments: tuple[Any, ...]
    deployed: Address


class ChainPlan:
    """What one chain gets, in the order of nonces, beginning with `nonce`."""

    def __init__(self, chain_id: int, entry: dict[str, Any], deployer: Address, nonce: int) -> None:
        self.chain_id, self.entry, self.deployer, self.first = chain_id, entry, deployer, nonce
        self.parts: list[Part] = []
        if self.devnet_parts() and chain_id not in {chain.chain_id for chain in CHAINS}:
            raise click.ClickException(
                f"chain {chain_id} is none of the devnet's: give addresses for {self.devnet_parts()}"
            )

    def devnet_parts(self) -> list[str]:
        """What has no address yet and so would be a devnet contract, which a real chain never gets."""
        tokens, feeds = self.entry["tokens"], self.entry["feeds"]
        missing = [f"tokens.{name}" for name, token in tokens.items() if "address" not in token]
        missing += [f"feeds.{name}" for name, feed in feeds.items() if not isinstance(feed, str)]
        return missing + (["integrator"] if isinstance(self.entry.get("integrator"), dict) else [])

    def add(self, name: str, contract: str, *arguments: Any) -> Address:
        self.parts.append(Part(name, contract, arguments, self.predicted(len(self.parts))))
        return self.parts[-1].deployed

    def wave(self, devnet_parts: bool) -> list[Part]:
        return [part for part in self.parts if (part.contract in FIRST_WAVE) == devnet_parts]

    def predicted(self, index: int) -> Address:
        """CREATE: the last 20 bytes of the hash of (deployer, nonce)."""
        return Address(keccak(rlp.encode([bytes(self.deployer), self.first + index]))[12:])

    def tokens(self) -> list[Token]:
        return [
            Token(
                symbol,
                address(token["address"])
                if "address" in token
                else self.add(f"tokens.{symbol}", "DevnetToken", symbol, symbol, token["decimals"]),
                token["decimals"],
                token.get("underlying", ""),
            )
            for symbol, token in self.entry["tokens"].items()
        ]

    def feeds(self) -> dict[str, Address]:
        return {
            name: address(feed)
            if isinstance(feed, str)
            else self.add(f"feeds.{name}", "DevnetFeed", feed["decimals"], f"{name} / USD", feed["answer"])
            for name, feed in self.entry["feeds"].items()
        }

    def bridge(self) -> Address:
        """Zero where the plan names none: then nothing is shipped from the chain."""
        return address(self.entry.get("bridge", "0x" + "00" * 20))

    def core(self, deployment: Deployment, settlement: Token, collateral: list[Token]) -> Contracts:
        at = Contracts(**{name: self.predicted(len(self.parts) + offset) for offset, name in enumerate(CORE)})
        p = deployment.profile
        self.add("history", "NativeBlockHistory")
        self.add(
            "verifier",
            "MarginVerifier",
            {
                "name": deployment.name,
                "version": deployment.version,
                "deploymentId": deployment.deployment_id,
                "epochSeconds": p.epoch_seconds,
                "heartbeat": p.heartbeat_seconds,
                "maxSkew": p.max_skew_seconds,
                "grace": p.grace_seconds,
                "maxPermitSeconds": p.max_permit_seconds,
                "parametersHash": deployment.parameters_hash,
                "attestorSetId": deployment.attestor_set_id,
                "attestors": [to_checksum_address(a) for a in deployment.attestors],
                "threshold": deployment.threshold,
                "history": to_checksum_address(at.history),
                "clearingHouse": to_checksum_address(at.clearing_house),
                "vault": to_checksum_address(at.vault),
                "reservations": to_checksum_address(at.reservations),
            },
        )
        self.add(
            "clearing_house",
            "ClearingHouse",
            {
                "name": deployment.name,
                "version": deployment.version,
                "verifier": to_checksum_address(at.verifier),
                "vault": to_checksum_address(at.vault),
                "reservations": to_checksum_address(at.reservations),
                "priceBand": p.price_band,
                "feeRate": p.fee_rate,
                "flatFee": p.flat_fee,
                "fundShare": p.fund_share,
                "maxFundingRate": p.max_funding_rate,
                "rampSeconds": p.ramp_seconds,
                "maxAge": p.max_age_seconds,
            },
        )
        self.add(
            "vault",
            "CollateralVault",
            to_checksum_address(at.verifier),
            to_checksum_address(at.clearing_house),
            to_checksum_address(settlement.address),
            [to_checksum_address(t.address) for t in collateral],
            to_checksum_address(at.reservations),
            to_checksum_address(self.bridge()),
        )
        self.add(
            "reservations",
            "MarginReservations",
            to_checksum_address(at.verifier),
            to_checksum_address(at.clearing_house),
            to_checksum_address(at.vault),
        )
        self.add("lens", "MarginLens", to_checksum_address(at.clearing_house), to_checksum_address(at.vault))
        return at

    def lender(self, at: Contracts) -> Address | None:
        lender = self.entry.get("integrator")
        if not isinstance(lender, dict):
            return address(lender) if lender else None
        contracts = (to_checksum_address(at.verifier), to_checksum_address(at.reservations))
        return self.add("integrator", "DevnetLender", *contracts, lender["maxMarkAge"], lender["maxStateAge"])


def chain_deployment(plan: ChainPlan, deployment: Deployment) -> ChainDeployment:
    """Fill `plan.parts` and say what the chain will hold."""
    tokens, feeds = plan.tokens(), plan.feeds()
    settlement = [token for token in tokens if token.settlement]
    if len(settlement) != 1:
        raise click.ClickException(
            f"chain {plan.chain_id}: one token without underlying, the settlement token, is wanted"
        )
    collateral = [token for token in tokens if not token.settlement]
    at = plan.core(deployment, settlement[0], collateral)
    return ChainDeployment(
        chain_id=plan.chain_id,
        name=plan.entry["name"],
        rpc=plan.entry["rpc"],
        block_seconds=float(plan.entry["blockSeconds"]),
        deploy_block=0,
        contracts=at,
        settlement=settlement[0],
        collateral=tuple(collateral),
        feeds=feeds,
        integrator=plan.lender(at),
    )


def send(plan: ChainPlan, parts: list[Part], deployer: Any, provider: Any) -> list[bytes]:
    """Sign and send without waiting: later parts of a wave share blocks with earlier ones."""
    hashes = []
    for part in parts:
        constructor = project.get_contract(part.contract).constructor
        nonce = plan.first + plan.parts.index(part)
        transaction = constructor.serialize_transaction(*part.arguments, sender=deployer, nonce=nonce)
        signed = deployer.sign_transaction(deployer.prepare_transaction(transaction))
        hashes.append(provider.web3.eth.send_raw_transaction(signed.serialize_transaction()))
    return hashes


def wait(plan: ChainPlan, parts: list[Part], hashes: list[bytes], provider: Any) -> int:
    """Returns the first block that holds one of them: followers begin at the contracts', tokens have no state."""
    blocks = []
    for part, transaction in zip(parts, hashes, strict=True):
        receipt = provider.web3.eth.wait_for_transaction_receipt(transaction, RECEIPT_SECONDS, 0.1)
        where = f"chain {plan.chain_id}: {part.contract} ({part.name})"
        if receipt["status"] != 1:
            raise click.ClickException(f"{where} reverted in its constructor, transaction 0x{bytes(transaction).hex()}")
        if address(receipt["contractAddress"]) != part.deployed:
            raise click.ClickException(f"{where} is at {receipt['contractAddress']}, predicted 0x{part.deployed.hex()}")
        blocks.append(receipt["blockNumber"])
    return min(blocks, default=2**63)


def check_wiring(chain: ChainDeployment, deployment: Deployment, bridge: Address) -> None:
    """Ask the contracts on chain who they think they and the others are.

    Raises:
        ClickException: an answer is not what was planned.
    """
    at = chain.contracts
    wanted: dict[tuple[str, Address], dict[str, bytes]] = {
        ("MarginVerifier", at.verifier): {
            "DEPLOYMENT_ID": deployment.deployment_id,
            "PARAMETERS_HASH": deployment.parameters_hash,
            "HISTORY": at.history,
            "CLEARING_HOUSE": at.clearing_house,
            "VAULT": at.vault,
            "RESERVATIONS": at.reservations,
        },
        ("ClearingHouse", at.clearing_house): {
            "VERIFIER": at.verifier,
            "VAULT": at.vault,
            "RESERVATIONS": at.reservations,
        },
        ("CollateralVault", at.vault): {
            "VERIFIER": at.verifier,
            "CLEARING_HOUSE": at.clearing_house,
            "SETTLEMENT_TOKEN": chain.settlement.address,
            "RESERVATIONS": at.reservations,
            "BRIDGE": bridge,
        },
        ("MarginReservations", at.reservations): {
            "VERIFIER": at.verifier,
            "CLEARING_HOUSE": at.clearing_house,
            "VAULT": at.vault,
        },
        ("MarginLens", at.lens): {"CLEARING_HOUSE": at.clearing_house, "VAULT": at.vault},
    }
    for (name, where), answers in wanted.items():
        contract = project.get_contract(name).at(to_checksum_address(where))
        for getter, value in answers.items():
            found = contract.call_view_method(getter)
            if (address(found) if isinstance(found, str) else bytes(found)) != value:
                raise click.ClickException(
                    f"chain {chain.chain_id}: {name}.{getter}() is {found}, planned 0x{value.hex()}"
                )


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
    plans = {c: ChainPlan(c, entry, address(deployer.address), nonces[c]) for c, entry in entries.items()}
    results = {chain_id: chain_deployment(plan, deployment) for chain_id, plan in plans.items()}
    if len({chain.contracts for chain in results.values()}) > 1:
        raise click.ClickException("the chains' devnet parts differ, so their addresses would: plan the same parts")

    # Constructors of the second wave read tokens of the first; inside a wave nothing waits, and the chains mine side
    # by side.
    for devnet_parts in (True, False):
        sent = {}
        for chain_id, plan in plans.items():
            with contexts[chain_id] as provider:
                sent[chain_id] = send(plan, plan.wave(devnet_parts), deployer, provider)
        for chain_id, plan in plans.items():
            with contexts[chain_id] as provider:
                block = wait(plan, plan.wave(devnet_parts), sent[chain_id], provider)
                results[chain_id] = replace(results[chain_id], deploy_block=block)

    for chain_id, chain in results.items():
        with contexts[chain_id]:
            check_wiring(chain, deployment, plans[chain_id].bridge())
        click.echo(f"chain {chain.name} ({chain_id}): {len(plans[chain_id].parts)} contracts, wired as planned")
    complete = merged(replace(deployment, chains=results), out)
    fresh = out.with_suffix(".new")
    fresh.write_text(json.dumps(complete.to_json(), indent=2) + "\n")
    fresh.replace(out)
    click.echo(f"{out} written")
