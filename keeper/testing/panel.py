"""Four attestors in one process, on real chains, with real journals and keys, asked directly instead of over HTTP.

Tests play the proposer: they build what they want, honest or not, and see who signs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from pathlib import Path

from keeper.attest.batch import BatchContent, batch_digest, with_roots
from keeper.attest.messages import BatchProposal, PermitProposal, QuorumBatch
from keeper.attest.requests import permit_digest
from keeper.attest.signatures import join_signatures
from keeper.attest.signing import LocalSigner, SignedPermit
from keeper.devnet.chains import ATTESTORS, account
from keeper.margin.listing import Listing
from keeper.margin.parameter_file import default_parameters
from keeper.margin.xpm import Xpm
from keeper.node.attestor import Attestor
from keeper.node.batches import BatchBook
from keeper.node.config import NodeConfig
from keeper.node.peers import Peers
from keeper.node.proposer import Proposer
from keeper.node.refusal import Refused
from keeper.node.view import ChainsView
from keeper.state.deployment import Deployment
from keeper.state.ids import Address
from keeper.state.live import LiveItem, PermitItem
from keeper.state.signer import Signer
from keeper.store.journal import Journal


class Panel:
    """The attestors of a deployment, ascending by address. Use as an async context manager."""

    def __init__(self, deployment: Deployment, folder: Path) -> None:
        self.deployment = deployment
        self.parameters = default_parameters()
        self.listing = Listing.of(deployment)
        self.model = Xpm(self.parameters, self.listing)
        members = sorted((account(index) for index in ATTESTORS), key=lambda member: member.address)
        self.attestors = [self._attestor(folder / f"attestor-{m.index}", LocalSigner(m.key)) for m in members]

    def _attestor(self, folder: Path, signer: Signer) -> Attestor:
        folder.mkdir(parents=True, exist_ok=True)
        config = NodeConfig(deployment=folder, state_dir=folder, profile="devnet")
        journal = Journal.open(folder / "journal.db")
        return Attestor(
            self.deployment,
            self.listing,
            self.model,
            self.parameters,
            ChainsView(self.deployment, config),
            journal,
            BatchBook(self.deployment, journal, self.model),
            signer,
        )

    async def __aenter__(self) -> Panel:
        async with asyncio.timeout(30):  # a young chain has no final block yet
            await self.look()
            while not all(attestor.view.started for attestor in self.attestors):
                await asyncio.sleep(0.1)
                await self.look()
        return self

    async def __aexit__(self, *_: object) -> None:
        for attestor in self.attestors:
            await attestor.view.close()
            attestor.journal.close()

    async def look(self) -> None:
        """Let every attestor poll every chain once."""
        views = [attestor.view for attestor in self.attestors]
        await asyncio.gather(*(view.poll(chain) for view in views for chain in self.deployment.chains))

    async def look_until(self, block: int, chain_id: int, *, final: bool = True, seconds: float = 30.0) -> None:
        """Poll until every attestor sees `block` of a chain, as final or at the head."""
        async with asyncio.timeout(seconds):
            while not all(_reached(attestor.view, chain_id, final) >= block for attestor in self.attestors):
                await asyncio.sleep(0.1)
                await self.look()

    async def look_until_time(self, time: int, chain_id: int, *, seconds: float = 30.0) -> None:
        """Poll until every attestor's head of a chain has at least this time, unix seconds."""
        async with asyncio.timeout(seconds):
            while any(a.view.followers[chain_id].head_block.time < time for a in self.attestors):
                await asyncio.sleep(0.1)
                await self.look()

    async def turn(self) -> Attestor:
        """Look again, and say whose turn the present epoch is."""
        await self.look()
        view = self.attestors[0].view
        epoch = view.newest_head_time // self.deployment.profile.epoch_seconds
        return self._named(self.attestors[0].proposer_of(epoch))

    async def build(self) -> tuple[Attestor, BatchContent]:
        """An honest batch of the present epoch, and its proposer; tried again where the head moves on meanwhile."""
        for _ in range(10):
            proposer = await self.turn()
            content = Proposer(proposer, proposer.view, proposer.batches, Peers({})).build()
            if proposer.proposer_of(content.batch.epoch) == proposer.signer.address:
                return proposer, content
        raise AssertionError("the proposer's view and the others' never agreed on the epoch")

    def propose(self, proposer: Attestor, content: BatchContent) -> BatchProposal:
        """The content with the roots of its leaves, signed by the proposer without looking: as a liar would."""
        content = replace(content, batch=with_roots(content))
        return BatchProposal(content, proposer.signer.sign(batch_digest(self.deployment, content.batch)))

    async def answers(self, proposal: BatchProposal, proposer: Attestor) -> list[bytes | Refused]:
        """What the others say to a proposed batch."""
        return [await _or_refused(a.sign_proposed_batch(proposal)) for a in self.others(proposer)]

    def others(self, proposer: Attestor) -> list[Attestor]:
        return [attestor for attestor in self.attestors if attestor is not proposer]

    async def quorum_batch(self) -> QuorumBatch:
        """An honest batch that everybody signed and knows."""
        proposer, content = await self.build()
        proposal = self.propose(proposer, content)
        signatures = {proposer.signer.address: await proposer.sign_batch(proposal.content)}
        for attestor in self.others(proposer):
            signatures[attestor.signer.address] = await attestor.sign_proposed_batch(proposal)
        digest = batch_digest(self.deployment, proposal.content.batch)
        quorum = QuorumBatch(proposal.content, join_signatures(digest, signatures))
        for attestor in self.attestors:
            attestor.batches.add(quorum)
        return quorum

    async def permit(
        self, item: PermitItem, listed: Sequence[LiveItem] = (), signers: Sequence[Attestor] | None = None
    ) -> tuple[SignedPermit | None, list[Refused]]:
        """Have a request judged by the given attestors (all by default), the first as proposer, with this list."""
        first, *rest = signers or self.attestors
        refusals: list[Refused] = []
        signatures: dict[Address, bytes] = {}
        own = await _or_refused(first.sign_permit(item, listed))
        if isinstance(own, Refused):
            return None, [own]
        signatures[first.signer.address] = own
        for attestor in rest:
            answer = await _or_refused(attestor.sign_proposed_permit(PermitProposal(item, tuple(listed), own)))
            if isinstance(answer, Refused):
                refusals.append(answer)
            else:
                signatures[attestor.signer.address] = answer
        if len(signatures) < self.deployment.threshold:
            return None, refusals
        return SignedPermit(item, join_signatures(permit_digest(self.deployment, item), signatures)), refusals

    def _named(self, address: Address) -> Attestor:
        return next(attestor for attestor in self.attestors if attestor.signer.address == address)


def _reached(view: ChainsView, chain_id: int, final: bool) -> int:
    follower = view.followers[chain_id]
    if not follower.started:
        return -1
    return follower.final.block.number if final else follower.head_block.number


async def _or_refused(asked: Awaitable[bytes]) -> bytes | Refused:
    try:
        return await asked
    except Refused as refusal:
        return refusal
