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

from keeper.state.ids import AccountId, Address
from keeper.state.live import LegItem, LiveItem, PermitItem
from keeper.state.wire import from_json, to_json

from .schema import batches, cuts, live_items, signed_actions, signed_batches

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
        self, epoch: int, digest: bytes, legs: Sequence[LegItem], cut: Mapping[int, tuple[int, bytes]]
    ) -> None:
        """Record that this batch is about to be signed, with its legs as live items and its cut.

        Idempotent for the same digest.

        Raises:
            BatchConflict, EpochPassed, CutWentBack: it must not be signed; nothing was recorded.
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
            connection.execute(signed_batches.insert().values(epoch=epoch, digest=digest))
            self._add_live(connection, legs)

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
            return [_decode(row.item) for row in connection.execute(query)]

    def live_of_owners(self, owners: Collection[Address]) -> list[LiveItem]:
        """Items not retired of every account of these owners, as `live`."""
        if not owners:
            return []
        of_owner = [live_items.c.account_id.between(bytes(o) + b"\0" * 12, bytes(o) + b"\xff" * 12) for o in owners]
        query = select(live_items.c.key, live_items.c.item).distinct().where(or_(*of_owner)).order_by(live_items.c.key)
        with self._engine.connect() as connection:
            return [_decode(row.item) for row in connection.execute(query)]

    def retire(self, items: Iterable[LiveItem]) -> None:
        """Drop items that are executed or dead from the live list. What was signed stays recorded for ever."""
        keys = [_key(item) for item in items]
        if keys:
            with self._engine.begin() as connection:
                connection.execute(delete(live_items).where(live_items.c.key.in_(keys)))

    def _add_live(self, connection: Connection, items: Iterable[LiveItem]) -> None:
        rows = [
            {"key": _key(item), "account_id": bytes(account), "item": orjson.dumps(to_json(item, tagged=True))}
            for item in items
            for account in item.accounts
        ]
        if rows:
            connection.execute(insert(live_items).on_conflict_do_nothing(), rows)

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


def _key(item: LiveItem) -> bytes:
    return orjson.dumps(to_json([type(item).__name__, *item.key]))


def _decode(data: bytes) -> LiveItem:
    fields = orjson.loads(data)
    return from_json(_KINDS[fields.pop("type")], fields)
