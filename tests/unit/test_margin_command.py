"""`keeper margin` as its users run it: on files, with pictures, and with files that are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from keeper.cli import margin
from keeper.cli.output import Failure
from keeper.margin.names import UnknownName, name_of, parse_name
from keeper.state.ids import Instrument, Kind, instrument_id, perpetual

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "examples" / "margin_book.json"
PMRM2 = json.loads((ROOT / "tests" / "vectors" / "pmrm2.json").read_text())
CASES = [
    {"model": "pmrm2", "parameters": PMRM2["parameters"][case["parameters"]]}
    | {part: case[part] for part in ("market", "positions")}
    for case in PMRM2["cases"]
]


def run(*arguments: str) -> str:
    result = CliRunner().invoke(margin.app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def written(tmp_path: Path, book: Any) -> str:
    path = tmp_path / "book.json"
    path.write_text(json.dumps(book))
    return str(path)


def test_evaluate_of_a_list_is_a_list_in_order(tmp_path: Path) -> None:
    reports = json.loads(run("evaluate", written(tmp_path, CASES), "--json"))
    assert len(reports) == 25
    for case, report in zip(PMRM2["cases"], reports, strict=True):
        for name, wanted in case["expected"].items():
            assert report[name] == (wanted if isinstance(wanted, str) else pytest.approx(wanted, rel=1e-9, abs=1e-9))
    alone = json.loads(run("evaluate", written(tmp_path, CASES[3]), "--model", "pmrm2", "--json"))
    assert alone == reports[3]


def test_evaluate_by_each_model_and_as_text() -> None:
    told = json.loads(run("evaluate", str(BOOK), "--json"))
    assert told["model"] == "xpm"
    assert told["initial_margin"] == pytest.approx(sum(t["initial"] for t in told["terms"]) + 250)
    span = json.loads(run("evaluate", str(ROOT / "examples" / "span_book.json"), "--json"))
    assert span["model"] == "span"
    text = run("evaluate", str(BOOK))
    assert f"{told['initial_margin']:,.6f}" in text


def test_explain_in_the_terminal_has_heat_maps_and_the_distribution() -> None:
    text = run("explain", str(BOOK))
    assert "ETH: profit and loss, USD" in text
    assert "filtered days" in text
    assert "by protocol" in text
    assert "is liquidated below" in text


@pytest.mark.parametrize(("kind", "starts"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("html", b"<!doctype html>")])
def test_pictures(tmp_path: Path, kind: str, starts: bytes) -> None:
    path = tmp_path / f"margin.{kind}"
    run("explain", str(BOOK), "--plot", str(path))
    content = path.read_bytes()
    assert content.startswith(starts)
    assert len(content) > 10_000
    if kind == "html":
        assert b"http://" not in content.replace(b"http://www.w3.org", b"").replace(b"http://purl.org", b"").replace(
            b"http://creativecommons.org", b""
        )
        run("evaluate", str(BOOK), "--plot", str(path))
        assert path.read_bytes() == content


def test_smiles_that_admit_arbitrage_are_judged_with_a_warning(tmp_path: Path) -> None:
    assert json.loads(run("evaluate", str(BOOK), "--json"))["warnings"] == []
    steep = written(tmp_path, changed("market.ETH.expiries.2027-03-26.vol", 0.1))
    (line,) = json.loads(run("evaluate", steep, "--json"))["warnings"]
    assert "ETH, expiry" in line
    assert "calendar arbitrage" in line
    assert "warning" in run("evaluate", steep)
    assert "calendar" in run("explain", steep)


@pytest.mark.parametrize("model", ["pmrm2", "span"])
def test_a_book_of_instruments_is_judged_by_the_model_of_the_parameters(tmp_path: Path, model: str) -> None:
    # pmrm2 has no futures.
    positions = [{"instrument": "ETH-PERP", "size": -5}, {"instrument": "ETH-20261225-3000-C", "size": 2}]
    book = written(tmp_path, changed("account.positions", positions))
    parameters = ("--parameters", str(ROOT / "keeper" / "margin" / "data" / f"{model}.toml"))
    told = json.loads(run("evaluate", book, *parameters, "--json"))
    assert told["model"] == model
    assert told["initial_margin"] == pytest.approx(sum(t["initial"] for t in told["terms"]) + 250)
    assert told["initial_margin"] != json.loads(run("evaluate", book, "--json"))["initial_margin"]
    text = run("explain", book, *parameters)
    assert "ETH: profit and loss, USD" in text
    run("explain", book, *parameters, "--plot", str(tmp_path / "margin.svg"))
    assert (tmp_path / "margin.svg").stat().st_size > 10_000
    answer = json.loads(run("whatif", book, *parameters, "--trade", "ETH-PERP:5", "--json"))
    assert answer["before"]["initialMargin"] == pytest.approx(told["initial_margin"], abs=1e-5)


def test_what_if_says_before_and_after() -> None:
    answer = json.loads(
        run("whatif", str(BOOK), "--trade", "ETH-PERP:-2@3010", "--cash", "500", "--collateral", "ETH:1", "--json")
    )
    gained = answer["after"]["equity"] - answer["before"]["equity"]
    # 2 sold at 10 above the mark, 500 in cash, 1 ETH after its haircut.
    assert gained == pytest.approx(20 + 500 + 2_910, abs=1e-5)
    assert answer["changeOfFree"] == pytest.approx(answer["after"]["free"] - answer["before"]["free"])
    assert "maintenance margin" in run("whatif", str(BOOK))


def test_models_are_told_with_the_parameters_hash() -> None:
    told = json.loads(run("models", "--json"))
    assert [model["name"] for model in told["models"]] == ["xpm", "pmrm2", "span"]
    assert told["parametersHash"] == told["models"][0]["parametersHash"]
    text = run("models")
    for model in told["models"]:
        assert model["deployable"] is True
        assert model["parametersHash"] in text
    assert [model["parameters"].get("model") for model in told["models"]] == [None, "pmrm2", "span"]
    assert "observed" in told["models"][2]["signs"]


def test_bench_prints_what_it_promises() -> None:
    found = json.loads(run("bench", "--accounts", "2000", "--scaling", "1000", "--json"))
    assert found["accounts"] == 2_000
    for name in (
        "accounts_per_second",
        "scipy_accounts_per_second",
        "ratio",
        "peak_memory_bytes",
        "whatif_milliseconds",
    ):
        assert found[name] > 0
    assert found["greatest_relative_difference"] < 1e-9
    assert [row["accounts"] for row in found["scaling"]] == [1_000, 2_000]


def changed(path: str, value: Any) -> Any:
    """The example with one field set, or taken out where `value` is None."""
    book = json.loads(BOOK.read_text())
    *parents, last = path.split(".")
    at: Any = book
    for key in parents:
        at = at[int(key)] if isinstance(at, list) else at[key]
    if value is None:
        del at[last]
    else:
        at[int(last) if isinstance(at, list) else last] = value
    return book


@pytest.mark.parametrize(
    ("path", "value", "names"),
    [
        ("market", {}, "market: no underlying"),
        ("market.ETH.index", -1, "market.ETH.index: -1"),
        ("market.ETH.index", None, "market.ETH.index is missing"),
        ("market.ETH.expiries", {"someday": {}}, "'someday' is no date"),
        ("market.ETH.expiries.2026-12-25.vol", {"atm": 0}, "market.ETH.expiries.2026-12-25.vol"),
        ("market.ETH.expiries.2026-12-25.forward", "3000", "forward: '3000', wanted a number"),
        ("market.ETH.spot_confidence", 1.5, "spot_confidence: 1.5"),
        ("account.positions.0.instrument", "ETH-SWAP", "account.positions\\[0\\].instrument: 'ETH-SWAP'"),
        (
            "account.positions.0.instrument",
            "DOGE-PERP",
            "account.positions\\[0\\].instrument: 'DOGE-PERP': DOGE is not in the market",
        ),
        ("account.positions.3.instrument", "ETH-20300101", "no forward for ETH"),
        ("account.positions.0.size", None, "account.positions\\[0\\].size is missing"),
        ("account.positions.0.size", True, "size: True"),
        ("account.collateral.0.underlying", "DOGE", "account.collateral\\[0\\].underlying: 'DOGE', not in the market"),
        ("account.leverage", 3, "unknown: account.leverage"),
        ("model", "cross", "no model 'cross'"),
        ("time", "noon", "'noon' is no date"),
        ("stable_price", 0, "stable_price"),
    ],
)
def test_what_is_wrong_with_a_book_is_named(tmp_path: Path, path: str, value: Any, names: str) -> None:
    file = written(tmp_path, changed(path, value))
    with pytest.raises(Failure, match=names) as failure:
        run("evaluate", file)
    assert str(failure.value).startswith(file)


def test_other_wrong_things_are_named_too(tmp_path: Path) -> None:
    (tmp_path / "no.json").write_text("{")
    for arguments, names in (
        (["evaluate", str(tmp_path / "no.json")], "no JSON"),
        (["evaluate", str(tmp_path / "none.json")], "No such file"),
        (["evaluate", written(tmp_path, [1])], "book 0"),
        (["explain", str(BOOK), "--plot", "margin.doc"], "ends in .png"),
        (["explain", str(BOOK), "--parameters", "none.toml"], "none.toml"),
        (["whatif", str(BOOK), "--trade", "ETH-PERP"], "wanted INSTRUMENT:SIZE"),
        (["whatif", str(BOOK), "--trade", "ETH-PERP:much"], "'much'"),
        (["whatif", str(BOOK), "--collateral", "BTC:1"], "no collateral of 'BTC'"),
        (["bench", "--scaling", "many"], "'many'"),
    ):
        with pytest.raises(Failure, match=names):
            run(*arguments)


def test_names_of_instruments_go_there_and_back() -> None:
    for asset, name in (
        (perpetual("ETH"), "ETH-PERP"),
        (instrument_id(Instrument(Kind.FUTURE, "BTC", 1_798_185_600)), "BTC-20261225"),
        (instrument_id(Instrument(Kind.CALL, "ETH", 1_798_185_600, 3_000 * 10**8)), "ETH-20261225-3000-C"),
        (instrument_id(Instrument(Kind.PUT, "SOL", 1_798_185_601, 12_345_678)), "SOL-1798185601-0.12345678-P"),
    ):
        assert name_of(asset) == name
        assert parse_name(name) == asset
    assert parse_name(" ETH-20261225 ") == instrument_id(Instrument(Kind.FUTURE, "ETH", 1_798_185_600))
    for wrong in (
        "",
        "ETH",
        "ETH-20261399",
        "ETH-PERP-1",
        "ETH-20261225-0-C",
        "ETH-20261225-1-X",
        "ETH-20261225-1e-9-C",
    ):
        with pytest.raises(UnknownName):
            parse_name(wrong)
