"""The file of parameters: what is shipped is what the defaults say, and every wrong line is named."""

from __future__ import annotations

import re
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
        ("buffer = 0.00001\n" + ETH, "buffer: 0.00001, wanted at most 4 decimals, in steps of 0.0001"),
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


# --- other models ---------------------------------------------------------------------------------------------------

PMRM2 = (SHIPPED.parent / "pmrm2.toml").read_text()
SPAN = (SHIPPED.parent / "span.toml").read_text()


def test_what_other_models_have_does_not_stand_in_xpms_hash() -> None:
    """A model of its own adds nothing to what deployments and batches name for xpm."""
    assert default_parameters().hash().hex() == "c556ed4ad44a189ef600e5963b4f540b5d51fcabb626cd45516a45ba51ee41b9"
    assert b'"model"' not in default_parameters().canonical_json()


@pytest.mark.parametrize("name", ["pmrm2", "span"])
def test_every_value_of_a_model_is_in_its_hash(tmp_path: Path, name: str) -> None:
    text = (SHIPPED.parent / f"{name}.toml").read_text()
    path = tmp_path / "a.toml"
    path.write_text(text)
    whole = load_parameters(path)
    assert whole.model == name
    assert whole.hash() == default_parameters(name).hash() != default_parameters().hash()
    hashes = {whole.hash()}
    body = text.index(f"[{name}]")
    values = list(re.finditer(r"(?<== )\d+(\.\d+)?", text[body:]))
    assert len(values) > (80 if name == "pmrm2" else 8)
    for found in values[:: 9 if name == "pmrm2" else 1]:
        more = f"{float(found.group()) + 0.0001:.4f}"
        path.write_text(text[: body + found.start()] + more + text[body + found.end() :])
        hashes.add(load_parameters(path).hash())
    assert len(hashes) == 1 + len(values[:: 9 if name == "pmrm2" else 1])


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('model = "spam"\n' + ETH, "model: 'spam', wanted xpm, pmrm2 or span"),
        ("model = 3\n" + ETH, "model: 3, wanted text"),
        ('model = "span"\n' + ETH, "model 'span': it wants a section [span]"),
        ("[span]\n" + ETH, "model 'xpm': it has no section [span]"),
        (PMRM2.replace('"pmrm2"', '"span"'), "it has no section [pmrm2]"),
        (PMRM2.replace("min_vol_up = 0.4", "min_vol_up = 0.41234"), "pmrm2.vol_shock.min_vol_up: 0.41234, wanted"),
        (PMRM2.replace("min_vol_up = 0.4", ""), "pmrm2.vol_shock.min_vol_up: missing"),
        (PMRM2.replace("min_vol_up", "max_vol_up"), "pmrm2.vol_shock.min_vol_up: missing"),
        (PMRM2.replace('vol = "abs"', 'vol = "square"'), "pmrm2.scenarios[26].vol: 'square'"),
        (
            PMRM2.replace("dampening = 0.3", "dampening = -0.3"),
            "pmrm2.scenarios[23].dampening: -0.3, wanted at least 0",
        ),
        (PMRM2.replace("im_factor = 1.0", "im_factor = 0.5"), "pmrm2.margin.im_factor: 0.5 is below 0.8"),
        (PMRM2.replace("mm_perp = 0.02", "mm_perp = -1"), "pmrm2.contingency.mm_perp: -1"),
        (PMRM2.replace("SOL = 0.05", "PEPE = 0.05"), "pmrm2: no underlyings PEPE"),
        (PMRM2.replace("SOL = 0.05", "SOL = 0.96"), "pmrm2.initial_haircuts.SOL: 0.96 beside the haircut is over 1"),
        (SPAN.replace("vol_scan = 0.25", "vol_scan = 1.25"), "span.vol_scan: 1.25, wanted 0 to 1"),
        (SPAN.replace("vol_scan", "price_scan"), "unknown: span.price_scan"),
        (SPAN.replace('"sum"', '"mean"'), "span.short_option_method: 'mean'"),
        (SPAN.replace("initial_to_maintenance = 1.1", "initial_to_maintenance = 0.9"), "wanted 1 to 100"),
        (SPAN.replace('side = "B"', 'side = "C"'), "span.credits[0].legs[1].side: 'C', wanted A or B"),
        (SPAN.replace('side = "B"', 'side = "A"'), "span.credits[0]: wanted different underlyings"),
        (SPAN.replace('underlying = "ETH"', 'underlying = "OIL"'), "span: no underlyings OIL"),
        (SPAN.replace("ratio = 20", "ratio = 0"), "span.credits[0]: ratios are more than 0"),
        (SPAN.replace("rate = 0.5 ", "rate = 1.5 "), "span.credits[0].rate: 1.5, wanted 0 to 1"),
        (SPAN.replace("rate = 0.5 ", "share = 0.5 "), "unknown: span.credits[0].share"),
        (SPAN[: SPAN.index("[[span.credits]]")] + "credits = 3\n", "span.credits: 3, wanted a list of tables"),
    ],
    ids=lambda text: text[-30:],
)
def test_a_models_parameters_that_mean_nothing_are_refused(tmp_path: Path, text: str, names: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(ParameterError, match=re.escape(names)):
        load_parameters(path)
