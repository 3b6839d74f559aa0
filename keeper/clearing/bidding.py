"""What a liquidator bids for a leg: how much of it, and when. Pure functions of one moment.

Taking `size` of a leg at block time t is worth, in USD,

    profit = concession(t) · size · (1 − fund share) + flat fee · size ÷ |close limit| + worth(size) − gas

where `worth` is what the size brings against the leg's mark once it is hedged or sold:

    of an instrument   side · size · (own mark − the leg's) − hedge(size)
    of a token         what a pool pays for it now − size · the leg's mark

    hedge(size)        added margin · (capital + slippage · mark ÷ standalone requirement of a unit)

The added margin is what the bidder's own initial margin grows by: at most the standalone requirement, when the hedge
costs the capital rate on it and the slippage on the whole notional; nothing where the size offsets what the bidder
holds. Funding between the chain's stored index and now is left out: it is seconds' worth.

Of the sizes that its free margin allows, a bidder takes the most profitable one that is worth at least the rule's
`min_profit` and is ripe: in a race where others take the leg at any moment after a mean of `patience` seconds, waiting
pays only while the profit grows by more than its 1 ÷ patience-th part a second. Every term but the concession stands
still, so ripe sizes stay ripe, and a later block never makes a bid smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor

import numpy as np

from keeper.margin.listing import Listing
from keeper.margin.parameters import BASIS
from keeper.margin.valuation import EXACT, ceil_grain, ceil_usd, floor_grain
from keeper.state.batch import UNIT, LiquidationLeaf
from keeper.state.deployment import Profile
from keeper.state.world import ChainState

from .effects import Effect, concession_at, taken
from .exposure import Exposure, held_on

PARTS = 16
"""Sizes that are tried: so many equal parts of what is open, and the smallest of them halved again and again."""

_HALVES = 6
_ROUNDING = 2
"""What the clearing house rounds against a taker, at most: the payment up, the flat fee down."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a liquidator wants. `min_profit` in USD 1e18, `patience` in seconds; `hedge` and `capital` in basis points:
    the slippage of a hedge, of its notional, and what margin costs until the hedge is closed, of that margin."""

    min_profit: int
    patience: float = 2.0
    hedge: int = 5
    capital: int = 2


@dataclass(frozen=True, slots=True)
class Impact:
    """What taking `size` does to the bidder, in USD 1e18: the free margin and cash that are left, and by how much its
    initial margin grows (negative where it offsets what it holds)."""

    size: int
    free: int
    cash_left: int
    added: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A size that the bidder can afford, and what it is worth against the leg's mark, USD 1e18, gas not counted."""

    size: int
    worth: int


@dataclass(frozen=True, slots=True)
class Bid:
    """A size, its profit now (USD 1e18, rounded down) and the concession per unit that it counts on.

    `wait` says why it is not made yet; empty where it is.
    """

    size: int
    profit: int
    concession: int
    wait: str = ""

    @property
    def ready(self) -> bool:
        return not self.wait


def open_size(leg: LiquidationLeaf, state: ChainState, listing: Listing) -> int:
    """What of a leg can be taken at a state of its chain, 1e18, unsigned: the limit's rest, at most the position."""
    left = abs(leg.close_limit) - state.closed.get((leg.account_id, leg.asset), 0)
    held = held_on(state, leg.account_id, leg.asset, listing)
    if (held > 0) != (leg.close_limit > 0):
        return 0
    return max(0, min(left, abs(held)))


