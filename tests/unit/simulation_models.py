"""Requirements that tests of the simulation share: as shipped, and with no two underlyings alike."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from keeper.margin.parameter_file import default_parameters
from keeper.margin.synthetic import SPOT
from keeper.simulation.requirement import Requirements

BTC, ETH, SOL = range(3)


@cache
def need() -> Requirements:
    return Requirements(default_parameters(), dict(SPOT))


@cache
def distinct() -> Requirements:
    """No two underlyings need the same: of BTC and ETH, were they alike, rounding would say which is closed."""
    shipped = default_parameters()
    btc = replace(shipped.underlyings["BTC"], largest_move=1800)
    return Requirements(replace(shipped, underlyings={**shipped.underlyings, "BTC": btc}), dict(SPOT))
