"""Margins as pictures: a heat map per underlying, the distribution of losses; PNG, SVG, or HTML that needs nothing."""

from __future__ import annotations

import html
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .margin_text import VOLS, grid_of


class NoPicture(ValueError):
    """A picture that cannot be made; the message says what is missing."""


def write(path: Path, told: dict[str, Any]) -> None:
    """Draw an explanation; the ending of the file's name says how.

    Raises:
        NoPicture: another ending, matplotlib missing, or a folder that cannot be written to.
    """
    names = [n for n in told["liquidationPrices"] if any(r["pnl"] for r in told["scenarios"] if r["block"] == n)]
    rows = len(names) + 1
    figure = blank(path, 11, 2.3 * len(names) + 3.6)
    figure.suptitle(title(told), fontsize=11)
    axes = figure.subplots(rows, 1, squeeze=False, gridspec_kw={"height_ratios": [1.0] * len(names) + [1.5]})[:, 0]
    for axis, name in zip(axes, names, strict=False):
        _heat_map(axis, name, told["scenarios"])
    _distribution(axes[-1], told["scenarios"])
    save(path, figure, lambda picture: _page(told, picture))


def blank(path: Path, width: float, height: float) -> Any:
    """An empty figure for a file of this name, inches. Raises NoPicture: another ending, or matplotlib missing."""
    if _kind(path) not in ("png", "svg", "html"):
        raise NoPicture(f"--plot {path}: wanted a file that ends in .png, .svg or .html")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise NoPicture("pictures want matplotlib: pip install 'keeper[plots]'") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(path: Path, figure: Any, page: Callable[[str], str]) -> None:
    """Write a figure, in HTML as `page` of its SVG. Raises NoPicture where the file cannot be written."""
    from matplotlib import rc_context

    kind = _kind(path)
    drawn = io.BytesIO()
    # Without the date and with names of its own in place of random ones, the same book gives the same bytes.
    form, metadata = ("png", None) if kind == "png" else ("svg", {"Date": None})
    with rc_context({"svg.hashsalt": "keeper"}):
        figure.savefig(drawn, format=form, dpi=110, metadata=metadata)
    content = drawn.getvalue()
    if kind == "html":
        content = page(content.decode()).encode()
    try:
        path.write_bytes(content)
    except OSError as error:
        raise NoPicture(f"--plot {path}: {error.strerror}") from None


def _kind(path: Path) -> str:
    return path.suffix.lower().lstrip(".")


def title(told: dict[str, Any]) -> str:
    return (
        f"{told['status'].replace('_', ' ')}: equity {told['equity']['total']:,.2f}, initial margin "
        f"{told['initialMargin']:,.2f}, maintenance margin {told['maintenanceMargin']:,.2f} USD"
    )


def _heat_map(axis: Any, name: str, scenarios: list[dict[str, Any]]) -> None:
    cells = {row["move"]: row["pnl"] for row in scenarios if row["block"] == name}
    moves, tails = grid_of(cells)
    if not moves:
        colors = ["#d1495b" if value < 0 else "#4f9d69" for value in cells.values()]
        axis.bar(range(len(cells)), list(cells.values()), color=colors)
        axis.set_title(f"{name}: profit and loss by scenario, USD", fontsize=10, loc="left")
        axis.set_xticks(range(len(cells)), list(cells), fontsize=6, rotation=60, ha="right")
        return
    columns = [*moves, *tails]
    # Tails have one vol only.
    values = [
        [cells[move + suffix] for move in moves]
        + [cells[tail] if suffix == ", vol up" else float("nan") for tail in tails]
        for _, suffix in VOLS
    ]
    most = max(abs(value) for value in cells.values()) or 1.0
    axis.imshow(values, cmap="RdYlGn", vmin=-most, vmax=most, aspect="auto")
    axis.set_title(f"{name}: profit and loss by move of price and vol, USD", fontsize=10, loc="left")
    axis.set_xticks(
        range(len(columns)), [c.removesuffix(", vol up").replace(" × ", "\n× ") for c in columns], fontsize=8
    )
    axis.set_yticks(range(len(VOLS)), [said for said, _ in VOLS], fontsize=8)
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            if value == value:
                axis.text(x, y, f"{value:,.0f}", ha="center", va="center", fontsize=7)


def _distribution(axis: Any, scenarios: list[dict[str, Any]]) -> None:
    axis.set_title(
        "two-day profit and loss over the past, USD; lines: expected shortfall 97.5 %", fontsize=10, loc="left"
    )
    for block, said, color in (("history", "filtered days", "#31688e"), ("stress", "stressed days", "#d1495b")):
        values = sorted(row["pnl"] for row in scenarios if row["block"] == block)
        if not values:
            continue
        mass = len(values) * 0.025
        whole = int(mass)
        shortfall = (sum(values[:whole]) + (mass - whole) * values[whole]) / mass
        axis.hist(values, bins=60, alpha=0.55, color=color, label=said)
        axis.axvline(shortfall, color=color, linestyle="--", linewidth=1.2)
    if axis.has_data():
        axis.legend(fontsize=8)
    axis.tick_params(labelsize=8)


def _page(told: dict[str, Any], picture: str) -> str:
    """One file with the picture, and every requirement in a table."""
    rows = "".join(
        f"<tr><td>{html.escape(row['term'])}</td><td>{html.escape(row['scenario'])}</td>"
        + "".join(f"<td>{row[name]:,.2f}</td>" for name in ("pnl", "initial", "maintenance"))
        + "</tr>"
        for row in sorted(told["terms"], key=lambda row: -row["initial"])
    )
    style = (
        "body{font:14px system-ui;margin:2em auto;max-width:1100px}table{border-collapse:collapse}"
        "td,th{padding:.3em .8em;text-align:right}td:nth-child(-n+2),th:nth-child(-n+2){text-align:left}"
        "tr:nth-child(even){background:#f4f4f4}svg{width:100%;height:auto}"
    )
    heads = "".join(
        f"<th>{name}</th>" for name in ("requirement", "set by", "profit or loss", "initial", "maintenance")
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Margin</title><style>{style}</style>'
        f"<h1>{html.escape(title(told))}</h1>{picture[picture.index('<svg') :]}"
        f"<table><tr>{heads}</tr>{rows}</table></html>\n"
    )
