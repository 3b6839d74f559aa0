"""The sign-once journal: durable before a signature leaves (CM-13).

At most one batch per epoch, one action per account, chain and nonce, ever; every live item that was signed here or
listed to us; the cut that never goes back. One process at a time.
"""

from __future__ import annotations

import fcntl
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, delete, event, func, or_, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DatabaseError

from keeper.state.batch import SettlementLeaf
from keeper.state.ids import AccountId, Address, AssetId
from keeper.state.live import LegItem, LiveItem, PermitItem
from keeper.state.wire import from_json, to_json

from .schema import batches, cuts, live_items, settlement_entries, signed_actions, signed_batches, signed_prices

KEPT_BATCHES = 512
"""Quorum batches kept to serve proofs from."""

_KINDS: dict[str, type[PermitItem] | type[LegItem]] = {"PermitItem": PermitItem, "LegItem": LegItem}


class JournalLocked(Exception):
    """Another process has this journal: two signers on one journal would each think themselves alone."""


class JournalUnreadable(Exception):
    """The file is no journal, is damaged, or was written by a newer version of the keeper."""


class BatchConflict(Exception):
    """Another batch was signed for this epoch."""


class EpochPassed(Exception):
    """A batch of a later epoch was signed."""


class CutWentBack(Exception):
    """The cut's block is older than one signed before, or another at the same height."""


class PriceConflict(Exception):
    """Another settlement price was signed for this instrument."""


class NonceConflict(Exception):
    """Another action, or the same with another deadline, was signed under this nonce."""


@dataclass(frozen=True, slots=True)
class StoredBatch:
    epoch: int
    digest: bytes
    content: bytes
    signatures: bytes


