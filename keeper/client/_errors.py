"""What can go wrong between a client, its node and the chains."""

from __future__ import annotations

from typing import Any

from keeper.chain.abi import Revert
from keeper.state.problem import Problem, echo


class ClientError(Exception):
    """Whatever a client raises; the message says in one line what to do."""


class BadArgument(ClientError, ValueError):
    """A value given to the client that it does not take; `problem` has field, value, what is wanted and the unit."""

    def __init__(self, field: str, got: Any, wanted: str, unit: str | None = None) -> None:
        shown = echo(got)
        super().__init__(f"{field}: {wanted} wanted{'' if unit is None else f' ({unit})'}, got {shown!r}")
        self.problem = Problem("bad_argument", str(self), field, shown, wanted, unit)


class NoSigner(ClientError):
    """An act of a client that was made without a signer: it only reads."""


class Refused(ClientError):
    """The node or the attestors refused; `problem` says why. Where its details have `refusals`, some attestors signed
    and too few: what was asked counts against the account until its deadline."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.code}: {problem.message}")
        self.problem = problem

    @property
    def code(self) -> str:
        return self.problem.code


class Unavailable(ClientError):
    """No answer that counts, from the node or from a chain: none in time, no JSON, or signatures that are no quorum's.

    `problem` is what the node said of itself, where it said anything."""

    def __init__(self, message: str, problem: Problem | None = None) -> None:
        super().__init__(message)
        self.problem = problem


class Reverted(ClientError):
    """The contract refuses the transaction. `revert` names the error and its arguments; `mined` where it was found
    only in a block, else nothing was sent."""

    def __init__(self, what: str, revert: Revert, mined: bool) -> None:
        super().__init__(f"{what} {'was mined and' if mined else 'is not sent: it'} reverts with {revert}")
        self.revert = revert
        self.mined = mined


class TransactionFailed(ClientError):
    """A transaction that the chain's provider does not take, or that is not mined at any fee that was offered."""


class WrongChain(ClientError):
    """An endpoint that answers for another chain than the deployment says. Nothing was sent there."""
