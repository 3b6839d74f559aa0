"""Weighing an act against every subset of what is live on one account (CM-11)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keeper.clearing.exposure import Corners, Exact, Exposure, Figures, Line
from keeper.margin.parameters import BASIS, MarginParameters
from keeper.margin.valuation import EXACT
from keeper.state.batch import UNIT

CORNER_ITEMS = 12
"""Live items on one account of which every subset is tried: 4,096 of them as one matrix product."""


@dataclass(frozen=True, slots=True)
class Passed:
    """`free` is the least free margin with the act, `reducing` whether some subset passed only by freeing margin."""

    free: int
    reducing: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """The rule that an act breaks, and the figures; `field`, `got`, `wanted` and `unit` where one value is at fault."""

    code: str
    message: str
    field: str | None = None
    got: Any = None
    wanted: Any = None
    unit: str | None = None


def weigh(without: Exposure, act: Line, parameters: MarginParameters, leg_is_live: bool) -> Passed | Failed:
    """Whether `act` may be added to an account whatever of `without.lines` is executed.

    For every subset, free margin with the act stays at least the buffer; or it is greater with the act than without,
    the loss against the mark, fees included, is at most a share of the initial margin relieved, and equity stays ≥ 0
    (where it is negative already: no loss at all). While a leg is live only the second will do.

    First the bound; then every subset of the lines, or of the CORNER_ITEMS heaviest with the others in the bound. What
    only frees margin is judged against every subset or not at all: with others in a bound nothing is known of before.
    """
    executed = without.plus(act)
    if not leg_is_live:
        bound = executed.bound()
        if bound.free >= buffer_of(bound.initial, parameters):
            return Passed(bound.free, reducing=False)
    if len(without.lines) <= CORNER_ITEMS:
        return _every_corner(without, act, parameters, leg_is_live)
    if not leg_is_live:
        free, enough = _room(heaviest(executed), parameters)
        if enough.all():
            return Passed(min(free), reducing=False)
    alone = _every_corner(replace(without, lines=()), act, parameters, leg_is_live)
    if isinstance(alone, Failed):
        return alone
    return Failed(
        "too_many_live",
        f"{len(without.lines)} items are live and it does not pass with all but the {CORNER_ITEMS} heaviest counted at "
        f"their worst; what only frees margin passes beside at most {CORNER_ITEMS}",
    )


def reduces(without: Exposure, act: Line, parameters: MarginParameters) -> bool:
    """Whether `act` frees margin whatever of `without.lines` is executed, even where it would pass without that."""
    if len(without.lines) > CORNER_ITEMS:
        return False
    return isinstance(_every_corner(without, act, parameters, leg_is_live=True), Passed)


def least_free(exposure: Exposure) -> int:
    """The least free margin over all subsets, USD 1e18; beyond CORNER_ITEMS lines a bound of it."""
    return int(min(heaviest(exposure).corners().free))


def buffer_of(initial: Any, parameters: MarginParameters) -> Any:
    """What must stay free for a price move over the longest validity, USD 1e18; of one requirement or an array."""
    return -(-initial * parameters.buffer // BASIS)


def heaviest(exposure: Exposure) -> Exposure:
    """The same with at most CORNER_ITEMS lines, all others counted at their worst."""
    if len(exposure.lines) <= CORNER_ITEMS:
        return exposure
    return exposure.keeping(exposure.heaviest(CORNER_ITEMS))


def _room(exposure: Exposure, parameters: MarginParameters) -> tuple[Exact, NDArray[np.bool_]]:
    """Free margin of every subset, and whether it is at least the buffer."""
    corners = exposure.corners()
    free = corners.free
    return free, (free >= buffer_of(corners.initial, parameters)).astype(bool)


def _every_corner(without: Exposure, act: Line, parameters: MarginParameters, leg_is_live: bool) -> Passed | Failed:
    after = without.plus(act).corners()
    free = after.free
    enough = (free >= buffer_of(after.initial, parameters)).astype(bool)
    if not leg_is_live and enough.all():
        return Passed(min(free), reducing=False)
    before = without.corners()
    wanted = np.flatnonzero(~enough | leg_is_live)
    bad = wanted[~_all_reducing(before, after, -act.equity, parameters, wanted)]
    if len(bad):
        worst = min(bad.tolist(), key=lambda subset: free[subset])
        return _why(before[worst], after[worst], -act.equity, parameters, leg_is_live)
    return Passed(min(free), reducing=True)


def _all_reducing(
    before: Corners, after: Corners, loss: int, parameters: MarginParameters, wanted: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Whether an act reduces risk in each of the wanted subsets. `loss` exact, USD 1e18 · EXACT."""
    equity, left = before.equity[wanted], after.equity[wanted]
    relieved = before.initial[wanted] - after.initial[wanted]
    frees = left - after.initial[wanted] > equity - before.initial[wanted]
    cheap = loss * BASIS <= relieved * (parameters.reducing_loss * EXACT)
    solvent = np.where((equity < 0).astype(bool), loss <= 0, (left >= 0).astype(bool))
    return np.asarray(frees.astype(bool) & cheap.astype(bool) & solvent, dtype=bool)


def _why(before: Figures, after: Figures, loss: int, parameters: MarginParameters, leg_is_live: bool) -> Failed:
    """Why an act does not reduce risk in one subset."""
    if after.free <= before.free:
        if leg_is_live:
            return Failed(
                "leg_live", "a liquidation leg is live: only what frees margin whatever is executed is signed"
            )
        buffer = buffer_of(after.initial, parameters)
        return Failed(
            "insufficient_free_margin", f"free margin would be {usd(after.free)}, a buffer of {usd(buffer)} is wanted"
        )
    relieved = before.initial - after.initial
    if loss * BASIS > relieved * parameters.reducing_loss * EXACT:
        return Failed(
            "loss_against_mark",
            f"it loses {usd(loss // EXACT)} against the mark and relieves {usd(relieved)} of initial margin, of which "
            f"at most {parameters.reducing_loss / 100:g} % may be lost",
        )
    if before.equity < 0:
        return Failed("equity_negative", f"equity is {usd(before.equity)}: only at the mark or better")
    return Failed("equity_negative", f"equity would go from {usd(before.equity)} to {usd(after.equity)}")


def usd(value: int) -> str:
    """USD 1e18 in words, to a cent."""
    return f"{value / UNIT:,.2f} USD"
