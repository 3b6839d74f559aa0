"""What a lying attestor says was carried, adopted or refused: no cycle of it is signed, no node ends (CM-50)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from attestors import PANEL, Direct, Panel, run, see
from test_lies_about_permits import ALICE, cash_out
from worlds import DEPLOYMENT, LISTING, MODEL, NOW, OWNER, A, B, Chains, marks, usd

from keeper.attest.batch import batch_digest, build_batch, reports_at
from keeper.attest.messages import BatchProposal
from keeper.clearing.cycles import Books, settlement_faults, terms_of, with_pending
from keeper.node.peers import PeerRefused
from keeper.node.proposer import Proposer
from keeper.node.refusal import Refused
from keeper.state.batch import SettlementLeaf
from keeper.state.ids import Address, transfer_id
from keeper.state.problem import Problem
from keeper.state.wire import to_json


def proposed(panel: Panel, *entries: SettlementLeaf) -> BatchProposal:
    """What the epoch's proposer sends, all its leaves true, with entries of its own."""
    epoch = NOW // PANEL.profile.epoch_seconds
    liar = next(each for each in panel.attestors if each.signer.address == each.proposer_of(epoch))
    inputs = liar.observer.inputs()
    cut = liar.view.cut()
    world = with_pending(liar.view.world_at(cut), entries, liar.listing)
    from keeper.market.inputs import marks_of

    reports = reports_at(world, marks_of(inputs, ()), liar.model, liar.listing)
    content = build_batch(PANEL, liar.model, cut, inputs, reports, [], liar.parameters.minimum_equity, entries)
    return BatchProposal(content, liar.signer.sign(batch_digest(PANEL, content.batch)))


async def signed_by(panel: Panel, chains: Chains, *lie: SettlementLeaf) -> int:
    """How many sign a proposal with these entries. Whoever does not goes on signing withdrawals."""
    for attestor in panel.attestors:
        see(attestor, NOW, chains)
    proposal, signatures = proposed(panel, *lie), 0
    for each in panel.attestors:
        with suppress(Refused):
            await each.sign_proposed_batch(proposal)
            signatures += 1
    if not signatures:
        for each in panel.attestors:
            await each.sign_permit(cash_out(10**6, nonce=1), [])
    return signatures


def test_nobody_signs_a_shipment_of_what_no_chain_has(tmp_path: Path) -> None:
    """Every withdrawal of USDC on A would be refused from then on."""

    async def work(panel: Panel) -> None:
        # Nobody ever signed it; 10**12 USD from A to B, where A has 10**7.
        lie = SettlementLeaf(NOW // PANEL.profile.epoch_seconds - 1, transfer_id(B), A, -usd(10**12))
        assert await signed_by(panel, Chains().cash(ALICE, A, 1000), lie) == 0

    run(tmp_path, work)


def test_nobody_signs_an_offset_of_more_than_an_account_has(tmp_path: Path) -> None:
    async def work(panel: Panel) -> None:
        chains = Chains().cash(OWNER, A, 1000).linked(OWNER, (A, B)).cash(ALICE, A, 1000)
        epoch = NOW // PANEL.profile.epoch_seconds
        lie = [SettlementLeaf(epoch - 1, OWNER, A, -usd(10**9)), SettlementLeaf(epoch - 1, OWNER, B, usd(10**9))]
        assert await signed_by(panel, chains, *lie) == 0

    run(tmp_path, work)


class Liar(Direct):
    entries: tuple[SettlementLeaf, ...] = ()
    who: Address

    async def sign_batch(self, peer: Address, proposal: BatchProposal) -> bytes:
        if peer == self.who:
            items = to_json(self.entries)
            raise PeerRefused(peer, Problem("missing_entries", "", details={"items": items}))
        return await super().sign_batch(peer, proposal)


@pytest.mark.parametrize("cycle", [-(10**30), -1])
def test_a_refusal_ends_no_node(tmp_path: Path, cycle: int) -> None:
    async def work(panel: Panel) -> None:
        own = next(a for a in panel.attestors if a.signer.address == a.proposer_of(NOW // 2))
        for attestor in panel.attestors:
            see(attestor, NOW, Chains())
        peers = Liar([each for each in panel.attestors if each is not own])
        peers.who = next(iter(peers.others))
        peers.entries = (SettlementLeaf(cycle, transfer_id(B), A, -usd(100)),)
        proposer = Proposer(own, own.view, own.batches, peers)
        assert await proposer.propose() is not None  # what it raises ends `Node.run`
        for attestor in panel.attestors:
            see(attestor, NOW + 8, Chains())
        assert await proposer.propose() is not None, proposer.failure

    run(tmp_path, work)


TERMS = terms_of(DEPLOYMENT.profile)


def test_what_is_carried_counts_in_the_vaults_of_what_is_new() -> None:
    world = Chains().cash(OWNER, A, 1000).cash(OWNER, B, -500).linked(OWNER, (A, B)).world
    carried = (SettlementLeaf(7, OWNER, A, -usd(500)), SettlementLeaf(7, OWNER, B, usd(500)))  # a minority's
    proposer = Books.at(world, carried, marks(), MODEL, LISTING, {})
    planned = [leaf for cycle in proposer.next_cycles(20, TERMS) for leaf in cycle.entries]
    assert planned, "500 USD are to be shipped"
    # Who knows the cycle finds nothing wrong; who does not, the batch's carrying it, must not either.
    assert settlement_faults([*carried, *planned], carried, world, proposer, TERMS, 20) == []
    another = Books.at(world, (), marks(), MODEL, LISTING, {})
    assert settlement_faults([*carried, *planned], (), world, another, TERMS, 20) == []
