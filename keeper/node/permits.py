"""Asking the attestors for permits of an account of one's own."""

from __future__ import annotations

from keeper.attest.signing import SignedPermit, granted, request_for, signed_request
from keeper.state.actions import Takeover, Withdraw
from keeper.state.deployment import Deployment
from keeper.state.live import PermitItem
from keeper.state.problem import Problem
from keeper.state.signer import Signer

from .peers import Peers, PeerUnavailable


class Declined(Exception):
    """The attestors' refusal, and why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.code}: {problem.message}")
        self.problem = problem

    @property
    def code(self) -> str:
        return self.problem.code


class PermitClient:
    """Requests signed by one key, sent to the attestors over HTTP."""

    def __init__(self, deployment: Deployment, peers: Peers, signer: Signer) -> None:
        self._deployment = deployment
        self._peers = peers
        self.signer = signer

    def signed(self, chain_id: int, action: Takeover | Withdraw, deadline: int) -> PermitItem:
        """A request under a nonce of its own."""
        return signed_request(self._deployment, request_for(self._deployment, chain_id, action, deadline), self.signer)

    async def ask(self, item: PermitItem) -> SignedPermit:
        """The permit that a request asks for.

        Raises:
            Declined: the attestors refused, and why. Some of them may have signed: it counts until its deadline.
            PeerUnavailable: no attestor answers.
        """
        return await ask(self._deployment, self._peers, item)


async def ask(deployment: Deployment, peers: Peers, item: PermitItem) -> SignedPermit:
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
            return granted(deployment, item, answer)
        except ValueError as error:
            failure = PeerUnavailable(f"0x{peer.hex()}: {error}")
    raise failure or PeerUnavailable("no attestor is configured")
