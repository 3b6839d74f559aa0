"""Why something was refused or failed: the one shape of every answer of 400 and more."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, JsonValue

from keeper.state.problem import Problem as Problem_

from .base import Answer


class Problem(Answer):
    """Why something was refused or failed. `code` names the rule and never changes its meaning; docs/refusals.md lists
    all codes."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "code": "malformed",
                    "message": "query.chain: wanted a valid integer, got 'three'",
                    "field": "query.chain",
                    "got": "three",
                    "wanted": "a valid integer",
                    "unit": None,
                    "details": {},
                }
            ]
        }
    )

    code: str = Field(description="The rule that was broken, or what failed")
    message: str = Field(description="The same for people, on one line")
    field: str | None = Field(description="Path of what is at fault in what was sent")
    got: str | bool | int | float | None = Field(description="Its value, at most 120 characters of it")
    wanted: str | bool | int | float | None = Field(description="What would have passed")
    unit: str | None = Field(description="Of `got` and `wanted`")
    details: dict[str, JsonValue] = Field(description="What only this code has, such as `free`, `asked`, `refusals`")

    def plain(self) -> Problem_:
        """The same as the value that `keeper.state` has for it."""
        told: dict[str, Any] = self.model_dump(by_alias=True)
        return Problem_.from_json(told)
