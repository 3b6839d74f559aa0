"""SPAN: published figures, and every charge and credit by hand."""

from __future__ import annotations

import json
import math
import re
from copy import deepcopy

import pytest
from span_books import DOCUMENT, EXAMPLE, FULL, SMALL, Held, between, calendar, commodity, report

from keeper.margin.span import composite_delta, evaluate


@pytest.mark.parametrize(
    ("held", "scan_risk", "scenario"),
    [
        # The future loses 10,000 in scenario 13 and in 14; the first is the active one.
        ([("DEC", 1)], 10_000, 13),
        ([("DEC", -1)], 10_000, 11),
        ([("CALL", 1)], 3990, 14),
        # −10,000 + 3,380 in scenario 13; −10,000 + 3,990 in scenario 14 is less.
        ([("DEC", 1), ("CALL", -1)], 6620, 13),
        # Short the call: −8,060 in scenario 11.
        ([("CALL", -1)], 8060, 11),
        ([], 0, 1),
    ],
)
def test_scan_risk_of_the_published_arrays(held: Held, scan_risk: float, scenario: int) -> None:
    found = report(held)
    assert (found["scan_risk"], found["active_scenario"]) == (scan_risk, scenario)
    assert found["scan_risk"] == max(found["scenario_losses"])


def test_a_book_that_only_gains_has_no_scan_risk() -> None:
    found = report([("CALL", 1)], array=[float(gain) for gain in range(1, 17)])
    # Losses −1, −2, …: the greatest is −1, in scenario 1, and no risk.
    assert (found["scan_risk"], found["active_scenario"], found["risk"]) == (0, 1, 0)


def test_arrays_of_losses_are_arrays_of_gains_with_the_other_sign() -> None:
    book = deepcopy(EXAMPLE)
    for entry in book["commodities"]:
        entry["risk_arrays"] = {name: [-gain for gain in array] for name, array in entry["risk_arrays"].items()}
    assert evaluate({**book, "arrays": "losses"}) == evaluate(EXAMPLE)


def test_price_risk_by_hand() -> None:
    # Future long, call short: losses 6,620 in scenario 13, 6,010 in 14, 460 in 1, −610 in 2; net delta 1 − 0.5.
    found = report([("DEC", 1), ("CALL", -1)])
    assert found["volatility_adjusted_risk"] == (6620 + 6010) / 2 == 6315
    assert found["time_risk"] == (460 - 610) / 2 == -75
    assert found["futures_price_risk"] == 6315 + 75 == 6390
    assert found["net_delta"] == 0.5
    assert found["weighted_futures_price_risk"] == 6390 / 0.5 == 12_780


def test_an_extreme_scenario_is_its_own_pair() -> None:
    array = [0.0] * 15 + [-700.0]
    found = report([("DEC", 2)], array=array)
    assert (found["active_scenario"], found["scan_risk"], found["volatility_adjusted_risk"]) == (16, 1400, 1400)
    assert found["weighted_futures_price_risk"] == 700


def test_price_risk_is_not_negative() -> None:
    # Scenario 3 loses 10 and its pair gains 100: −45 on average, less than the 9 of scenarios 1 and 2.
    found = report([("DEC", 1)], array=[-9, -9, -10, 100] + [0] * 12)
    assert (found["active_scenario"], found["volatility_adjusted_risk"], found["time_risk"]) == (3, -45, 9)
    assert found["futures_price_risk"] == found["weighted_futures_price_risk"] == 0


def test_a_book_without_net_delta_has_no_weighted_price_risk() -> None:
    # Two calls of delta ½ against a future: 2 · 0.5 − 1 = 0.
    found = report([("CALL", 2), ("DEC", -1)])
    assert (found["net_delta"], found["weighted_futures_price_risk"]) == (0, 0)
    # Scenario 6: −2 · 2,340 + 3,330 = −1,350. In scenario 2, next, −2 · 610 = −1,220.
    assert (found["scan_risk"], found["active_scenario"]) == (1350, 6)


def test_deltas_that_only_rounding_leaves_are_none() -> None:
    # 0.1 + 0.2 − 0.3 is not 0 in floats: it must not be what a price risk is divided by.
    found = report([("DEC", 0.1), ("MAR", 0.2), ("JUN", -0.3)])
    assert (found["net_delta"], found["weighted_futures_price_risk"]) == (0, 0)


