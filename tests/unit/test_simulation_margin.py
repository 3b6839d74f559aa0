"""Requirements and partial closings of a simulation, held to the model's and the planner's own."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation_models import ETH, distinct, need

from keeper.clearing.legs import Leg
from keeper.clearing.plan import Search, plan_legs
from keeper.clearing.sale import LOT, Offered, Sale
from keeper.margin.names import name_of
from keeper.margin.portfolio import Portfolio
from keeper.margin.report import evaluate
from keeper.margin.synthetic import SPOT
from keeper.margin.valuation import Valuation
from keeper.market.marks import Marks
from keeper.simulation import closing
from keeper.simulation.population import CHAINS, MICRO
from keeper.simulation.requirement import Floats, Requirements
from keeper.state.batch import UNIT
from keeper.state.ids import AssetId, account_id, perpetual
from keeper.state.world import MarginAccount

ACCOUNT = MarginAccount(account_id(b"\xa1" * 20), tuple(range(CHAINS)))


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


# --- partial closings -----------------------------------------------------------------------------------------------

held_books = st.dictionaries(
    st.tuples(st.integers(0, CHAINS - 1), st.integers(0, 2)),
    st.floats(1e4, 1e6).flatmap(lambda usd: st.sampled_from([usd, -usd])),
    min_size=1,
    max_size=4,
)


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
            # A thousandth of a USD less: a corner that holds exactly would not after rounding sizes up.
            legs.append(Leg(position, lots * LOT, max(0, most - 1_000 * LOT), 0))
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
    # Where a corner bounds concessions, all are scaled down alike, by as much as which legs there are: so at the most.
    most, least = (
        sum(leg.size / UNIT * asked.most_concession(leg.position) for leg in each) for each in (legs, plan.legs)
    )
    assert most == pytest.approx(least, rel=0.1, abs=1.0)


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
