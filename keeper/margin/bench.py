"""Measures of the engine, against the same computation by scipy and numpy and against the machine's own limits."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from keeper.state.ids import account_id
from keeper.state.world import MarginAccount

from . import kernel, synthetic
from .kernel import Books, Floats, Layout
from .parameter_file import default_parameters
from .portfolio import Portfolio
from .valuation import Valuation
from .whatif import Trade, whatif
from .xpm import Xpm, XpmScenarios

_CHUNK = 4096
_SAMPLE = 32 * _CHUNK
_NOBODY = MarginAccount(account_id(bytes(20)), (1,))


def measure(accounts: int, scaling: tuple[int, ...], say: Callable[[str], None]) -> dict[str, Any]:
    """Run everything once; `say` what is being done. Ratios are of runs side by side in this process."""
    say("pricing 800 instruments")
    market = synthetic.market()
    model = Xpm(default_parameters(), market.listing)
    priced, scenarios = _timed(lambda: model.scenarios(market.marks, market.instruments))
    rows = scenarios.rows
    warm = synthetic.books(8192, len(market.instruments))
    kernel.evaluate(warm, rows, scenarios.layout)
    table = []
    for count in sorted({*scaling, accounts}):
        say(f"{count:,} accounts")
        books = synthetic.books(count, len(market.instruments))
        seconds = min(_evaluated(books, scenarios) for _ in range(3))
        table.append(
            {
                "accounts": count,
                "seconds": seconds,
                "accounts_per_second": count / seconds,
                "peak_memory_bytes": _peak(),
            }
        )
    main = next(row for row in table if row["accounts"] == accounts)
    peak = max(int(row["peak_memory_bytes"]) for row in table)
    books = synthetic.books(accounts, len(market.instruments))
    say("one percent of the accounts changed, and marks moved")
    few = np.arange(0, accounts, 100, dtype=np.int64)
    changed, _ = _timed(lambda: kernel.evaluate(books, rows, scenarios.layout, few))
    moved = synthetic.market(scale=1.01)
    remarked, _ = _timed(
        lambda: kernel.evaluate(books, model.scenarios(moved.marks, moved.instruments).rows, scenarios.layout)
    )
    say("the same by scipy and numpy")
    sample = min(accounts, 8 * _CHUNK)
    side = synthetic.books(sample, len(market.instruments))
    own = min(_evaluated(side, scenarios) for _ in range(3))
    theirs, found = _timed(lambda: by_scipy(side, scenarios))
    ours = kernel.evaluate(side, rows, scenarios.layout)
    apart = max(float(np.max(np.abs(a - b) / np.maximum(1.0, np.abs(b)))) for a, b in zip(ours, found, strict=True))
    say("where the time goes")
    parts = _parts(synthetic.books(_SAMPLE, len(market.instruments)), scenarios)
    say("what-if on 80 options")
    return {
        "accounts": accounts,
        "accounts_per_second": main["accounts_per_second"],
        "scipy_accounts_per_second": sample / theirs,
        "ratio": theirs / own,
        "greatest_relative_difference": apart,
        "peak_memory_bytes": peak,
        "whatif_milliseconds": _whatif(model, market),
        "whatif_cold_milliseconds": _whatif(model, market, cold=True),
        "instruments": len(market.instruments),
        "columns": scenarios.layout.columns,
        "pricing_seconds": priced,
        "one_percent_changed_seconds": changed,
        "marks_moved_seconds": remarked,
        "scaling": table,
        "limits": parts,
    }


def by_scipy(books: Books, scenarios: XpmScenarios) -> tuple[Floats, Floats]:
    """Initial and maintenance requirement by a sparse product and numpy's partition, in chunks that fit the cache."""
    layout = scenarios.layout
    shape = (len(books), len(scenarios.assets))
    matrix = csr_array((books.size, books.asset, books.start), shape=shape)
    initial, maintenance = np.empty(len(books)), np.empty(len(books))
    for begin in range(0, len(books), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        initial[part], maintenance[part] = _reduced(matrix[part] @ scenarios.pnl, layout)
    return initial, maintenance


def _reduced(pnl: Floats, layout: Layout) -> tuple[Floats, Floats]:
    u, pairs = layout.underlyings, len(layout.skew_underlying)
    alone, maintenance_factor, initial_factor, weight, rate = layout.weights
    skews = pnl[:, layout.skew : layout.skew + 4 * pairs].reshape(-1, 2, pairs, 2).min(axis=3)
    tilts = np.zeros((len(pnl), 2, u))
    for k, name in enumerate(layout.skew_underlying):
        tilts[:, :, name] += skews[:, :, k]
    grids = pnl[:, : layout.common].reshape(len(pnl), u, layout.cells).min(axis=2)
    apart = -np.minimum(0.0, np.minimum(grids, tilts.min(axis=1))).sum(axis=1)
    joint = np.minimum(pnl[:, layout.common : layout.common + layout.joint].min(axis=1), tilts.sum(axis=2).min(axis=1))
    scan = alone * apart - (1 - alone) * np.minimum(0.0, joint)
    recent = _tail(pnl[:, layout.skew - layout.stress - layout.recent : layout.skew - layout.stress], layout.tails[:2])
    stress = _tail(pnl[:, layout.skew - layout.stress : layout.skew], layout.tails[2:])
    required = np.maximum(scan, weight * recent + (1 - weight) * stress)
    first = layout.group_start[0]
    groups = np.minimum.reduceat(pnl[:, first : layout.concentration], layout.group_start[:-1] - first, axis=1)
    losses = -np.minimum(0.0, groups)
    held = -np.minimum(0.0, pnl[:, layout.concentration :].reshape(len(pnl), u, 3)[:, :, :2].min(axis=2))
    # Synthetic books stay far below the knee, and nobody holds anything elsewhere.
    charge = (rate * held * np.maximum(0.0, held / layout.volume - 1)).sum(axis=1)
    return (
        initial_factor * required + losses @ layout.initial + charge,
        maintenance_factor * required + losses @ layout.maintenance + charge,
    )


def _tail(pnl: Floats, tail: Floats) -> Floats:
    whole, share = int(tail[0]), float(tail[1])
    lowest = np.sort(np.partition(pnl, whole, axis=1)[:, : whole + 1], axis=1)
    return np.asarray(-(lowest[:, :whole].sum(axis=1) + share * lowest[:, whole]) / (whole + share))


def _parts(books: Books, scenarios: XpmScenarios) -> dict[str, float]:
    """Shares of the time, and multiply-adds and bytes a second against what plain loops reach here."""
    layout, count = scenarios.layout, len(books)
    bare = replace(layout, tails=np.zeros(4))
    nothing = replace(books, start=np.zeros_like(books.start))
    # In turn, so that a slow moment of the machine is no part's own.
    turns = [
        (_evaluated(books, scenarios), _evaluated(books, scenarios, bare), _evaluated(nothing, scenarios, bare))
        for _ in range(7)
    ]
    seconds, without_tails, alone = (min(times) for times in zip(*turns, strict=True))
    width = layout.cells + layout.joint + layout.recent + layout.stress
    per_account = len(books.size) / count * width
    cores = len(os.sched_getaffinity(0))
    product = max(without_tails - alone, 1e-9) / count
    return {
        "cores": float(cores),
        "microseconds_per_account": 1e6 * seconds / count,
        "share_of_products": product * count / seconds,
        "share_of_tails": (seconds - without_tails) / seconds,
        "share_of_the_rest": alone / seconds,
        "multiply_adds_per_second": per_account / product,
        "multiply_adds_per_second_in_cache": cores * _arithmetic(),
        "row_bytes_per_second": 8 * per_account / product,
        "bytes_per_second_from_memory": cores * _bandwidth(),
    }


def _triad(total: Floats, row: Floats, times: int) -> None:
    for _ in range(times):
        for j in range(len(total)):
            total[j] += 1.0000001 * row[j]


def _arithmetic() -> float:
    """Multiply-adds a second of one core, on rows in its first cache."""
    triad = kernel.compiled(_triad)
    total, row = np.zeros(1024), np.ones(1024)
    triad(total, row, 1)
    return 1024 * 20_000 / min(_timed(lambda: triad(total, row, 20_000))[0] for _ in range(3))


def _bandwidth() -> float:
    """Bytes a second that one core reads from memory."""
    row = np.ones(2**25)
    row.sum()
    return row.nbytes / min(_timed(lambda: row.sum())[0] for _ in range(3))


def _evaluated(books: Books, scenarios: XpmScenarios, layout: Layout | None = None) -> float:
    """Seconds for all accounts."""
    return _timed(lambda: kernel.evaluate(books, scenarios.rows, layout or scenarios.layout))[0]


def _whatif(model: Xpm, market: synthetic.Market, cold: bool = False) -> float:
    """Milliseconds to answer one trade on a book of 80 options, the median of 21; `cold`: with all priced again."""
    held = [asset for asset in market.instruments if asset[0] in (3, 4)][:81]
    sizes = {asset: (i % 7 - 3) * 10**18 or 10**18 for i, asset in enumerate(held[:80])}
    book = Portfolio(_NOBODY, 10**24, sizes, {})
    priced = None if cold else Valuation.of(market.marks, model, held)
    trade = Trade(held[80], 10**18, 10**18)
    times = []
    for _ in range(21):
        marks = replace(market.marks) if cold else market.marks  # a valuation is remembered by its marks
        times.append(_timed(lambda at=marks: whatif(book, at, model, [trade], priced=priced))[0])  # type: ignore[misc]
    return 1e3 * sorted(times)[10]


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _timed(run: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = run()
    return time.perf_counter() - began, result
