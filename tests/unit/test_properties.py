"""docs/properties.md is true: what it calls built is carried by a test that names it, and no test names another."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_ROW = re.compile(r"^\| (CM-\d\d) \| (built|planned) \|", re.MULTILINE)
_NAMED = re.compile(r"CM[-_]?(\d\d)(?!\d)")


def _documented() -> dict[str, str]:
    return dict(_ROW.findall((ROOT / "docs/properties.md").read_text()))


def _named_by_tests() -> dict[str, set[str]]:
    named: dict[str, set[str]] = {}
    for path in [*ROOT.glob("tests/**/*.py"), *ROOT.glob("tests/**/*.sol")]:
        if path != Path(__file__):
            for number in _NAMED.findall(path.read_text()):
                named.setdefault(f"CM-{number}", set()).add(path.name)
    return named


def test_every_built_property_is_carried_by_a_test() -> None:
    named = _named_by_tests()
    assert {p for p, state in _documented().items() if state == "built" and p not in named} == set()


def test_tests_name_only_documented_properties() -> None:
    assert set(_named_by_tests()) - set(_documented()) == set()


def test_the_table_is_read() -> None:
    assert len(_documented()) >= 25
