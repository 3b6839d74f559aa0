"""The file of parameters: what is shipped is what the defaults say, and every wrong line is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from keeper.margin.parameter_file import default_parameters, load_parameters
from keeper.margin.parameters import MarginParameters, ParameterError, UnderlyingParameters

SHIPPED = Path(__file__).parents[2] / "keeper" / "margin" / "data" / "xpm.toml"


def test_the_file_shipped_says_what_the_defaults_are() -> None:
    shipped = default_parameters()
    assert shipped == load_parameters(SHIPPED) or shipped.hash() == load_parameters(SHIPPED).hash()
    plain = MarginParameters(
        {
            "BTC": UnderlyingParameters(1500, 300, daily_volume=200_000_000),
            "ETH": UnderlyingParameters(1500, 300, daily_volume=100_000_000),
            "SOL": UnderlyingParameters(2000, 500, daily_volume=20_000_000),
        }
    )
    assert replace(shipped, returns=None).hash() == plain.hash()
    assert shipped.hash() != plain.hash()


def test_one_changed_return_changes_the_hash(tmp_path: Path) -> None:
    text = (SHIPPED.parent / "returns.csv").read_text()
    (tmp_path / "xpm.toml").write_text(SHIPPED.read_text())
    (tmp_path / "returns.csv").write_text(text)
    assert load_parameters(tmp_path / "xpm.toml").hash() == default_parameters().hash()
    (tmp_path / "returns.csv").write_text(text.replace("0.040927218", "0.040927219", 1))
    assert load_parameters(tmp_path / "xpm.toml").hash() != default_parameters().hash()


ETH = "[underlyings.ETH]\nlargest_move = 0.15\nhaircut = 0.03\n"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "no underlyings"),
        ("x = ", "Invalid value"),
        ("leverage = 3\n" + ETH, "unknown: leverage"),
        (ETH + "colour = 1\n", "unknown: underlyings.ETH.colour"),
        ("[underlyings.ETH]\nhaircut = 0.03\n", "underlyings.ETH.largest_move is missing"),
        ("[underlyings.ETH]\nlargest_move = 2\nhaircut = 0\n", "ETH: range 20000"),
        ("buffer = 0.00001\n" + ETH, "buffer: 0.00001, wanted a number in steps of 0.0001"),
        ("buffer = true\n" + ETH, "buffer: True"),
        ("buffer = '2 %'\n" + ETH, "buffer: '2 %'"),
        ("steps = 1.5\n" + ETH, "steps: 1.5, wanted a whole number"),
        ("returns = 'none.csv'\n" + ETH, "none.csv"),
        ("vol = 3\n" + ETH, "vol: 3, wanted a table"),
        ("[grid]\ntails = [0.3]\n" + ETH, "grid.tails"),
        ("[history]\nconfidence = 1\n" + ETH, "history.confidence: 10000"),
        ("[history]\ndecay = 1.0\n" + ETH, "history.decay"),
        ("[vol]\nup = -0.1\n" + ETH, "up: -1000"),
    ],
)
def test_what_is_wrong_is_named_with_its_value(tmp_path: Path, text: str, names: str) -> None:
    path = tmp_path / "margin.toml"
    path.write_text(text)
    with pytest.raises(ParameterError, match=names) as error:
        load_parameters(path)
    assert str(path) in str(error.value)


def test_returns_must_have_every_underlying_and_days_enough(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text("date,BTC,BTC_vol\n2024-01-01,0.01,0.01\n")
    (tmp_path / "a.toml").write_text('returns = "r.csv"\n' + ETH)
    with pytest.raises(ParameterError, match="the returns lack ETH"):
        load_parameters(tmp_path / "a.toml")
    (tmp_path / "a.toml").write_text('returns = "r.csv"\n' + ETH.replace("ETH", "BTC"))
    with pytest.raises(ParameterError, match="have 1 days, wanted at least 560"):
        load_parameters(tmp_path / "a.toml")
