"""The market and people of a simulation: prices with impact, owners and their books, bids, recovery."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation_models import ETH, need

from keeper.margin.parameter_file import default_parameters
from keeper.margin.parameters import ParameterError
from keeper.simulation.market import Impact, path, volatility
from keeper.simulation.measures import recovery
from keeper.simulation.population import ARBITRAGEUR, MAKER, MICRO, TRADER, bystanders, open_accounts, populate
from keeper.simulation.sales import room
from keeper.simulation.settings import Rules, Scene, SettingsError
from keeper.simulation.venue import Venue

# --- prices ---------------------------------------------------------------------------------------------------------


def impact(permanent: float = 0.0) -> Impact:
    return Impact(Rules(permanent=permanent), 12.0, np.array([0.05]), np.array([100e6]))


def test_impact_is_the_square_root_law_however_an_order_is_cut() -> None:
    # A quarter of a day's volume sold: 1 · 5 % · √0.25 = 2.5 %.
    whole, cut = impact(), impact()
    whole.add(np.array([-25e6]))
    for _ in range(10):
        cut.add(np.array([-2.5e6]))
    assert whole.log[0] == pytest.approx(-0.025)
    assert cut.log[0] == pytest.approx(-0.025)


@pytest.mark.parametrize(("before", "flow"), [(0, -25e6), (-10e6, -25e6), (-10e6, 30e6), (20e6, -5e6)])
def test_fills_pay_the_mean_of_the_way(before: float, flow: float) -> None:
    one = impact(0.3)
    one.add(np.array([before]))
    steps = []
    paid = one.mean(np.array([flow]))[0]
    for _ in range(20_000):
        steps.append(one.log[0])
        one.add(np.array([flow / 20_000]))
    assert paid == pytest.approx(np.mean(steps), rel=1e-3, abs=1e-6)


def test_impact_decays_to_the_permanent_part() -> None:
    one = impact(0.1)
    one.add(np.array([-25e6]))
    first = one.log[0]
    for _ in range(75):
        one.decay()
    # 15 minutes: what is remembered falls to 1/e, its root to e^-½.
    assert one.log[0] == pytest.approx(first * (0.1 + 0.9 * np.exp(-0.5)))
    for _ in range(75_000):
        one.decay()
    assert one.log[0] == pytest.approx(0.1 * first)


def test_the_path_falls_by_the_shock_and_gains_its_part_back() -> None:
    scene = Scene(shocks=(("ETH", -0.3),), rebound=0.5, correlation=0.0)
    found = path(scene, ("BTC", "ETH"), np.array([1.0, 1.0]), np.zeros(2))
    assert found.shape == (301, 2)
    assert (found[:, 0] == 1.0).all()
    assert found[:26, 1].tolist() == [1.0] * 26  # five minutes of calm
    assert found[:, 1].min() == pytest.approx(0.7)
    assert found[75, 1] == pytest.approx(0.7)  # at a quarter
    assert found[-1, 1] == pytest.approx(np.sqrt(0.7))


def test_correlated_underlyings_share_the_shock() -> None:
    found = path(Scene(correlation=0.5, rebound=0.0), ("BTC", "ETH"), np.ones(2), np.zeros(2))
    assert found[-1].tolist() == pytest.approx([np.sqrt(0.7), 0.7])


def test_what_cannot_be_simulated_is_said() -> None:
    with pytest.raises(SettingsError, match="shock of DOGE"):
        path(Scene(shocks=(("DOGE", -0.3),)), ("BTC",), np.ones(1), np.ones(1))
    with pytest.raises(SettingsError, match=r"crowding: 1\.5, wanted 0 to 1"):
        Scene(crowding=1.5)
    with pytest.raises(SettingsError, match="margin 'both', wanted cross or isolated"):
        Rules(margin="both")
    with pytest.raises(ParameterError, match="no returns"):
        volatility(replace(default_parameters(), returns=None), ("BTC",))


# --- owners ---------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(10, 300), st.integers(0, 1000), st.floats(0, 1), st.floats(0, 1))
def test_every_perpetual_sums_to_zero_on_every_chain(count: int, seed: int, crowding: float, hedged: float) -> None:
    found = populate(Scene(accounts=count, seed=seed, crowding=crowding, hedged=hedged), need())
    assert not found.size.sum(axis=0).any()
    assert (np.abs(found.size[found.kind == MAKER]).sum() > 0) or not found.size.any()


def test_books_are_what_is_said_of_them() -> None:
    scene = Scene(accounts=3000, crowding=1.0)
    found = populate(scene, need())
    gross = np.abs(found.size[found.kind != MAKER] / MICRO * need().start).sum(axis=(0, 1))
    assert gross.tolist() == pytest.approx(need().volume.tolist(), rel=1e-6)
    assert (found.size[found.kind == TRADER] >= 0).all()
    hedged = (found.size[found.kind == ARBITRAGEUR] / MICRO * need().start).sum(axis=(1, 2))
    assert np.abs(hedged).max() < 1.0
    # Heavy-tailed: a hundredth of the traders has far more than a hundredth.
    each = np.sort(np.abs(found.size[found.kind == TRADER] / MICRO * need().start).sum(axis=(1, 2)))
    assert each[-len(each) // 100 :].sum() > 0.15 * each.sum()


def test_crowding_moves_only_those_who_join() -> None:
    sides = []
    for crowding in (0.0, 0.3, 0.9):
        found = populate(Scene(accounts=500, crowding=crowding), need())
        sides.append(np.sign(found.size[found.kind == TRADER]))
    assert ((sides[0] == 1) <= (sides[1] == 1)).all()
    assert ((sides[1] == 1) <= (sides[2] == 1)).all()
    assert (sides[2] == 1).sum() > (sides[0] == 1).sum()


def test_isolated_accounts_split_the_same_books_and_collateral() -> None:
    found = populate(Scene(accounts=400), need())
    cross, isolated = (open_accounts(found, need(), Rules(margin=margin)) for margin in ("cross", "isolated"))
    worth = [Venue.of(accounts, 0).equity(need().start) for accounts in (cross, isolated)]
    assert np.bincount(isolated.owner, worth[1], 400).tolist() == pytest.approx(worth[0].tolist(), abs=1e-4)
    back = np.zeros_like(found.size)
    np.add.at(back, isolated.owner, isolated.size)
    assert (back == found.size).all()
    assert ((isolated.size != 0).sum(axis=(1, 2)) == 1).all()
    for accounts, equity in zip((cross, isolated), worth, strict=True):
        assert (equity >= need().of(accounts.size.sum(axis=1) / MICRO, need().start)[0] - 1e-5).all()


def test_bystanders_hold_something_and_nothing_of_the_shock() -> None:
    found = populate(Scene(accounts=400), need())
    idle = bystanders(found, [ETH])
    assert idle.any()
    assert not found.size[idle][:, :, ETH].any()
    assert found.size[idle].any(axis=(1, 2)).all()


# --- bids, recovery -------------------------------------------------------------------------------------------------


def test_bidders_take_as_much_as_the_concession_pays_for() -> None:
    # 1.1 % less 0.1 % of profit; 2/3 · 5 % · √(x / 100 m) = 1 %: x = 100 m · 0.3² = 9 m.
    rules = Rules(profit=0.001, capacity=0.25)
    assert room(np.array([0.011]), 0.0, 0.05, 100e6, rules)[0] == pytest.approx(9e6)
    assert room(np.array([0.011]), 4e6, 0.05, 100e6, rules)[0] == pytest.approx(5e6)
    assert room(np.array([0.011]), -4e6, 0.05, 100e6, rules)[0] == pytest.approx(13e6)
    assert room(np.array([0.0011]), 5e6, 0.0, 100e6, rules)[0] == pytest.approx(20e6)
    assert room(np.array([0.0009]), 0.0, 0.05, 100e6, rules)[0] == 0.0
    assert room(np.array([0.5]), 5e6, 0.05, 100e6, rules)[0] == pytest.approx(20e6)


def test_recovery_is_for_good() -> None:
    apart = np.array([0.0, 0.03, 0.005, 0.02, 0.005, 0.004])
    assert recovery(apart, 60.0) == 3.0
    assert recovery(np.array([0.0, 0.009]), 60.0) == 0.0
    assert recovery(np.array([0.0, 0.03, 0.02]), 60.0) is None
