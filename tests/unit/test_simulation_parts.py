"""The parts of a simulation: requirements, prices with impact, owners, partial closings, the waterfall, bids."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keeper.clearing.legs import Leg
from keeper.clearing.plan import Search, plan_legs
from keeper.clearing.sale import LOT, Offered, Sale
from keeper.margin.names import name_of
from keeper.margin.parameter_file import default_parameters
from keeper.margin.parameters import ParameterError
from keeper.margin.portfolio import Portfolio
from keeper.margin.report import evaluate
from keeper.margin.synthetic import SPOT
from keeper.margin.valuation import Valuation
from keeper.market.marks import Marks
from keeper.simulation import closing
from keeper.simulation.market import Impact, path, volatility
from keeper.simulation.measures import recovery
from keeper.simulation.population import (
    ARBITRAGEUR,
    CHAINS,
    MAKER,
    MICRO,
    TRADER,
    Accounts,
    bystanders,
    open_accounts,
    populate,
)
from keeper.simulation.requirement import Floats, Requirements
from keeper.simulation.sales import room
from keeper.simulation.settings import Rules, Scene, SettingsError
from keeper.simulation.venue import BIDDERS, FUND, MARKET, Venue
from keeper.simulation.waterfall import cover, deleverage, pay_and_deleverage, rank
from keeper.state.batch import UNIT
from keeper.state.ids import AssetId, account_id, perpetual
from keeper.state.world import MarginAccount

ACCOUNT = MarginAccount(account_id(b"\xa1" * 20), tuple(range(CHAINS)))
BTC, ETH, SOL = range(3)


@cache
def need() -> Requirements:
    return Requirements(default_parameters(), dict(SPOT))


def sizes(usd: list[list[float]]) -> Floats:
    """Whole units, shape (rows, underlyings), of USD at the first prices."""
    return np.array(usd) / need().start


books = st.lists(st.tuples(*[st.one_of(st.just(0.0), st.floats(-4e8, 4e8))] * 3).map(list), min_size=1, max_size=20)
moves = st.tuples(*[st.floats(-0.6, 0.8)] * 3)


# --- requirements ---------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, derandomize=True)
@given(books, moves)
def test_requirements_are_those_of_the_model_at_prices_that_moved(usd: list[list[float]], moved: tuple[float]) -> None:
    net, prices = sizes(usd), need().start * (1 + np.array(moved))
    initial, maintenance = need().of(net, prices)
    names = need().names
    marks = Marks({name: round(price * UNIT) for name, price in zip(names, prices, strict=True)})
    held = [
        {perpetual(name): round(size * UNIT) for name, size in zip(names, row, strict=True) if round(size * UNIT)}
        for row in net.tolist()
    ]
    reports = evaluate([Portfolio(ACCOUNT, 0, each, {}) for each in held], marks, need().model)
    for row, report in enumerate(reports):
        assert initial[row] == pytest.approx(report.initial_margin / UNIT, rel=1e-9, abs=2e-6)
        assert maintenance[row] == pytest.approx(report.maintenance_margin / UNIT, rel=1e-9, abs=2e-6)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(books, moves)
def test_the_bound_is_never_below_the_maintenance_margin(usd: list[list[float]], moved: tuple[float]) -> None:
    net, prices = sizes(usd), need().start * (1 + np.array(moved))
    assert (need().most(net, prices) >= need().of(net, prices)[1]).all()
    equity = need().of(net, prices)[1] * np.linspace(0.5, 1.5, len(net))
    judged = [need().judge(net, prices, equity, screen) for screen in (True, False)]
    assert (judged[0] == judged[1]).all()


def test_rates_by_hand() -> None:
    # A linear book pays its range, 15 % (SOL 20 %), 0.8 of it for maintenance, and 2.8 % and 2 % of notional.
    assert need().rates[0, 0].tolist() == pytest.approx([0.178, 0.178, 0.228])
    assert need().rates[1, 1].tolist() == pytest.approx([0.14, 0.14, 0.18])
    assert need().concession_rate.tolist() == pytest.approx([0.014, 0.014, 0.018])


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


# --- partial closings -----------------------------------------------------------------------------------------------

held_books = st.dictionaries(
    st.tuples(st.integers(0, CHAINS - 1), st.integers(0, 2)),
    st.floats(1e4, 1e6).flatmap(lambda usd: st.sampled_from([usd, -usd])),
    min_size=1,
    max_size=4,
)


@cache
def distinct() -> Requirements:
    """No two underlyings need the same: of BTC and ETH, were they alike, rounding would say which is closed."""
    shipped = default_parameters()
    btc = replace(shipped.underlyings["BTC"], largest_move=1800)
    return Requirements(replace(shipped, underlyings={**shipped.underlyings, "BTC": btc}), dict(SPOT))


def planned(
    held: dict[tuple[int, int], float], share: float, model: Requirements
) -> tuple[closing.Closings, Floats, float]:
    """The vectorised plan of a book of USD by chain and underlying, with equity at a share of maintenance margin."""
    size = np.zeros((1, CHAINS, 3))
    for (chain, underlying), usd in held.items():
        size[0, chain, underlying] = round(usd / model.start[underlying] * MICRO) / MICRO
    equity = share * float(model.of(size.sum(axis=1), model.start)[1][0])
    return closing.plan(size, np.array([equity]), model.start, model), size, equity


def sale(size: Floats, equity: float, model: Requirements) -> Sale:
    offered = tuple(
        Offered(chain, perpetual(model.names[u]), round(size[0, chain, u] * MICRO) * UNIT // MICRO)
        for chain, u in np.argwhere(size[0]).tolist()
    )
    net: dict[AssetId, int] = {}
    for position in offered:
        net[position.asset] = net.get(position.asset, 0) + position.size
    marks = Marks({name: round(SPOT[name] * UNIT) for name in model.names})
    valuation = Valuation.of(marks, model.model, [perpetual(name) for name in model.names])
    book = Portfolio(ACCOUNT, 0, {asset: q for asset, q in sorted(net.items()) if q}, {})
    cash = round(equity * UNIT) - valuation.net_cash(book) // (10**4 * UNIT)
    return Sale(replace(book, cash=cash), offered, valuation, model.parameters.concession, 0)


def legs_of(found: closing.Closings, asked: Sale, model: Requirements) -> list[Leg]:
    """As the legs of a plan, in lots as the simulation rounds them."""
    legs = []
    for position in asked.offered:
        cell = (0, position.chain_id, model.names.index(name_of(position.asset).split("-")[0]))
        lots = min(math.ceil(found.closed[cell] * MICRO - 1e-3), abs(position.size) // LOT)
        most = int(found.scale[0] * asked.most_concession(position) * 1e6) * LOT
        if lots:
            legs.append(Leg(position, lots * LOT, max(0, most - LOT), 0))
    return legs


@settings(max_examples=40, deadline=None, derandomize=True)
@given(held_books, st.floats(0.2, 0.99))
def test_partial_closings_keep_the_rules_of_plans_and_cost_as_much(
    held: dict[tuple[int, int], float], share: float
) -> None:
    """CM-41: every corner allows them, and the account is restored where and for what the real plan restores it."""
    model = distinct()
    found, size, equity = planned(held, share, model)
    asked = sale(size, equity, model)
    plan, legs = plan_legs(asked), legs_of(found, asked, model)
    assert not legs or Search(asked, range(len(asked.subsets))).allows(legs)
    cost = sum(leg.cost for leg in legs) / UNIT
    after = model.of((size - np.sign(size) * found.closed).sum(axis=1), model.start)[0][0]
    assert (equity - cost >= after - 0.01) == plan.restores
    assert cost == pytest.approx(plan.cost / UNIT, rel=0.05, abs=1.0)


def test_one_position_by_hand() -> None:
    # Long 30,000 USD of ETH, initial margin 5,340, maintenance margin 4,200, equity 4,000; a USD frees 0.178 and may
    # concede 0.014: 4,000 − 0.014 s = 0.178 · (30,000 − s), s = 1,340 / 0.164.
    found, _, _ = planned({(0, ETH): 30_000.0}, 4_000 / 4_200, need())
    assert found.closed[0, 0, ETH] * 3_000 == pytest.approx(1_340 / 0.164, rel=1e-4)
    assert found.scale[0] == pytest.approx(1.0)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(held_books, st.floats(-0.5, 0.99))
def test_a_part_is_no_more_than_all(held: dict[tuple[int, int], float], share: float) -> None:
    part, size, equity = planned(held, share, need())
    whole = closing.everything(size, np.array([equity]), need().start, need())
    assert (part.closed <= whole.closed).all()
    cost = float(whole.scale[0] * (whole.closed[0] * need().concession_rate * need().start).sum())
    assert cost <= max(equity, 0.0) + 1e-6 or equity < 0


# --- the waterfall --------------------------------------------------------------------------------------------------


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
