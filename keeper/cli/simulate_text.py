"""Simulations in the terminal: a chart of prices and of the cascade, tables of figures, findings."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from keeper.simulation.findings import percent, usd

_BARS = " ▁▂▃▄▅▆▇█"
_WIDTH, _HEIGHT = 66, 12


def show(console: Console, found: dict[str, Any]) -> None:
    """One run, or a comparison."""
    if "run" in found:
        run(console, found["run"], found["scene"])
        return
    shown = next(row for row in found["grid"] if "series" in row)
    chart(console, shown, found["scene"])
    table(console, sorted(found["grid"], key=lambda row: row["rules"]["latency"]))
    for name, rows in found["sweep"].items():
        sweep(console, name, rows)
    console.print()
    for text in found["findings"]:
        console.print(text)


def run(console: Console, row: dict[str, Any], scene: dict[str, Any]) -> None:
    chart(console, row, scene)
    table(console, [row])
    console.print()
    payers = row["payers"]
    console.print(
        "equity gained or lost, USD: "
        + ", ".join(f"{name} {value:+,.0f}" for name, value in payers.items() if name != "sum").replace("-", "−")
        + f"; the sum is {abs(payers['sum']):.6f}"
    )
    flows, contagion = row["flows"], row["contagion"]
    console.print(
        f"liquidated accounts lost {usd(flows['slipped'])} against the mark to the market and {usd(flows['conceded'])} "
        f"to bidders, who gave {usd(flows['shared'])} of it to the fund\n"
        f"{contagion['bystanders']:,} owners hold nothing that is shocked: sales of others cost them up to "
        f"{usd(contagion['worst_loss'])}, at the end {usd(contagion['loss_at_end'])}, and {contagion['liquidated']} of "
        f"them were liquidated for it"
    )


def chart(console: Console, row: dict[str, Any], scene: dict[str, Any]) -> None:
    """Price and path of the first shocked underlying, and below what was liquidated when."""
    name, series = scene["shocks"][0][0], row["series"]
    price, path = (_thinned(series[kind][name], min) for kind in ("prices", "path"))
    low, high = min(*price, *path), max(*price, *path)
    cells = [[" "] * len(price) for _ in range(_HEIGHT)]
    for values, mark in ((path, "·"), (price, "●")):
        for x, value in enumerate(values):
            cells[round((high - value) / max(high - low, 1e-12) * (_HEIGHT - 1))][x] = mark
    rules = row["rules"]
    console.print(
        f"[bold]{name}[/] with its sales (●) and without (·); {rules['margin']}, {rules['liquidation']}, "
        f"{rules['sale']}, {rules['latency']} blocks"
    )
    for y, line in enumerate(cells):
        label = f"{high - (high - low) * y / (_HEIGHT - 1):>12,.2f} "
        text = Text(label, style="dim")
        for mark in line:
            text.append(mark, style="red" if mark == "●" else "cyan")
        console.print(text)
    sold = _thinned(series["sold"], sum)
    most = max(sold)
    bars = "".join(_BARS[0 if not value else max(1, round(8 * value / most))] for value in sold)
    console.print(Text("  liquidated ", style="dim").append(bars, style="yellow"))
    console.print(f"             0 {series['minutes'][-1]:>{_WIDTH - 6}g} min", style="dim")


def table(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    """Million USD; a part for every latency."""
    heads = ("sold", "accts", "imp.", "path", "back", "deficit", "fund", "ADL", "lost")
    found = Table("", "", "", *heads, box=None, padding=(0, 1, 0, 0))
    for number, column in enumerate(found.columns):
        column.justify, column.no_wrap = "left" if number < 3 else "right", True
    latency = -1
    for row in rows:
        rules, liquidated, beyond, deficit = (row[name] for name in ("rules", "liquidated", "beyond_path", "deficit"))
        if rules["latency"] != latency:
            latency = rules["latency"]
            found.add_row(f"[dim]{latency} blocks[/]")
        recovery = beyond["recovery_minutes"]
        found.add_row(
            rules["margin"],
            rules["liquidation"],
            rules["sale"],
            _million(liquidated["notional"]),
            f"{liquidated['accounts']:,}",
            f"{liquidated['because_of_impact']:.0%}",
            percent(beyond["worst"]),
            "later" if recovery is None else f"{recovery:.0f}",
            _million(deficit["total"]),
            _million(deficit["fund_paid"]),
            _million(row["deleveraged"]["notional"]),
            _million(row["contagion"]["worst_loss"]),
        )
    console.print()
    console.print(found)
    console.print(
        "million USD. sold: liquidated; imp.: share of that only because of earlier sales; path: farthest from the "
        "path without sales; back: minutes until within 1 % of it; deficit: of insolvent accounts, fund: what the fund "
        "paid of it; ADL: closed against counterparties; lost: at worst, by owners who hold nothing that is shocked",
        style="dim",
    )


def sweep(console: Console, name: str, rows: Sequence[dict[str, Any]]) -> None:
    found = Table(name, "", "sold", "path", "deficit", "ADL", "lost", box=None, padding=(0, 1, 0, 0))
    for column in found.columns[2:]:
        column.justify = "right"
    for row in rows:
        found.add_row(
            f"{row[name]:g}",
            row["rules"]["margin"],
            _million(row["liquidated"]["notional"]),
            percent(row["beyond_path"]["worst"]),
            _million(row["deficit"]["total"]),
            _million(row["deleveraged"]["notional"]),
            _million(row["contagion"]["worst_loss"]),
        )
    console.print()
    console.print(found)


def _thinned(values: Sequence[float], of: Any) -> list[float]:
    """`of` the values in each of at most _WIDTH parts."""
    count = min(_WIDTH, len(values))
    edges = [len(values) * i // count for i in range(count + 1)]
    return [of(values[a:b]) for a, b in pairwise(edges)]


def _million(value: float) -> str:
    return f"{value / 1e6:,.2f}"
