"""The vectors that contracts, keeper and Node agree on: tests/vectors/codec.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "tests" / "vectors" / "codec.json"

_VECTORS: dict[str, list[dict[str, Any]]] = json.loads(FILE.read_text())


def entries(section: str) -> pytest.MarkDecorator:
    """Parametrise a test with `entry`, each vector of a section under its own name."""
    return pytest.mark.parametrize("entry", [pytest.param(e, id=e["name"]) for e in _VECTORS[section]])


def refused(*sections: str) -> pytest.MarkDecorator:
    """Parametrise a test with `section` and `entry`, the inputs of these sections that must be refused."""
    return pytest.mark.parametrize(
        ("section", "entry"),
        [pytest.param(e["section"], e["input"], id=e["name"]) for e in _VECTORS["refused"] if e["section"] in sections],
    )


def raw(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
