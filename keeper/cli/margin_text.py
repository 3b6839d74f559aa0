"""Margins in the terminal: figures, the scenario heat map, the distribution of losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from .figures import price, table, usd, whole

_BARS = " ▁▂▃▄▅▆▇█"
VOLS = (("vol up", ", vol up"), ("flat", ""), ("vol down", ", vol down"))
_BINS = 64


def report(console: Console, figures: dict[str, Any]) -> None:
    """One evaluation: its plain figures, then what is made of lists."""
    found = Table("", "USD", box=None)
    for column in found.columns:
        column.overflow = "fold"
    for name, value in figures.items():
        if isinstance(value, float | int) and not isinstance(value, bool):
            plain = not value or 1e-3 <= abs(value) < 1e15
            found.add_row(name.replace("_", " "), f"{value:,.6f}" if plain else f"{value!r}")
        elif isinstance(value, str):
            found.add_row(name.replace("_", " "), escape(value))
    console.print(found)
    if "terms" in figures:
        terms(console, figures["terms"])
    _warnings(console, figures.get("warnings", []))


def explanation(console: Console, told: dict[str, Any]) -> None:
    equity = told["equity"]
    console.print(
        f"[bold]{told['status'].replace('_', ' ')}[/]: equity {usd(equity['total'])}, initial margin "
        f"{usd(told['initialMargin'])}, maintenance margin {usd(told['maintenanceMargin'])}, "
        f"free {usd(told['free'])} USD"
    )
    console.print(
        f"equity is cash {usd(equity['cash'])}, mark to market {usd(equity['markToMarket'])}, collateral after "
        f"haircuts {usd(equity['collateral'])}; reservations take {usd(told['reserved'])} of margin"
    )
    terms(console, told["terms"])
    for name in told["liquidationPrices"]:
        heat_map(console, name, told["scenarios"])
    distribution(console, told["scenarios"])
    _netting(console, told["nettingBy"])
    _prices(console, told["liquidationPrices"])
    _cure(console, told["cure"])
    _warnings(console, told["warnings"])


def terms(console: Console, rows: list[dict[str, Any]]) -> None:
    found = table("requirement, USD", "set by", "profit or loss", "initial", "maintenance", texts=2)
    for row in sorted(rows, key=lambda row: -row["initial"]):
        figures = (usd(row[name]) for name in ("pnl", "initial", "maintenance"))
        found.add_row(escape(row["term"]), escape(row["scenario"]), *figures)
    console.print()
    console.print(found)


def heat_map(console: Console, underlying: str, scenarios: list[dict[str, Any]]) -> None:
    """The grid of one underlying: moves down, vols across, losses red; a list where a model has no grid."""
    cells = {row["move"]: row["pnl"] for row in scenarios if row["block"] == underlying}
    if not any(cells.values()):
        return
    most = max(abs(value) for value in cells.values()) or 1.0
    moves, tails = grid_of(cells)
    console.print()
    console.print(f"{underlying}: profit and loss, USD", highlight=False)
    if not moves:
        for name, value in cells.items():
            console.print(Text(f"{name:>28} ").append_text(_cell(value, most)))
        return
    grid = table("spot", *(said for said, _ in VOLS))
    for move in moves:
        grid.add_row(move, *(_cell(cells[move + suffix], most) for _, suffix in VOLS))
    console.print(grid)
    for name in tails:
        console.print(Text(f"tail {name.removesuffix(', vol up'):>16} ").append_text(_cell(cells[name], most)))


def grid_of(cells: Mapping[str, float]) -> tuple[list[str], list[str]]:
    """The moves that every vol has, and the tails; both empty where the scenarios are no grid."""
    moves = [name for name in cells if "," not in name and "×" not in name]
    if not all(move + suffix in cells for move in moves for _, suffix in VOLS):
        return [], []
    return moves, [name for name in cells if "×" in name]


def distribution(console: Console, scenarios: list[dict[str, Any]]) -> None:
    """Profits and losses of the historical days, as bars; the tail that counts is red."""
    for block, said in (("history", "filtered days"), ("stress", "stressed days")):
        values = sorted(row["pnl"] for row in scenarios if row["block"] == block)
        if not values or values[0] == values[-1]:
            continue
        counts, low, width = bins(values, _BINS)
        tail = values[max(0, int(len(values) * 0.025) - 1)]
        bars = Text("  ")
        for i, count in enumerate(counts):
            height = _BARS[min(8, -(-count * 8 // max(counts)))]
            bars.append(height, style="red" if low + i * width <= tail else "green")
        console.print()
        console.print(f"{said}, from {whole(values[0])} to {whole(values[-1])} USD", highlight=False)
        console.print(bars)


def bins(values: list[float], count: int) -> tuple[list[int], float, float]:
    """Counts in `count` bins of equal width, the lowest edge, the width."""
    low, width = values[0], (values[-1] - values[0]) / count
    counts = [0] * count
    for value in values:
        counts[min(count - 1, int((value - low) / width))] += 1
    return counts, low, width


def comparison(console: Console, before: dict[str, Any], after: dict[str, Any]) -> None:
    found = table("USD", "before", "after", "change")
    for name, said in (
        ("equity", "equity"),
        ("initialMargin", "initial margin"),
        ("maintenanceMargin", "maintenance margin"),
        ("free", "free"),
    ):
        one, other = before[name], after[name]
        found.add_row(said, usd(one), usd(other), usd(other - one, "+"))
    found.add_row("status", before["status"].replace("_", " "), after["status"].replace("_", " "), "")
    console.print(found)


def measures(console: Console, found: dict[str, Any]) -> None:
    measured = table("accounts", "seconds", "accounts/s", "peak memory", texts=0)
    for row in found["scaling"]:
        measured.add_row(
            f"{row['accounts']:,}",
            f"{row['seconds']:.3f}",
            f"{row['accounts_per_second']:,.0f}",
            f"{row['peak_memory_bytes'] / 2**20:,.0f} MiB",
        )
    console.print(measured)
    limits = found["limits"]
    console.print(
        f"{found['ratio']:.1f} times scipy's {found['scipy_accounts_per_second']:,.0f} accounts/s in this process; "
        f"greatest relative difference {found['greatest_relative_difference']:.1e}\n"
        f"1 % of the accounts changed: {1e3 * found['one_percent_changed_seconds']:.1f} ms; marks moved, all priced "
        f"and evaluated again: {1e3 * found['marks_moved_seconds']:,.0f} ms\n"
        f"what-if on 80 options: {found['whatif_milliseconds']:.2f} ms at marks already priced, "
        f"{found['whatif_cold_milliseconds']:.1f} ms at new ones\n"
        f"of {limits['microseconds_per_account']:.2f} µs an account: products {limits['share_of_products']:.0%}, tails "
        f"{limits['share_of_tails']:.0%}, the rest {limits['share_of_the_rest']:.0%}\n"
        f"products: {limits['multiply_adds_per_second'] / 1e9:.1f} of "
        f"{limits['multiply_adds_per_second_in_cache'] / 1e9:.1f} G multiply-adds/s that loops in the first cache "
        f"reach, reading rows at {limits['row_bytes_per_second'] / 1e9:.0f} GB/s; from memory come "
        f"{limits['bytes_per_second_from_memory'] / 1e9:.0f} GB/s"
    )


def _cell(value: float, most: float) -> Text:
    strength = min(1.0, abs(value) / most) ** 0.6
    red, green = (int(60 + 175 * strength), 40) if value < 0 else (30, int(60 + 110 * strength))
    return Text(f"{whole(value):>9} ", style=f"white on rgb({red},{green},50)" if value else "dim")


def _netting(console: Console, ways: dict[str, dict[str, Any]]) -> None:
    ways_table = table("netting, USD", "standing alone", "as one portfolio", "saved", "efficiency")
    for way, found in ways.items():
        efficiency = f"{usd(found['efficiency'])} ×" if found["efficiency"] else ""
        figures = (usd(found[name]) for name in ("standaloneSum", "portfolio", "benefit"))
        ways_table.add_row(f"by {way}", *figures, efficiency)
    console.print()
    console.print(ways_table)


def _prices(console: Console, prices: dict[str, dict[str, Any]]) -> None:
    console.print()
    for name, found in prices.items():
        ends = [
            f"{way} {price(found[way])} ({found[way] / found['price'] - 1:+.1%})"
            for way in ("below", "above")
            if found[way] is not None
        ]
        said = f"is liquidated {' and '.join(ends)}" if ends else "no price liquidates it"
        console.print(f"{name} at {price(found['price'])} USD: {said}")


def _warnings(console: Console, warnings: list[str]) -> None:
    for line in warnings:
        console.print(f"[yellow]warning[/]: {escape(line)}")


def _cure(console: Console, cure: dict[str, Any]) -> None:
    if not cure["cashToInitialMargin"]:
        return
    console.print(f"\nback to initial margin: {usd(cure['cashToInitialMargin'])} USD of cash")
    for each in cure["closing"][:5]:
        console.print(f"  or close {each['close']:g} of {escape(each['position'])} ({each['share']:.0%})")
