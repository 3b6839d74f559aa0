"""The waterfall of a simulation: deleveraging by hand, what a larger fund changes, accounts taken over by the fund."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation_models import ETH, need

from keeper.simulation.population import CHAINS, MICRO, Accounts
from keeper.simulation.venue import BIDDERS, FUND, MARKET, Venue
from keeper.simulation.waterfall import cover, deleverage, pay_and_deleverage, rank


def small_venue(fund: float, cash: list[float], eth: list[float], entry: list[float] | None = None) -> Venue:
    """Accounts with ETH on chain 0, in USD and whole units."""
    size = np.zeros((len(eth), CHAINS, 3), dtype=np.int64)
    size[:, 0, ETH] = np.rint(np.array(eth) * MICRO)
    entries = np.full(size.shape, 3000.0)
    if entry:
        entries[:, 0, ETH] = entry
    money = np.rint(np.array(cash) * MICRO).astype(np.int64)
    return Venue.of(Accounts(np.arange(len(eth)), size, money, entries), fund)


def test_deleveraging_by_hand() -> None:
    # Long 10 ETH that cost 30,000 with 3,000 of its own; at 2,500 its equity is −2,000: bankrupt at 2,700. The shorts
    # gained 500 a unit; the second has less equity, so more leverage, and gives its 6 ETH up first, then the first 4.
    prices = np.array([60_000.0, 2_500.0, 150.0])
    venue = small_venue(0, [-27_000, 40_000, 20_000], [10, -10, -6])
    venue.party_size[MARKET, 0, ETH] = 6 * MICRO
    before = venue.money()
    assert rank(venue, np.ones(3, dtype=bool), venue.equity(prices), prices, (0, ETH), 1).tolist() == [2, 1]
    deleverage(venue, np.array([0]), prices)
    assert venue.equity(prices).tolist() == pytest.approx([0.0, 15_000 - 4 * 200, 5_000 - 6 * 200])
    assert venue.accounts.size[:, 0, ETH].tolist() == [0, -6 * MICRO, 0]
    assert venue.accounts.cash[0] == 0
    assert venue.lost.tolist() == pytest.approx([0, 800, 1200])
    assert venue.ledger.deleveraged == 2_000 * MICRO
    assert venue.money() == before
    assert not venue.sizes().any()


def test_profit_before_leverage_and_losers_last() -> None:
    prices = np.array([60_000.0, 2_500.0, 150.0])
    # The shorts' entries: 2,600, 3,000 and 2,400, the last with a loss.
    venue = small_venue(0, [0, 3_500, 3_500, 3_500], [3, -1, -1, -1], [3_000, 2_600, 3_000, 2_400])
    assert rank(venue, np.ones(4, dtype=bool), venue.equity(prices), prices, (0, ETH), 1).tolist() == [2, 1, 3]


def test_no_counterparty_bears_more_than_its_equity() -> None:
    prices = np.array([60_000.0, 1_000.0, 150.0])
    # A deficit of 10,000 on 10 ETH; the short has 500 of equity, so takes half a unit; the market takes the rest.
    venue = small_venue(0, [-20_000, 10_500], [10, -10])
    deleverage(venue, np.array([0]), prices)
    assert venue.equity(prices).tolist() == pytest.approx([0.0, 0.0], abs=1e-5)
    assert venue.accounts.size[1, 0, ETH] == pytest.approx(-9.5 * MICRO, abs=1)
    assert venue.party_equity(prices)[MARKET] == pytest.approx(-9_500, abs=1e-2)


needs = st.lists(st.floats(0, 1e6), min_size=1, max_size=20)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(needs, st.floats(0, 1e7), st.floats(0, 1e7))
def test_a_larger_fund_pays_no_less_of_anything(wanted: list[float], one: float, more: float) -> None:
    small, large = cover(np.array(wanted), one), cover(np.array(wanted), one + more)
    assert (large >= small - 1e-6).all()
    assert small.sum() <= one + 1e-6
    assert (small <= np.array(wanted)).all()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.floats(-0.5, 0.3), st.floats(1, 100)), min_size=1, max_size=8),
    st.floats(0, 1e5),
    st.floats(0, 1e5),
)
def test_a_larger_fund_leaves_no_more_to_counterparties(
    longs: list[tuple[float, float]], fund: float, more: float
) -> None:
    """CM-43 for one event: what deleveraging costs counterparties only falls with the fund, and money is conserved."""
    prices = need().start
    lost = []
    for size in (fund, fund + more):
        eth = [round(q, 6) for _, q in longs]
        cash = [(equity - 1) * q * 3_000 for (equity, _), q in zip(longs, eth, strict=True)]
        total = sum(round(q * MICRO) for q in eth)
        venue = small_venue(size, [*cash, 1e9], [*eth, -total / MICRO])
        money = venue.money()
        insolvent = np.flatnonzero(venue.equity(prices)[:-1] < 0)
        pay_and_deleverage(venue, insolvent, prices, size)
        assert venue.money() == money
        assert not venue.sizes().any()
        assert (venue.equity(prices) >= -1e-5).all()
        assert venue.party_cash[FUND] >= 0
        lost.append(venue.ledger.deleveraged)
    assert lost[1] <= lost[0]


def test_the_fund_takes_over_whole_accounts() -> None:
    venue = small_venue(50_000, [-27_000, 40_000], [10, -10])
    prices = np.array([60_000.0, 2_500.0, 150.0])
    before = venue.money()
    venue.hand_over(0, 2_000 * MICRO)
    assert venue.party_equity(prices)[[BIDDERS, FUND]].tolist() == pytest.approx([0.0, 48_000.0])
    assert venue.equity(prices)[0] == 0.0
    assert venue.money() == before
    assert not venue.sizes().any()
    # Its margin for 10 ETH at 2,500 is not free: 17.8 % of 25,000.
    assert venue.free(prices, need()) == pytest.approx(48_000 - 4_450)
