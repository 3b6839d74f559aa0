"""What every command that acts has in common: who signs, through which node, and what is shown."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from keeper.chain.abi import AbiError
from keeper.cli.output import Failure, default_node, print_json
from keeper.cli.status import JsonOption, NodeOption, StateOption
from keeper.client import Client, ClientError, Done, Draft, SignerLike, read_keystore
from keeper.devnet.chains import ACCOUNTS, account
from keeper.devnet.launch import FOLDER
from keeper.state.wire import to_json

KEY = "KEEPER_KEY"
"""The environment variable that may hold a private key."""

KeyFileOption = Annotated[
    Path | None, typer.Option("--key-file", help=f"A file with a private key, or a key store; else {KEY} is read.")
]
PasswordFileOption = Annotated[Path | None, typer.Option("--password-file", help="The key store's password.")]
DevnetKeyOption = Annotated[
    int | None, typer.Option("--devnet-key", help="Act as one of the devnet's well-known accounts, by number.")
]
DeploymentOption = Annotated[
    Path | None, typer.Option("--deployment", help="A deployments file, so that the node need not be trusted with it.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be signed and sent; sign and send nothing.")
]
AccountOption = Annotated[
    str, typer.Option("--account", help="The signer's sub-account by number, or ADDRESS/SUB or an id.")
]
ChainArgument = Annotated[str, typer.Argument(help="A chain by name or id.")]
AmountArgument = Annotated[str, typer.Argument(help="Whole units, with decimals: 12.5")]
TokenArgument = Annotated[str, typer.Argument(help="A token by symbol or address.")]
SecondsOption = Annotated[int, typer.Option("--deadline", help="Seconds that the permit is good for, at most 300.")]


@dataclass(frozen=True, slots=True)
class Options:
    """The options that all of these commands take."""

    node: NodeOption = None
    state: StateOption = FOLDER
    deployment: DeploymentOption = None
    key_file: KeyFileOption = None
    password_file: PasswordFileOption = None
    devnet_key: DevnetKeyOption = None
    dry_run: DryRunOption = False
    json: JsonOption = False

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A client with the signer that was named; what it raises ends the command in one line."""
        try:
            url = self.node or default_node(self.state)
            signer = self._signer()
            if self.deployment is None:
                made = Client(url, signer=signer)
            else:
                made = Client.from_deployment(self.deployment, url, signer=signer)
            with made as client:
                yield client
        except (ClientError, AbiError) as error:
            raise Failure(" ".join(str(error).split())) from None

    def _signer(self) -> SignerLike:
        named = [self.key_file is not None, self.devnet_key is not None]
        if sum(named) > 1:
            raise Failure("--key-file and --devnet-key: give one of them")
        if self.devnet_key is not None:
            if not 0 <= self.devnet_key < ACCOUNTS:
                raise Failure(f"--devnet-key: 0 to {ACCOUNTS - 1} wanted, got {self.devnet_key}")
            return account(self.devnet_key).key
        if self.key_file is not None:
            content = _content("--key-file", self.key_file)
            return self._from_store() if content.startswith("{") else content
        if key := os.environ.get(KEY):
            return key
        raise Failure(f"nobody to sign: give --key-file FILE, set {KEY}, or on the devnet --devnet-key NUMBER")

    def _from_store(self) -> SignerLike:
        assert self.key_file is not None
        if self.password_file is None:
            return read_keystore(self.key_file, typer.prompt("password", hide_input=True, err=True))
        return read_keystore(self.key_file, _content("--password-file", self.password_file))


def acting(function: Callable[..., Draft]) -> Callable[..., None]:
    """The command of a function that drafts an act with a client: with the common options, and shown or executed."""
    own = list(_parameters(function).values())[1:]
    common = list(_parameters(Options).values())

    @functools.wraps(function, assigned=("__doc__", "__name__"))
    def command(**given: Any) -> None:
        options = Options(**{each.name: given.pop(each.name) for each in common})
        with options.client() as client:
            draft = function(client, **given)
            if options.dry_run:
                show_draft(draft, options.json)
            else:
                show_done(client.execute(draft), options.json)

    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*own, *common)]
    command.__dict__.pop("__wrapped__")
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    return command


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    hints = get_type_hints(function, include_extras=True)  # of a dataclass those of its fields
    found = inspect.signature(function).parameters
    return {name: each.replace(annotation=hints[name]) for name, each in found.items()}


def show_draft(draft: Draft, json: bool) -> None:
    """What would be signed and sent."""
    if json:
        print_json(draft.to_json())
        return
    for typed in draft.typed_data:
        typer.echo("would be signed, as eth_signTypedData_v4 takes it:")
        print_json(typed)
    for call in draft.calls:
        typer.echo(f"would be sent: {call.contract}.{call.function} to 0x{call.to.hex()} on chain {call.chain_id}")
        typer.echo(f"  0x{call.data.hex()}")
    if draft.sign is not None and not draft.calls:
        typer.echo("nothing would be sent: the permit is for the submitter to use")
    elif draft.sign is not None:
        typer.echo("the attestors' signatures are missing in it: they are asked for when it is done")


def show_done(done: Done, json: bool) -> None:
    """What was permitted and mined."""
    if json:
        print_json(done.to_json())
        return
    if done.permit is not None:
        permit = done.permit.item.permit
        signed = len(done.permit.signatures) // 65
        typer.echo(f"permitted by {signed} attestors until {permit.deadline}, nonce {permit.nonce}")
        if not done.receipts:
            typer.echo("nothing was sent: the submitter makes the call, with this action, permit and signatures")
            print_json({**to_json(done.permit.item), "quorum": "0x" + done.permit.signatures.hex()})
            return
    for receipt in done.receipts:
        typer.echo(f"mined in block {receipt.block_number}, {receipt.gas_used:,} gas: {receipt.tx_hash}")
    typer.echo(f"{done.act}: done")


def own_account(value: str) -> int | str:
    """A sub-account's number, or an account by address or id."""
    return int(value) if value.isascii() and value.isdigit() and len(value) < 30 else value


def _content(option: str, path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{option} {path}: {error}") from None
