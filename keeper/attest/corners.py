"""Weighing an act against every subset of what is live on one account (CM-11)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from keeper.clearing.exposure import Exposure, Figures, Line
from keeper.margin.parameters import BASIS, MarginParameters
from keeper.margin.valuation import EXACT
from keeper.state.batch import UNIT

CORNER_ITEMS = 4
"""Live items on one account of which every subset is tried."""


@dataclass(frozen=True, slots=True)
class Passed:
    """`free` is the least free margin with the act, `reducing` whether some subset passed only by freeing margin."""

    free: int
    reducing: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """The rule that a subset breaks, and the figures."""

    code: str
    message: str


def weigh(without: Exposure, act: Line, parameters: MarginParameters, leg_is_live: bool) -> Passed | Failed:
    """Whether `act` may be added to an account whatever of `without.lines` is executed.

    For every subset, free margin with the act stays at least the buffer; or it is greater with the act than without,
    the loss against the mark, fees included, is at most a share of the initial margin relieved, and equity stays ≥ 0
    (where it is negative already: no loss at all). While a leg is live only the second will do.
    """
    executed = without.plus(act)
    if not leg_is_live:
        bound = executed.bound()
        if bound.free >= buffer_of(bound, parameters):
            return Passed(bound.free, reducing=False)
    if len(without.lines) > CORNER_ITEMS:
        alone = _every_corner(replace(without, lines=()), act, parameters, leg_is_live)
        if isinstance(alone, Failed):
            return alone
        return Failed(
            "too_many_live",
            f"{len(without.lines)} items are live and it does not pass with each counted at its worst; "
            f"every subset is tried for at most {CORNER_ITEMS}",
        )
    return _every_corner(without, act, parameters, leg_is_live)


def reduces(without: Exposure, act: Line, parameters: MarginParameters) -> bool:
    """Whether `act` frees margin whatever of `without.lines` is executed, even where it would pass without that."""
    if len(without.lines) > CORNER_ITEMS:
        return False
    return isinstance(_every_corner(without, act, parameters, leg_is_live=True), Passed)


def least_free(exposure: Exposure) -> int:
    """The least free margin over all subsets: exact for a few lines, the bound for more."""
    if len(exposure.lines) > CORNER_ITEMS:
        return exposure.bound().free
    return min(figures.free for figures in exposure.corners())


def buffer_of(figures: Figures, parameters: MarginParameters) -> int:
    """What must stay free for a price move over the longest validity, USD 1e18."""
    return -(-figures.initial * parameters.buffer // BASIS)


def _every_corner(without: Exposure, act: Line, parameters: MarginParameters, leg_is_live: bool) -> Passed | Failed:
    pairs = list(zip(without.corners(), without.plus(act).corners(), strict=True))
    reducing = leg_is_live
    failures: list[tuple[int, Failed]] = []
    for before, after in pairs:
        if not leg_is_live and after.free >= buffer_of(after, parameters):
            continue
        reducing = True
        failed = _not_reducing(before, after, -act.equity, parameters, leg_is_live)
        if failed is not None:
            failures.append((after.free, failed))
    if failures:
        return min(failures, key=lambda entry: entry[0])[1]
    return Passed(min(after.free for _, after in pairs), reducing)


def _not_reducing(
    before: Figures, after: Figures, loss: int, parameters: MarginParameters, leg_is_live: bool
) -> Failed | None:
    """Why an act does not reduce risk in one subset. `loss` exact, USD 1e18 · EXACT."""
    if after.free <= before.free:
        if leg_is_live:
            return Failed(
                "leg_live", "a liquidation leg is live: only what frees margin whatever is executed is signed"
            )
        return Failed(
            "insufficient_free_margin",
            f"free margin would be {usd(after.free)}, a buffer of {usd(buffer_of(after, parameters))} is wanted",
        )
    relieved = before.initial - after.initial
    if loss * BASIS > relieved * parameters.reducing_loss * EXACT:
        return Failed(
            "loss_against_mark",
            f"it loses {usd(loss // EXACT)} against the mark and relieves {usd(relieved)} of initial margin, of which "
            f"at most {parameters.reducing_loss / 100:g} % may be lost",
        )
    if before.equity < 0 < loss:
        return Failed("equity_negative", f"equity is {usd(before.equity)}: only at the mark or better")
    if before.equity >= 0 > after.equity:
        return Failed("equity_negative", f"equity would go from {usd(before.equity)} to {usd(after.equity)}")
    return None


def usd(value: int) -> str:
    """USD 1e18 in words, to a cent."""
    return f"{value / UNIT:,.2f} USD"
