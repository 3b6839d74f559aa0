"""The hot loop: one fused pass over accounts, product and reduction together, compiled.

Per account the rows of its instruments are added up in the order given (ascending ids), column by column, and the sums
are reduced at once while they are in the cache: grid minima, joint minimum, tail means. No fused multiply-add, no
reordering, no threads inside an account's sum: an account's figures depend on its own book alone, and are bit for bit
those of the pure-Python `reference`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Function = TypeVar("Function", bound=Callable[..., object])

_ROWS = 5
_CHUNK = 4096
"""Accounts per task: enough to make a thread's start nothing, few enough to keep all busy to the end."""
_PART = 1024
"""Vectors per task."""


def compiled(function: Function) -> Function:
    """Compiled at the first call and kept on disk. Without fastmath, so that sums keep their order."""
    return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where the columns of a vector are, and how they count.

    Columns in order: `cells` grid cells for each of the U underlyings; `joint` joint scenarios; `recent` and `stress`
    historical ones; a pair (+x, −x) per entry of `skew_underlying`, the linear ones first and then as many absolute
    ones; the groups' columns, group g from `group_start[g]` to `group_start[g + 1]`; per underlying (delta, −delta,
    −what the owner's other accounts hold).

    A group's loss is −min of its columns, at least 0, and counts `maintenance[g]`, `initial[g]` times. `tails` are
    (whole, share) of the recent and of the stress tail. `weights`: correlation break, maintenance and initial
    factors, weight of the recent tail, concentration rate. `volume[u]` in USD.
    """

    underlyings: int
    cells: int
    joint: int
    recent: int
    stress: int
    skew_underlying: Ints
    group_start: Ints
    maintenance: Floats
    initial: Floats
    tails: Floats
    weights: Floats
    volume: Floats

    @property
    def shape(self) -> Ints:
        return np.array([self.underlyings, self.cells, self.joint, self.recent, self.stress], dtype=np.int64)

    @property
    def common(self) -> int:
        """First column that every instrument has: the joint ones."""
        return self.underlyings * self.cells

    @property
    def skew(self) -> int:
        return self.common + self.joint + self.recent + self.stress

    @property
    def concentration(self) -> int:
        return int(self.group_start[-1])

    @property
    def columns(self) -> int:
        return self.concentration + 3 * self.underlyings

    def arguments(self) -> tuple[Ints | Floats, ...]:
        """What the compiled functions take."""
        return (
            self.shape,
            self.skew_underlying,
            self.group_start,
            self.maintenance,
            self.initial,
            self.tails,
            self.weights,
            self.volume,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The instruments' rows, as the fused pass reads them.

    `grid[a]` are the cells of the instrument's own underlying `underlying[a]`, `common[a]` joint and historical
    columns; of all columns after those, `column[start[a] : start[a + 1]]` and `value` hold what is not zero, ascending.
    """

    grid: Floats
    common: Floats
    underlying: Ints
    start: Ints
    column: Ints
    value: Floats
    group: Ints
    """Of each entry of `column`; −1 for a column of no group."""

    @classmethod
    def of(cls, pnl: Floats, underlying: Ints, layout: Layout) -> Rows:
        """Split a dense matrix (assets, columns)."""
        assets, cells, skew = len(pnl), layout.cells, layout.skew
        own = underlying[:, None] * cells + np.arange(cells)[None, :]
        row, column = np.nonzero(pnl[:, skew:])
        start = np.zeros(assets + 1, dtype=np.int64)
        np.cumsum(np.bincount(row, minlength=assets), out=start[1:])
        # Before the first group: −1.
        group = np.searchsorted(layout.group_start, column + skew, side="right") - 1
        return cls(
            np.ascontiguousarray(np.take_along_axis(pnl, own, axis=1)) if assets else np.zeros((0, cells)),
            np.ascontiguousarray(pnl[:, layout.common : skew]),
            underlying,
            start,
            column + skew,
            pnl[:, skew:][row, column],
            np.where(column + skew < layout.concentration, group, -1),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Books:
    """Sparse rows of sizes: account i holds `size[j]` whole units of instrument `asset[j]`, for start[i] ≤ j and
    j < start[i + 1], each instrument once, ascending. `elsewhere[i, u]`: USD that its owner's other accounts hold of
    an underlying."""

    start: Ints
    asset: NDArray[np.int32]
    size: Floats
    elsewhere: Floats

    def __len__(self) -> int:
        return len(self.start) - 1


def evaluate(books: Books, rows: Rows, layout: Layout, only: Ints | None = None) -> tuple[Floats, Floats]:
    """Initial and maintenance requirement of every account, or of those whose numbers are in `only`, USD, unrounded."""
    chosen = np.arange(len(books), dtype=np.int64) if only is None else only
    initial, maintenance = np.empty(len(chosen)), np.empty(len(chosen))
    arguments = (
        (books.start, books.asset, books.size, books.elsewhere),
        (rows.grid, rows.common, rows.underlying, rows.start, rows.column, rows.value, rows.group),
        layout.columns,
        layout.arguments(),
    )

    _in_parts(len(chosen), _CHUNK, lambda part: _fused(chosen[part], *arguments, initial[part], maintenance[part]))
    return initial, maintenance


def reduce(vectors: Floats, layout: Layout) -> tuple[Floats, Floats]:
    """Initial and maintenance requirement, shape (...), of vectors of shape (..., columns), USD."""
    flat = np.ascontiguousarray(vectors, dtype=np.float64).reshape(-1, vectors.shape[-1])
    initial, maintenance = np.empty(len(flat)), np.empty(len(flat))
    arguments = layout.arguments()
    _in_parts(len(flat), _PART, lambda part: _reduce_all(flat[part], arguments, initial[part], maintenance[part]))
    shape = vectors.shape[:-1]
    return initial.reshape(shape), maintenance.reshape(shape)


def _in_parts(count: int, size: int, run: Callable[[slice], None]) -> None:
    """`run` of every part of so many, on all cores where there is more than one part."""
    parts = [slice(begin, begin + size) for begin in range(0, count, size)]
    if len(parts) <= 1:
        for part in parts:
            run(part)
    else:
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            list(pool.map(run, parts))


@compiled
def _lowest(v: Floats, start: int, stop: int, low: float) -> float:
    """The least of `low` and of columns start … stop − 1, in four lanes: the order changes nothing of a minimum."""
    a, b, c, d = low, low, low, low
    end = start + (stop - start) // 4 * 4
    for j in range(start, end, 4):
        a, b, c, d = min(a, v[j]), min(b, v[j + 1]), min(c, v[j + 2]), min(d, v[j + 3])
    for j in range(end, stop):
        a = min(a, v[j])
    return min(min(a, b), min(c, d))


@compiled
def _tail(v: Floats, start: int, count: int, whole: int, share: float, low: Floats, found: Floats) -> float:
    """Mean loss of the `whole` lowest of `count` columns and `share` of the next, without sorting.

    With t the last of them in part, Σ of what is below t, in the order of columns, + what is left of the tail × t. To
    find t, columns are dealt into a few more hands than the tail has members; as many of the hands' lowest as it has
    do not exceed the third greatest of them, so that t does not either, and few columns are left to count ranks of.
    """
    keep = whole + 1 if share > 0.0 else whole
    if keep == 0 or count == 0:
        return 0.0
    hands = keep + 2
    bar = np.inf
    if count >= 2 * hands:
        deals = count // hands
        low[:hands] = v[start : start + hands]
        for k in range(1, deals):
            at = start + k * hands
            for b in range(hands):
                x, y = v[at + b], low[b]
                low[b] = x if x < y else y
        # The third greatest.
        first, second, bar = -np.inf, -np.inf, -np.inf
        for b in range(hands):
            x = low[b]
            if x > bar:
                if x > second:
                    bar = second
                    if x > first:
                        second, first = first, x
                    else:
                        second = x
                else:
                    bar = x
    n = 0
    for j in range(start, start + count):
        x = v[j]
        found[n] = x
        n += 1 if x <= bar else 0
    at_most = 0.0
    for i in range(n):
        x, below, equal = found[i], 0, 0
        for j in range(n):
            below += 1 if found[j] < x else 0
            equal += 1 if found[j] == x else 0
        if below < keep <= below + equal:
            at_most = x
            break
    total, below = 0.0, 0
    for i in range(n):
        if found[i] < at_most:
            total += found[i]
            below += 1
    return -(total + (whole + share - below) * at_most) / (whole + share)


@compiled
def concentration(held: float, elsewhere: float, volume: float, rate: float) -> float:
    """USD that `held` costs beside what the owner's other accounts hold; see xpm for the formula."""
    total = held + elsewhere
    if total <= volume or held <= 0.0 or rate <= 0.0:
        return 0.0
    # Where the next USD would cost a whole one, it costs that from there on: the charge stays convex and below `held`.
    knee = ((1.0 / rate + 1.0) * volume - elsewhere) / 2.0
    if held <= knee:
        return rate * held * (total / volume - 1.0)
    if knee <= 0.0:
        return held
    return rate * knee * ((knee + elsewhere) / volume - 1.0) + (held - knee)


@compiled
def _requirement(v: Floats, arguments, scratch: Floats, groups: Ints, count: int) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    shape, skew_underlying, group_start, maintenance_weight, initial_weight, tails, weights, volume = arguments
    underlyings, cells, joint, recent, stress = shape[0], shape[1], shape[2], shape[3], shape[4]
    common = underlyings * cells
    history = common + joint
    skew = history + recent + stress
    pairs = len(skew_underlying)
    linear, absolute, low, found = scratch[0], scratch[1], scratch[2], scratch[3]
    for u in range(underlyings):
        linear[u] = 0.0
        absolute[u] = 0.0
    for k in range(pairs):
        u = skew_underlying[k]
        linear[u] += min(v[skew + 2 * k], v[skew + 2 * k + 1])
        absolute[u] += min(v[skew + 2 * (pairs + k)], v[skew + 2 * (pairs + k) + 1])
    apart, together, tilted, bent = 0.0, 0.0, 0.0, 0.0
    for u in range(underlyings):
        worst = min(0.0, min(linear[u], absolute[u]))
        apart -= _lowest(v, u * cells, (u + 1) * cells, worst)
        tilted += linear[u]
        bent += absolute[u]
    together = _lowest(v, common, history, min(0.0, min(tilted, bent)))
    scan = weights[0] * apart - (1.0 - weights[0]) * together
    recent_loss = _tail(v, history, recent, int(tails[0]), tails[1], low, found)
    stress_loss = _tail(v, history + recent, stress, int(tails[2]), tails[3], low, found)
    shortfall = weights[3] * recent_loss + (1.0 - weights[3]) * stress_loss
    required = max(scan, shortfall)
    initial, maintenance = weights[2] * required, weights[1] * required
    for i in range(count):
        g = groups[i]
        worst = 0.0
        for j in range(group_start[g], group_start[g + 1]):
            worst = min(worst, v[j])
        initial -= initial_weight[g] * worst
        maintenance -= maintenance_weight[g] * worst
    at = group_start[-1]
    for u in range(underlyings):
        charge = concentration(-min(0.0, min(v[at], v[at + 1])), -min(0.0, v[at + 2]), volume[u], weights[4])
        initial += charge
        maintenance += charge
        at += 3
    return initial, maintenance


@compiled
def _reduce_all(vectors: Floats, arguments, initial: Floats, maintenance: Floats) -> None:  # type: ignore[no-untyped-def]
    scratch = np.empty((4, arguments[0][0] + arguments[0][3] + arguments[0][4] + 2))
    groups = np.arange(len(arguments[2]) - 1)
    for i in range(len(vectors)):
        initial[i], maintenance[i] = _requirement(vectors[i], arguments, scratch, groups, len(groups))


@compiled
def _add_rows(total: Floats, size: Floats, rows: Floats, asset: NDArray[np.int32], p: int) -> None:
    """Five rows at once, in the order of one after the other: the sums are loaded and stored once for all."""
    a, b, c, d, e = rows[asset[p]], rows[asset[p + 1]], rows[asset[p + 2]], rows[asset[p + 3]], rows[asset[p + 4]]
    qa, qb, qc, qd, qe = size[p], size[p + 1], size[p + 2], size[p + 3], size[p + 4]
    for j in range(len(total)):
        total[j] = ((((total[j] + qa * a[j]) + qb * b[j]) + qc * c[j]) + qd * d[j]) + qe * e[j]


@compiled
def _touch(group: int, groups: Ints, count: int) -> int:
    """Sort a group into those that the account has anything in; all others add nothing. Returns how many."""
    if group < 0:
        return count
    i = count
    while i > 0 and groups[i - 1] > group:
        i -= 1
    if i > 0 and groups[i - 1] == group:
        return count
    for k in range(count, i, -1):
        groups[k] = groups[k - 1]
    groups[i] = group
    return count + 1


@compiled
def _fused(chosen: Ints, books, rows, columns: int, arguments, initial: Floats, maintenance: Floats) -> None:  # type: ignore[no-untyped-def]
    start, asset, size, elsewhere = books
    grid, common, underlying, sparse, column, value, group_of = rows
    underlyings, cells = arguments[0][0], arguments[0][1]
    first = underlyings * cells
    wide = common.shape[1]
    concentration = arguments[2][-1]
    scratch = np.empty((4, underlyings + arguments[0][3] + arguments[0][4] + 2))
    v = np.empty(columns)
    groups = np.empty(len(arguments[2]), dtype=np.int64)
    for n in range(len(chosen)):
        account = chosen[n]
        v[:] = 0.0
        count = 0
        begin, end = start[account], start[account + 1]
        for p in range(begin, end):
            a, q = asset[p], size[p]
            own, row = v[underlying[a] * cells : (underlying[a] + 1) * cells], grid[a]
            for j in range(cells):
                own[j] += q * row[j]
            for s in range(sparse[a], sparse[a + 1]):
                v[column[s]] += q * value[s]
                count = _touch(group_of[s], groups, count)
        shared = v[first : first + wide]
        whole = begin + (end - begin) // _ROWS * _ROWS
        for p in range(begin, whole, _ROWS):
            _add_rows(shared, size, common, asset, p)
        for p in range(whole, end):
            q, row = size[p], common[asset[p]]
            for j in range(wide):
                shared[j] += q * row[j]
        for u in range(underlyings):
            v[concentration + 3 * u + 2] -= elsewhere[account, u]
        initial[n], maintenance[n] = _requirement(v, arguments, scratch, groups, count)
