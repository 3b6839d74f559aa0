"""What attestors with journals of their own sign for an account that is being parted: permits and cycles (CM-50)."""

from __future__ import annotations

from pathlib import Path

import pytest
from attestors import Panel, run, see
from worlds import NOW, OWNER, A, B, Chains, executed, marks, unlink, usd

from keeper.attest.live import is_live
from keeper.node.parting import parting_accounts, settling_accounts
from keeper.node.refusal import Refused
from keeper.state.batch import SettlementLeaf

ENTRIES = (SettlementLeaf(7, OWNER, A, -usd(100)), SettlementLeaf(7, OWNER, B, usd(100)))


def chains() -> Chains:
    return Chains().cash(OWNER, A, 1_000).cash(OWNER, B, -500).linked(OWNER, (A, B))


def test_a_journal_with_a_live_unlink_takes_in_no_entry_of_the_account(tmp_path: Path) -> None:
    """Neither a proposer's own, nor one that another attestor signed in a cycle before."""

    async def work(panel: Panel) -> None:
        one, other, *_ = panel.attestors
        for attestor in (one, other):
            see(attestor, NOW, chains())
        item = unlink(deadline=NOW + 50)
        one.journal.adopt([item])
        world = one.view.final_world()
        assert is_live(item, world)
        assert parting_accounts(one.journal, one.view, world) == {OWNER}
        assert not parting_accounts(other.journal, other.view, world)
        epoch = NOW // 2
        assert any("an unlink of it is live" in f for f in one.cycle_faults(ENTRIES, marks(), world, epoch))
        with pytest.raises(Refused, match="an unlink of it is live"):
            one.adopt_entries(ENTRIES)
        other.adopt_entries(ENTRIES)
        # Dead, it holds nothing up any more.
        see(one, NOW + 60, chains())
        assert not parting_accounts(one.journal, one.view, one.view.final_world())
        one.adopt_entries(ENTRIES)

    run(tmp_path, work)


def test_an_unlink_that_became_final_after_the_cut_counts_as_one(tmp_path: Path) -> None:
    async def work(panel: Panel) -> None:
        one = panel.attestors[0]
        see(one, NOW, chains())
        cut, item = one.view.final_world(), unlink()
        see(one, NOW + 2, Chains(executed(chains().world, item)))
        one.retire_dead()
        assert parting_accounts(one.journal, one.view, cut) == {OWNER}
        assert any("an unlink of it is live" in f for f in one.cycle_faults(ENTRIES, marks(), cut, NOW // 2))
        assert not parting_accounts(one.journal, one.view, one.view.final_world())

    run(tmp_path, work)


def test_entries_that_are_signed_and_not_applied_are_told_to_the_judgement(tmp_path: Path) -> None:
    async def work(panel: Panel) -> None:
        one = panel.attestors[0]
        see(one, NOW, chains())
        assert not one._context(unlink()).settling
        one.journal.add_entries(ENTRIES, until=NOW + 300)
        assert settling_accounts(one.journal, one.view) == {OWNER}
        assert one._context(unlink()).settling == {OWNER}

    run(tmp_path, work)
