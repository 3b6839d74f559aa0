"""Deploy to one chain or several: `ape run deploy --plan PLAN.json --out deployments.json [--account ALIAS]`.

The plan has the shape of the deployments file, with what is not yet known left out: a token without an address becomes
a devnet token, a feed with an `answer` instead of an address a devnet feed, `integrator` with its two ages a devnet
lender, `pool` with a token, a fee and a depth a Uniswap pool filled with devnet tokens, and `cctp` with an `attester`
stand-ins of Circle's contracts. All these are refused outside the devnet's chain ids.

A chain whose `cctp` names `messenger`, `transmitter`, `domain`, `maxFeeBps` and `minFinalityThreshold` gets an adapter
that ships to every other chain of the plan that has one; a chain that is deployed to later is not among them.

ape keeps the key; what is sent, and how it is checked, is keeper/devnet/deployer.py, which the devnet uses without ape.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from ape import accounts, networks

from keeper.devnet import DevnetError
from keeper.devnet.deployer import Signer, deploy
from keeper.state.ids import address


def signer_of(alias: str) -> Signer:
    """An account of ape's, which asks for its passphrase, or on its device, itself."""
    account = accounts.load(alias)

    def sign(fields: dict[str, Any]) -> bytes:
        signed = account.sign_transaction(networks.ethereum.create_transaction(**fields))
        if signed is None:
            raise click.ClickException(f"{alias} did not sign")
        return bytes(signed.serialize_transaction())

    return Signer(address(account.address), sign)


@click.command()
@click.option("--plan", "plan_file", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Deployments file; merged into."
)
@click.option("--account", "alias", help="An account of ape's; without it the devnet's deployer, for the devnet only.")
def cli(plan_file: Path, out: Path, alias: str | None) -> None:
    """Deploy what a plan lists, check that it is wired as planned, and write the deployments file."""
    try:
        deployment = deploy(json.loads(plan_file.read_text()), out, signer_of(alias) if alias else None)
    except (DevnetError, json.JSONDecodeError) as error:
        raise click.ClickException(f"{plan_file}: {error}") from error
    for chain in deployment.chains.values():
        click.echo(f"chain {chain.name} ({chain.chain_id}): wired as planned")
    click.echo(f"{out} written")
