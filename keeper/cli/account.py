"""`keeper account`: one account's margin and what explains it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console

from keeper.cli.figures import table, units, usd
from keeper.cli.output import Failure, ask, default_node, print_json
from keeper.cli.status import JsonOption, NodeOption, StateOption
from keeper.devnet.launch import FOLDER
from keeper.margin.names import name_of
from keeper.state.ids import AccountId, AssetId, IdError, parse_account_id

_FIGURES = (
    ("equity", "equity"),
    ("initialMargin", "initial margin"),
    ("maintenanceMargin", "maintenance margin"),
    ("free", "free"),
    ("reserved", "reserved"),
)


def account(
    account_id: Annotated[str, typer.Argument(help="ADDRESS, ADDRESS/SUB-ACCOUNT, or the 32-byte id.")],
    node: NodeOption = None,
    state: StateOption = FOLDER,
    json: JsonOption = False,
) -> None:
    """Show an account's equity, requirements and what is live on it.

    Example: keeper account 0x14dC79964da2C08b23698B3D3cc7Ca32193d9955
    """
    try:
        wanted: AccountId = parse_account_id(account_id)
    except IdError as error:
        raise Failure(str(error)) from None
    answer = ask(node or default_node(state), f"/v1/accounts/0x{wanted.hex()}")
    if json:
        print_json(answer)
    else:
        render(Console(), answer)


def render(console: Console, answer: dict[str, Any]) -> None:
    console.print(f"account {answer['accountId']}")
    console.print(f"owner {answer['owner']}, sub-account {answer['subAccount']}")
    for entry in answer["marginAccounts"]:
        console.print(f"\n[bold]chains {', '.join(map(str, entry['chains']))}[/]: {entry['status']}")
        figures = table("", "USD")
        for name, said in _FIGURES:
            figures.add_row(said, usd(entry["usd"][name]))
        console.print(figures)
        for held in entry["holdings"]:
            parts = [f"cash {usd(int(held['cash']) / 1e18)} USD"]
            parts += [f"{_name(asset)} {units(int(size), sign='+')}" for asset, size in held["positions"].items()]
            parts += [f"{b['symbol']} {units(int(b['amount']), b['decimals'])}" for b in held["balances"].values()]
            console.print(f"  chain {held['chain']}: " + ", ".join(parts))
            for line in _reservations(held):
                console.print("    " + line, soft_wrap=True)
    if answer["live"] is None:
        console.print("\nwhat is live is unknown here: no attestor answers this node")
        return
    console.print(f"\n{len(answer['live'])} live permits and legs; free nonce {answer['freeNonce']}")
    for entry in answer["live"]:
        console.print(f"  {entry['description']}", soft_wrap=True)


def _reservations(held: dict[str, Any]) -> list[str]:
    """One line for each integrator: what it may claim until when, and what it can claim no more."""
    lines = []
    for name, said in (("reservations", "reserved for"), ("lapsedReservations", "lapsed, for")):
        for integrator, entry in held[name].items():
            amount, cash = int(entry["amount"]) / 1e18, int(entry["cashPart"]) / 1e18
            ends = datetime.fromtimestamp(entry["until"], UTC).strftime("%Y-%m-%d %H:%M:%S")
            lines.append(f"{said} {integrator}: {amount:,.2f} USD, cash part {cash:,.2f}, until {ends} UTC")
    return lines


def _name(asset: str) -> str:
    try:
        return name_of(AssetId(bytes.fromhex(asset[2:])))
    except IdError:
        return asset
