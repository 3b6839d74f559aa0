"""How an attestor refuses, and how far it follows others."""

from __future__ import annotations

from typing import Any

from keeper.state.problem import Problem

HEAD_TOLERANCE_SECONDS = 5
CATCH_UP_SECONDS = 1.0
"""How long an attestor waits for its own provider to reach the cut."""


OF_CHAINS = frozenset({"chain_late", "marks"})
"""Codes of refusals that are a chain's fault, not the asker's: over HTTP 503, where others are 409."""


class Refused(Exception):
    """This attestor does not sign: `problem.code` names the rule, `problem.details` are JSON-ready figures."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        field: str | None = None,
        got: Any = None,
        wanted: Any = None,
        unit: str | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message)
        self.problem = Problem(code, message, field, got, wanted, unit, details)

    @classmethod
    def of(cls, problem: Problem) -> Refused:
        """The refusal that a problem tells of."""
        refused = cls(problem.code, problem.message)
        refused.problem = problem
        return refused

    @property
    def code(self) -> str:
        return self.problem.code

    @property
    def message(self) -> str:
        return self.problem.message

    @property
    def details(self) -> dict[str, Any]:
        return dict(self.problem.details)
