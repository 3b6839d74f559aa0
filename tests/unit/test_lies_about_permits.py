"""What a lying attestor tells of permits and legs costs nobody margin, acts or a node (CM-11, CM-13)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from attestors import PANEL, SIGNERS, Direct, Panel, run, see
from worlds import ETH, NOW, USDC, A, Chains, units, usd

from keeper.attest.codec import keccak
from keeper.attest.messages import PermitProposal
from keeper.attest.requests import permit_digest, permit_for, request_digest
from keeper.attest.signatures import sign_digest
from keeper.attest.signing import LocalSigner
from keeper.node.desk import PermitDesk
from keeper.node.proposer import Proposer
from keeper.node.refusal import Refused
from keeper.state.actions import Withdraw
from keeper.state.batch import LiquidationLeaf
from keeper.state.ids import AccountId, Address, account_id
from keeper.state.live import LegItem, LiveItem, PermitItem

KEY = keccak(b"the owner")
ALICE = account_id(LocalSigner(KEY).address)


def cash_out(raw: int, nonce: int) -> PermitItem:
    action = Withdraw(ALICE, USDC, raw, Address(ALICE[:20]))
    item = PermitItem(A, permit_for(PANEL, action, nonce, NOW + 60), action, ())
    return replace(item, signatures=(sign_digest(request_digest(PANEL, item), KEY),))


def proposal(item: PermitItem, *listed: LiveItem) -> PermitProposal:
    return PermitProposal(item, listed, SIGNERS[0].sign(permit_digest(PANEL, item)))


def test_cm13_a_lying_proposer_gets_the_same_margin_signed_twice(tmp_path: Path) -> None:
    async def work(panel: Panel) -> None:
        for attestor in panel.attestors:
            see(attestor, NOW, Chains().cash(ALICE, A, 1000))
        honest = panel.attestors[1:]
        first, second = cash_out(980 * 10**6, nonce=1), cash_out(980 * 10**6, nonce=2)
        decoy = cash_out(1, nonce=1)  # the same nonce: its owner signed it, nobody was asked for it
        signed = [await each.sign_proposed_permit(proposal(first)) for each in honest]
        assert len(signed) == 3 == PANEL.threshold
        got = []
        for each in honest:
            with suppress(Refused):
                got.append(await each.sign_proposed_permit(proposal(second, decoy)))
        assert got == [], f"{len(got)} honest attestors signed 1,960 USD out of 1,000"

    run(tmp_path, work)


def test_cm13_a_lying_peer_hides_a_permit_from_every_journal(tmp_path: Path) -> None:
    class Liar(Direct):
        async def live(self, peer: Address, accounts: Sequence[AccountId]) -> list[LiveItem]:
            return [decoy] if peer == SIGNERS[3].address else await super().live(peer, accounts)

    decoy = cash_out(1, nonce=1)

    async def work(panel: Panel) -> None:
        for attestor in panel.attestors:
            see(attestor, NOW, Chains().cash(ALICE, A, 1000))
        honest = panel.attestors[:3]
        desks = [PermitDesk(each, Liar([o for o in panel.attestors if o is not each])) for each in honest]
        # Whatever she asks for, every proposer learns what the liar says: 1e-6 USD under nonce 1.
        for number, desk in enumerate(desks):
            with pytest.raises(Refused, match="free margin would be"):
                await desk.request(cash_out(10**12, nonce=100 + number), forwarded=True)
        first = await desks[0].request(cash_out(980 * 10**6, nonce=1), forwarded=True)
        assert len(first["signers"]) >= 3
        with pytest.raises(Refused, match="free margin would be"):
            await desks[1].request(cash_out(979 * 10**6, nonce=2), forwarded=True)

    run(tmp_path, work)


def test_a_leg_is_replaced_by_one_that_is_void(tmp_path: Path) -> None:
    async def work(panel: Panel) -> None:
        chains = Chains().cash(ALICE, A, 3000 - 3000).size(ALICE, A, 1)
        for attestor in panel.attestors:
            see(attestor, NOW, chains)
        honest = panel.attestors[1:]
        leaf = LiquidationLeaf(ALICE, A, ETH, units(1), usd(3000), usd(40), NOW - 10, 10**30)
        real = LegItem(leaf, NOW - 10)
        for each in honest:
            each.journal.adopt([real])  # as a quorum's batch brought it
        loot = cash_out(100 * 10**6, nonce=1)
        void = LegItem(replace(leaf, deposit_target=0), NOW - 10)
        got = []
        for each in honest:
            with suppress(Refused):
                await each.sign_proposed_permit(proposal(loot, real))
            with suppress(Refused):
                got.append(await each.sign_proposed_permit(proposal(loot, void)))
        assert got == [], f"{len(got)} signed a withdrawal while a leg of the account is live"

    run(tmp_path, work)


def test_one_liar_does_not_hold_up_everybodys_acts(tmp_path: Path) -> None:
    fake = LegItem(LiquidationLeaf(ALICE, A, ETH, units(1), usd(3000), 0, NOW), NOW)

    class Liar(Direct):
        async def live(self, peer: Address, accounts: Sequence[AccountId]) -> list[LiveItem]:
            return [fake] if peer == SIGNERS[3].address else await super().live(peer, accounts)

    async def work(panel: Panel) -> None:
        for attestor in panel.attestors:
            see(attestor, NOW, Chains().cash(ALICE, A, 1000))
        desk = PermitDesk(panel.attestors[0], Liar(panel.attestors[1:]))
        answer = await desk.request(cash_out(10**6, nonce=1), forwarded=True)
        assert len(answer["signers"]) >= 3

    run(tmp_path, work)


def test_a_request_that_is_only_told_of_ends_no_node(tmp_path: Path) -> None:
    action = Withdraw(ALICE, Address(b"\xde" * 20), 1, Address(ALICE[:20]))  # no such token is listed
    item = PermitItem(A, permit_for(PANEL, action, 7, 2**62), action, ())  # and it never dies
    told = replace(item, signatures=(sign_digest(request_digest(PANEL, item), KEY),))

    class Liar(Direct):
        async def live(self, peer: Address, accounts: Sequence[AccountId]) -> list[LiveItem]:
            return [told] if peer == SIGNERS[3].address else await super().live(peer, accounts)

    async def work(panel: Panel) -> None:
        for attestor in panel.attestors:
            see(attestor, NOW, Chains().cash(ALICE, A, 1000))
        for own in panel.attestors[:3]:  # she asks each honest one for something
            desk = PermitDesk(own, Liar([each for each in panel.attestors if each is not own]))
            with suppress(Refused):
                await desk.request(cash_out(10**6, nonce=1), forwarded=True)
        assert all(told not in each.live((ALICE,)) for each in panel.attestors[:3])
        # A year later she is below maintenance margin.
        time = NOW + 365 * 86_400
        while PANEL.attestors[time // 2 % 4] == SIGNERS[3].address:
            time += 2
        for attestor in panel.attestors:
            see(attestor, time, Chains().size(ALICE, A, 5).cash(ALICE, A, 1_000 - 15_000))
        own = next(each for each in panel.attestors if each.signer.address == each.proposer_of(time // 2))
        proposer = Proposer(own, own.view, own.batches, Direct([e for e in panel.attestors if e is not own]))
        quorum = await proposer.propose()  # what it raises ends `Node.run`, now and after every start
        assert quorum is not None, proposer.failure

    run(tmp_path, work)
