"""Whole simulations: money is conserved whatever the rules, and the laws that hold without impact hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from keeper import cli
from keeper.cli.output import Failure
from keeper.margin.parameter_file import default_parameters
from keeper.simulation import compare as compare_module
from keeper.simulation import findings
from keeper.simulation.compare import Task, compare, single
from keeper.simulation.engine import World, run
from keeper.simulation.measures import figures, measure, payers
from keeper.simulation.population import MICRO
from keeper.simulation.settings import LIQUIDATIONS, MARGINS, SALES, Rules, Scene

RICH = 1e9


def world(**changes: Any) -> World:
    return World.of(Scene(**({"accounts": 80, "minutes": 20.0, "block_seconds": 20.0} | changes)), default_parameters())


rules = st.builds(
    Rules,
    margin=st.sampled_from(MARGINS),
    liquidation=st.sampled_from(LIQUIDATIONS),
    sale=st.sampled_from(SALES),
    latency=st.integers(0, 20),
    fund=st.one_of(st.just(0.0), st.floats(0, 1e7)),
    fund_share=st.floats(0, 1),
    impact=st.floats(0, 4),
    feedback=st.booleans(),
    permanent=st.floats(0, 1),
    ramp=st.integers(1, 10),
    profit=st.floats(0, 0.01),
    capacity=st.floats(0, 1),
)
scenes = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 50),
        "accounts": st.integers(10, 100),
        "crowding": st.floats(0, 1),
        "hedged": st.floats(0, 1),
        "correlation": st.floats(0, 1),
        "shocks": st.sampled_from([(("ETH", -0.3),), (("SOL", 0.8),), (("BTC", -0.6), ("ETH", 0.4))]),
        "open_interest": st.floats(0.1, 4),
    }
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(scenes, rules)
def test_money_and_sizes_are_conserved_at_every_step_CM30_CM31(scene: dict[str, Any], chosen: Rules) -> None:
    """CM-30, CM-31, CM-42, CM-43: whatever is lost is gained, to the last micro-dollar, and no account stays insolvent
    without positions."""
    trace = run(world(minutes=12.0, **scene), chosen)
    assert trace.created == (0, 0)
    changes = payers(trace)
    assert abs(changes.pop("sum")) < 1e-6
    assert abs(sum(changes.values())) < 1e-6 + 1e-12 * sum(map(abs, changes.values()))
    flat = ~trace.venue.accounts.size.any(axis=(1, 2))
    assert (trace.venue.accounts.cash[flat] >= 0).all()
    assert min(trace.venue.ledger.covered, trace.venue.ledger.deleveraged) >= 0


@settings(max_examples=10, deadline=None, derandomize=True)
@given(scenes, rules)
def test_without_impact_prices_are_the_path(scene: dict[str, Any], chosen: Rules) -> None:
    here = world(minutes=12.0, **scene)
    for changes in ({"impact": 0.0}, {"feedback": False}):
        assert (run(here, replace(chosen, **changes)).prices == here.path).all()


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 100), st.floats(-0.5, 0.6), st.sampled_from(MARGINS), st.sampled_from(LIQUIDATIONS))
def test_without_impact_and_latency_slow_moves_leave_no_deficit(
    seed: int, move: float, margin: str, liquidation: str
) -> None:
    """However far the price goes in the end: in no block by as much as the maintenance margin, 14 % and more."""
    here = world(seed=seed, shocks=(("ETH", move),))
    assert np.abs(np.diff(np.log(here.path), axis=0)).max() < 0.13
    trace = run(here, Rules(margin=margin, liquidation=liquidation, sale="market", latency=0, fund=0, impact=0))
    assert trace.deficit.max() == 0.0
    assert trace.venue.ledger.covered == trace.venue.ledger.deleveraged == 0


@pytest.mark.parametrize("liquidation", LIQUIDATIONS)
@pytest.mark.parametrize("sale", SALES)
def test_a_failing_isolated_account_costs_its_owners_others_nothing(liquidation: str, sale: str) -> None:
    here = world(accounts=300)
    chosen = Rules(margin="isolated", liquidation=liquidation, sale=sale, latency=30, fund=RICH)
    trace = run(here, chosen)
    before = run(replace(here, scene=replace(here.scene)), replace(chosen, latency=100_000)).venue.accounts
    failed = np.zeros(len(here.population), dtype=bool)
    failed[trace.venue.accounts.owner[trace.liquidated]] = True
    others = failed[trace.venue.accounts.owner] & ~trace.liquidated
    assert trace.venue.ledger.covered > 0
    assert others.sum() > 20
    assert not trace.venue.taken.any()
    assert (trace.venue.accounts.cash[others] == before.cash[others]).all()
    assert (trace.venue.accounts.size[others] == before.size[others]).all()


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.integers(0, 100), st.sampled_from(MARGINS), st.integers(0, 12), st.floats(0, 1))
def test_partial_liquidation_closes_no_more_than_full(seed: int, margin: str, latency: int, crowding: float) -> None:
    """Of every account, in lots, where no sale moves a price and nobody is deleveraged."""
    here = world(seed=seed, crowding=crowding)
    part, full = (
        run(here, Rules(margin=margin, liquidation=way, sale="market", latency=latency, fund=RICH, impact=0))
        for way in ("partial", "full")
    )
    assert not part.venue.taken.any()
    left = np.abs(part.venue.accounts.size) >= np.abs(full.venue.accounts.size)
    assert left.all()
    assert (part.liquidated == full.liquidated).all()


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("seed", range(4))
def test_a_larger_fund_leaves_less_to_deleveraging(margin: str, seed: int) -> None:
    here = world(seed=seed, accounts=200)
    losses = [
        run(
            here, Rules(margin=margin, liquidation="full", sale="market", latency=25, fund=fund, impact=0)
        ).venue.ledger.deleveraged
        for fund in (0.0, 1e5, 5e5, 2e6, RICH)
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > 0
    assert losses[-1] == 0


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("sale", SALES)
def test_screening_changes_nothing(margin: str, sale: str) -> None:
    here = world(accounts=150)
    one, other = (run(here, Rules(margin=margin, sale=sale), screen) for screen in (True, False))
    assert (one.end == other.end).all()
    assert (one.prices == other.prices).all()


def test_the_same_seed_gives_the_same_bytes_and_another_does_not() -> None:
    texts = [
        orjson.dumps(single(World.of(replace(world().scene, seed=seed), default_parameters()), Rules()))
        for seed in (7, 7, 8)
    ]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_cross_margin_spreads_a_loss_and_isolation_does_not() -> None:
    """Everybody is long everything: bystanders of a crash in ETH lose by sales of cross accounts, and by no others."""
    here = world(accounts=500, crowding=1.0, minutes=30.0)
    told = {}
    for margin in MARGINS:
        told[margin], trace = measure(here, Rules(margin=margin, liquidation="full", sale="market"))
        moved = np.abs(trace.prices / here.path - 1).max(axis=0)
        assert (moved[[0, 2]].max() > 1e-3) == (margin == "cross")
        assert moved[1] > 0.01
    assert told["cross"]["contagion"]["worst_loss"] > 1e4
    assert told["isolated"]["contagion"]["worst_loss"] == 0.0
    assert told["isolated"]["contagion"]["liquidated"] == 0


def test_what_impact_causes_is_measured_against_the_same_run_without() -> None:
    here = world(accounts=300, crowding=0.9)
    chosen = Rules(liquidation="partial", sale="market")
    with_impact, without = run(here, chosen), run(here, replace(chosen, feedback=False))
    told = figures(here, with_impact, without)["liquidated"]
    assert told["notional"] == pytest.approx(with_impact.sold.sum())
    assert told["notional"] > told["notional_without_impact"] > 0
    assert told["because_of_impact"] == pytest.approx(1 - told["notional_without_impact"] / told["notional"])
    same = figures(here, without, without)
    assert same["liquidated"]["because_of_impact"] == same["beyond_path"]["worst"] == 0.0
    assert same["contagion"]["worst_loss"] == 0.0


def test_who_pays_by_hand() -> None:
    """Deficit = what the fund paid + what counterparties bore; the fund's own change is that less its shares."""
    trace = run(world(accounts=300), Rules(margin="isolated", sale="market", liquidation="full", latency=25, fund=1e5))
    ledger, changes = trace.venue.ledger, payers(trace)
    assert ledger.covered > 0
    assert ledger.deleveraged > 0
    assert changes["fund"] == pytest.approx(-ledger.covered / MICRO, abs=1e-3)
    assert changes["liquidated"] < 0
    assert trace.venue.lost.sum() <= ledger.deleveraged / MICRO + 1e-3


