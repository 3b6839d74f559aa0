"""Expected shortfall by hand, on both tails, and the scenarios that the past gives."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri

from keeper.margin.history import expected_shortfall, filtered, stressed, tail_of, value_at_risk
from keeper.margin.parameter_file import default_parameters
from keeper.margin.parameters import History
from keeper.margin.returns import Returns, ReturnsError, load_returns

samples = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)


def test_a_uniform_sample_by_hand_on_both_tails() -> None:
    # 0, −1 … −499. The 12 worst are −499 … −488, Σ = −12 · 493.5 = −5,922; half the 13th −243.5; ÷ 12.5 = 493.24.
    losses = [-float(i) for i in range(500)]
    assert expected_shortfall(losses) == pytest.approx(493.24, rel=1e-15)
    # The other tail: 0 … 499 is a profit everywhere. Worst 0 … 11, Σ = 66, half of 12 is 6: 72 ÷ 12.5, and negative.
    assert expected_shortfall([-x for x in losses]) == pytest.approx(-5.76, rel=1e-15)
    # VaR is the 13th worst outcome, the last that is in the tail in part.
    assert value_at_risk(losses) == 487
    assert value_at_risk([-x for x in losses]) == -12


def test_a_normal_sample_on_both_tails() -> None:
    # ES of the standard normal at 97.5 % is φ(1.959964) ÷ 0.025 = 2.337803.
    count = 200_000
    quantiles = ndtri((np.arange(count) + 0.5) / count)
    wanted = math.exp(-(1.959963985**2) / 2) / math.sqrt(2 * math.pi) / 0.025
    assert expected_shortfall(quantiles) == pytest.approx(wanted, rel=1e-4)
    assert expected_shortfall(-quantiles) == pytest.approx(wanted, rel=1e-4)
    assert expected_shortfall(10 - quantiles) == pytest.approx(wanted - 10, rel=1e-4)
    assert value_at_risk(quantiles) == pytest.approx(1.959964, rel=1e-4)


def test_the_tail_is_counted_in_parts() -> None:
    assert tail_of(500, 9750) == (12, 0.5)
    assert tail_of(250, 9750) == (6, 0.25)
    assert tail_of(40, 9750) == (1, 0.0)
    assert tail_of(10, 9750) == (0, 0.25)
    assert expected_shortfall([-8.0, *[0.0] * 9]) == 8
    assert expected_shortfall([-8.0, -4.0, *[0.0] * 58]) == pytest.approx((8 + 0.5 * 4) / 1.5)


@given(samples, st.floats(0, 100), st.floats(-1e3, 1e3))
def test_expected_shortfall_is_homogeneous_and_moves_with_cash(pnl: list[float], factor: float, cash: float) -> None:
    found = expected_shortfall(pnl)
    assert expected_shortfall([factor * x for x in pnl]) == pytest.approx(factor * found, rel=1e-9, abs=1e-6)
    assert expected_shortfall([x + cash for x in pnl]) == pytest.approx(found - cash, rel=1e-9, abs=1e-6)
    assert found >= value_at_risk(pnl) - 1e-6


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=60))
def test_expected_shortfall_is_subadditive(pairs: list[tuple[float, float]]) -> None:
    one, other = ([pair[side] for pair in pairs] for side in (0, 1))
    both = [a + b for a, b in pairs]
    assert expected_shortfall(both) <= expected_shortfall(one) + expected_shortfall(other) + 1e-6


# --- the past -------------------------------------------------------------------------------------------------------


def series(spot: list[float]) -> Returns:
    column = np.array(spot)[:, None]
    return Returns(
        ("ETH",), tuple(f"2024-{1 + i // 28:02d}-{1 + i % 28:02d}" for i in range(len(spot))), column, column
    )


def test_returns_are_rescaled_to_todays_volatility_within_bounds() -> None:
    """Of constant size there is nothing to rescale; after a calm past, turmoil scales it up three times at most."""
    rules = History(days=100, stress_days=50, seed_days=10, horizon=1)
    calm = [0.01 * (-1) ** i for i in range(200)]
    assert np.allclose(np.abs(filtered(series(calm), ["ETH"], rules).spot), 0.01)
    wild = calm[:190] + [0.30 * (-1) ** i for i in range(10)]
    scaled = filtered(series(wild), ["ETH"], rules).spot
    assert np.abs(scaled[:80]).max() == pytest.approx(0.03)
    quiet = [0.30 * (-1) ** i for i in range(60)] + [0.001 * (-1) ** i for i in range(140)]
    assert np.abs(filtered(series(quiet), ["ETH"], replace(rules, days=200)).spot[20:60]).max() == pytest.approx(0.15)


def test_the_volatility_of_a_day_is_known_before_it() -> None:
    """The last return changes today's volatility, and with it all others, but its own divisor is yesterday's."""
    rules = History(days=20, stress_days=20, seed_days=10, horizon=1, most_ratio=10**6)
    base = [0.01 * (-1) ** i for i in range(39)] + [0.10]
    scaled = filtered(series(base), ["ETH"], rules).spot[:, 0]
    today = math.sqrt(0.97 * 0.01**2 + 0.03 * 0.10**2)
    assert scaled[-1] == pytest.approx(0.10 * today / 0.01)
    assert abs(scaled[0]) == pytest.approx(today)


def test_the_stressed_days_are_the_most_moving_in_a_row_as_they_were() -> None:
    rules = History(days=50, stress_days=30, seed_days=10, horizon=4)
    moves = [0.01] * 40 + [0.05] * 30 + [0.02] * 60
    found = stressed(series(moves), ["ETH"], rules)
    assert np.allclose(found.spot, 0.10)  # × √4
    assert len(found.dates) == 30


def test_the_series_shipped_is_what_its_generator_makes() -> None:
    import importlib.util

    root = Path(__file__).parents[2]
    spec = importlib.util.spec_from_file_location("generate_returns", root / "scripts" / "returns.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = module.generate()
    shipped = load_returns(root / "keeper" / "margin" / "data" / "returns.csv")
    assert np.abs(made.spot - shipped.spot).max() <= 2e-9
    assert np.abs(made.vol - shipped.vol).max() <= 2e-9
    assert default_parameters().returns is not None
    # It looks like the market it stands for: correlations, and fatter tails than a normal's.
    assert np.corrcoef(shipped.spot.T)[0, 1] == pytest.approx(0.8, abs=0.06)
    assert ((shipped.spot / shipped.spot.std(axis=0)) ** 4).mean() > 3.5


def test_a_series_is_read_from_csv_and_parquet_and_from_levels(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    shipped = load_returns(Path(__file__).parents[2] / "keeper" / "margin" / "data" / "returns.csv")
    table = {"date": list(shipped.dates)}
    for i, name in enumerate(shipped.underlyings):
        table |= {name: shipped.spot[:, i].tolist(), name + "_vol": shipped.vol[:, i].tolist()}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "returns.parquet")
    assert load_returns(tmp_path / "returns.parquet").digest == shipped.digest
    (tmp_path / "levels.csv").write_text(
        "date,ETH_close,ETH_iv\n2024-01-01,100,0.5\n2024-01-02,110,0.55\n2024-01-03,99,0.5\n"
    )
    levels = load_returns(tmp_path / "levels.csv")
    assert levels.dates == ("2024-01-02", "2024-01-03")
    assert levels.spot[:, 0].tolist() == pytest.approx([math.log(1.1), math.log(0.9)], abs=1e-9)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "no rows"),
        ("day,ETH,ETH_vol\n2024-01-01,0,0\n", "no column date"),
        ("date,ETH\n2024-01-01,0\n", "ETH_vol"),
        ("date,ETH,ETH_vol\n2024-01-01,0\n", "line 2 has 2 fields"),
        ("date,ETH,ETH_vol\nyesterday,0,0\n", "'yesterday' is no date"),
        ("date,ETH,ETH_vol\n2024-01-02,0,0\n2024-01-02,0,0\n", "dates ascend"),
        ("date,ETH,ETH_vol\n2024-01-02,nan,0\n", "line 2, ETH: 'nan', wanted a number"),
        ("date,ETH,ETH_vol\n2024-01-02,x,0\n", "ETH"),
        ("date,ETH_close,ETH_iv\n2024-01-02,0,1\n2024-01-03,1,1\n", "a level is positive"),
    ],
)
def test_what_is_wrong_with_a_series_is_named(tmp_path: Path, text: str, names: str) -> None:
    path = tmp_path / "returns.csv"
    path.write_text(text)
    with pytest.raises(ReturnsError, match=names) as error:
        load_returns(path)
    assert str(path) in str(error.value)
    with pytest.raises(ReturnsError, match="No such file"):
        load_returns(tmp_path / "none.csv")
