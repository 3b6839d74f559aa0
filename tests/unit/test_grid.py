"""The scenario grid: figures derived by hand, and the laws every margin model keeps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import BTC, ETH, LISTING, MODEL, PARAMETERS, WETH, A, B, make_deployment, marks

from keeper.margin.grid import GridModel
from keeper.margin.listing import Listing, UnknownAsset
from keeper.margin.model import Floats, MarginModel
from keeper.margin.parameters import ParameterError
from keeper.market.marks import MarkError, Marks
from keeper.state.ids import perpetual, token_id

ASSETS = (token_id(A, WETH), token_id(B, WETH), ETH, BTC)
THREE = GridModel(PARAMETERS, Listing.of(make_deployment(("BTC", "ETH", "SOL"))))

sizes = st.lists(st.floats(-1000, 1000, allow_subnormal=False), min_size=4, max_size=4)


def pnl_of(*amounts: float, model: MarginModel = MODEL, eth: float = 3000) -> Floats:
    """Scenario vector of amounts of ASSETS."""
    return np.array(amounts) @ model.scenarios(marks(eth), ASSETS).pnl


def required(*amounts: float) -> tuple[float, float]:
    initial, maintenance = MODEL.requirements(pnl_of(*amounts))
    return float(initial), float(maintenance)


def test_long_five_eth_by_hand() -> None:
    # The worst cell is −15 % of 15,000 = −2,250, alone and jointly: S = 0.5 · 2,250 + 0.5 · 2,250 = 2,250.
    # IM = 1.0 · 2,250 + 2.8 % · 15,000 = 2,250 + 420 = 2,670;  MM = 0.8 · 2,250 + 2 % · 15,000 = 1,800 + 300 = 2,100.
    assert required(0, 0, 5, 0) == pytest.approx((2670, 2100), rel=1e-12)
    assert required(0, 0, -5, 0) == pytest.approx((2670, 2100), rel=1e-12)


def test_weth_held_against_a_short_perpetual_is_a_hedge() -> None:
    # No scenario loses; only the contingency of the perpetual's notional remains: 2.8 % and 2 % of 15,000.
    assert required(2, 3, -5, 0) == pytest.approx((420, 300), rel=1e-12)
    # Collateral alone: 15 % of 15,000 and no perpetual. 0.8 of it is maintenance.
    assert required(5, 0, 0, 0) == pytest.approx((2250, 1800), rel=1e-12)


def test_two_underlyings_against_each_other_by_hand() -> None:
    # Long 1 BTC (60,000), short 10 ETH (30,000). Singly −9,000 and −4,500; jointly BTC −15 %, ETH +15 %: −13,500.
    # S = 0.5 · (9,000 + 4,500) + 0.5 · 13,500 = 13,500; IM = 13,500 + 2.8 % · 90,000 = 16,020.
    assert required(0, 0, -10, 1)[0] == pytest.approx(16020, rel=1e-12)
    # Long both, the joint scenario is −15 % of both, and costs the same.
    assert required(0, 0, 10, 1)[0] == pytest.approx(16020, rel=1e-12)


def test_a_market_that_moves_as_one_counts_for_half() -> None:
    # A vector that gains in every joint scenario what it loses in one grid: only d · Σ worst cells remains.
    scenarios = MODEL.scenarios(marks(), ASSETS)
    vector = np.zeros(scenarios.pnl.shape[1])
    column = next(i for i, label in enumerate(scenarios.labels) if (label.block, label.move) == ("ETH", "−15 %"))
    vector[column] = -1000.0
    initial, maintenance = MODEL.requirements(vector)
    assert (float(initial), float(maintenance)) == pytest.approx((500, 400), rel=1e-12)


def test_sol_moves_twenty_percent() -> None:
    # 1 SOL at 100: S = 20; IM = 20 + 2.8; MM = 16 + 2.
    prices = Marks({**marks().prices, "SOL": 100 * 10**18})
    initial, maintenance = THREE.requirements(THREE.scenarios(prices, [perpetual("SOL")]).pnl[0])
    assert (float(initial), float(maintenance)) == pytest.approx((22.8, 18), rel=1e-12)


def test_the_tails_of_a_linear_book_pay_about_its_range() -> None:
    # −30 % × 0.5, +30 % × 0.5, −60 % × 0.25, +100 % × 0.15: each 15 %.
    labels = MODEL.scenarios(marks(), [ETH]).labels
    tails = {
        label.move: gain
        for label, gain in zip(labels, MODEL.scenarios(marks(), [ETH]).pnl[0], strict=True)
        if label.block == "ETH" and "×" in label.move
    }
    assert tails == pytest.approx({"−30 % × 0.5": -450, "+30 % × 0.5": 450, "−60 % × 0.25": -450, "+100 % × 0.15": 450})


def test_columns_are_the_models_own_and_each_is_named_once() -> None:
    one = MODEL.scenarios(marks(), [ETH])
    assert one.labels == MODEL.scenarios(marks(), ASSETS).labels
    assert len(set(one.labels)) == len(one.labels) == one.pnl.shape[1]
    # Per underlying 9 nodes and 4 tails, twice the perpetual's notional; jointly 13 cells, and with two underlyings
    # the two sign patterns that are not among the nodes: 2 · (13 + 2) + 13 + 2.
    assert one.pnl.shape == (1, 45)
    assert sum(label.block == "joint" for label in THREE.scenarios(Marks({}), []).labels) == 13 + 6


def test_three_underlyings_are_tried_in_all_eight_directions() -> None:
    labels = [label.move for label in THREE.scenarios(Marks({}), []).labels if label.block == "joint"]
    patterns = {tuple(part.split()[1][0] for part in move.split(", ")) for move in labels if "×" not in move}
    assert {p for p in patterns if "0" not in p} == {(a, b, c) for a in "+−" for b in "+−" for c in "+−"}


@given(st.floats(-1000, 1000), st.floats(-1000, 1000))
def test_with_one_underlying_the_joint_block_is_at_least_the_worst_single_cell(weth: float, size: float) -> None:
    model = GridModel(PARAMETERS, Listing.of(make_deployment(("ETH",))))
    scenarios = model.scenarios(marks(), [token_id(A, WETH), ETH])
    vector = np.array([weth, size]) @ scenarios.pnl
    joint = min(v for v, label in zip(vector, scenarios.labels, strict=True) if label.block == "joint")
    single = min(v for v, label in zip(vector, scenarios.labels, strict=True) if label.block == "ETH")
    assert joint <= single
    # So S is the whole worst cell, not half of it.
    worst = max(0.0, -single)
    contingency = 0.028 * 3000 * abs(size)
    assert float(model.requirements(vector)[0]) == pytest.approx(worst + contingency, rel=1e-9, abs=1e-9)


@given(sizes, st.lists(st.floats(0, 500), min_size=45, max_size=45))
def test_law_a_smaller_profit_never_lowers_a_requirement(amounts: list[float], losses: list[float]) -> None:
    vector = pnl_of(*amounts)
    for less, more in zip(MODEL.requirements(vector), MODEL.requirements(vector - np.array(losses)), strict=True):
        assert more >= less


@given(sizes, st.floats(0, 100))
def test_law_requirements_are_homogeneous(amounts: list[float], factor: float) -> None:
    for one, scaled in zip(
        MODEL.requirements(pnl_of(*amounts)), MODEL.requirements(factor * pnl_of(*amounts)), strict=True
    ):
        assert float(scaled) == pytest.approx(factor * float(one), rel=1e-12, abs=1e-12)


@given(sizes, sizes)
def test_law_requirements_are_subadditive(some: list[float], others: list[float]) -> None:
    a, b = pnl_of(*some), pnl_of(*others)
    for whole, one, other in zip(MODEL.requirements(a + b), MODEL.requirements(a), MODEL.requirements(b), strict=True):
        assert whole <= (one + other) * (1 + 1e-12) + 1e-9


@given(sizes)
def test_law_initial_is_at_least_maintenance_which_is_not_negative(amounts: list[float]) -> None:
    initial, maintenance = MODEL.requirements(pnl_of(*amounts))
    assert initial >= maintenance >= 0


@given(sizes)
def test_parts_add_up_to_the_requirement(amounts: list[float]) -> None:
    vector = pnl_of(*amounts)
    parts = MODEL.parts(vector)
    initial, maintenance = MODEL.requirements(vector)
    assert sum(p.requirement.initial for p in parts) == pytest.approx(float(initial), rel=1e-12)
    assert sum(p.requirement.maintenance for p in parts) == pytest.approx(float(maintenance), rel=1e-12)


@settings(max_examples=30)
@given(st.lists(sizes, min_size=2, max_size=20))
def test_an_accounts_figures_do_not_depend_on_its_neighbours(books: list[list[float]]) -> None:
    stacked = np.stack([pnl_of(*amounts) for amounts in books])
    together = MODEL.requirements(stacked)
    for row in range(len(books)):
        alone = MODEL.requirements(stacked[row])
        assert (float(alone[0]), float(alone[1])) == (together[0][row], together[1][row])


def test_missing_prices_parameters_and_listings_are_named() -> None:
    with pytest.raises(ParameterError, match="no margin parameters for PEPE"):
        GridModel(PARAMETERS, Listing.of(make_deployment(("ETH", "PEPE"))))
    with pytest.raises(MarkError, match="the marks have no price for BTC"):
        MODEL.scenarios(Marks({"ETH": 1}), [BTC])
    with pytest.raises(UnknownAsset, match="perpetual on SOL is not listed"):
        MODEL.price(perpetual("SOL"), marks())
    assert MODEL.haircut(token_id(A, WETH)) == 300
    assert MODEL.haircut(ETH) == 0
    assert LISTING.underlyings == ("BTC", "ETH")