def test_rounding_does_not_choose_the_active_scenario() -> None:
    # Scenarios 5 and 13 lose the same, the second by one more in the last digit; 5 comes first.
    array = [0.0] * 16
    array[4], array[12] = -0.3, -math.nextafter(0.3, 1)
    assert report([("DEC", 1)], array=array)["active_scenario"] == 5


def test_composite_delta_is_a_mean() -> None:
    # (0.270 · 0.4 + 0.217 · (0.5 + 0.3) + 0.110 · (0.6 + 0.2) + 0.037 · (0.8 + 0.1)) / 0.998
    #   = (0.108 + 0.1736 + 0.088 + 0.0333) / 0.998 = 0.4029 / 0.998
    assert composite_delta([0.4, 0.5, 0.3, 0.6, 0.2, 0.8, 0.1]) == pytest.approx(0.4029 / 0.998, rel=1e-14)
    assert composite_delta([1] * 7) == 1
    assert composite_delta([-1] * 7) == -1


def test_seven_deltas_are_made_into_one() -> None:
    book = {"commodities": [commodity([("CALL", -3)])]}
    book["commodities"][0]["contracts"] |= {"CALL": {**FULL["CALL"][0], "delta": [0.4, 0.5, 0.3, 0.6, 0.2, 0.8, 0.1]}}
    # −3 · 0.4029 / 0.998 = −1.211122…
    assert evaluate(book)["commodities"][0]["net_delta"] == pytest.approx(-1.2087 / 0.998, rel=1e-14)


def test_calendar_spreads_in_order_of_priority() -> None:
    # DEC +5, MAR −2, JUN −4. First DEC : JUN at 1 : 1 and 100: min(5, 4) = 4 spreads, 400; DEC 1, JUN 0 remain.
    # Then DEC : MAR at 1 : 4 and 30: min(1, 2 / 4) = 0.5 spreads, 15; DEC 0.5 and MAR 0 remain. The third forms none.
    spreads = [
        calendar(100, ("DEC", 1, "A"), ("JUN", 1, "B")),
        calendar(30, ("DEC", 1, "A"), ("MAR", 4, "B")),
        calendar(7, ("DEC", 1, "A"), ("JUN", 1, "B")),
    ]
    held = [("DEC", 5), ("MAR", -2), ("JUN", -4)]
    result = evaluate({"commodities": [commodity(held, spreads=spreads)]})
    assert result["commodities"][0]["intra_commodity_charge"] == 415
    assert result["spreads"] == [
        {
            "kind": "intra_commodity",
            "commodity": "INDEX",
            "priority": 1,
            "number": 4,
            "money": 400,
            "legs": [{"month": "DEC", "delta": 4}, {"month": "JUN", "delta": -4}],
        },
        {
            "kind": "intra_commodity",
            "commodity": "INDEX",
            "priority": 2,
            "number": 0.5,
            "money": 15,
            "legs": [{"month": "DEC", "delta": 0.5}, {"month": "MAR", "delta": -2}],
        },
    ]
    # Scan risk: net −1 future loses 10,000 in scenario 11. Risk 10,000 + 415.
    assert result["maintenance_margin"] == 10_415


def test_a_spread_forms_in_either_orientation_and_only_between_opposite_deltas() -> None:
    butterfly = [calendar(10, ("DEC", 1, "A"), ("MAR", 2, "B"), ("JUN", 1, "A"))]
    # min(3 / 1, 8 / 2, 5 / 1) = 3 butterflies, 30, whichever way round.
    for sign in (1, -1):
        held = [("DEC", 3 * sign), ("MAR", -8 * sign), ("JUN", 5 * sign)]
        assert report(held, spreads=butterfly)["intra_commodity_charge"] == 30
    assert report([("DEC", 3), ("MAR", -8), ("JUN", -5)], spreads=butterfly)["intra_commodity_charge"] == 0
    assert report([("DEC", 3), ("MAR", 8), ("JUN", 5)], spreads=butterfly)["intra_commodity_charge"] == 0


