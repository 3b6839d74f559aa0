"""One attestor's own judgement: what it signs, after checking it alone and journalling it.

Decisions are taken one at a time. Nothing is signed that is not in the journal first, and nothing is journalled that
this node did not check against its own chains.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from keeper.attest.batch import VALID_SECONDS, BatchContent, batch_digest, leaf_faults, reports_at, structural_faults
from keeper.attest.checks import refused_on_chain
from keeper.attest.live import is_live
from keeper.attest.messages import BatchProposal, PermitProposal
from keeper.attest.permits import Context, Refusal, judge
from keeper.attest.requests import RequestError, check_item, permit_digest
from keeper.clearing.cycles import Books, missing_entries, settlement_faults, terms_of, with_pending
from keeper.margin.listing import Listing
from keeper.margin.model import MarginModel
from keeper.margin.parameters import MarginParameters
from keeper.margin.report import AccountReport
from keeper.market.inputs import MarkInputs, advanced, input_faults
from keeper.market.marks import Marks
from keeper.state.actions import Takeover
from keeper.state.batch import ChainCut, LiquidationLeaf, SettlementLeaf
from keeper.state.deployment import Deployment
from keeper.state.ids import AccountId, Address, owner_of
from keeper.state.live import LegItem, LiveItem, PermitItem
from keeper.state.signer import Signer
from keeper.state.wire import to_json
from keeper.state.world import World
from keeper.store.journal import BatchConflict, CutWentBack, EpochPassed, Journal, NonceConflict, PriceConflict

from .batches import BatchBook, UnknownBatch, legs_of
from .leg_desk import LegDesk
from .observer import Observer
from .parting import parting_accounts, settling_accounts
from .refusal import CATCH_UP_SECONDS, HEAD_TOLERANCE_SECONDS, Refused
from .told import check_told, recover_attestor
from .view import ChainsView, NotReady

log = structlog.get_logger()

CARRIED_EPOCHS = 5
"""A proposer that missed the newest batches may carry funding on from one so many epochs before."""


class Attestor:
    """Judges batches and permits for one key."""

    def __init__(
        self,
        deployment: Deployment,
        listing: Listing,
        model: MarginModel,
        parameters: MarginParameters,
        view: ChainsView,
        journal: Journal,
        batches: BatchBook,
        signer: Signer,
    ) -> None:
        if signer.address not in deployment.attestors:
            raise ValueError(f"0x{signer.address.hex()} is not one of the deployment's attestors")
        self.deployment = deployment
        self.listing = listing
        self.model = model
        self.parameters = parameters
        self.view = view
        self.journal = journal
        self.batches = batches
        self.observer = Observer(deployment, view, batches)
        self.signer = signer
        self._deciding = asyncio.Lock()
        self._reported: tuple[object, list[AccountReport]] | None = None

    def proposer_of(self, epoch: int) -> Address:
        """Whose turn an epoch is: the attestors in ascending order, round robin."""
        return self.deployment.attestors[epoch % len(self.deployment.attestors)]

    # --- batches ---------------------------------------------------------------------------------------------------

    async def sign_proposed_batch(self, proposal: BatchProposal) -> bytes:
        """As `sign_batch`, for another attestor's proposal: its signature shows that the epoch is its turn."""
        epoch = proposal.content.batch.epoch
        self.check_turn(epoch, batch_digest(self.deployment, proposal.content.batch), proposal.signature)
        return await self.sign_batch(proposal.content)

    def check_turn(self, epoch: int, digest: bytes, signature: bytes) -> None:
        """Refuse what the proposer of an epoch did not sign."""
        proposer = recover_attestor(self.deployment, digest, signature)
        if proposer != self.proposer_of(epoch):
            raise Refused("not_proposer", f"epoch {epoch} is not the turn of 0x{proposer.hex()}")

    async def sign_batch(self, content: BatchContent) -> bytes:
        """Check a batch against this node's own chains, journal it, and sign it.

        Raises:
            Refused: with the first rule broken and the figures.
        """
        batch = content.batch
        faults = structural_faults(content, self.deployment)
        if faults:
            raise Refused("batch_malformed", faults[0], faults=faults)
        digest = batch_digest(self.deployment, batch)
        world = await self.world_of(content.cut)
        async with self._deciding:
            self.check_heads(content)
            self._check_inputs(content.inputs)
            plain, world = world, with_pending(world, content.settlements, self.listing)
            reports = self.reports(content, world)
            self._check_settlements(content, plain)
            faults = leaf_faults(content, reports, self.model, self.parameters.minimum_equity)
            if faults:
                raise Refused("leaf_mismatch", faults[0], faults=faults[:20])
            self._check_legs(content.legs, batch.timestamp, world, content.prices, reports)
            cuts = {entry.chain_id: (entry.number, entry.block_hash) for entry in content.cut}
            try:
                self.journal.sign_batch(
                    batch.epoch,
                    digest,
                    legs_of(content),
                    cuts,
                    content.inputs.settled_at,
                    content.settlements,
                    batch.valid_until,
                )
            except (BatchConflict, EpochPassed, CutWentBack, PriceConflict) as error:
                raise Refused("already_signed", str(error)) from None
            return self.signer.sign(digest)

    async def world_of(self, cut: Sequence[ChainCut]) -> World:
        """The holdings at a cut, which this node's provider may reach a moment later. Refused where it does not."""
        await self.view.wait(lambda: self.view.world_at(cut) is not None, CATCH_UP_SECONDS)
        world = self.view.world_at(cut)
        if world is None:
            raise Refused("cut_unknown", "a block of the cut is not one that this node knows as final")
        return world

    def reports(self, content: BatchContent, world: World) -> list[AccountReport]:
        """Every account of `world`, the holdings at the content's cut with its entries, at the content's marks.

        The newest are remembered: a batch is previewed before it is proposed.
        """
        key = (content.cut, content.inputs, content.settlements)
        if self._reported is None or self._reported[0] != key:
            self._reported = (key, reports_at(world, content.prices, self.model, self.listing))
        return self._reported[1]

    def check_heads(self, content: BatchContent) -> None:
        """Heads are what a proposer says: who runs ahead would take the turns of those before it."""
        epoch = self.view.newest_head_time // self.deployment.profile.epoch_seconds
        if content.batch.epoch > epoch + 1:
            raise Refused("epoch_ahead", f"epoch {content.batch.epoch}, by our heads it is {epoch}")
        own = {entry.chain_id: entry for entry in self.view.cut()}
        for entry in content.cut:
            mine = own[entry.chain_id]
            if entry.late != mine.late:
                raise Refused("late_disagreement", f"chain {entry.chain_id}: late is {entry.late}, ours is {mine.late}")
            if not entry.late and abs(entry.head_time - mine.head_time) > HEAD_TOLERANCE_SECONDS:
                raise Refused(
                    "head_time", f"chain {entry.chain_id}: head of {entry.head_time}, ours is of {mine.head_time}"
                )

    def _check_inputs(self, proposed: MarkInputs) -> None:
        """Observations within tolerance of our own, settlement prices equal, funding carried on as the rule says."""
        try:
            own, settled = self.observer.inputs(), self.observer.settled()
        except NotReady as error:
            raise Refused("marks", str(error)) from None
        faults = input_faults(proposed, own.underlyings, settled)
        if faults:
            raise Refused("mark_tolerance", faults[0], faults=faults)
        previous = self._carried_from(proposed.since)
        funding = advanced(previous, proposed.underlyings, proposed.time, self.deployment.profile.max_funding_rate)
        if funding != proposed.funding:
            raise Refused("funding", f"funding is not that of batch {proposed.since} carried to {proposed.time}")
        before = [previous, None if self.batches.latest is None else self.batches.latest.content.inputs]
        missing = {asset for each in before if each for asset in each.settled_at} - proposed.settled_at.keys()
        if missing:
            raise Refused("settlement_missing", f"{len(missing)} settlement price(s) of batches before are missing")

    def _check_settlements(self, content: BatchContent, world: World) -> None:
        """Everything signed before that is not final is carried on; what is new keeps the rules of a cycle (CM-50)."""
        known = self.journal.entries()
        missing = missing_entries(content.settlements, known, world)
        if missing:
            # Who knows other entries than we is not signed for, but listened to: else two halves wait for each other.
            if not self.cycle_faults(content.settlements, content.prices, world, content.batch.epoch):
                self.journal.add_entries(content.settlements, until=content.batch.valid_until)
            raise Refused(
                "missing_entries",
                f"{len(missing)} settlement entries that are signed and not final are not in the batch",
                items=to_json(missing),
            )
        if not set(content.settlements) - set(known):
            return
        late = self.view.late()
        if late:
            raise Refused("chain_late", "no cycle is signed: " + "; ".join(entry.reason for entry in late))
        faults = self.cycle_faults(content.settlements, content.prices, world, content.batch.epoch)
        if faults:
            raise Refused("cycle_unsafe", faults[0], faults=faults[:20])

    def cycle_faults(self, entries: Sequence[SettlementLeaf], marks: Marks, world: World, epoch: int) -> list[str]:
        """What is wrong with those of the entries that are not known here, in a batch of `epoch`."""
        known = self.journal.entries()
        pending = with_pending(world, known, self.listing)
        reports = reports_at(pending, marks, self.model, self.listing)
        deficits = LegDesk(self, pending, marks, reports, marks.time).deficits()
        parting = parting_accounts(self.journal, self.view, world)
        books = Books.at(world, known, marks, self.model, self.listing, deficits, parting)
        return settlement_faults(entries, known, world, books, terms_of(self.deployment.profile), epoch)

    def adopt_entries(self, entries: Sequence[SettlementLeaf]) -> None:
        """Journal entries that another attestor signed, where they keep the rules here too."""
        epoch = self.view.newest_head_time // self.deployment.profile.epoch_seconds + 1
        faults = self.cycle_faults(entries, self.own_marks(), self.view.final_world(), epoch)
        if faults:
            raise Refused("cycle_unsafe", faults[0], faults=faults[:20])
        self.journal.add_entries(entries, until=self.view.newest_head_time + VALID_SECONDS)

    def world(self) -> World:
        """This node's final blocks, with what is signed and not applied there."""
        return with_pending(self.view.final_world(), self.journal.entries(), self.listing)

    def head_world(self) -> World:
        """The same at the heads."""
        return with_pending(self.view.head_world(), self.journal.entries(), self.listing)

    def _carried_from(self, since: int) -> MarkInputs | None:
        """The inputs that a proposal carries on: of our newest batch, or of one shortly before."""
        latest = self.batches.latest
        if latest is None:
            if since != -1:
                raise Refused("unknown_batch", f"no batch of epoch {since} is known here yet")
            return None
        if not latest.content.batch.epoch - CARRIED_EPOCHS <= since <= latest.content.batch.epoch:
            raise Refused("unknown_batch", f"carried on from {since}, our newest is {latest.content.batch.epoch}")
        try:
            return self.batches.get(since).content.inputs
        except UnknownBatch as error:
            raise Refused("unknown_batch", str(error)) from None

    def _check_legs(
        self,
        legs: Sequence[LiquidationLeaf],
        timestamp: int,
        world: World,
        prices: Marks,
        reports: Sequence[AccountReport],
    ) -> None:
        if not legs:
            return
        late = self.view.late()
        if late:
            raise Refused("chain_late", "no leg is signed: " + "; ".join(entry.reason for entry in late))
        fault = next(LegDesk(self, world, prices, reports, timestamp).faults(legs), None)
        if fault is not None:
            raise Refused(fault.code, f"{fault.account}: {fault.faults[0]}", faults=fault.faults)

    # --- permits ---------------------------------------------------------------------------------------------------

    async def sign_permit(self, item: PermitItem, listed: Sequence[LiveItem]) -> bytes:
        """Judge a request beside all that is live on its owners' accounts, journal it with the whole list, and sign it.

        Raises:
            Refused: `missing_items` (with the items) where this journal knows a live item that is not listed; else
                the rule broken, with what was free, what was asked, and what else is live.
        """
        self.check(item)
        for other in listed:
            self.check(other)
        async with self._deciding:
            try:
                self.view.require_timely()
                context = self._context(item)
            except NotReady as error:
                raise Refused("chain_late", f"no permit is signed: {error}") from None
            problem = refused_on_chain(item, self.view.followers[item.chain_id].head, context)
            if problem is not None:
                raise Refused.of(problem)
            own = [known for known in self.live_beside(item.accounts) if known.identity != item.identity]
            keys = {other.identity for other in listed}
            missing = [known for known in own if known.identity not in keys]
            if missing:
                raise Refused(
                    "missing_items",
                    f"{len(missing)} live item(s) of the owner's accounts are not in the list",
                    items=to_json(missing, tagged=True),
                )
            live = [other for other in listed if other.identity != item.identity and is_live(other, context.world)]
            # A leg that only the proposer knows may hold an account's acts back, but is none to take over by.
            known_here = {known.identity for known in own}
            live = [
                other
                for other in live
                if isinstance(other, PermitItem)
                or set(other.accounts) & set(item.accounts)
                or other.identity in known_here
            ]
            verdict = judge(item, live, context)
            if isinstance(verdict, Refusal):
                raise Refused.of(verdict.problem())
            try:
                self.journal.sign_permit(item, [other for other in live if isinstance(other, PermitItem)])
            except NonceConflict as error:
                nonce = item.permit.nonce
                raise Refused(
                    "nonce_conflict", str(error), field="permit.nonce", got=nonce, wanted="one not used"
                ) from None
            return self.signer.sign(permit_digest(self.deployment, item))

    async def sign_proposed_permit(self, proposal: PermitProposal) -> bytes:
        """As `sign_permit`, for a proposal of another attestor, whose signature it must carry."""
        self.check(proposal.item)
        recover_attestor(self.deployment, permit_digest(self.deployment, proposal.item), proposal.signature)
        return await self.sign_permit(proposal.item, proposal.listed)

    def check(self, item: LiveItem) -> None:
        """Raise Refused for an item that is malformed or that its owners did not sign."""
        try:
            check_item(item, self.deployment)
        except RequestError as error:
            raise Refused.of(error.problem) from None

    def live(self, accounts: Sequence[AccountId]) -> list[LiveItem]:
        """What this journal knows of the accounts that is neither executed nor dead at this node's final blocks."""
        world = self.view.final_world()
        return [item for item in self.journal.live(accounts) if is_live(item, world)]

    def all_live(self) -> list[LiveItem]:
        """The same of every account."""
        world = self.view.final_world()
        return [item for item in self.journal.live(None) if is_live(item, world)]

    def live_beside(self, accounts: Sequence[AccountId]) -> list[LiveItem]:
        """The same of every account of their owners: what is counted per owner is judged with all of it."""
        world = self.view.final_world()
        owners = {owner_of(account) for account in accounts}
        return [item for item in self.journal.live_of_owners(sorted(owners)) if is_live(item, world)]

    def adopt(self, items: Sequence[LiveItem]) -> None:
        """Journal the permits that another attestor knows and that live here too, once their owners' requests check.

        Legs are not journalled: no signature of an owner vouches for a leg. They come into a journal with a batch that
        it signs or that a quorum signed, so one liar cannot hold off a liquidation.
        """
        for item in items:
            self.check(item)
            check_told(item, self.deployment, self.listing, self.model, self.view, self.own_marks)
        world = self.view.final_world()
        self.journal.adopt([item for item in items if isinstance(item, PermitItem) and is_live(item, world)])

    def retire_dead(self) -> int:
        """Drop from the live list what is executed or dead at the final blocks; the nonces stay journalled for ever."""
        world = self.view.final_world()
        dead = [item for item in self.journal.live(None) if not is_live(item, world)]
        self.journal.retire(dead)
        applied = self.view.long_applied
        entries = self.journal.entries()
        self.journal.retire_entries(e for e in entries if applied(e.chain_id, e.account_id, e.cycle))
        if all(self.batches.knows(state.posted_epoch) for state in world.values()):
            # A minority signed it, its batch was never posted and cannot be any more: nobody waits for it for ever.
            times = {chain_id: state.block.time for chain_id, state in world.items()}
            self.journal.retire_entries(self.journal.abandoned_entries(times))
        return len(dead)

    def _context(self, item: PermitItem) -> Context:
        """What a request is judged against: this node's final blocks, the last batch's marks and its own."""
        latest, own = self.batches.latest, self.own_marks()
        legs: tuple[LegItem, ...] = ()
        if isinstance(item.action, Takeover):
            legs = tuple(leg for leg in self.live((item.action.liquidated,)) if isinstance(leg, LegItem))
        return Context(
            world=self.world(),
            marks=(own,) if latest is None else (latest.content.prices, own),
            model=self.model,
            listing=self.listing,
            deployment=self.deployment,
            parameters=self.parameters,
            legs=legs,
            settling=settling_accounts(self.journal, self.view),
        )

    def own_marks(self) -> Marks:
        try:
            return self.observer.marks()
        except NotReady as error:
            raise Refused("marks", str(error)) from None
