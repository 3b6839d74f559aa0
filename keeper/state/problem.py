"""The one shape in which everything refused or failed is told, by attestors, over HTTP and at the command line.

    {"code": "deadline", "message": "…", "field": "permit.deadline", "got": 1700000900, "wanted": "at most 1700000300",
     "unit": "unix seconds", "details": {}}

`code` names the rule and never changes its meaning; `message` is for people; `field` is the path of what is at fault in
what was sent; `got` is its value and `wanted` what would have passed, both in `unit`. `details` has what only one code
has: `free`, `asked` and `live` of a refused permit, `refusals` of each attestor. What does not apply is null.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ECHO = 120
"""Characters of anybody's value that an error repeats at most."""


def echo(value: Any, most: int = ECHO) -> Any:
    """A value as an error may repeat it: numbers, truth values and null as they are, all else as text of at most `most`
    characters. An integer is a decimal string beyond 2**53, and its number of bits beyond 10**78."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        if value.bit_length() > 260:
            return f"an integer of {value.bit_length()} bits"
        return value if -(2**53) < value < 2**53 else str(value)
    if isinstance(value, bytes):
        value = "0x" + value[: most // 2].hex() + ("" if len(value) <= most // 2 else "…")
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something was refused or failed. `got` and `wanted` are as `echo` gives them, `details` is JSON-ready."""

    code: str
    message: str
    field: str | None = None
    got: Any = None
    wanted: Any = None
    unit: str | None = None
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "message": self.message,
            "field": self.field,
            "got": echo(self.got),
            "wanted": echo(self.wanted),
            "unit": self.unit,
            "details": dict(self.details),
        }

    @classmethod
    def from_json(cls, data: Any) -> Problem:
        """What somebody else says went wrong: nothing of it is trusted to have a form, so nothing of it is refused."""
        told: dict[str, Any] = data if isinstance(data, dict) else {}
        details = told.get("details")
        where, unit = told.get("field"), told.get("unit")
        return cls(
            code=str(echo(told.get("code", "unknown"))),
            message=str(echo(told.get("message", ""), 1_000)),
            field=None if where is None else str(echo(where)),
            got=echo(told.get("got")),
            wanted=echo(told.get("wanted")),
            unit=None if unit is None else str(echo(unit)),
            details=details if isinstance(details, dict) else {},
        )
