"""The sign-once journal on a real file: whatever is asked, in any order, closed and opened at any time."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from worlds import OTHER, OWNER, SUB, A, B, leg, move, withdraw

from keeper.state.ids import account_id, owner_of
from keeper.state.live import LegItem, LiveItem, PermitItem
from keeper.store.journal import (
    KEPT_BATCHES,
    BatchConflict,
    CutWentBack,
    EpochPassed,
    Journal,
    JournalLocked,
    JournalUnreadable,
    NonceConflict,
)


def permit_item(nonce: int, chain_id: int = A, amount: int = 1, deadline: int = 1_800_000_300) -> PermitItem:
    """The same for the same arguments, with an action hash for each amount."""
    item = withdraw(amount, chain_id=chain_id)
    permit = replace(item.permit, nonce=nonce, deadline=deadline, action_hash=digest(amount))
    return replace(item, permit=permit)


def leg_item(timestamp: int) -> LegItem:
    return leg(1, OTHER, timestamp=timestamp)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal.open(tmp_path / "journal.db")
    yield opened
    opened.close()


def digest(number: int) -> bytes:
    return bytes([number]) * 32


# --- one batch an epoch (CM-13) ----------------------------------------------------------------------------------


def test_cm13_one_batch_an_epoch(journal: Journal) -> None:
    journal.sign_batch(7, digest(1), [], {})
    journal.sign_batch(7, digest(1), [], {})
    with pytest.raises(BatchConflict, match=f"epoch 7: 0x{digest(1).hex()} was signed, 0x{digest(2).hex()} is asked"):
        journal.sign_batch(7, digest(2), [], {})
    with pytest.raises(EpochPassed, match="epoch 6: epoch 7 was signed already"):
        journal.sign_batch(6, digest(3), [], {})


def test_cm10_the_cut_never_goes_back_and_a_refusal_records_nothing(journal: Journal) -> None:
    journal.sign_batch(7, digest(1), [], {A: (10, b"a"), B: (20, b"b")})
    for wrong in ({A: (11, b"c"), B: (19, b"d")}, {A: (11, b"c"), B: (20, b"another")}):
        with pytest.raises(CutWentBack, match=f"chain {B}: block {wrong[B][0]}"):
            journal.sign_batch(8, digest(2), [leg_item(16)], wrong)
        assert journal.cut() == {A: (10, b"a"), B: (20, b"b")}
        assert journal.live(None) == []
    journal.sign_batch(8, digest(3), [leg_item(16)], {A: (11, b"c"), B: (20, b"b")})
    assert journal.cut() == {A: (11, b"c"), B: (20, b"b")}
    assert journal.live(None) == [leg_item(16)]


# --- one action a nonce (CM-13) ----------------------------------------------------------------------------------


def test_cm13_one_action_a_nonce(journal: Journal) -> None:
    first = permit_item(1)
    journal.sign_permit(first, [])
    journal.sign_permit(first, [])
    for other in (permit_item(1, amount=2), permit_item(1, deadline=1_800_000_301)):
        with pytest.raises(NonceConflict, match="nonce 1: action 0x"):
            journal.sign_permit(other, [permit_item(2)])
    assert journal.live(None) == [first]
    journal.sign_permit(permit_item(1, chain_id=B), [])  # nonces are counted by chain


def test_cm13_retired_is_not_forgotten(journal: Journal) -> None:
    journal.sign_permit(permit_item(1), [])
    journal.retire([permit_item(1)])
    assert journal.live(None) == []
    with pytest.raises(NonceConflict):
        journal.sign_permit(permit_item(1, amount=2), [])


def test_the_largest_nonce_is_kept_whole(journal: Journal) -> None:
    journal.sign_permit(permit_item(2**256 - 1), [])
    assert journal.live(None) == [permit_item(2**256 - 1)]


def test_live_items_by_account(journal: Journal) -> None:
    journal.sign_permit(permit_item(1), [leg_item(16)])
    journal.adopt([permit_item(2), leg_item(16)])
    assert journal.live([OTHER]) == [leg_item(16)]
    assert journal.live([OWNER]) == [permit_item(1), permit_item(2)]
    assert len(journal.live(None)) == len(journal.live([OWNER, OTHER])) == 3
    assert journal.live([]) == []


def test_live_items_by_owner_are_those_of_all_its_accounts(journal: Journal) -> None:
    last = account_id(OWNER[:20], 2**96 - 1)
    own = [withdraw(1, account=account) for account in (OWNER, SUB, last)]
    journal.adopt([*own, leg(1, SUB), leg_item(16)])
    found = journal.live_of_owners([owner_of(OWNER)])
    assert {item.key for item in found} == {*(item.key for item in own), leg(1, SUB).key}
    assert journal.live_of_owners([owner_of(OTHER)]) == [leg_item(16)]
    assert len(journal.live_of_owners([owner_of(SUB), owner_of(OTHER)])) == 5
    # Two accounts of one owner, one item.
    journal.adopt([between := move(1)])
    assert [item.key for item in journal.live_of_owners([owner_of(SUB)])].count(between.key) == 1
    assert journal.live_of_owners([]) == []


def test_the_newest_batches_are_kept(journal: Journal) -> None:
    assert journal.latest_batch() is None
    for epoch in range(1, KEPT_BATCHES + 3):
        journal.store_batch(epoch, digest(1), b"content", b"signatures")
    assert journal.batch(2) is None
    kept = journal.batch(3)
    assert kept is not None
    assert kept.content == b"content"
    latest = journal.latest_batch()
    assert latest is not None
    assert latest.epoch == KEPT_BATCHES + 2


# --- the file ------------------------------------------------------------------------------------------------------


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """Two signers on one journal would each think themselves alone: in this process and in another."""
    path = tmp_path / "journal.db"
    journal = Journal.open(path)
    with pytest.raises(JournalLocked, match="in use by another process"):
        Journal.open(path)
    script = "import sys, pathlib; from keeper.store.journal import Journal; Journal.open(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", script, str(path)]
    other = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert other.returncode != 0
    assert "JournalLocked" in other.stderr
    journal.close()
    assert subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0


def test_a_damaged_file_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"not a database, but somebody's only copy of something" * 100)
    before = path.read_bytes()
    for _ in range(2):  # and the refusal leaves no lock behind
        with pytest.raises(JournalUnreadable, match="no journal that this version reads"):
            Journal.open(path)
    assert path.read_bytes() == before


def test_a_newer_versions_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    Journal.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(JournalUnreadable, match="9999"):
        Journal.open(path)


def test_commits_are_synced_before_they_return(journal: Journal) -> None:
    """WAL with full synchronisation: anything less and a signature could outlive its record."""
    with journal._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


# --- anything, in any order ----------------------------------------------------------------------------------------


class JournalMachine(RuleBasedStateMachine):
    """Against plain dictionaries, through closing and opening."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.journal = Journal.open(self.folder / "journal.db")
        self.batches: dict[int, bytes] = {}
        self.actions: dict[tuple[bytes, int, int], PermitItem] = {}
        self.cut: dict[int, tuple[int, bytes]] = {}
        self.live: dict[tuple[object, ...], LiveItem] = {}

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.journal.close()
            shutil.rmtree(self.folder)

    @rule()
    def reopen(self) -> None:
        self.journal.close()
        self.journal = Journal.open(self.folder / "journal.db")

    @rule(epoch=st.integers(1, 6), content=st.integers(0, 2), number=st.integers(0, 3), fork=st.integers(0, 1))
    def batch(self, epoch: int, content: int, number: int, fork: int) -> None:
        cut = {A: (number, digest(fork))}
        legs = [leg_item(2 * epoch)] if content else []
        known = self.batches.get(epoch)
        held = self.cut.get(A, (-1, b""))
        refusal: type[Exception] | None = None
        if known is not None:
            refusal = None if known == digest(content) else BatchConflict
        elif self.batches and epoch < max(self.batches):
            refusal = EpochPassed
        elif number < held[0] or (number == held[0] and digest(fork) != held[1]):
            refusal = CutWentBack
        if refusal is not None:
            with pytest.raises(refusal):
                self.journal.sign_batch(epoch, digest(content), legs, cut)
            return
        self.journal.sign_batch(epoch, digest(content), legs, cut)
        if known is None:
            self.batches[epoch] = digest(content)
            self.cut |= cut
            self._keep(legs)

    @rule(nonce=st.integers(0, 2), chain_id=st.sampled_from([A, B]), amount=st.integers(1, 2), other=st.integers(3, 4))
    def permit(self, nonce: int, chain_id: int, amount: int, other: int) -> None:
        item, listed = permit_item(nonce, chain_id, amount), permit_item(other)
        known = self.actions.get(item.key)
        if known is not None and known != item:
            with pytest.raises(NonceConflict):
                self.journal.sign_permit(item, [listed])
            return
        self.journal.sign_permit(item, [listed])
        self.actions[item.key] = item
        self._keep([item, listed])

    @rule(nonce=st.integers(0, 4))
    def adopt(self, nonce: int) -> None:
        self.journal.adopt([permit_item(nonce)])
        self._keep([permit_item(nonce)])

    @rule(data=st.data())
    def retire(self, data: st.DataObject) -> None:
        if self.live:
            key = data.draw(st.sampled_from(sorted(self.live, key=repr)))
            self.journal.retire([self.live.pop(key)])

    def _keep(self, items: list[LegItem] | list[PermitItem]) -> None:
        for item in items:
            self.live.setdefault((type(item).__name__, *item.identity), item)

    @invariant()
    def remembers(self) -> None:
        if hasattr(self, "journal"):
            assert self.journal.cut() == self.cut
            found = self.journal.live(None)
            assert len(found) == len(self.live)
            assert all(self.live[(type(item).__name__, *item.identity)] == item for item in found)
            of_owner = self.journal.live([OWNER])
            assert [i for i in found if OWNER in i.accounts] == of_owner


class TestJournalMachine(JournalMachine.TestCase):
    """CM-13 by a machine."""

    settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