class Journal:
    """One attestor's memory. Every method that writes has committed, and synced to disk, when it returns."""

    def __init__(self, engine: Engine, lock: io.TextIOWrapper) -> None:
        self._engine = engine
        self._lock = lock

    @classmethod
    def open(cls, path: Path) -> Journal:
        """Open or create the journal at `path`, bringing its tables up to date.

        Raises:
            JournalLocked: another process has it open.
            JournalUnreadable: it cannot be trusted as it is; nothing was changed.
        """
        lock = Path(f"{path}.lock").open("a")  # noqa: SIM115 -- held as long as the journal is open
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise JournalLocked(f"{path} is in use by another process") from None
        engine = create_engine(f"sqlite:///{path}")
        event.listen(engine, "connect", _durable)
        try:
            with engine.begin() as connection:
                config = Config()
                config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
                config.set_main_option("path_separator", "os")
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except (DatabaseError, CommandError) as error:
            engine.dispose()
            lock.close()
            raise JournalUnreadable(
                f"{path} is no journal that this version reads ({getattr(error, 'orig', None) or error}): keep the "
                "file, start with the version that wrote it, and sign with no other: docs/operations.md says why"
            ) from error
        return cls(engine, lock)

    def close(self) -> None:
        self._engine.dispose()
        self._lock.close()

    # --- signing ---------------------------------------------------------------------------------------------------

    def sign_batch(
        self,
        epoch: int,
        digest: bytes,
        legs: Sequence[LegItem],
        cut: Mapping[int, tuple[int, bytes]],
        settled: Mapping[AssetId, int] | None = None,
        entries: Sequence[SettlementLeaf] = (),
        until: int = 0,
    ) -> None:
        """Record that this batch is about to be signed, with its legs as live items, its cut, the settlement prices in
        it (instrument → USD 1e18) and its settlement entries; `until` is when it may be posted no more.

        Idempotent for the same digest.

        Raises:
            BatchConflict, EpochPassed, CutWentBack, PriceConflict: it must not be signed; nothing was recorded.
        """
        with self._engine.begin() as connection:
            known = connection.scalar(select(signed_batches.c.digest).where(signed_batches.c.epoch == epoch))
            if known is not None:
                if known != digest:
                    raise BatchConflict(f"epoch {epoch}: 0x{known.hex()} was signed, 0x{digest.hex()} is asked")
                return
            last = connection.scalar(select(func.max(signed_batches.c.epoch)))
            if last is not None and epoch < last:
                raise EpochPassed(f"epoch {epoch}: epoch {last} was signed already")
            for chain_id, (number, block_hash) in cut.items():
                self._move_cut(connection, chain_id, number, block_hash)
            for asset, price in (settled or {}).items():
                self._settle(connection, asset, price)
            connection.execute(signed_batches.insert().values(epoch=epoch, digest=digest))
            self._add_live(connection, legs)
            self._add_entries(connection, entries, until, quorum=False)

    def sign_permit(self, item: PermitItem, listed: Iterable[LiveItem]) -> None:
        """Record that this permit is about to be signed, together with everything listed as live beside it.

        Idempotent for the same action and deadline.

        Raises:
            NonceConflict: another action was signed under this nonce; nothing was recorded.
        """
        permit = item.permit
        key = {
            "account_id": bytes(permit.account_id),
            "chain_id": str(item.chain_id),
            "nonce": permit.nonce.to_bytes(32, "big"),
        }
        with self._engine.begin() as connection:
            known = connection.execute(
                select(signed_actions.c.action_hash, signed_actions.c.deadline).filter_by(**key)
            ).first()
            if known is not None and tuple(known) != (permit.action_hash, permit.deadline):
                raise NonceConflict(
                    f"nonce {permit.nonce}: action 0x{known[0].hex()} until {known[1]} was signed, "
                    f"0x{permit.action_hash.hex()} until {permit.deadline} is asked"
                )
            if known is None:
                values = key | {"action_hash": permit.action_hash, "deadline": permit.deadline}
                connection.execute(signed_actions.insert().values(**values))
            self._add_live(connection, [item, *listed])

    def _move_cut(self, connection: Connection, chain_id: int, number: int, block_hash: bytes) -> None:
        known = connection.execute(select(cuts.c.number, cuts.c.hash).where(cuts.c.chain_id == str(chain_id))).first()
        if known is not None and (number < known[0] or (number == known[0] and block_hash != known[1])):
            raise CutWentBack(
                f"chain {chain_id}: block {number} 0x{block_hash.hex()}, "
                f"signed before: block {known[0]} 0x{known[1].hex()}"
            )
        values = {"number": number, "hash": block_hash}
        connection.execute(
            insert(cuts)
            .values(chain_id=str(chain_id), **values)
            .on_conflict_do_update(index_elements=["chain_id"], set_=values)
        )

    def _settle(self, connection: Connection, asset: AssetId, price: int) -> None:
        value = price.to_bytes(32, "big")
        query = select(signed_prices.c.price).where(signed_prices.c.asset == bytes(asset))
        known = connection.scalar(query)
        if known is None:
            connection.execute(signed_prices.insert().values(asset=bytes(asset), price=value))
        elif known != value:
            raise PriceConflict(
                f"instrument 0x{asset.hex()}: {int.from_bytes(known, 'big')} was signed as settlement price, "
                f"{price} is asked"
            )

    def cut(self) -> dict[int, tuple[int, bytes]]:
        """The newest final block signed, per chain."""
        with self._engine.connect() as connection:
            return {int(row.chain_id): (row.number, row.hash) for row in connection.execute(select(cuts))}

    # --- live items ------------------------------------------------------------------------------------------------

    def adopt(self, items: Iterable[LiveItem]) -> None:
        """Keep items that others listed as live."""
        with self._engine.begin() as connection:
            self._add_live(connection, items)

    def live(self, accounts: Collection[AccountId] | None) -> list[LiveItem]:
        """Items not retired, of these accounts or of all, in a fixed order; dead ones included until retired."""
        query = select(live_items.c.key, live_items.c.item).distinct().order_by(live_items.c.key)
        if accounts is not None:
            query = query.where(live_items.c.account_id.in_([bytes(a) for a in accounts]))
        with self._engine.connect() as connection:
            return [decode_item(row.item) for row in connection.execute(query)]

    def live_of_owners(self, owners: Collection[Address]) -> list[LiveItem]:
        """Items not retired of every account of these owners, as `live`."""
        if not owners:
            return []
        of_owner = [live_items.c.account_id.between(bytes(o) + b"\0" * 12, bytes(o) + b"\xff" * 12) for o in owners]
        query = select(live_items.c.key, live_items.c.item).distinct().where(or_(*of_owner)).order_by(live_items.c.key)
        with self._engine.connect() as connection:
            return [decode_item(row.item) for row in connection.execute(query)]

    def retire(self, items: Iterable[LiveItem]) -> None:
        """Drop items that are executed or dead from the live list. What was signed stays recorded for ever."""
        keys = [item_key(item) for item in items]
        if keys:
            with self._engine.begin() as connection:
                connection.execute(delete(live_items).where(live_items.c.key.in_(keys)))

    def _add_live(self, connection: Connection, items: Iterable[LiveItem]) -> None:
        rows = [
            {"key": item_key(item), "account_id": bytes(account), "item": orjson.dumps(to_json(item, tagged=True))}
            for item in items
            for account in item.accounts
        ]
        if rows:
            connection.execute(insert(live_items).on_conflict_do_nothing(), rows)

    # --- settlement entries ----------------------------------------------------------------------------------------

    def add_entries(self, entries: Iterable[SettlementLeaf], *, until: int = 0, quorum: bool = False) -> None:
        """Keep settlement entries that others signed and listed, or that a batch of a `quorum` carries.

        `until`: unix seconds to which the batch that carries them may be posted.
        """
        with self._engine.begin() as connection:
            self._add_entries(connection, entries, until, quorum)

    def abandoned_entries(self, times: Mapping[int, int]) -> list[SettlementLeaf]:
        """Entries that no quorum is known to have signed, and that no batch signed here can bring on chain any more.

        `times` are those of the chains' final blocks: a batch is not posted after its end (chain id → unix seconds).
        """
        table = settlement_entries.c
        query = select(table.cycle, table.account_id, table.chain_id, table.delta, table.until).where(
            table.quorum.is_(False)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return [
            SettlementLeaf(row.cycle, AccountId(row.account_id), int(row.chain_id), int(row.delta))
            for row in rows
            if times.get(int(row.chain_id), 0) > row.until
        ]

    def entries(self) -> list[SettlementLeaf]:
        """Every entry not retired, ascending by cycle, account and chain."""
        table = settlement_entries.c
        query = select(table.cycle, table.account_id, table.chain_id, table.delta)
        with self._engine.connect() as connection:
            found = [
                SettlementLeaf(row.cycle, AccountId(row.account_id), int(row.chain_id), int(row.delta))
                for row in connection.execute(query)
            ]
        return sorted(found, key=lambda leaf: (leaf.cycle, leaf.account_id, leaf.chain_id))

    def retire_entries(self, entries: Iterable[SettlementLeaf]) -> None:
        """Drop entries whose application is final."""
        table = settlement_entries.c
        with self._engine.begin() as connection:
            for leaf in entries:
                connection.execute(
                    delete(settlement_entries).where(
                        table.cycle == leaf.cycle,
                        table.account_id == bytes(leaf.account_id),
                        table.chain_id == str(leaf.chain_id),
                    )
                )

    def _add_entries(self, connection: Connection, entries: Iterable[SettlementLeaf], until: int, quorum: bool) -> None:
        rows = [
            {
                "cycle": leaf.cycle,
                "account_id": bytes(leaf.account_id),
                "chain_id": str(leaf.chain_id),
                "delta": str(leaf.cash_delta),
                "until": until,
                "quorum": quorum,
            }
            for leaf in entries
        ]
        if not rows:
            return
        fresh = insert(settlement_entries)
        table, given = settlement_entries.c, fresh.excluded
        kept = {"until": func.max(table.until, given.until), "quorum": or_(table.quorum, given.quorum)}
        keys = ["cycle", "account_id", "chain_id"]
        connection.execute(fresh.on_conflict_do_update(index_elements=keys, set_=kept), rows)

    # --- quorum batches --------------------------------------------------------------------------------------------

    def store_batch(self, epoch: int, digest: bytes, content: bytes, signatures: bytes) -> None:
        """Keep a quorum batch to serve; the newest 512 are kept."""
        values = {"digest": digest, "content": content, "signatures": signatures}
        with self._engine.begin() as connection:
            connection.execute(
                insert(batches)
                .values(epoch=epoch, **values)
                .on_conflict_do_update(index_elements=["epoch"], set_=values)
            )
            oldest = connection.scalar(
                select(batches.c.epoch).order_by(batches.c.epoch.desc()).offset(KEPT_BATCHES).limit(1)
            )
            if oldest is not None:
                connection.execute(delete(batches).where(batches.c.epoch <= oldest))

    def batch(self, epoch: int) -> StoredBatch | None:
        with self._engine.connect() as connection:
            row = connection.execute(select(batches).where(batches.c.epoch == epoch)).first()
        return None if row is None else StoredBatch(*row)

    def latest_batch(self) -> StoredBatch | None:
        with self._engine.connect() as connection:
            row = connection.execute(select(batches).order_by(batches.c.epoch.desc()).limit(1)).first()
        return None if row is None else StoredBatch(*row)


def _durable(connection: object, _: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]
    # WAL with full synchronisation: a commit is on disk when it returns, or the sign-once promise is empty.
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def item_key(item: LiveItem) -> bytes:
    return orjson.dumps(to_json([type(item).__name__, *item.identity]))


def decode_item(data: bytes) -> LiveItem:
    fields = orjson.loads(data)
    return from_json(_KINDS[fields.pop("type")], fields)