def sizes(most: int, step: int) -> list[int]:
    """The sizes to try of `most`, ascending, each a multiple of `step` but for the whole of an instrument."""
    parts = [most * k // PARTS for k in range(1, PARTS)] + [(most // PARTS) >> k for k in range(1, _HALVES)]
    rounded = {size // step * step for size in parts} | {most}
    return sorted(size for size in rounded if size > 0)


def concession_now(leg: LiquidationLeaf, time: int, clock_start: int, profile: Profile) -> int:
    """What the clearing house concedes per unit at a block's time, USD 1e18.

    `clock_start` is when the chain itself starts the auction's clock, where that is later than the leg says.
    """
    started = replace(leg, auction_start=max(leg.auction_start, clock_start))
    concession = concession_at(started, time, profile.ramp_seconds)
    return min(concession, leg.mark_price) if leg.close_limit > 0 else concession


def impacts(exposure: Exposure, leg: LiquidationLeaf, price: int, tried: Sequence[int]) -> list[Impact]:
    """What each size does to the bidder, whatever of its live permits executes beside it.

    `exposure` is the bidder's account with what is live on it; its valuation has the leg's asset. `price` is the worst
    that the size may be paid at, as attestors judge it.
    """
    side = 1 if leg.close_limit > 0 else -1
    worst = exposure.keeping(())
    before = worst.bound()
    effects: list[Effect] = [taken(leg.asset, side * size, price) for size in tried]
    valuation = exposure.valuation
    lines = worst.base.pnl + valuation.scenario_pnl(effects)
    initial, _ = valuation.scenarios.requirements(np.asarray(lines))
    held = ceil_grain(worst.base.reserved * EXACT)
    found = []
    for size, effect, required in zip(tried, effects, initial.tolist(), strict=True):
        margin = ceil_usd(required) + held
        equity = floor_grain(worst.base.equity + valuation.equity(effect))
        cash_left = floor_grain(worst.base.cash_left + valuation.net_cash(effect))
        found.append(Impact(size, equity - margin, cash_left, margin - before.initial))
    return found


def affordable(found: Sequence[Impact], cash_counts: bool) -> list[Impact]:
    """Those that leave free margin, and, where `cash_counts` (tokens are paid for, cash is promised: CM-21), cash."""
    return [each for each in found if each.free >= 0 and (each.cash_left >= 0 or not cash_counts)]


def hedged(impact: Impact, leg: LiquidationLeaf, mark: int, standalone: int, rule: Rule) -> Candidate:
    """What a size of an instrument is worth: its distance to the own `mark`, less the hedge. Rounded down.

    `standalone` is the initial margin of one unit held alone, USD 1e18.
    """
    side = 1 if leg.close_limit > 0 else -1
    moved = side * impact.size * (mark - leg.mark_price) // UNIT
    return Candidate(impact.size, moved - hedge_cost(impact, mark, standalone, rule))


def hedge_cost(impact: Impact, mark: int, standalone: int, rule: Rule) -> int:
    """USD 1e18, rounded up; nothing where no margin is added."""
    added = max(0, impact.added)
    if added == 0:
        return 0
    notional = Fraction(impact.size * mark, UNIT)
    alone = Fraction(impact.size * standalone, UNIT)
    share = min(Fraction(1), added / alone) if alone else Fraction(1)
    return ceil(added * Fraction(rule.capital, BASIS) + notional * share * Fraction(rule.hedge, BASIS))


def sold(size: int, leg: LiquidationLeaf, proceeds: int) -> Candidate:
    """What a size of a token is worth that a pool pays `proceeds` for, USD 1e18. Rounded down."""
    return Candidate(size, proceeds - -(-size * leg.mark_price // UNIT))


def choose(
    leg: LiquidationLeaf,
    candidates: Sequence[Candidate],
    gas: int,
    time: int,
    profile: Profile,
    rule: Rule,
    *,
    clock_start: int = 0,
    haste: float = 1.0,
) -> Bid | None:
    """The bid for a leg at a block's time; with `wait` where none is due yet, None where nothing can be taken.

    Args:
        gas: of everything until the size is hedged or sold, USD 1e18.
        clock_start: when the chain starts the auction's clock; the leg's own where that is later.
        haste: divides the patience: what sets bidders of one rule apart.
    """
    start = max(clock_start, leg.auction_start)
    concession = concession_now(leg, time, start, profile)
    valued = [(_profit(leg, each, concession, gas, profile), each.size) for each in candidates]
    if not valued:
        return None
    paying = [entry for entry in valued if entry[0] >= max(0, rule.min_profit)]
    if not paying:
        profit, size = max(valued)
        return Bid(size, floor(profit), concession, f"{_usd(profit)} is below the least of {_usd(rule.min_profit)}")
    growing = time < start + profile.ramp_seconds
    per_unit = Fraction(leg.max_concession * (UNIT - profile.fund_share), profile.ramp_seconds * UNIT * UNIT)
    patience = Fraction(rule.patience) / Fraction(haste)
    ripe = [entry for entry in paying if not growing or per_unit * entry[1] * patience <= entry[0]]
    if not ripe:
        profit, size = max(paying)
        return Bid(size, floor(profit), concession, f"{_usd(profit)} now, {_usd(per_unit * size)} more each second")
    profit, size = max(ripe)
    return Bid(size, floor(profit), concession)


def _profit(leg: LiquidationLeaf, candidate: Candidate, concession: int, gas: int, profile: Profile) -> Fraction:
    """What is left, USD 1e18, never more than the clearing house leaves. Exact, so that a larger concession never
    favours the smaller of two sizes."""
    kept = Fraction(candidate.size * concession * (UNIT - profile.fund_share), UNIT * UNIT)
    fee = Fraction(profile.flat_fee * candidate.size, abs(leg.close_limit))
    return kept + fee + candidate.worth - gas - _ROUNDING


def _usd(amount: int | Fraction) -> str:
    return f"{float(amount) / UNIT:,.2f} USD"
