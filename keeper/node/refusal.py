"""How an attestor refuses, and how far it follows others."""

from __future__ import annotations

from typing import Any

HEAD_TOLERANCE_SECONDS = 5
CATCH_UP_SECONDS = 1.0
"""How long an attestor waits for its own provider to reach the cut."""


class Refused(Exception):
    """This attestor does not sign. `code` names the rule, `details` are JSON-ready figures."""

    def __init__(self, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details