def test_findings_say_what_the_figures_say() -> None:
    def row(margin: str, lost: float, crowding: float = 0.5) -> dict[str, Any]:
        return {
            "rules": {"margin": margin, "liquidation": "full", "sale": "market", "latency": 3},
            "crowding": crowding,
            "hedged": 0.2,
            "correlation": 0.0,
            "contagion": {"worst_loss": lost, "equity": 1e6, "bystanders": 9, "loss_at_end": 0.0},
            "liquidated": {"notional": 1e6},
            "deficit": {"total": 0.0},
        }

    rows = [row("cross", 0.0, 0.0), row("isolated", 5e3, 0.0), row("cross", 9e3, 1.0), row("isolated", 5e3, 1.0)]
    said = findings._over("crowding", rows)
    assert "bystanders lose 0 USD to 9.00k USD with cross accounts, 5.00k USD to 5.00k USD" in said
    assert "more with cross at 1, less at 0" in said
    assert "liquidations take 1.00m USD" in said
    assert "more with cross nowhere, less nowhere" in said
    assert findings._in_all({"crowding": rows}).startswith("Of these 2 markets, cross margin against isolated: bystand")
    assert "lose more in 1 and less in 1" in findings._in_all({"crowding": rows})
    assert findings.change(2e6, 1e6, findings.usd) == "goes from 2.00m USD to 1.00m USD (−50%)"
    assert findings.change(1e6, 1.001e6, findings.usd) == "stays at 1.00m USD"
    assert findings.change(0.0, 1e3, findings.usd) == "goes from 0 USD to 1.00k USD"


