"""Simulations as pictures: prices beside their path, the cascade, who pays, and where cross margin spreads a loss."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from keeper.cli.margin_pictures import blank, save

Row = dict[str, Any]

_COLORS = ("#d1495b", "#edae49", "#31688e", "#66a182", "#8d6a9f", "#5c5c5c", "#b8b8b8", "#20a39e")
_PAYERS = (
    ("fund_paid", "the fund", "#31688e"),
    ("counterparties_bore", "deleveraged counterparties", "#edae49"),
    ("open_at_end", "nobody yet", "#d1495b"),
)


def write(path: Path, found: dict[str, Any]) -> None:
    """Draw a run or a comparison; the ending of the file's name says how.

    Raises:
        NoPicture: another ending, matplotlib missing, or a folder that cannot be written to.
    """
    figure = blank(path, 11.5, 6.8)
    shock = ", ".join(f"{name} {100 * move:+g} %".replace("-", "−") for name, move in found["scene"]["shocks"])
    scene = found["scene"]
    title = f"{shock}: {scene['accounts']:,} owners, crowding {scene['crowding']:g}, seed {scene['seed']}"
    figure.suptitle(title, fontsize=12)
    axes = figure.subplots(2, 3).ravel()
    if "run" in found:
        _run(axes, found["run"], scene)
    else:
        _comparison(axes, found, scene)
    for axis in axes:
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.25)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=7, loc="best" if axis.lines else "upper right")
        if (axis.lines or axis.collections) and not axis.get_xlabel():
            axis.set_xlabel("minutes", fontsize=8)
    save(path, figure, lambda picture: _page(title, found, picture))


def _run(axes: Sequence[Any], row: Row, scene: Row) -> None:
    series, name = row["series"], scene["shocks"][0][0]
    minutes = series["minutes"]
    _title(axes[0], f"{name}, USD")
    axes[0].plot(minutes, series["prices"][name], color=_COLORS[0], label="with sales")
    axes[0].plot(minutes, series["path"][name], color=_COLORS[5], linestyle="--", label="without")
    _title(axes[1], "price beyond its path, %")
    for color, each in zip(_COLORS, series["prices"], strict=False):
        axes[1].plot(minutes, _beyond(series, each), color=color, label=each)
    _title(axes[2], "liquidated so far, million USD")
    axes[2].plot(minutes, _million(_running(series["sold"])), color=_COLORS[0])
    _title(axes[3], "accounts below zero, million USD")
    axes[3].fill_between(minutes, _million(series["deficit"]), color=_COLORS[0])
    _title(axes[4], "insurance fund, million USD")
    axes[4].plot(minutes, _million(series["fund"]), color=_COLORS[2])
    _title(axes[5], "gained or lost, million USD")
    payers = {name: value for name, value in row["payers"].items() if name != "sum"}
    axes[5].barh(
        list(payers), _million(list(payers.values())), color=[_COLORS[0 if v < 0 else 3] for v in payers.values()]
    )


def _comparison(axes: Sequence[Any], found: dict[str, Any], scene: Row) -> None:
    rows = [row for row in found["grid"] if "series" in row]
    chosen = [
        row
        for row in rows
        if (row["rules"]["liquidation"], row["rules"]["sale"]) in (("full", "market"), ("partial", "auction"))
    ]
    shocked, blocks = scene["shocks"][0][0], rows[0]["rules"]["latency"]
    others = [name for name in chosen[0]["series"]["prices"] if name not in [each for each, _ in scene["shocks"]]]
    _title(axes[0], f"{shocked} beyond its path, %; {blocks} blocks")
    _title(axes[1], f"{' and '.join(others)}, beyond the path, %: cross accounts")
    _title(axes[2], "liquidated so far, million USD")
    for color, row in zip(_COLORS, chosen, strict=False):
        series, name = row["series"], _name(row)
        axes[0].plot(series["minutes"], _beyond(series, shocked), color=color, label=name, linewidth=1.3)
        if row["rules"]["margin"] == "cross":
            for style, other in zip(("-", "--", ":"), others, strict=False):
                label = f"{other}, {name}"
                axes[1].plot(series["minutes"], _beyond(series, other), style, color=color, label=label, linewidth=1.3)
        axes[2].plot(series["minutes"], _million(_running(series["sold"])), color=color, label=name, linewidth=1.3)
    _paid(axes[3], found["grid"])
    _swept(
        axes[4],
        found["sweep"]["crowding"],
        "crowding",
        "bystanders' worst loss",
        lambda r: r["contagion"]["worst_loss"],
    )
    _swept(axes[5], found["sweep"]["hedged"], "hedged", "liquidated", lambda r: r["liquidated"]["notional"])


def _paid(axis: Any, grid: Sequence[Row]) -> None:
    latency = max(row["rules"]["latency"] for row in grid)
    rows = [row for row in grid if row["rules"]["latency"] == latency]
    _title(axis, f"who pays deficits at {latency} blocks, million USD")
    base = [0.0] * len(rows)
    for kind, said, color in _PAYERS:
        values = _million([row["deficit"][kind] for row in rows])
        if not any(values):
            continue
        axis.barh([_name(row) for row in rows], values, left=base, color=color, label=said)
        base = [a + b for a, b in zip(base, values, strict=True)]
    axis.invert_yaxis()
    axis.margins(x=0.05)


def _swept(axis: Any, rows: Sequence[Row], name: str, said: str, value: Callable[[Row], float]) -> None:
    _title(axis, f"{said}, million USD, by {name}")
    axis.set_xlabel(_short(rows[0]), fontsize=8)
    for color, margin in ((_COLORS[0], "cross"), (_COLORS[2], "isolated")):
        mine = [row for row in rows if row["rules"]["margin"] == margin]
        axis.plot([row[name] for row in mine], _million([value(row) for row in mine]), "o-", color=color, label=margin)


def _title(axis: Any, text: str) -> None:
    axis.set_title(text, fontsize=9, loc="left")


def _name(row: Row) -> str:
    return f"{row['rules']['margin']}, {row['rules']['liquidation']}, {row['rules']['sale']}"


def _short(row: Row) -> str:
    return f"{row['rules']['liquidation']}, {row['rules']['sale']}, {row['rules']['latency']} blocks"


def _beyond(series: Row, name: str) -> list[float]:
    pairs = zip(series["prices"][name], series["path"][name], strict=True)
    return [100 * (price / path - 1) for price, path in pairs]


def _running(values: Sequence[float]) -> list[float]:
    total, found = 0.0, []
    for value in values:
        total += value
        found.append(total)
    return found


def _million(values: Sequence[float]) -> list[float]:
    return [value / 1e6 for value in values]


def _page(title: str, found: dict[str, Any], picture: str) -> str:
    """One file with the picture and what the figures say."""
    style = "body{font:15px/1.5 system-ui;margin:2em auto;max-width:1200px}svg{width:100%;height:auto}"
    said = "".join(f"<p>{html.escape(text)}</p>" for text in found.get("findings", []))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Simulation</title><style>{style}</style>'
        f"<h1>{html.escape(title)}</h1>{picture[picture.index('<svg') :]}{said}</html>\n"
    )
