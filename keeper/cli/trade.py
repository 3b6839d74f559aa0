"""`keeper trade`: an order for somebody else to take, or taking one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from keeper.client import BadArgument, Client, Order, SignedOrder
from keeper.devnet.launch import FOLDER
from keeper.state.wire import WireError, from_json, to_json

from .acting import (
    AccountOption,
    DeploymentOption,
    DevnetKeyOption,
    DryRunOption,
    KeyFileOption,
    Options,
    PasswordFileOption,
    SecondsOption,
    own_account,
    show_done,
    show_draft,
)
from .output import Failure, print_json
from .status import JsonOption, NodeOption, StateOption


def trade(
    chain: Annotated[str | None, typer.Argument(help="A chain by name or id.")] = None,
    instrument: Annotated[str | None, typer.Argument(help="Like ETH-PERP or ETH-20261225-3000-C.")] = None,
    size: Annotated[str | None, typer.Argument(help="Units: bought, or sold with --sell.")] = None,
    price: Annotated[str | None, typer.Argument(help="USD per unit: the limit; the newest mark by default.")] = None,
    sell: Annotated[bool, typer.Option("--sell", help="Sell instead of buying.")] = False,
    until: Annotated[
        int, typer.Option("--until", help="When the order ends: unix seconds, or seconds from now.")
    ] = 240,
    out: Annotated[Path | None, typer.Option("--out", help="Write the signed order to this file.")] = None,
    taken: Annotated[Path | None, typer.Option("--with", help="Take the signed order in this file.")] = None,
    part: Annotated[str | None, typer.Option("--part", help="With --with: how many units of it; all of it.")] = None,
    account: AccountOption = "0",
    deadline: SecondsOption = 60,
    node: NodeOption = None,
    state: StateOption = FOLDER,
    deployment: DeploymentOption = None,
    key_file: KeyFileOption = None,
    password_file: PasswordFileOption = None,
    devnet_key: DevnetKeyOption = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Sign an order for somebody to take; or take one, with a permit for both accounts, at its price.

    Example: keeper trade A ETH-PERP 0.01 --sell --out order.json --devnet-key 9

    Example: keeper trade --with order.json --devnet-key 7
    """
    options = Options(node, state, deployment, key_file, password_file, devnet_key, dry_run, json)
    with options.client() as client:
        if taken is not None:
            if chain is not None:
                raise Failure("--with takes the order as it is: give no chain, instrument, size or price beside it")
            order = _read(client, taken)
            draft = client.draft.trade(order, size=part, account=own_account(account), deadline=deadline)
            if dry_run:
                show_draft(draft, json)
            else:
                show_done(client.execute(draft), json)
            return
        if chain is None or instrument is None or size is None:
            raise Failure("give CHAIN INSTRUMENT SIZE to make an order, or --with FILE to take one")
        limit = client.mark_proof(instrument, chain=chain).leaf.price if price is None else price
        signed_size = "-" + size if sell else size
        order_made = client.order(chain, instrument, signed_size, limit, until=until, account=own_account(account))
        _made(client, chain, order_made, out, dry_run, json)


def _made(client: Client, chain: str, order: Order, out: Path | None, dry_run: bool, json: bool) -> None:
    if dry_run:
        typed = client.order_typed_data(chain, order)
        if not json:
            typer.echo("would be signed, as eth_signTypedData_v4 takes it; nothing is sent:", err=True)
        print_json({"act": "order", "typedData": [typed], "transactions": []} if json else typed)
        return
    told = _told(client.sign_order(chain, order))
    if out is None:
        print_json(told)
        return
    try:
        out.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2))
    except OSError as error:
        raise Failure(f"--out {out}: {error.strerror}") from None
    if json:
        print_json(told)
    else:
        typer.echo(f"signed until {order.deadline}; whoever is to take it: keeper trade --with {out}")


def _told(signed: SignedOrder) -> dict[str, Any]:
    return {
        "chainId": signed.chain_id,
        "order": to_json(signed.order),
        "signature": "0x" + signed.signature.hex(),
    }


def _read(client: Client, path: Path) -> SignedOrder:
    """The order in a file. Raises Failure for anything else; whose signature it is, the attestors check."""
    try:
        data = orjson.loads(path.read_bytes())
        chain = client.chain(data["chainId"])
        signature = bytes.fromhex(data["signature"].removeprefix("0x"))
        return SignedOrder(chain.chain_id, from_json(Order, data["order"]), signature)
    except OSError as error:
        raise Failure(f"--with {path}: {error.strerror}") from None
    except (KeyError, TypeError, AttributeError, ValueError, WireError, BadArgument) as error:
        raise Failure(f"--with {path}: no signed order, as `keeper trade --out` writes it: {error}") from None