def test_a_leg_that_is_used_up_leaves_no_rounding_for_the_next_spread() -> None:
    # 1 / 49 · 49 is less than 1 in floats; DEC is used up all the same, and nothing is left of it for JUN.
    spreads = [calendar(49, ("DEC", 49, "A"), ("MAR", 1, "B")), calendar(7, ("DEC", 1, "A"), ("JUN", 1, "B"))]
    held = [("DEC", 1), ("MAR", -1), ("JUN", -1)]
    result = evaluate({"commodities": [commodity(held, spreads=spreads)]})
    assert [(s["priority"], s["number"]) for s in result["spreads"]] == [(1, 1 / 49)]


def test_tiers_spread_their_long_and_their_short_months_apart() -> None:
    # The tier NEAR has DEC +4 and MAR −1, JUN has −2. NEAR against JUN at 50: A long 4, B short 2, so 2 spreads, 100;
    # reversed, NEAR is short 1 and JUN long 0. DEC +2, MAR −1 remain. NEAR against itself at 20: 1 spread, 20; the
    # reversed one finds MAR at 0. DEC delivers with 1 outright delta · 3 and 3 in spreads · 1 = 6.
    held = [("DEC", 4), ("MAR", -1), ("JUN", -2)]
    spreads = [
        {"legs": [{"tier": "NEAR", "ratio": 1, "side": "A"}, {"month": "JUN", "ratio": 1, "side": "B"}], "charge": 50},
        calendar(20, ("NEAR", 1, "A"), ("NEAR", 1, "B"), of="tier"),
    ]
    found = report(
        held,
        tiers={"NEAR": ["DEC", "MAR"]},
        spreads=spreads,
        delivery={"DEC": {"spread_rate": 1, "outright_rate": 3}},
    )
    assert (found["intra_commodity_charge"], found["delivery_charge"]) == (120, 6)


def test_a_tier_is_used_up_month_by_month_and_in_both_orientations() -> None:
    # Tier X: DEC +2, MAR +3, JUN −1; tier Y: JUN −1, MAR +3. X long against Y short: min(5, 1) = 1 from DEC;
    # X short (JUN is used up) against Y long: none. Both months that X has long deliver with what is left of them.
    found = report(
        [("DEC", 2), ("MAR", 3), ("JUN", -1)],
        tiers={"X": ["DEC", "MAR", "JUN"], "Y": ["JUN", "MAR"]},
        spreads=[calendar(20, ("X", 1, "A"), ("Y", 1, "B"), of="tier")],
        delivery={month: {"spread_rate": 0, "outright_rate": 1} for month in ("DEC", "MAR", "JUN")},
    )
    assert (found["intra_commodity_charge"], found["delivery_charge"]) == (20, 1 + 3 + 0)
    # X: DEC +1, MAR −2; Y: JUN −3, SEP −6 · −0.25 = +1.5. X long against Y short: 1 spread; X short against Y long:
    # min(2, 1.5) = 1.5 spreads. Together 2.5 · 20 = 50.
    both = commodity(
        [("DEC", 1), ("MAR", -2), ("JUN", -3), ("PUT", -6)],
        tiers={"X": ["DEC", "MAR"], "Y": ["JUN", "SEP"]},
        spreads=[calendar(20, ("X", 1, "A"), ("Y", 1, "B"), of="tier")],
    )
    both["contracts"]["PUT"] = {**FULL["PUT"][0], "month": "SEP"}
    result = evaluate({"commodities": [both]})
    assert [(s["number"], s["money"]) for s in result["spreads"]] == [(1, 20), (1.5, 30)]
    assert result["spreads"][1]["legs"] == [{"tier": "X", "delta": -1.5}, {"tier": "Y", "delta": 1.5}]
    assert result["commodities"][0]["intra_commodity_charge"] == 50


def test_delivery_by_hand() -> None:
    # DEC +5, MAR −2: 2 calendar spreads at 0. DEC has 2 deltas in spreads at 100 and 3 outright at 250: 950.
    # MAR has 2 in spreads at 40. Short months are charged as long ones are.
    found = report(
        [("DEC", 5), ("MAR", -2)],
        spreads=[calendar(0, ("DEC", 1, "A"), ("MAR", 1, "B"))],
        delivery={
            "DEC": {"spread_rate": 100, "outright_rate": 250},
            "MAR": {"spread_rate": 40, "outright_rate": 1000},
        },
    )
    assert found["delivery_charge"] == 200 + 750 + 80
    assert found["risk"] == 30_000 + 1030


