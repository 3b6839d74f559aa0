"""Asking the attestors for permits of an account of one's own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from keeper.attest.codec import to_abi
from keeper.attest.requests import permit_digest, permit_for, request_digest
from keeper.attest.signatures import check_quorum
from keeper.state.actions import Takeover, Withdraw
from keeper.state.deployment import Deployment
from keeper.state.live import PermitItem
from keeper.state.problem import Problem

from .peers import Peers, PeerUnavailable
from .signer import Signer


class Declined(Exception):
    """The attestors' refusal, and why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.code}: {problem.message}")
        self.problem = problem

    @property
    def code(self) -> str:
        return self.problem.code


@dataclass(frozen=True, slots=True)
class Granted:
    """A permit that a quorum signed."""

    item: PermitItem
    signatures: bytes

    @property
    def calldata(self) -> tuple[Any, bytes]:
        """The two last arguments of what it permits."""
        return to_abi(self.item.permit), self.signatures


class PermitClient:
    """Requests signed by one key, sent to the attestors over HTTP."""

    def __init__(self, deployment: Deployment, peers: Peers, signer: Signer) -> None:
        self._deployment = deployment
        self._peers = peers
        self.signer = signer

    def signed(self, chain_id: int, action: Takeover | Withdraw, deadline: int) -> PermitItem:
        """A request under a nonce of its own. Nonces are unordered: the time in nanoseconds never repeats, and survives
        a restart without a store."""
        permit = permit_for(self._deployment, action, time.time_ns(), deadline)
        digest = request_digest(self._deployment, PermitItem(chain_id, permit, action, ()))
        return PermitItem(chain_id, permit, action, (self.signer.sign(digest),))

    async def ask(self, item: PermitItem) -> Granted:
        """The permit that a request asks for.

        Raises:
            Declined: the attestors refused, and why. Some of them may have signed: it counts until its deadline.
            PeerUnavailable: no attestor answers.
        """
        return await ask(self._deployment, self._peers, item)


async def ask(deployment: Deployment, peers: Peers, item: PermitItem) -> Granted:
    """As `PermitClient.ask`, for a request that wants nobody's key. Only what a quorum signed is granted."""
    failure: PeerUnavailable | None = None
    for peer in peers.urls:
        try:
            status, answer = await peers.request_permit(peer, item, forwarded=False)
        except PeerUnavailable as error:
            failure = error
            continue
        if status != 200:
            raise Declined(Problem.from_json(answer))
        try:
            return Granted(item, quorum_of(deployment, item, answer))
        except ValueError as error:
            failure = PeerUnavailable(f"0x{peer.hex()}: {error}")
    raise failure or PeerUnavailable("no attestor is configured")


def quorum_of(deployment: Deployment, item: PermitItem, answer: dict[str, Any]) -> bytes:
    """The signatures of an answer. Raises ValueError unless they are a quorum's over this very permit."""
    signatures = bytes.fromhex(str(answer.get("signatures")).removeprefix("0x"))
    check_quorum(permit_digest(deployment, item), signatures, deployment.attestors, deployment.threshold)
    return signatures