# --- the command ----------------------------------------------------------------------------------------------------


def command(*arguments: str) -> str:
    result = CliRunner().invoke(cli.app, ["simulate", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


SMALL: Sequence[str] = ("--accounts", "60", "--minutes", "6")


def test_one_run_as_text_as_json_and_as_a_picture(tmp_path: Path) -> None:
    files = [tmp_path / "run.json", tmp_path / "run.png"]
    text = command(*SMALL, "--sale", "market", "--json", str(files[0]), "--plot", str(files[1]))
    told = json.loads(files[0].read_text())
    assert told["run"]["rules"]["sale"] == "market"
    assert f"{told['run']['liquidated']['notional'] / 1e6:,.2f}" in text
    assert "the sum is 0.000000" in " ".join(text.split())
    assert files[1].read_bytes().startswith(b"\x89PNG")
    before = files[0].read_bytes()
    command(*SMALL, "--sale", "market", "--json", str(files[0]))
    assert files[0].read_bytes() == before
    printed = json.loads(command(*SMALL, "--sale", "market", "--json", "-"))
    assert printed == told


def test_all_rules_are_compared_where_none_is_named(tmp_path: Path) -> None:
    files = [tmp_path / "all.json", tmp_path / "all.html"]
    text = command(*SMALL, "--latency", "2", "--json", str(files[0]), "--plot", str(files[1]))
    told = json.loads(files[0].read_text())
    assert len(told["grid"]) == 24
    assert {row["rules"]["latency"] for row in told["grid"]} == {0, 2, 10}
    assert len(told["sweep"]["crowding"]) == 10
    joined = " ".join(text.split())
    for sentence in told["findings"]:
        assert " ".join(sentence.split()) in joined
    assert told["findings"][0] in files[1].read_text().replace("&#x27;", "'")
    # The same run alone.
    alone = single(World.of(Scene(60, minutes=6.0), default_parameters()), Rules("cross", "partial", "auction", 10))
    row = next(row for row in told["grid"] if list(row["rules"].values())[:4] == ["cross", "partial", "auction", 10])
    assert json.loads(orjson.dumps(alone))["payers"] == row["payers"]


def test_processes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [Task(Scene(accounts=40, minutes=4.0), Rules(margin=margin, sale="market"), True) for margin in MARGINS]
    alone = list(compare_module._all(tasks, default_parameters()))
    monkeypatch.setattr(compare_module, "_ALONE", 0)
    assert orjson.dumps(list(compare_module._all(tasks, default_parameters()))) == orjson.dumps(alone)


def test_compare_says_how_far_it_is() -> None:
    said: list[str] = []
    found = compare(Scene(accounts=20, minutes=2.0), Rules(), [1], default_parameters(), said.append)
    assert len(found["grid"]) == 8
    assert said[-1].startswith(f"{len(said)} of {len(said)}: ")
    assert len(found["findings"]) == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shock", "ETH"], r"shock 'ETH', wanted UNDERLYING:PERCENT"),
        (["--shock", "DOGE:-30"], r"shock of DOGE: there are BTC, ETH, SOL"),
        (["--margin", "both"], r"margin 'both', wanted cross or isolated"),
        (["--compare", "--margin", "cross"], r"--compare runs every --margin: name none"),
        (["--crowding", "2"], r"crowding: 2, wanted 0 to 1"),
        (["--margin", "cross", *SMALL, "--plot", "x.gif"], r"wanted a file that ends in .png"),
        (["--margin", "cross", *SMALL, "--json", "/nowhere/x.json"], r"/nowhere/x.json: No such file"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(Failure, match=message):
        command(*arguments)