def test_credits_between_commodities_in_order_of_priority() -> None:
    # A +4 futures, B −6 small ones, C −1. Scan risk and price risk 40,000, 6,000 and 10,000; per delta 10,000, 1,000
    # and 10,000.
    # A : C at 1 : 1 and 80 %: 1 spread. A 10,000 · 1 · 0.8 = 8,000, C as much. A has 3 deltas left.
    # A : B at 1 : 4 and 50 %, the sides the other way round: min(3, 6 / 4) = 1.5 spreads. A 10,000 · 1.5 · 0.5 = 7,500;
    # B 1,000 · 6 · 0.5 = 3,000. A : C again finds no C.
    book = {
        "commodities": [
            commodity([("DEC", 4)], name="A"),
            commodity([("DEC", -6)], name="B", array=SMALL),
            commodity([("MAR", -1)], name="C"),
        ],
        "inter_commodity_spreads": [
            between(0.8, ("A", 1, "A"), ("C", 1, "B")),
            between(0.5, ("A", 1, "B"), ("B", 4, "A")),
            between(0.9, ("A", 1, "A"), ("C", 1, "B")),
        ],
    }
    result = evaluate(book)
    assert [entry["inter_commodity_credit"] for entry in result["commodities"]] == [15_500, 3000, 8000]
    assert [entry["risk"] for entry in result["commodities"]] == [24_500, 3000, 2000]
    assert [(s["priority"], s["number"], s["money"]) for s in result["spreads"]] == [(1, 1, -16_000), (2, 1.5, -10_500)]
    assert result["spreads"][1]["legs"] == [
        {"commodity": "A", "delta": 1.5, "money": -7500},
        {"commodity": "B", "delta": -6, "money": -3000},
    ]
    assert (result["scan_risk"], result["maintenance_margin"]) == (56_000, 29_500)


def test_a_calendar_spread_takes_nothing_from_spreads_between_commodities() -> None:
    # A: DEC +3 and MAR −1 in one calendar spread of DEC 2 : MAR 1. Its net delta is 2, all of it against B's −2:
    # 10,000 · 2 · 1 = 20,000 is credited, the whole price risk of the net two futures. The charge of 60 remains.
    book = {
        "commodities": [
            commodity([("DEC", 3), ("MAR", -1)], "A", spreads=[calendar(60, ("DEC", 2, "A"), ("MAR", 1, "B"))]),
            commodity([("DEC", -2)], "B"),
        ],
        "inter_commodity_spreads": [between(1, ("A", 1, "A"), ("B", 1, "B"))],
    }
    assert [entry["risk"] for entry in evaluate(book)["commodities"]] == [60, 0]


@pytest.mark.parametrize(("method", "minimum"), [("sum", 5 * 3000), ("max", 3 * 3000), (None, 5 * 3000)])
def test_the_short_option_minimum_binds(method: str | None, minimum: float) -> None:
    # 3 short calls at 3,000; of 3 short puts one is closed out by a long one, so 2 count.
    held = [("CALL", -3), ("PUT", -3), ("PUT", 1), ("DEC", 1)]
    book = {"commodities": [commodity(held, short_option_minimum=3000)]}
    found = evaluate(book if method is None else {**book, "short_option_method": method})["commodities"][0]
    assert found["short_option_minimum"] == minimum
    # Scenario 13: 3 · 3,380 − 2 · 7,100 − 10,000 = −14,060. Scenario 11: −3 · 8,060 + 2 · 2,400 + 10,000 = −9,380.
    assert found["scan_risk"] == 14_060
    assert found["risk"] == max(14_060, minimum)


def test_a_credit_does_not_go_below_the_short_option_minimum() -> None:
    book = {
        "commodities": [
            commodity([("DEC", 3), ("CALL", -1)], "A", short_option_minimum=750),
            commodity([("DEC", -9)], "B"),
        ],
        "inter_commodity_spreads": [between(1, ("A", 1, "A"), ("B", 1, "B"))],
    }
    found = evaluate(book)["commodities"][0]
    # Scenario 13: 30,000 − 3,380 = 26,620, scenario 14 26,010; time risk −75; credit 26,315 + 75 = 26,390.
    assert found["inter_commodity_credit"] == 26_390
    assert found["risk"] == max(26_620 - 26_390, 750) == 750


