"""What a comparison says, in sentences made of its figures: every number and every "more" or "less" is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .settings import Scene

Row = dict[str, Any]
Value = Callable[[Row], float]

_SAME = 0.005
"""Relative difference below which two figures are called the same."""


def of(scene: Scene, grid: Sequence[Row], sweep: dict[str, list[Row]]) -> list[str]:
    """One paragraph, as sentences: what spreads a loss, and what partial liquidation, auctions and isolation do."""
    latency = sorted({row["rules"]["latency"] for row in grid})
    shocked = " and ".join(name for name, _ in scene.shocks)
    found = [_spread(grid, latency[len(latency) // 2], shocked)]
    found += [_over(name, rows) for name, rows in sweep.items()]
    found.append(_in_all(sweep))
    found.append(_effect(grid, "liquidation", "full", "partial", "Closing only what the plan says, not everything"))
    found.append(_effect(grid, "sale", "market", "auction", "Auctions in place of market orders"))
    found.append(_effect(grid, "margin", "cross", "isolated", "Isolated accounts in place of cross"))
    if len(latency) > 1:
        said = f"Liquidating {latency[-1]} blocks after the fall below maintenance margin, not {latency[0]}"
        found.append(_effect(grid, "latency", latency[0], latency[-1], said))
    found.append(_paid(grid, latency[-1]))
    found.append(_bidders(grid))
    return found


def _spread(grid: Sequence[Row], latency: int, shocked: str) -> str:
    rows = _those(grid, liquidation="full", sale="market", latency=latency)
    cross, isolated = (_those(rows, margin=margin)[0] for margin in ("cross", "isolated"))
    spread = cross["contagion"]
    share = spread["worst_loss"] / max(spread["equity"], 1e-9)
    return (
        f"Sold in full and at once after {latency} blocks, cross accounts cost the {spread['bystanders']:,} owners "
        f"without {shocked} up to {usd(_contagion(cross))} ({share:.2%} of their equity) at the worst moment and "
        f"{usd(spread['loss_at_end'])} at the end; isolated ones {usd(_contagion(isolated))} and "
        f"{usd(isolated['contagion']['loss_at_end'])}."
    )


def _over(name: str, rows: Sequence[Row]) -> str:
    """Where cross margin is worse than isolated, along one parameter."""
    pairs = _pairs(rows)
    parts = []
    for said, value in _COMPARED:
        (cross, isolated), (cross_last, isolated_last) = (map(value, pair) for pair in (pairs[0], pairs[-1]))
        worse = [c[name] for c, i in pairs if _more(value(c), value(i))]
        better = [c[name] for c, i in pairs if _more(value(i), value(c))]
        parts.append(
            f"{said} {usd(cross)} to {usd(cross_last)} with cross accounts, {usd(isolated)} to {usd(isolated_last)} "
            f"with isolated ones, more with cross {_listed(worse, len(pairs))}, less {_listed(better, len(pairs))}"
        )
    return (
        f"Over {_NAMES[name]} from {pairs[0][0][name]:g} to {pairs[-1][0][name]:g}, sold in full and at once after "
        f"{rows[0]['rules']['latency']} blocks: {'; '.join(parts)}."
    )


def _in_all(sweep: dict[str, list[Row]]) -> str:
    # Where lines of the sweep cross, the market is the same one.
    each = {tuple(c[name] for name in _NAMES): (c, i) for rows in sweep.values() for c, i in _pairs(rows)}
    pairs, parts = list(each.values()), []
    for said, value in _COMPARED:
        worse = sum(_more(value(c), value(i)) for c, i in pairs)
        better = sum(_more(value(i), value(c)) for c, i in pairs)
        parts.append(f"{said} more in {worse} and less in {better}")
    return f"Of these {len(pairs)} markets, cross margin against isolated: {'; '.join(parts)}."


def _effect(grid: Sequence[Row], rule: str, plain: Any, other: Any, said: str) -> str:
    """The mean over everything else of what one rule changes."""
    before, after = _those(grid, **{rule: plain}), _those(grid, **{rule: other})
    parts = [
        f"{name} {change(_mean(before, value), _mean(after, value), show)}"
        for name, value, show in (
            ("what is liquidated", _notional, usd),
            ("the price's way beyond its path", _beyond, percent),
            ("the deficit", _deficit, usd),
            ("what is deleveraged", _deleveraged, usd),
            ("what bystanders lose", _contagion, usd),
        )
    ]
    return f"{said}: on average over all else, {'; '.join(parts)}."


def _paid(grid: Sequence[Row], latency: int) -> str:
    row = max(_those(grid, latency=latency), key=_deficit)
    deficit, rules = row["deficit"], row["rules"]
    if not deficit["total"]:
        return f"No account was left with a deficit at {latency} blocks."
    own = -row["payers"]["liquidated"]
    return (
        f"The greatest deficit at {latency} blocks, {usd(deficit['total'])} ({rules['margin']}, "
        f"{rules['liquidation']}, {rules['sale']}), is paid by the fund with {usd(deficit['fund_paid'])} and by "
        f"deleveraged counterparties with {usd(deficit['counterparties_bore'])}, after the liquidated accounts lost "
        f"{usd(own)} of their own."
    )


def _bidders(grid: Sequence[Row]) -> str:
    rows = _those(grid, sale="auction")
    earned, ends = _mean(rows, lambda row: row["flows"]["conceded"]), [row["payers"]["bidders"] for row in rows]
    losing = sum(end < 0 for end in ends)
    return (
        f"Bidders were conceded {usd(earned)} on average over {len(rows)} runs with auctions, and end with "
        f"{usd(sum(ends) / len(ends))}, the price's way while they held included; they lose in {losing}."
    )


def change(before: float, after: float, show: Callable[[float], str]) -> str:
    """ "goes from a to b (−x %)", or "stays at b" where they differ by less than they are called the same."""
    if not _more(before, after) and not _more(after, before):
        return f"stays at {show(after)}"
    relative = f" ({after / before - 1:+.0%})".replace("-", "−") if before else ""
    return f"goes from {show(before)} to {show(after)}{relative}"


def usd(value: float) -> str:
    for size, name in ((1e9, "bn"), (1e6, "m"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:,.2f}{name} USD".replace("-", "−")
    return f"{value:,.0f} USD".replace("-", "−")


def percent(value: float) -> str:
    return f"{value:.2%}"


def _more(one: float, other: float) -> bool:
    return one > other * (1 + _SAME)


def _pairs(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Cross and isolated, by the value that is swept."""
    return [(cross, isolated) for cross, isolated in zip(rows[::2], rows[1::2], strict=True)]


def _listed(values: Sequence[float], all_of: int) -> str:
    if len(values) == all_of:
        return "everywhere"
    return "at " + ", ".join(f"{value:g}" for value in values) if values else "nowhere"


def _those(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    return [row for row in rows if all(row["rules"][name] == value for name, value in wanted.items())]


def _mean(rows: Sequence[Row], value: Value) -> float:
    return sum(value(row) for row in rows) / len(rows)


def _notional(row: Row) -> float:
    return float(row["liquidated"]["notional"])


def _beyond(row: Row) -> float:
    return float(row["beyond_path"]["worst"])


def _deficit(row: Row) -> float:
    return float(row["deficit"]["total"])


def _deleveraged(row: Row) -> float:
    return float(row["deleveraged"]["notional"])


def _contagion(row: Row) -> float:
    return float(row["contagion"]["worst_loss"])


_NAMES = {"crowding": "crowding", "hedged": "the share of hedged traders", "correlation": "correlation"}
_COMPARED: tuple[tuple[str, Value], ...] = (
    ("bystanders lose", _contagion),
    ("liquidations take", _notional),
    ("deficits come to", _deficit),
)
