"""Four attestors with real keys and journals, over chains that are given to them.

Their answers come directly instead of over HTTP; what HTTP adds is tested on running clusters.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from worlds import DEPLOYMENT, LISTING, MODEL, PARAMETERS, Chains, marks, usd

from keeper.attest.codec import keccak
from keeper.attest.messages import BatchDraft, BatchProposal, PermitProposal, QuorumBatch
from keeper.attest.signing import LocalSigner
from keeper.node.attestor import Attestor
from keeper.node.batches import BatchBook
from keeper.node.config import NodeConfig
from keeper.node.peers import PeerRefused, Peers, PeerUnavailable
from keeper.node.preview import refused_legs
from keeper.node.refusal import Refused
from keeper.node.view import ChainsView
from keeper.state.ids import AccountId, Address
from keeper.state.live import LiveItem
from keeper.state.world import BlockRef, ChainState
from keeper.store.journal import Journal

T = TypeVar("T")

SIGNERS = sorted((LocalSigner(keccak(b"attestor %d" % number)) for number in range(4)), key=lambda each: each.address)
PANEL = replace(DEPLOYMENT, attestors=tuple(signer.address for signer in SIGNERS), threshold=3)


class Direct(Peers):
    """The other attestors, asked in this process. From the `deaf` no list of live items comes in time."""

    def __init__(self, others: Sequence[Attestor], deaf: Sequence[Attestor] = ()) -> None:
        self.others = {each.signer.address: each for each in others}
        super().__init__(dict.fromkeys(self.others, "http://127.0.0.1:0"))
        self.deaf = {each.signer.address for each in deaf}
        self.asked = 0

    async def live(self, peer: Address, accounts: Sequence[AccountId]) -> list[LiveItem]:
        if peer in self.deaf:
            raise PeerUnavailable(f"0x{peer.hex()}: late")
        return self.others[peer].live_beside(accounts)

    async def sign_permit(self, peer: Address, proposal: PermitProposal) -> bytes:
        self.asked += 1
        return await self._answer(peer, self.others[peer].sign_proposed_permit(proposal))

    async def sign_batch(self, peer: Address, proposal: BatchProposal) -> bytes:
        return await self._answer(peer, self.others[peer].sign_proposed_batch(proposal))

    async def preview(self, peer: Address, draft: BatchDraft) -> set[int]:
        return set(await self._answer(peer, refused_legs(self.others[peer], draft)))

    async def announce(self, peer: Address, quorum: QuorumBatch) -> None:
        self.others[peer].batches.add(quorum)

    async def _answer(self, peer: Address, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await work
        except Refused as refusal:
            raise PeerRefused(peer, refusal.problem) from None


class Panel:
    """The four, in the order of their addresses, each with its own view of the chains."""

    def __init__(self, folder: Path) -> None:
        self.attestors: list[Attestor] = []
        for number, signer in enumerate(SIGNERS):
            view = ChainsView(PANEL, NodeConfig(deployment=folder, state_dir=folder, profile="devnet"))
            journal = Journal.open(folder / f"{number}.db")
            book = BatchBook(PANEL, journal, MODEL)
            self.attestors.append(Attestor(PANEL, LISTING, MODEL, PARAMETERS, view, journal, book, signer))

    async def close(self) -> None:
        for attestor in self.attestors:
            attestor.journal.close()
            await attestor.view.close()


def see(attestor: Attestor, time: int, final: Chains, head: Chains | None = None) -> None:
    """What polling would have found: of every chain a final block four seconds under a head of `time`."""
    for chain_id, follower in attestor.view.followers.items():
        follower._remember(_at(final.world[chain_id], time - 4))
        follower._head = _at((head or final).world[chain_id], time)
        prices = (*marks().prices.items(), ("USDC", usd(1)))
        follower.feeds = {name: (price, 18, time - 5, True) for name, price in prices}


def _at(state: ChainState, time: int) -> ChainState:
    here, before = (number.to_bytes(32, "big") for number in (time, time - 1))
    return replace(state, block=BlockRef(time, here, before, time))


def run(folder: Path, work: Callable[[Panel], Coroutine[Any, Any, None]]) -> None:
    """Four new attestors, and what a test does with them."""

    async def whole() -> None:
        panel = Panel(folder)
        try:
            await work(panel)
        finally:
            await panel.close()

    asyncio.run(whole())
