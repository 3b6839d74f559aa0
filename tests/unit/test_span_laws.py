"""Laws of SPAN on generated books."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from span_books import FULL, between, calendar, commodity

from keeper.margin.span import evaluate

quantities = st.lists(st.integers(-50, 50), min_size=10, max_size=10)


def rich_book(held: Sequence[float]) -> dict[str, Any]:
    """Two commodities with every kind of charge and credit; five quantities each."""
    names = tuple(FULL)
    terms: dict[str, Any] = {
        "tiers": {"NEAR": ["DEC", "MAR"]},
        "spreads": [
            calendar(300, ("DEC", 1, "A"), ("MAR", 2, "B")),
            {
                "legs": [{"tier": "NEAR", "ratio": 1, "side": "A"}, {"month": "JUN", "ratio": 3, "side": "B"}],
                "charge": 70,
            },
        ],
        "delivery": {"DEC": {"spread_rate": 11, "outright_rate": 29}},
        "short_option_minimum": 260,
    }
    return {
        "commodities": [
            commodity(list(zip(names, held[:5], strict=True)), "A", **terms),
            commodity(list(zip(names, held[5:], strict=True)), "B", **terms),
        ],
        "inter_commodity_spreads": [between(0.75, ("A", 1, "A"), ("B", 3, "B"))],
        "initial_to_maintenance": 1.1,
    }


def money(result: dict[str, Any]) -> list[float]:
    """Everything that grows with the book."""
    same = ("commodity", "active_scenario", "weighted_futures_price_risk", "scenario_losses")
    figures = [result["initial_margin"], result["maintenance_margin"], result["scan_risk"]]
    figures += [value for entry in result["commodities"] for key, value in entry.items() if key not in same]
    return figures + [value for spread in result["spreads"] for value in (spread["number"], spread["money"])]


@given(quantities, st.floats(1e-3, 1e3))
def test_law_a_book_twice_as_large_needs_twice_as_much(held: list[int], factor: float) -> None:
    once, more = evaluate(rich_book(held)), evaluate(rich_book([quantity * factor for quantity in held]))
    assert money(more) == pytest.approx([factor * figure for figure in money(once)], rel=1e-9, abs=1e-6)
    assert [e["active_scenario"] for e in more["commodities"]] == [e["active_scenario"] for e in once["commodities"]]


@given(quantities, quantities)
def test_law_scan_risk_of_a_sum_is_at_most_the_sum_of_scan_risks(left: list[int], right: list[int]) -> None:
    both = evaluate(rich_book([a + b for a, b in zip(left, right, strict=True)]))
    # Whole numbers up to here are exact in floats.
    for entry, one, other in zip(
        both["commodities"],
        evaluate(rich_book(left))["commodities"],
        evaluate(rich_book(right))["commodities"],
        strict=True,
    ):
        assert entry["scan_risk"] <= one["scan_risk"] + other["scan_risk"]


@given(st.lists(st.tuples(st.sampled_from(tuple(FULL)), st.floats(-100, 100)), max_size=12), st.randoms())
def test_law_the_order_of_positions_does_not_matter(held: list[tuple[str, float]], chance: Any) -> None:
    book = rich_book([1, -1, 0, 2, -3] * 2)
    book["commodities"][0] = {**book["commodities"][0], "positions": []}
    for contract, quantity in held:
        book["commodities"][0]["positions"].append({"contract": contract, "quantity": quantity})
    shuffled = deepcopy(book)
    chance.shuffle(shuffled["commodities"][0]["positions"])
    shuffled["commodities"][0]["risk_arrays"] = dict(reversed(book["commodities"][0]["risk_arrays"].items()))
    assert evaluate(shuffled) == evaluate(book)


@given(quantities)
def test_law_credits_are_at_most_the_price_risk_and_a_requirement_is_never_negative(held: list[int]) -> None:
    result = evaluate(rich_book(held))
    for entry in result["commodities"]:
        assert 0 <= entry["inter_commodity_credit"] <= entry["futures_price_risk"] * (1 + 1e-12)
        assert entry["risk"] >= entry["short_option_minimum"] >= 0
        assert min(entry["requirement"], entry["intra_commodity_charge"], entry["delivery_charge"]) >= 0
        assert len(entry["scenario_losses"]) == 16
    assert 0 <= result["maintenance_margin"] <= result["initial_margin"]
