"""The permit desk among four attestors with real keys and journals, over chains that are given to them.

Their answers come directly instead of over HTTP; what HTTP adds is tested on the running cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from worlds import DEPLOYMENT, LISTING, MODEL, NOW, PARAMETERS, USDC, A, Chains, marks, usd

from keeper.attest.codec import keccak
from keeper.attest.messages import PermitProposal
from keeper.attest.requests import permit_digest, permit_for, request_digest
from keeper.attest.signatures import recover, sign_digest
from keeper.node.attestor import Attestor, Refused
from keeper.node.batches import BatchBook
from keeper.node.config import NodeConfig
from keeper.node.desk import PermitDesk
from keeper.node.peers import PeerRefused, Peers, PeerUnavailable
from keeper.node.signer import LocalSigner
from keeper.node.view import ChainsView
from keeper.state.actions import Withdraw
from keeper.state.ids import AccountId, Address, account_id
from keeper.state.live import LiveItem, PermitItem
from keeper.state.wire import to_json
from keeper.store.journal import Journal

KEY = keccak(b"the owner")
ALICE = account_id(LocalSigner(KEY).address)
SIGNERS = [LocalSigner(keccak(b"attestor %d" % number)) for number in range(4)]
PANEL = replace(DEPLOYMENT, attestors=tuple(sorted(signer.address for signer in SIGNERS)), threshold=3)
FUNDED = Chains().cash(ALICE, A, 1000).world


def cash_out(amount: int, nonce: int = 1) -> PermitItem:
    """A request that its owner signed, good for a minute."""
    action = Withdraw(ALICE, USDC, amount * 10**6, Address(ALICE[:20]))
    item = PermitItem(A, permit_for(PANEL, action, nonce, NOW + 60), action, ())
    return replace(item, signatures=(sign_digest(request_digest(PANEL, item), KEY),))


class Direct(Peers):
    """The other attestors, asked in this process. What `deaf` know is not told: their answer comes too late."""

    def __init__(self, others: dict[Address, Attestor], deaf: Sequence[Address]) -> None:
        super().__init__(dict.fromkeys(others, "http://127.0.0.1:0"))
        self.others = others
        self.deaf = deaf
        self.asked = 0

    async def live(self, peer: Address, accounts: Sequence[AccountId]) -> list[LiveItem]:
        if peer in self.deaf:
            raise PeerUnavailable(f"0x{peer.hex()}: late")
        return self.others[peer].live_beside(accounts)

    async def sign_permit(self, peer: Address, proposal: PermitProposal) -> bytes:
        self.asked += 1
        try:
            return await self.others[peer].sign_proposed_permit(proposal)
        except Refused as refusal:
            details = to_json({"code": refusal.code, "message": refusal.message, **refusal.details})
            raise PeerRefused(peer, details) from None


class Panel:
    """Four attestors. The last two have been told of what the first two do not know."""

    def __init__(self, folder: Path) -> None:
        self.attestors: list[Attestor] = []
        for number, signer in enumerate(SIGNERS):
            config = NodeConfig(deployment=folder, state_dir=folder, profile="devnet")
            view = ChainsView(PANEL, config)
            for chain_id, follower in view.followers.items():
                follower._remember(FUNDED[chain_id])
                follower._head = FUNDED[chain_id]
                prices = (*marks().prices.items(), ("USDC", usd(1)))
                follower.feeds = {name: (price, 18, NOW, True) for name, price in prices}
            journal = Journal.open(folder / f"{number}.db")
            book = BatchBook(PANEL, journal, MODEL)
            self.attestors.append(Attestor(PANEL, LISTING, MODEL, PARAMETERS, view, journal, book, signer))
        first, *others = self.attestors
        self.peers = Direct({each.signer.address: each for each in others}, [each.address for each in SIGNERS[2:]])
        self.desk = PermitDesk(first, self.peers)

    async def close(self) -> None:
        await self.peers.close()
        for attestor in self.attestors:
            attestor.journal.close()
            await attestor.view.close()


def ask(folder: Path, work: Callable[[Panel], Coroutine[Any, Any, None]]) -> None:
    async def whole() -> None:
        panel = Panel(folder)
        try:
            await work(panel)
        finally:
            await panel.close()

    asyncio.run(whole())


def test_a_request_that_reached_some_is_completed_once_what_was_missing_is_known(tmp_path: Path) -> None:
    """CM-13: two know a permit that the list lacked and refuse; the same request, with the full list, gets all four."""

    async def work(panel: Panel) -> None:
        earlier = cash_out(300)
        for attestor in panel.attestors[2:]:
            await attestor.sign_permit(earlier, [])
        item = cash_out(600, nonce=2)

        answer = await panel.desk.request(item, forwarded=True)

        assert len(answer["signers"]) == 4
        assert panel.peers.asked == 6
        signatures = bytes.fromhex(answer["signatures"][2:])
        digest = permit_digest(PANEL, item)
        assert {recover(digest, signatures[n : n + 65]) for n in range(0, 260, 65)} == set(PANEL.attestors)
        for attestor in panel.attestors:
            assert {live.key for live in attestor.live((ALICE,))} == {earlier.key, item.key}

    ask(tmp_path, work)


def test_a_request_split_by_one_that_takes_its_margin_says_so_and_is_refused_again(tmp_path: Path) -> None:
    """CM-13: what two signed counts until it is dead; the same request finds itself no obstacle, only the other one."""

    async def work(panel: Panel) -> None:
        earlier = cash_out(700)
        for attestor in panel.attestors[2:]:
            await attestor.sign_permit(earlier, [])
        item = cash_out(600, nonce=2)

        with pytest.raises(Refused) as refused:
            await panel.desk.request(item, forwarded=True)

        assert refused.value.code == "insufficient_free_margin"
        assert "2 of 3 attestors signed" in refused.value.message
        assert f"expires at {item.permit.deadline}" in refused.value.message
        assert [each["code"] for each in refused.value.details["refusals"]] == [
            "missing_items",
            "missing_items",
            "insufficient_free_margin",
        ]
        with pytest.raises(Refused) as again:
            await panel.desk.request(item, forwarded=True)
        assert again.value.code == "insufficient_free_margin"
        assert "asked 600.00 USD, 1 other item(s) live" in again.value.message
        assert {live.key for live in panel.attestors[0].live((ALICE,))} == {earlier.key, item.key}

    ask(tmp_path, work)


def test_a_request_that_nobody_may_sign_is_asked_of_nobody(tmp_path: Path) -> None:
    async def work(panel: Panel) -> None:
        with pytest.raises(Refused) as refused:
            await panel.desk.request(cash_out(1100), forwarded=True)
        assert refused.value.code == "insufficient_free_margin"
        assert "refusals" not in refused.value.details
        assert panel.peers.asked == 0
        assert all(attestor.live((ALICE,)) == [] for attestor in panel.attestors)

    ask(tmp_path, work)
