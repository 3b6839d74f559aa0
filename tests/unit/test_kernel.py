"""The kernel against the reference in plain Python: to the last bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from option_books import MARKS, NAMES, SCENARIOS, UNIVERSE, XPM, books, market, vector

from keeper.margin import kernel, reference
from keeper.margin.kernel import Books
from keeper.margin.valuation import ceil_usd

PNL = SCENARIOS.pnl.tolist()

held_elsewhere = st.lists(st.floats(0, 1e9), min_size=3, max_size=3)


def stacked(accounts: list[dict[int, float]], elsewhere: list[list[float]] | None = None) -> Books:
    start = np.cumsum([0, *map(len, accounts)])
    pairs = [pair for account in accounts for pair in sorted(account.items())]
    return Books(
        start.astype(np.int64),
        np.array([asset for asset, _ in pairs], dtype=np.int32),
        np.array([size for _, size in pairs], dtype=float),
        np.array(elsewhere) if elsewhere else np.zeros((len(accounts), len(NAMES))),
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(books, held_elsewhere), min_size=1, max_size=4))
def test_the_kernel_and_the_reference_agree_to_the_last_bit(
    accounts: list[tuple[dict[int, float], list[float]]],
) -> None:
    held = stacked([book for book, _ in accounts], [others for _, others in accounts])
    initial, maintenance = kernel.evaluate(held, SCENARIOS.rows, SCENARIOS.layout)
    for i, (book, others) in enumerate(accounts):
        v = reference.vector(list(book.items()), PNL, others)
        wanted = reference.requirements(v, SCENARIOS.layout)
        assert (float(initial[i]), float(maintenance[i])) == wanted
        assert (ceil_usd(float(initial[i])), ceil_usd(float(maintenance[i]))) == tuple(map(ceil_usd, wanted))
        # And what permits are judged by is the same function.
        one, other = SCENARIOS.requirements(np.array(v))
        assert (float(one), float(other)) == wanted


@pytest.mark.parametrize("seed", range(4))
def test_ten_thousand_accounts_are_each_what_they_are_alone(seed: int) -> None:
    """Over several tasks and threads, in any company, and where only some are asked for."""
    random = np.random.default_rng(seed)
    accounts = [
        {int(a): float(random.normal()) for a in random.choice(len(UNIVERSE), random.integers(1, 11), replace=False)}
        for _ in range(10_000)
    ]
    held = stacked(accounts)
    together = kernel.evaluate(held, SCENARIOS.rows, SCENARIOS.layout)
    few = np.sort(random.choice(10_000, 100, replace=False)).astype(np.int64)
    some = kernel.evaluate(held, SCENARIOS.rows, SCENARIOS.layout, few)
    assert (together[0][few] == some[0]).all()
    assert (together[1][few] == some[1]).all()
    for i in few[:10]:
        assert (float(together[0][i]), float(together[1][i])) == tuple(
            map(float, SCENARIOS.requirements(vector(accounts[i], SCENARIOS)))
        )


def test_an_account_that_holds_nothing_requires_nothing() -> None:
    initial, maintenance = kernel.evaluate(stacked([{}, {}]), SCENARIOS.rows, SCENARIOS.layout)
    assert initial.tolist() == maintenance.tolist() == [0.0, 0.0]
    assert kernel.evaluate(stacked([]), SCENARIOS.rows, SCENARIOS.layout)[0].shape == (0,)


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.sampled_from([-3e5, -1.0, 0.0, 7.0]) | st.floats(-1e6, 1e6), max_size=40),
    st.sampled_from([(500, 12, 0.5), (250, 6, 0.25), (250, 6, 0.0), (20, 12, 0.5), (3, 0, 0.5), (7, 7, 0.0)]),
)
def test_the_tail_is_that_of_sorting(seed: int, some: list[float], tail: tuple[int, int, float]) -> None:
    """With ties, where all values are alike, and where there are hardly more values than the tail has."""
    count, whole, share = tail
    v = np.round(np.random.default_rng(seed).normal(0, 1e5, count), -4)
    v[: len(some)] = some[:count]
    scratch = np.empty(600), np.empty(600)
    ordered = sorted(v.tolist())
    wanted = sum(ordered[:whole]) + (share * ordered[whole] if share else 0.0)
    found = kernel._tail(v, 0, count, whole, share, *scratch)
    assert found == pytest.approx(-wanted / (whole + share), rel=1e-9, abs=1e-6)
    assert found == reference._tail(v.tolist(), whole, share)


def test_low_confidence_and_funding_have_columns_and_agree_too() -> None:
    marks = replace(market(spot_confidence=0.4, funding=2.5), stable=0.97)
    scenarios = XPM.scenarios(marks, UNIVERSE)
    book = {a: (-1.0) ** a * (a + 1) for a in range(0, len(UNIVERSE), 9)}
    initial, maintenance = kernel.evaluate(stacked([book]), scenarios.rows, scenarios.layout)
    v = reference.vector(list(book.items()), scenarios.pnl.tolist(), [0.0] * 3)
    assert (float(initial[0]), float(maintenance[0])) == reference.requirements(v, scenarios.layout)
    assert scenarios.layout.columns > SCENARIOS.layout.columns
    assert marks.time == MARKS.time