def test_net_option_value_is_long_less_short_and_only_of_premiums() -> None:
    # 2 calls long at 14 · 500 = 7,000, 1 put short at 8 · 500 = 4,000: 14,000 − 4,000.
    assert report([("CALL", 2), ("PUT", -1)])["net_option_value"] == 10_000
    book = {"commodities": [commodity([("CALL", 2), ("PUT", -1)], short_option_minimum=100)]}
    contracts = book["commodities"][0]["contracts"]
    contracts["PUT"] = {"kind": "put", "month": "MAR", "delta": -0.25, "style": "futures"}
    found = evaluate(book)["commodities"][0]
    assert (found["net_option_value"], found["short_option_minimum"]) == (14_000, 100)


def test_option_value_beyond_the_risk_relieves_others_only_where_shared() -> None:
    # A: one long call, risk 3,990, worth 7,000: excess 3,010. B: one future, 10,000.
    book = {"commodities": [commodity([("CALL", 1)], "A"), commodity([("DEC", 1)], "B")]}
    kept, shared = evaluate(book), evaluate({**book, "net_option_value_excess": "shared"})
    assert [entry["requirement"] for entry in kept["commodities"]] == [0, 10_000]
    assert kept["commodities"][0]["net_option_value_excess"] == 3010
    assert kept["maintenance_margin"] == 10_000
    assert shared["maintenance_margin"] == 10_000 - 3010
    alone = {"commodities": [commodity([("CALL", 1)], "A")], "net_option_value_excess": "shared"}
    assert evaluate(alone)["maintenance_margin"] == 0


def test_what_was_received_for_a_short_option_is_owed() -> None:
    # Scan risk 8,060 and the option's value 7,000.
    found = report([("CALL", -1)])
    assert (found["risk"], found["requirement"]) == (8060, 15_060)


def test_initial_margin_is_the_ratio_times_maintenance_margin() -> None:
    result = evaluate({"commodities": [commodity([("DEC", 1)])], "initial_to_maintenance": 1.35})
    assert (result["maintenance_margin"], result["initial_margin"]) == (10_000, 13_500)
    plain = evaluate({"commodities": [commodity([("DEC", 1)])]})
    assert plain["initial_margin"] == plain["maintenance_margin"] == 10_000


def test_no_positions_and_no_commodities_need_nothing() -> None:
    result = evaluate({"commodities": []})
    assert result["initial_margin"] == result["scan_risk"] == 0
    assert (result["commodities"], result["spreads"]) == ([], [])
    empty = report([])
    assert "-0.0" not in json.dumps(empty)
    assert empty["requirement"] == 0


def documented(line: str) -> list[float]:
    return [float(cell.strip().replace(",", "").replace("−", "-")) for cell in line.strip(" |").split("|")[1:]]


def test_the_documented_example_is_the_example_and_its_figures_are_right() -> None:
    block = re.search(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)
    assert block is not None
    assert json.loads(block.group(1)) == EXAMPLE
    result = evaluate(EXAMPLE)
    by_commodity, totals = DOCUMENT[block.end() :].split("| total |")
    rows = {m.group(1): documented(m.group(0)) for m in re.finditer(r"^\| `(\w+)` \|.*$", by_commodity, re.MULTILINE)}
    # All that is said of a commodity is documented, its name and its losses apart.
    assert set(rows) == set(result["commodities"][0]) - {"commodity", "scenario_losses"}
    for name, row in rows.items():
        assert [entry[name] for entry in result["commodities"]] == pytest.approx(row, rel=1e-12), name
    rows = {m.group(1): documented(m.group(0)) for m in re.finditer(r"^\| `(\w+)` \|.*$", totals, re.MULTILINE)}
    assert set(rows) == set(result) - {"model", "commodities", "spreads"}
    for name, row in rows.items():
        assert [result[name]] == pytest.approx(row, rel=1e-12), name
    assert [(s["kind"], s["number"], s["money"]) for s in result["spreads"]] == [
        ("intra_commodity", 1, 300),
        ("inter_commodity", 1.5, pytest.approx(-13_042.5, rel=1e-12)),
    ]


def test_a_book_survives_json_and_is_not_changed() -> None:
    before = deepcopy(EXAMPLE)
    result = evaluate(EXAMPLE)
    assert before == EXAMPLE
    assert json.loads(json.dumps(result, allow_nan=False)) == result
