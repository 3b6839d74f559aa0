"""`keeper netting`: what netting over chains saves, now and over the last batches."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from keeper.cli.output import ask, default_node, print_json
from keeper.cli.status import JsonOption, NodeOption, StateOption
from keeper.devnet.launch import FOLDER

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 64
"""Samples shown over time."""


def netting(
    node: NodeOption = None,
    state: StateOption = FOLDER,
    json: JsonOption = False,
    accounts: Annotated[int, typer.Option(min=0, help="So many accounts, those that netting saves most.")] = 5,
) -> None:
    """Show exposure by underlying and chain, gross and net, what margin and payments save, and how that changed.

    Example: keeper netting --node http://127.0.0.1:8600
    """
    answer = ask(node or default_node(state), f"/v1/netting?accounts={accounts}")
    if json:
        print_json(answer)
    else:
        render(Console(), answer)


def render(console: Console, answer: dict[str, Any]) -> None:
    finals = ", ".join(f"{answer['chains'][chain]['name']} {number}" for chain, number in answer["finals"].items())
    console.print(f"{answer['accountCount']} margin accounts at final blocks {finals}, batch {answer['epoch']}")
    _underlyings(console, answer)
    _chains(console, answer)
    _savings(console, answer)
    if answer["accounts"]:
        _accounts(console, answer["accounts"])
    _history(console, answer["history"])


def _table(title: str, *columns: str) -> Table:
    table = Table(*columns, title=title, title_justify="left", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _underlyings(console: Console, answer: dict[str, Any]) -> None:
    table = _table("delta by underlying", "", "index", "gross", "gross USD", "net", "net USD", "overall USD", "netted")
    for name, each in answer["underlyings"].items():
        gross, net = each["gross"], each["net"]
        table.add_row(
            name,
            _usd(each["index"]),
            _units(gross["units"]),
            _usd(gross["usd"]),
            _units(net["units"]),
            _usd(net["usd"]),
            _usd(each["overall"]["usd"]),
            _percent(each["efficiency"]),
        )
        for chain, there in each["chains"].items():
            table.add_row(
                f"  {answer['chains'][chain]['name']}",
                "",
                _units(there["gross"]["units"]),
                _usd(there["gross"]["usd"]),
                _units(there["net"]["units"]),
                _usd(there["net"]["usd"]),
                "",
                _percent(there["efficiency"]),
            )
    total = answer["exposure"]
    table.add_row("all", "", "", _usd(total["gross"]), "", _usd(total["net"]), "", _percent(total["efficiency"]))
    console.print()
    console.print(table)


def _chains(console: Console, answer: dict[str, Any]) -> None:
    table = _table("by chain, each alone", "", "gross USD", "net USD", "netted", "initial margin")
    for chain_id, each in answer["chains"].items():
        there = each["exposure"]
        table.add_row(
            f"{each['name']} ({chain_id})",
            _usd(there["gross"]),
            _usd(there["net"]),
            _percent(there["efficiency"]),
            _usd(each["initialMargin"]),
        )
    console.print()
    console.print(table)


def _savings(console: Console, answer: dict[str, Any]) -> None:
    margin, value, transfers = answer["margin"], answer["payments"]["value"], answer["payments"]["transfers"]
    table = _table("what netting saves", "", "gross", "net", "efficiency")
    table.add_row("payments, USD", _usd(value["gross"]), _usd(value["net"]), _percent(value["efficiency"]))
    counts = (str(transfers["gross"]), str(transfers["net"]))
    table.add_row("transfers between chains", *counts, _percent(transfers["efficiency"]))
    required = (_usd(margin["isolated"]), _usd(margin["portfolio"]))
    table.add_row("initial margin, USD", *required, _percent(margin["efficiency"]))
    console.print()
    console.print(table)
    console.print(
        f"capital efficiency {_times(margin['capitalEfficiency'])}: positions alone would require "
        f"{_usd(margin['isolated'])}, each chain alone {_usd(margin['siloed'])}, accounts require "
        f"{_usd(margin['portfolio'])} USD"
    )


def _accounts(console: Console, accounts: list[dict[str, Any]]) -> None:
    table = _table("accounts that save most", "", "chains", "positions alone", "chains alone", "required", "capital")
    for each in accounts:
        table.add_row(
            f"{each['accountId'][:10]}…{each['accountId'][-4:]}",
            str(len(each["chains"])),
            _usd(each["isolated"]),
            _usd(each["siloed"]),
            _usd(each["portfolio"]),
            _times(each["capitalEfficiency"]),
        )
    console.print()
    console.print(table)


def _history(console: Console, history: list[dict[str, Any]]) -> None:
    shown = history[-_WIDTH:]
    if not shown:
        return
    console.print(f"\nefficiency over {len(shown)} batches, {shown[0]['epoch']} to {shown[-1]['epoch']}, 0 to 100 %")
    for said, name in (
        ("payments", "value"),
        ("transfers", "transfers"),
        ("margin", "margin"),
        ("exposure", "exposure"),
    ):
        line = sparkline([point[name] for point in shown])
        console.print(f"  {said:<10}{line} {_percent(shown[-1][name])}", highlight=False)


def sparkline(values: list[float | None]) -> str:
    """One bar a value between 0 (lowest) and 1 (highest), beyond them the nearest; a space where there is none."""
    most = len(_BARS) - 1
    return "".join(" " if v is None else _BARS[min(most, max(0, int(v * len(_BARS))))] for v in values)


def _usd(amount: str) -> str:
    return f"{int(amount) / 1e18:,.2f}"


def _units(amount: str) -> str:
    return f"{int(amount) / 1e18:,.4f}"


def _percent(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.1%}"


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f} ×"
