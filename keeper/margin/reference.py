"""What the kernel computes, slowly and readably, in plain Python: the margin of one account from its rows.

The same sums in the same order, so the results agree to the last bit. Written to be read beside the formulas of `xpm`,
and to be tested against.
"""

from __future__ import annotations

from collections.abc import Sequence

from .kernel import Layout


def vector(
    sizes: Sequence[tuple[int, float]], pnl: Sequence[Sequence[float]], elsewhere: Sequence[float]
) -> list[float]:
    """The account's columns: Σ size · row, over (asset number, size) in ascending order; `elsewhere` per underlying."""
    total = [0.0] * len(pnl[0])
    for asset, size in sorted(sizes):
        total = [so_far + size * gain for so_far, gain in zip(total, pnl[asset], strict=True)]
    for u, held in enumerate(elsewhere):
        total[len(total) - 3 * len(elsewhere) + 3 * u + 2] -= held
    return total


def requirements(v: Sequence[float], layout: Layout) -> tuple[float, float]:
    """Initial and maintenance requirement of one vector, USD, unrounded."""
    _, factor_maintenance, factor_initial, _, rate = map(float, layout.weights)
    required = max(scan_loss(v, layout), shortfall(v, layout))
    initial, maintenance = factor_initial * required, factor_maintenance * required
    for group in range(len(layout.group_start) - 1):
        loss = -min([0.0, *v[layout.group_start[group] : layout.group_start[group + 1]]])
        initial += float(layout.initial[group]) * loss
        maintenance += float(layout.maintenance[group]) * loss
    for u in range(layout.underlyings):
        long, short, others = v[layout.concentration + 3 * u : layout.concentration + 3 * u + 3]
        charge = concentration(-min(0.0, long, short), -min(0.0, others), float(layout.volume[u]), rate)
        initial, maintenance = initial + charge, maintenance + charge
    return initial, maintenance


def scan_loss(v: Sequence[float], layout: Layout) -> float:
    """S: each underlying's worst cell by itself, and the worst joint scenario, blended."""
    pairs = len(layout.skew_underlying)
    tilts = {kind: [0.0] * layout.underlyings for kind in (0, 1)}
    for kind in (0, 1):
        for k, u in enumerate(layout.skew_underlying):
            column = layout.skew + 2 * (kind * pairs + k)
            tilts[kind][u] += min(v[column : column + 2])
    apart = 0.0
    for u in range(layout.underlyings):
        cells = v[u * layout.cells : (u + 1) * layout.cells]
        apart += -min([0.0, tilts[0][u], tilts[1][u], *cells])
    joint = v[layout.common : layout.common + layout.joint]
    together = min([0.0, _sum(tilts[0]), _sum(tilts[1]), *joint])
    alone = float(layout.weights[0])
    return alone * apart - (1.0 - alone) * together


def shortfall(v: Sequence[float], layout: Layout) -> float:
    """V: the expected shortfall of the filtered days, blended with that of the stressed days."""
    recent = v[layout.skew - layout.stress - layout.recent : layout.skew - layout.stress]
    stress = v[layout.skew - layout.stress : layout.skew]
    weight = float(layout.weights[3])
    whole, share, stress_whole, stress_share = map(float, layout.tails)
    return weight * _tail(recent, int(whole), share) + (1.0 - weight) * _tail(stress, int(stress_whole), stress_share)


def concentration(held: float, elsewhere: float, volume: float, rate: float) -> float:
    """rate · held · (total ÷ volume − 1) up to where the next USD costs a whole one, and that from there on."""
    total = held + elsewhere
    if total <= volume or held <= 0.0 or rate <= 0.0:
        return 0.0
    knee = ((1.0 / rate + 1.0) * volume - elsewhere) / 2.0
    if held <= knee:
        return rate * held * (total / volume - 1.0)
    if knee <= 0.0:
        return held
    return rate * knee * ((knee + elsewhere) / volume - 1.0) + (held - knee)


def _tail(pnl: Sequence[float], whole: int, share: float) -> float:
    """Minus the mean of the `whole` lowest and `share` of the next: all below the last of them, and it in part."""
    members = whole + (1 if share > 0 else 0)
    if not pnl or not members:
        return 0.0
    last = sorted(pnl)[members - 1]
    below = [value for value in pnl if value < last]
    return -(_sum(below) + (whole + share - len(below)) * last) / (whole + share)


def _sum(values: Sequence[float]) -> float:
    """From the left; the built-in sum of later Pythons compensates."""
    total = 0.0
    for value in values:
        total += value
    return total
