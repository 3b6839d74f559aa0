"""What netting between underlyings is worth in xpm, and that it is safe."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
from option_books import NAMES
from worlds import BTC, ETH, LISTING, PARAMETERS, make_deployment, marks

from keeper.margin.history import filtered, stressed
from keeper.margin.listing import Listing
from keeper.margin.moves import joint
from keeper.margin.parameter_file import default_parameters
from keeper.margin.xpm import Xpm
from keeper.market.marks import Marks
from keeper.state.ids import perpetual


def test_what_the_netting_of_two_underlyings_is_worth_is_a_parameter() -> None:
    """At the full range a long of one against a short of the other nets nothing; at none, d · Σ is left and what is not
    matched: 0.5 · 15 % of 30,000."""
    for opposed, expected in ((10_000, 13_500), (5_000, 10_125), (0, 9_000)):
        model = Xpm(replace(PARAMETERS, opposed=opposed), LISTING)
        scenarios = model.scenarios(marks(), [ETH, BTC])
        initial, _ = scenarios.requirements(np.array([-10.0, 1.0]) @ scenarios.pnl)
        assert float(initial) == pytest.approx(expected + 0.028 * 90_000, rel=1e-12)


def test_spreads_are_covered_better_than_positions_in_one_underlying() -> None:
    """At the shipped range, by the worst shipped moves: each equal spread better than the average single position."""
    parameters = default_parameters()
    assert parameters.returns is not None
    held = [perpetual(name) for name in NAMES]
    unit = Marks(dict.fromkeys(NAMES, 10**18))
    scenarios = Xpm(replace(parameters, returns=None), Listing.of(make_deployment(NAMES))).scenarios(unit, held)
    for days in (filtered, stressed):
        moves = np.expm1(days(parameters.returns, NAMES, parameters.history).spot)
        taken = {}
        for weights in product((-1.0, 0.0, 1.0), repeat=3):
            legs = np.count_nonzero(weights)
            if legs == 1 or (legs == 2 and sum(weights) == 0):
                initial, _ = scenarios.requirements(np.array(weights) @ scenarios.pnl)
                scan = float(initial) - 0.028 * np.abs(weights).sum()
                taken[weights] = -float((moves @ np.array(weights)).min()) / scan
        single = [ratio for weights, ratio in taken.items() if np.count_nonzero(weights) == 1]
        spread = [ratio for weights, ratio in taken.items() if np.count_nonzero(weights) > 1]
        assert (len(single), len(spread)) == (6, 6)
        assert max(spread) < sum(single) / len(single)


def test_each_two_of_many_underlyings_move_apart_in_some_joint_scenario() -> None:
    """Found by counting: four patterns of signs never part the first of five from the fifth."""
    names = [f"U{n:02}" for n in range(11)]
    parameters = replace(PARAMETERS, underlyings=dict.fromkeys(names, PARAMETERS.underlyings["ETH"]))
    moves = [[move.spot for move in scenario] for scenario in joint(parameters, names)]
    for one, other in combinations(range(len(names)), 2):
        assert any(scenario[one] * scenario[other] < 0 for scenario in moves)
    assert all(min(s) * max(s) > 0 or max(map(abs, s)) <= 0.075 for s in moves if min(s) * max(s) != 0)
