"""`keeper deposit`, `link`, `unlink`, `withdraw`, `reserve`, `release`, `claim`, `move`: acts of owners and
integrators."""

from __future__ import annotations

from typing import Annotated

import typer

from keeper.client import Client, Draft

from .acting import (
    AccountOption,
    AmountArgument,
    ChainArgument,
    SecondsOption,
    TokenArgument,
    acting,
    own_account,
)

LinksArgument = Annotated[list[str], typer.Argument(help="Chains by name or id.")]
OwnerArgument = Annotated[str, typer.Argument(help="The account that reserved: ADDRESS, ADDRESS/SUB or its id.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for function in (deposit, link, unlink, withdraw, reserve, release, claim, move):
        app.command(function.__name__)(acting(function))


def deposit(
    client: Client,
    chain: ChainArgument,
    token: TokenArgument,
    amount: AmountArgument,
    links: Annotated[list[str] | None, typer.Option("--link", help="A chain to link; may be repeated.")] = None,
    account: AccountOption = "0",
) -> Draft:
    """Pay a token into an account, and link chains to it on the way.

    Example: keeper deposit A USDC 100 --link B --devnet-key 7
    """
    return client.draft.deposit(chain, token, amount, links=links or (), account=own_account(account))


def link(client: Client, chain: ChainArgument, chains: LinksArgument, account: AccountOption = "0") -> Draft:
    """Name chains that belong to an account with this one; they count as one once each has named the other.

    Example: keeper link B A C --devnet-key 7
    """
    return client.draft.link(chain, chains, account=own_account(account))


def unlink(
    client: Client,
    chain: ChainArgument,
    other: Annotated[str, typer.Argument(help="The chain that it names no more, by name or id.")],
    account: AccountOption = "0",
    deadline: SecondsOption = 60,
) -> Draft:
    """Take a chain out of an account, by a permit of the attestors; each part then counts alone.

    Example: keeper unlink A B --devnet-key 7
    """
    return client.draft.unlink(chain, other, account=own_account(account), deadline=deadline)


def withdraw(
    client: Client,
    chain: ChainArgument,
    token: TokenArgument,
    amount: AmountArgument,
    receiver: Annotated[str | None, typer.Option("--receiver", help="An address; by default the signer's.")] = None,
    account: AccountOption = "0",
    deadline: SecondsOption = 60,
) -> Draft:
    """Take a token out of an account, by a permit of the attestors.

    Example: keeper withdraw A USDC 25 --devnet-key 7
    """
    return client.draft.withdraw(
        chain, token, amount, receiver=receiver, account=own_account(account), deadline=deadline
    )


def reserve(
    client: Client,
    chain: ChainArgument,
    integrator: Annotated[str, typer.Argument(help="Address of the protocol that may claim it.")],
    amount: AmountArgument,
    until: Annotated[int, typer.Option("--until", help="Unix seconds, or seconds from now.")] = 3_600,
    cash_part: Annotated[
        str | None, typer.Option("--cash-part", help="USD of it that a claim is paid at once, out of net cash.")
    ] = None,
    submitter: Annotated[
        str | None,
        typer.Option("--submitter", help="A contract that sends it: the permit is shown, and nothing is sent."),
    ] = None,
    account: AccountOption = "0",
    deadline: SecondsOption = 60,
) -> Draft:
    """Set margin aside for a protocol on a chain, in USD, by a permit of the attestors.

    Example: keeper reserve A 0x23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f 50 --cash-part 20 --devnet-key 7
    """
    return client.draft.reserve(
        chain,
        integrator,
        amount,
        until=until,
        cash_part=cash_part,
        submitter=submitter,
        account=own_account(account),
        deadline=deadline,
    )


def release(client: Client, chain: ChainArgument, account: OwnerArgument, amount: AmountArgument) -> Draft:
    """Give back USD of what an account reserved for the signer, who is the protocol.

    Example: keeper release A 0x14dC79964da2C08b23698B3D3cc7Ca32193d9955 10 --devnet-key 8
    """
    return client.draft.release(chain, account, amount)


def claim(client: Client, chain: ChainArgument, account: OwnerArgument, amount: AmountArgument) -> Draft:
    """Take USD of what an account reserved for the signer, who is the protocol, before the reservation ends.

    Example: keeper claim A 0x14dC79964da2C08b23698B3D3cc7Ca32193d9955 5 --devnet-key 8
    """
    return client.draft.claim(chain, account, amount)


def move(
    client: Client,
    chain: ChainArgument,
    to: Annotated[str, typer.Argument(help="The account that gets it: a sub-account's number, ADDRESS/SUB or an id.")],
    amount: AmountArgument,
    asset: Annotated[str, typer.Option("--asset", help="An instrument to move a position of; cash in USD.")] = "cash",
    account: AccountOption = "0",
    deadline: SecondsOption = 60,
) -> Draft:
    """Move cash, or a position at its mark, between two accounts of the signer on one chain, by a permit.

    Example: keeper move A 1 50 --devnet-key 7
    """
    return client.draft.move(
        chain, own_account(to), amount, asset=asset, account=own_account(account), deadline=deadline
    )
