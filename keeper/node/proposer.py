"""Proposing: once in a while it is this attestor's turn to build the batch of an epoch and collect the quorum."""

from __future__ import annotations

import time
from dataclasses import replace

import structlog

from keeper.attest.batch import BatchContent, batch_digest, build_batch, due_accounts, reports_at, with_roots
from keeper.attest.messages import BatchDraft, BatchProposal, QuorumBatch, Stages, draft_digest
from keeper.attest.signatures import join_signatures
from keeper.clearing.cycles import Books, newest_offsets, terms_of, with_pending
from keeper.clearing.settlement import unapplied
from keeper.market.inputs import marks_of
from keeper.market.marks import Marks
from keeper.state.batch import SettlementLeaf
from keeper.state.ids import Address
from keeper.state.wire import from_json
from keeper.state.world import World

from .attestor import Attestor
from .batches import BatchBook
from .leg_desk import LegDesk
from .parting import parting_accounts
from .peers import PeerRefused, Peers, PeerUnavailable, signed_by
from .preview import agreed, refused_legs
from .refusal import Refused
from .view import ChainsView, NotReady

log = structlog.get_logger()


class Proposer:
    """Builds the batch when the epoch is its attestor's, collects signatures, and announces the quorum batch."""

    def __init__(self, attestor: Attestor, view: ChainsView, batches: BatchBook, peers: Peers) -> None:
        self._attestor = attestor
        self._view = view
        self._batches = batches
        self._peers = peers
        self._deployment = attestor.deployment
        self._last_epoch = -1
        self.failure: str | None = None
        """Why the last own epoch found no quorum; None where it did."""

    def due(self) -> bool:
        """Whether the newest head begins an epoch of ours that was not tried yet."""
        epoch = self._view.newest_head_time // self._deployment.profile.epoch_seconds
        return (
            self._view.started
            and epoch > self._last_epoch
            and self._attestor.proposer_of(epoch) == self._attestor.signer.address
        )

    async def run(self) -> None:
        """Propose whenever due, until cancelled."""
        while True:
            if await self._view.wait(self.due, 5.0):
                try:
                    await self.propose()
                except Exception as error:
                    # What one account or one peer brought up costs an epoch, and not the node.
                    self._last_epoch = self._view.newest_head_time // self._deployment.profile.epoch_seconds
                    log.exception("epoch.failed", epoch=self._last_epoch)
                    self._fail(self._last_epoch, repr(error))

    async def propose(self) -> QuorumBatch | None:
        """Build, sign and circulate one batch. None, with `failure` set, without a quorum: the epoch is skipped."""
        observed = time.time()
        try:
            content = self.build()
        except NotReady as error:
            self._last_epoch = self._view.newest_head_time // self._deployment.profile.epoch_seconds
            self._fail(self._last_epoch, str(error))
            return None
        epoch = content.batch.epoch
        self._last_epoch = epoch
        try:
            if content.legs and self._deployment.threshold > 1:
                content = await self._agreed(content)
            evaluated = time.time()
            digest = batch_digest(self._deployment, content.batch)
            # Our own signature first: it is what shows the others that the proposal is the proposer's.
            own = await self._attestor.sign_batch(content)
        except Refused as refusal:
            self._fail(epoch, f"own check: {refusal.code}: {refusal.message}")
            return None
        proposal = BatchProposal(content, own)
        answers = await self._peers.gather(lambda peer: self._peers.sign_batch(peer, proposal))
        signatures: dict[Address, bytes] = {self._attestor.signer.address: own}
        reasons = []
        for peer, answer in answers.items():
            if isinstance(answer, PeerUnavailable | PeerRefused):
                reasons.append(str(answer))
                if isinstance(answer, PeerRefused) and answer.problem.code == "missing_entries":
                    self._adopt(peer, answer.problem.details.get("items", []))
            elif signed_by(digest, answer, peer):
                signatures[peer] = answer
            else:
                reasons.append(f"0x{peer.hex()}: a signature over something else")
        if len(signatures) < self._deployment.threshold:
            self._fail(epoch, f"{len(signatures)} of {self._deployment.threshold} signatures; " + "; ".join(reasons))
            return None
        quorum = QuorumBatch(
            content,
            join_signatures(digest, signatures),
            Stages(float(content.batch.timestamp), observed, evaluated, time.time()),
        )
        self._batches.add(quorum)
        self.failure = None
        log.info(
            "batch.signed",
            epoch=epoch,
            signatures=len(signatures),
            accounts=len(content.accounts),
            legs=len(content.legs),
        )
        await self._peers.gather(lambda peer: self._peers.announce(peer, quorum))
        return quorum

    async def _agreed(self, content: BatchContent) -> BatchContent:
        """The batch without the legs that too few would sign."""
        signature = self._attestor.signer.sign(draft_digest(batch_digest(self._deployment, content.batch)))
        draft = BatchDraft(content, signature)
        answers = await self._peers.gather(lambda peer: self._peers.preview(peer, draft))
        refused = {
            peer: answer for peer, answer in answers.items() if not isinstance(answer, PeerUnavailable | PeerRefused)
        }
        kept = agreed(len(content.legs), refused, self._deployment.threshold - 1)
        # Our own head moved on meanwhile, and our own check is by what it is then.
        kept -= set(await refused_legs(self._attestor, draft))
        if len(kept) == len(content.legs):
            return content
        log.info("legs.disputed", epoch=content.batch.epoch, legs=len(content.legs), kept=len(kept))
        content = replace(content, legs=tuple(content.legs[number] for number in sorted(kept)))
        return replace(content, batch=with_roots(content))

    def build(self) -> BatchContent:
        """The batch of this node's own cut and marks. Raises NotReady where there is nothing to build it from."""
        view, attestor = self._view, self._attestor
        cut = view.cut()
        if all(entry.late for entry in cut):
            raise NotReady("every chain is late")
        world = view.world_at(cut)
        if world is None:
            raise NotReady("a chain has no final block yet")
        inputs = attestor.observer.inputs()
        marks = marks_of(inputs, self._deployment.instruments)
        timestamp = max(entry.head_time for entry in cut if not entry.late)
        entries = self._entries(world, marks, timestamp)
        world = with_pending(world, entries, attestor.listing)
        reports = reports_at(world, marks, attestor.model, attestor.listing)
        legs = LegDesk(attestor, world, marks, reports, timestamp).plan()
        return build_batch(
            self._deployment, attestor.model, cut, inputs, reports, legs, attestor.parameters.minimum_equity, entries
        )

    def _entries(self, world: World, marks: Marks, timestamp: int) -> list[SettlementLeaf]:
        """The settlement entries of a batch: what is signed and not applied at the cut, and now and then a new cycle.

        A cycle's number is the epoch that it is first proposed in: of one proposer, once.
        """
        attestor, profile = self._attestor, self._deployment.profile
        known = attestor.journal.entries()
        carried = unapplied(known, world)
        newest = newest_offsets(known) * profile.epoch_seconds
        epoch, latest = timestamp // profile.epoch_seconds, self._batches.latest
        if self._view.late() or timestamp - newest < profile.cycle_seconds:
            return carried
        if latest is not None and latest.content.batch.epoch < epoch - 1:
            # What the epoch before proposed some may have signed: another cycle beside theirs, of the same accounts,
            # and neither finds a quorum before it lapses.
            return carried
        pending = with_pending(world, carried, attestor.listing)
        reports = reports_at(pending, marks, attestor.model, attestor.listing)
        deficits = LegDesk(attestor, pending, marks, reports, timestamp).deficits()
        if not deficits and due_accounts(reports):
            return carried  # what is being closed now changes what there is to offset, and legs are more urgent
        parting = parting_accounts(attestor.journal, self._view, world)
        books = Books.at(world, known, marks, attestor.model, attestor.listing, deficits, parting)
        fresh = list(carried)
        for cycle in books.next_cycles(epoch, terms_of(profile)):
            log.info("cycle.planned", cycle=cycle.number, entries=len(cycle.offsets), shipments=len(cycle.shipments))
            fresh += cycle.entries
        return fresh

    def _adopt(self, peer: Address, items: object) -> None:
        """Take in entries that another signed and we did not know, for our next proposal."""
        try:
            self._attestor.adopt_entries(from_json(tuple[SettlementLeaf, ...], items))
        except (Refused, ValueError) as error:
            log.warning("peer.bad_list", peer="0x" + peer.hex(), reason=str(error))

    def _fail(self, epoch: int, reason: str) -> None:
        self.failure = reason
        log.warning("epoch.skipped", epoch=epoch, reason=reason)
