"""Parameters: their hash names them, and no value that breaks the model's laws is accepted."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from keeper.margin.parameter_file import default_parameters
from keeper.margin.parameters import ParameterError, Tail, UnderlyingParameters


def test_the_hash_is_of_canonical_json_and_of_nothing_else() -> None:
    parameters = default_parameters()
    plain = json.loads(parameters.canonical_json())
    # Any order of keys gives the same bytes: they are sorted, without spaces.
    shuffled = replace(parameters, underlyings=dict(reversed(parameters.underlyings.items())))
    assert shuffled.canonical_json() == parameters.canonical_json()
    assert parameters.canonical_json() == json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()
    assert parameters.hash() == default_parameters().hash()
    assert len(parameters.hash()) == 32


def test_any_changed_value_changes_the_hash() -> None:
    parameters = default_parameters()
    eth = parameters.underlyings["ETH"]
    others = [
        replace(parameters, **{name: getattr(parameters, name) + 1})
        for name in ("steps", "buffer", "perpetual_initial", "perpetual_maintenance", "minimum_equity", "concession")
    ]
    changed = [
        replace(eth, haircut=301),
        replace(eth, largest_move=1501),
        replace(eth, tails=(*eth.tails[:3], Tail(10_000, 1501))),
    ]
    others += [replace(parameters, underlyings={**parameters.underlyings, "ETH": other}) for other in changed]
    hashes = {p.hash() for p in [parameters, *others]}
    assert len(hashes) == len(others) + 1


@pytest.mark.parametrize(
    ("field", "value", "names"),
    [
        ("correlation_break", 10_001, "correlation_break: 10001"),
        ("maintenance_factor", -1, "maintenance_factor: -1"),
        ("initial_factor", 7999, "initial_factor 7999 is below 8000"),
        ("steps", 0, "steps: 0"),
        ("perpetual_initial", -1, "not negative"),
        ("underlyings", {"ETH": UnderlyingParameters(0, 300)}, "ETH: range 0"),
        ("underlyings", {"ETH": UnderlyingParameters(1500, 10_001)}, "haircut 10001"),
        (
            "underlyings",
            {"BTC": UnderlyingParameters(1500, 300), "ETH": UnderlyingParameters(1500, 300, ())},
            "different numbers of tails",
        ),
    ],
)
def test_values_without_meaning_are_refused(field: str, value: object, names: str) -> None:
    with pytest.raises(ParameterError, match=names):
        replace(default_parameters(), **{field: value})
