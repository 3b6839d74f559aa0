"""One node: what its configuration asks for, joined and run together.

Everything that acts is a task of one group: the first that fails ends the node, loudly, rather than leave it half
alive. A reorganisation deeper than finality is such a failure.
"""

from __future__ import annotations

import asyncio
from functools import partial

import structlog

from keeper.attest.live import is_live
from keeper.attest.signatures import QuorumError
from keeper.attest.signing import LocalSigner
from keeper.chain.cctp import Iris
from keeper.chain.transactions import Sender
from keeper.clearing.cycles import with_pending
from keeper.margin.listing import Listing
from keeper.state.deployment import Deployment
from keeper.state.ids import Address, account_id
from keeper.state.world import World
from keeper.store.journal import Journal

from .appraiser import Appraiser
from .attestor import Attestor
from .batches import BatchBook
from .config import KeySource, LiquidateSection, NodeConfig
from .desk import PermitDesk
from .inventory import Inventory
from .latency import Latencies
from .liquidator import AT_ONCE, Liquidator
from .observer import Observer
from .peers import PeerRefused, Peers, PeerUnavailable
from .permits import PermitClient
from .preflight import model_of, parameters_of
from .proposer import Proposer
from .relayer import Relayer
from .settler import Settler
from .view import ChainsView

log = structlog.get_logger()

_PULL_SECONDS = 0.3
_SWEEP_SECONDS = 5.0
_SILENT_SECONDS = 12
"""Without a quorum batch for this long, by block time, a node is not ready."""


class Node:
    """A keeper node. Use as `async with Node(...) as node`, then `await node.run()`."""

    def __init__(self, config: NodeConfig, deployment: Deployment) -> None:
        self.config = config
        self.deployment = deployment
        self.parameters = parameters_of(config, deployment)
        self.listing = Listing.of(deployment)
        self.model = model_of(config, self.parameters, self.listing)
        config.state_dir.mkdir(parents=True, exist_ok=True)
        self.journal = Journal.open(config.state_dir / "journal.db")
        self.view = ChainsView(deployment, config)
        self.batches = BatchBook(deployment, self.journal, self.model)
        self.observer = Observer(deployment, self.view, self.batches)
        self.latencies = Latencies()
        signer = LocalSigner(config.attest.key.load()) if config.attest else None
        own: Address | None = signer.address if signer else None
        others = {peer: url for peer, url in config.peer_urls().items() if peer != own}
        self.peers = Peers(others, deployment.profile.epoch_seconds)
        self.attestor: Attestor | None = None
        self.proposer: Proposer | None = None
        self.desk: PermitDesk | None = None
        if signer is not None:
            self.attestor = Attestor(
                deployment, self.listing, self.model, self.parameters, self.view, self.journal, self.batches, signer
            )
            self.proposer = Proposer(self.attestor, self.view, self.batches, self.peers)
            self.desk = PermitDesk(self.attestor, self.peers)
        self.relayer: Relayer | None = None
        self.settler: Settler | None = None
        self.iris: Iris | None = None
        if config.relay is not None:
            senders = self._senders(config.relay.key, config.relay.max_fee_gwei)
            self.relayer = Relayer(deployment, self.view, self.batches, senders, self.latencies)
            self.iris = Iris(config.relay.iris)
            self.settler = Settler(deployment, self.view, self.batches, senders, self.iris, self.peers)
        self.liquidator: Liquidator | None = None
        if config.liquidate is not None:
            self.liquidator = self._liquidator(config.liquidate)

    def _liquidator(self, section: LiquidateSection) -> Liquidator:
        """Everything that bids with one key: it asks for permits, weighs legs, takes them over, sells tokens."""
        permits = PermitClient(self.deployment, self.peers, LocalSigner(section.key.load()))
        account = account_id(permits.signer.address, section.sub_account)
        senders = self._senders(section.key, section.max_fee_gwei, AT_ONCE)
        appraiser = Appraiser(
            self.deployment,
            self.listing,
            self.model,
            self.view,
            section.rule,
            account,
            senders,
            {chain_id: self.config.chain(chain_id).native_usd for chain_id in self.deployment.chains},
            self.world,
            self.observer.marks,
        )
        inventory = Inventory(
            self.deployment,
            self.listing,
            self.model,
            self.view,
            permits,
            senders,
            account,
            section.sale_terms,
            self.observer.marks,
        )
        return Liquidator(
            self.deployment, self.view, self.batches, permits, senders, self.latencies, appraiser, inventory
        )

    def world(self) -> World:
        """This node's final blocks, with what is signed and not applied there."""
        return with_pending(self.view.final_world(), self.journal.entries(), self.listing)

    def _senders(self, key: KeySource, max_fee_gwei: float, in_flight: int = 1) -> dict[int, Sender]:
        signer, max_fee = LocalSigner(key.load()), int(max_fee_gwei * 10**9)
        return {c: Sender(rpc, c, signer, max_fee, in_flight) for c, rpc in self.view.rpcs.items()}

    async def __aenter__(self) -> Node:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.peers.close()
        if self.iris is not None:
            await self.iris.aclose()
        await self.view.close()
        self.journal.close()

    async def run(self) -> None:
        """Run every role until cancelled. Raises what ended the first task that failed."""
        roles = sorted(self.config.roles)
        log.info("node.started", name=self.config.name, roles=roles, chains=sorted(self.deployment.chains))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.view.follow())
            tasks.create_task(self._pull_batches())
            if self.attestor is not None:
                tasks.create_task(self._sweep(self.attestor))
            for part in (self.proposer, self.relayer, self.settler, self.liquidator):
                if part is not None:
                    tasks.create_task(part.run())

    async def _pull_batches(self) -> None:
        """Fetch newer quorum batches from the attestors, so that this node knows them even where nobody told it."""
        while True:
            after = self.batches.latest.content.batch.epoch if self.batches.latest else -1
            answers = await self.peers.gather(partial(self.peers.latest, after=after))
            for peer, answer in answers.items():
                if answer is None or isinstance(answer, PeerUnavailable | PeerRefused):
                    continue
                try:
                    self.batches.add(answer)
                except (QuorumError, ValueError) as error:
                    log.warning("peer.bad_batch", peer="0x" + peer.hex(), reason=str(error))
            # An attestor is told by the proposer; it pulls only to catch up.
            await asyncio.sleep(_PULL_SECONDS if self.attestor is None else _SWEEP_SECONDS)

    async def _sweep(self, attestor: Attestor) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            if self.view.started:
                attestor.retire_dead()

    def faults(self) -> list[str]:
        """Why this node is not ready; empty where it is."""
        faults = [entry.reason for entry in self.view.late()]
        latest = self.batches.latest
        now = self.view.newest_head_time
        silent = now - latest.content.batch.timestamp if latest else None
        if silent is None:
            faults.append("no quorum batch is known yet")
        elif silent > _SILENT_SECONDS:
            faults.append(f"no quorum batch for {silent} s")
        if faults and self.proposer is not None and self.proposer.failure is not None:
            faults.append(f"last own proposal: {self.proposer.failure}")
        if self.relayer is not None:
            names = self.deployment.chains
            faults += [f"relayer on {names[c].name}: {p.error}" for c, p in self.relayer.postings.items() if p.error]
        return faults

    def live_count(self) -> int:
        """Permits and legs that are neither executed nor dead at the final blocks this node sees."""
        if not self.view.started:
            return 0
        world = self.view.final_world()
        return sum(is_live(item, world) for item in self.journal.live(None))
