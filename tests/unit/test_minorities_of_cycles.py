"""Entries that minorities signed come together, and two payments have two numbers (CM-50)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import attestors
import pytest
from attestors import Direct, Panel, run, see
from test_leg_desk import Node
from worlds import NOW, OWNER, A, B, Chains, usd

from keeper.attest.codec import keccak
from keeper.node.attestor import Attestor
from keeper.node.peers import PeerUnavailable
from keeper.node.proposer import Proposer
from keeper.state.batch import SettlementLeaf
from keeper.state.ids import FUND, AccountId, account_id


def chains() -> Chains:
    return Chains().cash(OWNER, A, 1000).cash(OWNER, B, -500).linked(OWNER, (A, B))


def cycle(number: int, amount: float) -> tuple[SettlementLeaf, ...]:
    return SettlementLeaf(number, OWNER, A, -usd(amount)), SettlementLeaf(number, OWNER, B, usd(amount))


def proposer_at(panel: Panel, time: int, dead: Attestor) -> Proposer:
    epoch = time // panel.attestors[0].deployment.profile.epoch_seconds
    own = next(each for each in panel.attestors if each.signer.address == each.proposer_of(epoch))

    class Partial(Direct):
        async def sign_batch(self, peer, proposal):
            if peer == dead.signer.address:
                raise PeerUnavailable("down")
            return await super().sign_batch(peer, proposal)

    return Proposer(own, own.view, own.batches, Partial([each for each in panel.attestors if each is not own]))


def test_what_two_minorities_signed_comes_together_while_one_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epochs of 12 s as in production: what is adopted of each other is swept before the next turn."""
    panel_ = replace(attestors.PANEL, profile=replace(attestors.PANEL.profile, epoch_seconds=12))
    monkeypatch.setattr(attestors, "PANEL", panel_)

    async def work(panel: Panel) -> None:
        one, other, third, dead = panel.attestors
        for attestor in panel.attestors:
            see(attestor, NOW - 12, Chains())
        assert await proposer_at(
            panel, NOW - 12, one if one.proposer_of(NOW // 12 - 1) != one.signer.address else other
        ).propose()
        # Then each of two proposers signed a cycle of its own that found no quorum.
        one.journal.add_entries(cycle(NOW // 12 - 2, 100), until=NOW + 300)
        other.journal.add_entries(cycle(NOW // 12 - 1, 120), until=NOW + 300)
        found = []
        for time in range(NOW, NOW + 240, 12):
            for attestor in (one, other, third):
                see(attestor, time, chains())
            proposer = proposer_at(panel, time, dead)
            if proposer._attestor is not dead:
                found.append(await proposer.propose() is not None)
            for attestor in (one, other, third):
                attestor.retire_dead()  # every five seconds
        assert any(found), f"no batch in {len(found)} epochs of 12 s: {proposer.failure}"

    run(tmp_path, work)


def collision() -> tuple[AccountId, AccountId]:
    """Sub-accounts of one owner: some 2**16 tries."""
    seen: dict[bytes, AccountId] = {}
    for number in range(1_000_000):
        account = account_id(b"\xa1" * 20, number)
        other = seen.setdefault(keccak(account)[:4], account)
        if other != account:
            return other, account
    raise AssertionError


def test_two_payments_have_two_numbers(tmp_path: Path) -> None:
    node = Node(tmp_path)
    try:
        one, other = collision()
        assert node.batch(NOW, Chains()) == ()
        chains = Chains().cash(one, A, -1).cash(other, A, -2).cash(FUND, A, 10_000)
        node.batch(NOW + 2, chains)
    finally:
        node.close()
