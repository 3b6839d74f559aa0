"""The permit desk among four attestors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from attestors import PANEL, Direct, Panel, run, see
from worlds import NOW, USDC, A, Chains

from keeper.attest.codec import keccak
from keeper.attest.requests import permit_digest, permit_for, request_digest
from keeper.attest.signatures import recover, sign_digest
from keeper.attest.signing import LocalSigner
from keeper.node.desk import PermitDesk
from keeper.node.refusal import Refused
from keeper.state.actions import Withdraw
from keeper.state.ids import Address, account_id
from keeper.state.live import PermitItem

KEY = keccak(b"the owner")
ALICE = account_id(LocalSigner(KEY).address)


def cash_out(amount: int, nonce: int = 1) -> PermitItem:
    """A request that its owner signed, good for a minute."""
    action = Withdraw(ALICE, USDC, amount * 10**6, Address(ALICE[:20]))
    item = PermitItem(A, permit_for(PANEL, action, nonce, NOW + 60), action, ())
    return replace(item, signatures=(sign_digest(request_digest(PANEL, item), KEY),))


def desk_of(panel: Panel) -> tuple[PermitDesk, Direct]:
    """The first one's desk. What the last two know is not told: their lists come too late."""
    for attestor in panel.attestors:
        see(attestor, NOW, Chains().cash(ALICE, A, 1000))
    first, *others = panel.attestors
    peers = Direct(others, deaf=others[1:])
    return PermitDesk(first, peers), peers


def test_a_request_that_reached_some_is_completed_once_what_was_missing_is_known(tmp_path: Path) -> None:
    """CM-13: two know a permit that the list lacked and refuse; the same request, with the full list, gets all four."""

    async def work(panel: Panel) -> None:
        desk, peers = desk_of(panel)
        earlier = cash_out(300)
        for attestor in panel.attestors[2:]:
            await attestor.sign_permit(earlier, [])
        item = cash_out(600, nonce=2)

        answer = await desk.request(item, forwarded=True)

        assert len(answer["signers"]) == 4
        assert peers.asked == 6
        signatures = bytes.fromhex(answer["signatures"][2:])
        digest = permit_digest(PANEL, item)
        assert {recover(digest, signatures[n : n + 65]) for n in range(0, 260, 65)} == set(PANEL.attestors)
        for attestor in panel.attestors:
            assert {live.key for live in attestor.live((ALICE,))} == {earlier.key, item.key}

    run(tmp_path, work)


def test_a_request_split_by_one_that_takes_its_margin_says_so_and_is_refused_again(tmp_path: Path) -> None:
    """CM-13: what two signed counts until it is dead; the same request finds itself no obstacle, only the other one."""

    async def work(panel: Panel) -> None:
        desk, _ = desk_of(panel)
        earlier = cash_out(700)
        for attestor in panel.attestors[2:]:
            await attestor.sign_permit(earlier, [])
        item = cash_out(600, nonce=2)

        with pytest.raises(Refused) as refused:
            await desk.request(item, forwarded=True)

        assert refused.value.code == "insufficient_free_margin"
        assert "2 of 3 attestors signed" in refused.value.message
        assert f"expires at {item.permit.deadline}" in refused.value.message
        assert [each["code"] for each in refused.value.details["refusals"]] == [
            "missing_items",
            "missing_items",
            "insufficient_free_margin",
        ]
        with pytest.raises(Refused) as again:
            await desk.request(item, forwarded=True)
        assert again.value.code == "insufficient_free_margin"
        assert "asked 600.00 USD, 1 other item(s) live" in again.value.message
        assert {live.key for live in panel.attestors[0].live((ALICE,))} == {earlier.key, item.key}

    run(tmp_path, work)


def test_a_request_that_nobody_may_sign_is_asked_of_nobody(tmp_path: Path) -> None:
    async def work(panel: Panel) -> None:
        desk, peers = desk_of(panel)
        with pytest.raises(Refused) as refused:
            await desk.request(cash_out(1100), forwarded=True)
        assert refused.value.code == "insufficient_free_margin"
        assert "refusals" not in refused.value.details
        assert peers.asked == 0
        assert all(attestor.live((ALICE,)) == [] for attestor in panel.attestors)

    run(tmp_path, work)
