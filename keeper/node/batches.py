"""The quorum batches this node knows: verified, kept, and served with proofs."""

from __future__ import annotations

from collections import OrderedDict

import orjson
import structlog

from keeper.attest.batch import BatchContent, batch_digest, mark_faults, structural_faults
from keeper.attest.messages import QuorumBatch
from keeper.attest.signatures import LENGTH, check_quorum
from keeper.margin.model import MarginModel
from keeper.state.deployment import Deployment
from keeper.state.ids import FUND, AssetId
from keeper.state.live import LegItem
from keeper.state.wire import from_json, to_json
from keeper.state.world import MarginAccount
from keeper.store.journal import Journal

log = structlog.get_logger()

_IN_MEMORY = 64
"""Batches kept decoded; older ones are read from the store."""


class UnknownBatch(LookupError):
    """No batch of that epoch is known here."""


class BatchBook:
    """Quorum batches by epoch. Only batches whose signatures and roots hold are taken in."""

    def __init__(self, deployment: Deployment, journal: Journal, model: MarginModel) -> None:
        self._deployment = deployment
        self._model = model
        self._journal = journal
        self._recent: OrderedDict[int, QuorumBatch] = OrderedDict()
        self._auctions: dict[tuple[bytes, int], int] = {}
        self._below: dict[tuple[bytes, int], int] = {}
        self._inventory: dict[tuple[int, AssetId], int] = {}
        self.latest: QuorumBatch | None = None
        stored = journal.latest_batch()
        if stored is not None:
            self._remember(_decode(stored.content))

    def add(self, quorum: QuorumBatch) -> bool:
        """Take in a batch; False where it is known or older than the newest.

        Raises:
            QuorumError: its signatures are not a quorum's.
            ValueError: its leaves are not those of its roots.
        """
        epoch = quorum.content.batch.epoch
        if self.latest is not None and epoch <= self.latest.content.batch.epoch:
            return False
        digest = self.verify(quorum)
        self._journal.store_batch(epoch, digest, orjson.dumps(to_json(quorum)), quorum.signatures)
        # Its legs are live whether or not this node signed them.
        self._journal.adopt(legs_of(quorum.content))
        until = quorum.content.batch.valid_until
        self._journal.add_entries(quorum.content.settlements, until=until, quorum=True)
        self._remember(quorum)
        return True

    def verify(self, quorum: QuorumBatch) -> bytes:
        """The batch's digest; raises as `add` does."""
        most = LENGTH * len(self._deployment.attestors)
        if len(quorum.signatures) > most:  # before any is recovered: anyone may send us a batch
            raise ValueError(f"{len(quorum.signatures)} bytes of signatures, the attestors' are {most} at most")
        digest = batch_digest(self._deployment, quorum.content.batch)
        check_quorum(digest, quorum.signatures, self._deployment.attestors, self._deployment.threshold)
        # The inputs are not signed; the marks that follow from them are.
        faults = structural_faults(quorum.content, self._deployment) or mark_faults(quorum.content, self._model)
        if faults:
            raise ValueError(f"batch {quorum.content.batch.epoch}: {faults[0]}")
        return digest

    def knows(self, epoch: int) -> bool:
        """Whether the batch of an epoch is known here; −1 stands for none, which is."""
        return epoch < 0 or epoch in self._recent or self._journal.batch(epoch) is not None

    def get(self, epoch: int) -> QuorumBatch:
        """The batch of an epoch. Raises UnknownBatch."""
        if epoch in self._recent:
            return self._recent[epoch]
        stored = self._journal.batch(epoch)
        if stored is None:
            raise UnknownBatch(f"no quorum batch of epoch {epoch} is known here")
        return _decode(stored.content)

    def _remember(self, quorum: QuorumBatch) -> None:
        self._recent[quorum.content.batch.epoch] = quorum
        while len(self._recent) > _IN_MEMORY:
            self._recent.popitem(last=False)
        self.latest = quorum
        self._track_auctions(quorum.content)

    def _track_auctions(self, content: BatchContent) -> None:
        below = {(leaf.account_id, leaf.chain_id) for leaf in content.accounts if leaf.equity < leaf.initial_margin}
        self._auctions = {key: start for key, start in self._auctions.items() if key in below}
        self._below = {key: since for key, since in self._below.items() if key in below}
        for leaf in content.accounts:
            if leaf.equity < leaf.maintenance_margin:
                self._below.setdefault((leaf.account_id, leaf.chain_id), content.batch.timestamp)
        known, self._inventory = self._inventory, {}
        for leg in content.legs:
            if leg.account_id == FUND:
                item = (leg.chain_id, leg.asset)
                self._inventory[item] = min(known.get(item, leg.auction_start), leg.auction_start)
            else:
                key = (leg.account_id, leg.chain_id)
                self._auctions[key] = min(self._auctions.get(key, leg.auction_start), leg.auction_start)

    def recent(self) -> list[QuorumBatch]:
        """The batches kept decoded, newest first."""
        return sorted(self._recent.values(), key=lambda quorum: -quorum.content.batch.epoch)

    def auction_start(self, account: MarginAccount, timestamp: int) -> int:
        """When the account's auction began: `timestamp` where none is running. It stays while the account stays
        below initial margin."""
        return min((self._auctions.get((account.account_id, c), timestamp) for c in account.chains), default=timestamp)

    def waiting_since(self, account: MarginAccount, timestamp: int) -> int:
        """Since when the account waits for takers: the start of its auction; where nothing of it could be offered, the
        first batch that had it below maintenance margin."""
        keys = [(account.account_id, chain_id) for chain_id in account.chains]
        started = [self._auctions[key] for key in keys if key in self._auctions]
        return min(started or [self._below.get(key, timestamp) for key in keys], default=timestamp)

    def inventory_starts(self, chain_id: int) -> dict[AssetId, int]:
        """When the auctions of what the fund of a chain holds began; one ends with the first batch without its leg."""
        return {asset: start for (chain, asset), start in self._inventory.items() if chain == chain_id}


def legs_of(content: BatchContent) -> list[LegItem]:
    """The batch's legs as live items."""
    return [LegItem(leg, content.batch.timestamp) for leg in content.legs]


def _decode(content: bytes) -> QuorumBatch:
    return from_json(QuorumBatch, orjson.loads(content))
