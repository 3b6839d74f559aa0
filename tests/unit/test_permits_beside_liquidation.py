"""CM-40, CM-43: unused permits hold off no liquidation, and make the fund pay nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from test_leg_desk import Node
from worlds import NOW, WETH, A, Chains

from keeper.attest.codec import keccak
from keeper.attest.requests import permit_for, request_digest
from keeper.attest.signatures import sign_digest
from keeper.attest.signing import LocalSigner
from keeper.state.actions import Withdraw
from keeper.state.ids import FUND, Address, account_id
from keeper.state.live import PermitItem

KEY = keccak(b"the owner")
ALICE = account_id(LocalSigner(KEY).address)


def dust(node: Node, nonce: int) -> PermitItem:
    """A withdrawal of ten wei of WETH."""
    action = Withdraw(ALICE, WETH, 10, Address(ALICE[:20]))
    item = PermitItem(A, permit_for(node.deployment, action, nonce, NOW + 290), action, ())
    return replace(item, signatures=(sign_digest(request_digest(node.deployment, item), KEY),))


def book(equity: float) -> Chains:
    chains = Chains().size(ALICE, A, 5).weth(ALICE, A, 0.01).cash(ALICE, A, equity - 15_000)
    return chains.cash(FUND, A, 50_000)


@pytest.mark.parametrize("permits", [8, 9])
def test_live_permits_do_not_hold_off_a_liquidation(tmp_path: Path, permits: int) -> None:
    node = Node(tmp_path)
    try:
        assert node.batch(NOW, book(4_000)) == ()
        for nonce in range(permits):  # every one is judged, and signed: it takes nothing
            asyncio.run(node.attestor.sign_permit(dust(node, nonce), node.attestor.live((ALICE,))))
        legs = [leaf for leaf in node.batch(NOW + 2, book(1_000)) if leaf.account_id == ALICE]
        assert legs, f"1,000 of 2,100 maintenance margin, {permits} permits live: nothing is sold"
    finally:
        node.close()


def test_the_fund_does_not_pay_for_who_keeps_his_position(tmp_path: Path) -> None:
    node = Node(tmp_path)
    try:
        assert node.batch(NOW, book(4_000)) == ()
        for nonce in range(9):
            asyncio.run(node.attestor.sign_permit(dust(node, nonce), node.attestor.live((ALICE,))))
        paid = 0
        for seconds in range(2, 80, 2):
            node.see(NOW + seconds, book(-5_000))
            content = node.build()
            node.sign(content)
            assert not any(leaf.account_id == ALICE for leaf in content.legs) or not paid
            paid = max([paid, *(e.cash_delta for e in content.settlements if e.account_id == ALICE)])
        assert paid == 0, f"the fund pays {paid / 1e18:,.2f} USD into an account that keeps its 5 ETH"
    finally:
        node.close()
