"""Attestors on real chains against proposers that lie, crashes at the worst moment, and reorganisations."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest
import pytest_asyncio

from keeper.attest.codec import cut_hash, to_abi
from keeper.chain.rpc import Rpc
from keeper.client import Reverted
from keeper.devnet.wallet import Wallet
from keeper.node.refusal import Refused
from keeper.state.actions import Reserve, Takeover, Withdraw
from keeper.state.batch import UNIT, LiquidationLeaf
from keeper.state.ids import account_id, perpetual
from keeper.state.live import LegItem, PermitItem
from keeper.state.wire import to_json
from keeper.store.journal import Journal, NonceConflict
from keeper.testing import Panel

if TYPE_CHECKING:
    from keeper.devnet import Devnet

pytestmark = [pytest.mark.devnet, pytest.mark.asyncio]

A, B, C = 31_337_001, 31_337_002, 31_337_003
USDC = 10**6
ETH = perpetual("ETH")
_USERS = iter(range(12, 30))
"""Every test has an owner of its own on the shared chains."""


@pytest_asyncio.fixture
async def owner(devnet: Devnet, rpcs: dict[int, Rpc]) -> AsyncIterator[Wallet]:
    wallet = Wallet(next(_USERS), devnet.deployment, rpcs, "http://nobody.invalid")
    yield wallet
    await wallet.aclose()


async def _funded(panel: Panel, owner: Wallet, usdc: int = 1_000) -> None:
    """Cash on chain C, final everywhere."""
    await owner.deposit(C, "USDC", usdc * USDC)
    await panel.look_until(owner.last_block, C)


async def _reserve(panel: Panel, owner: Wallet, usd: int, seconds: int = 60) -> PermitItem:
    integrator = panel.deployment.chains[C].integrator
    assert integrator is not None
    now = await owner.head_time(C)
    return owner.signed_request(C, Reserve(owner.account(), integrator, usd * UNIT, 0, now + 600), now + seconds)


async def test_a_proposer_that_lies_in_one_leaf_gets_no_other_signature(panel: Panel, owner: Wallet) -> None:
    await _funded(panel, owner)
    proposer, content = await panel.build()
    position = next(i for i, leaf in enumerate(content.accounts) if leaf.account_id == owner.account())
    lie = replace(content.accounts[position], equity=content.accounts[position].equity + UNIT // 100)
    leaves = (*content.accounts[:position], lie, *content.accounts[position + 1 :])

    lied = await panel.answers(panel.propose(proposer, replace(content, accounts=leaves)), proposer)

    assert [answer.code for answer in lied if isinstance(answer, Refused)] == ["leaf_mismatch"] * 3
    assert all("equity" in str(answer) for answer in lied)
    honest = await panel.answers(panel.propose(proposer, content), proposer)
    assert all(isinstance(answer, bytes) for answer in honest), honest


@pytest.mark.parametrize("defect", ["mark", "cut", "turn", "leg", "roots"])
async def test_other_lies_get_no_other_signature(panel: Panel, owner: Wallet, defect: str) -> None:
    await _funded(panel, owner)
    proposer, content = await panel.build()
    wanted = {"mark": "mark_tolerance", "cut": "cut_unknown", "turn": "not_proposer", "roots": "batch_malformed"}
    if defect == "mark":
        raised = tuple(replace(u, index=u.index * 10_030 // 10_000) for u in content.inputs.underlyings)
        proposal = panel.propose(proposer, replace(content, inputs=replace(content.inputs, underlyings=raised)))
    elif defect == "cut":
        cut = tuple(replace(entry, block_hash=bytes(32)) for entry in content.cut)
        batch = replace(content.batch, cut_hash=cut_hash(cut))
        proposal = panel.propose(proposer, replace(content, cut=cut, batch=batch))
    elif defect == "turn":
        liar = panel.others(proposer)[0]
        proposal, proposer = panel.propose(liar, content), liar
    elif defect == "leg":
        price = next(m.price for m in content.marks if m.asset == ETH)
        leg = LiquidationLeaf(owner.account(), C, ETH, UNIT, price, 0, content.batch.timestamp)
        proposal = panel.propose(proposer, replace(content, legs=(leg,)))
        wanted["leg"] = "leg_not_due"
    else:
        proposal = panel.propose(proposer, content)
        proposal = replace(proposal, content=replace(proposal.content, accounts=proposal.content.accounts[1:]))

    answers = await panel.answers(proposal, proposer)

    codes = {answer.code for answer in answers if isinstance(answer, Refused)}
    assert [isinstance(answer, Refused) for answer in answers] == [True] * 3
    assert codes == {wanted[defect]}


async def test_cm13_a_live_permit_left_off_the_list_gets_no_other_signature(panel: Panel, owner: Wallet) -> None:
    await _funded(panel, owner)
    a, b, c, unaware = panel.attestors
    first = await _reserve(panel, owner, 600)
    signed, refusals = await panel.permit(first, signers=(a, b, c))
    assert signed is not None, refusals

    second = await _reserve(panel, owner, 300)
    signed, refusals = await panel.permit(second, signers=(unaware, a, b, c))

    assert signed is None
    assert [r.code for r in refusals] == ["missing_items"] * 3
    signed, refusals = await panel.permit(second, listed=(first,))
    assert signed is not None, refusals


async def test_sequence_10_three_permits_by_three_quorums_never_exceed_the_margin(panel: Panel, owner: Wallet) -> None:
    """CM-13: any two of three reservations fit; quorums intersect, and the list carries what each has seen."""
    await _funded(panel, owner)
    a, b, c, d = panel.attestors
    items = [await _reserve(panel, owner, 400) for _ in range(3)]
    granted: list[PermitItem] = []
    for item, quorum in zip(items, ((a, b, c), (b, c, d), (a, c, d)), strict=True):
        signed, _ = await panel.permit(item, listed=tuple(granted), signers=quorum)
        if signed is not None:
            granted.append(item)
    assert len(granted) == 2


async def test_cm11_a_request_that_its_owner_did_not_sign_is_not_counted(panel: Panel, owner: Wallet) -> None:
    await _funded(panel, owner)
    item = await _reserve(panel, owner, 900)
    forged = replace(item, permit=replace(item.permit, nonce=item.permit.nonce + 1))

    signed, refusals = await panel.permit(forged)

    assert signed is None
    assert refusals[0].code == "owner_signature"
    assert panel.attestors[0].live((owner.account(),)) == []
    signed, refusals = await panel.permit(item)
    assert signed is not None, refusals


async def test_a_made_up_leg_is_neither_kept_nor_taken_over_by(panel: Panel, owner: Wallet) -> None:
    """CM-11, CM-41: one liar neither holds off a liquidation nor prices a takeover; only a batch brings legs."""
    await _funded(panel, owner)
    victim = account_id(bytes([0x77]) * 20)
    now = panel.attestors[0].view.newest_head_time
    own, other = (LegItem(LiquidationLeaf(a, C, ETH, UNIT, UNIT, 0, now), now) for a in (owner.account(), victim))
    panel.attestors[0].adopt([own, other])
    assert panel.attestors[0].live((owner.account(), victim)) == []

    reserve = await _reserve(panel, owner, 100)
    held_off, _ = await panel.permit(reserve, listed=(own,))
    takeover = Takeover(owner.account(), victim, ETH, UNIT // 10)
    item = owner.signed_request(C, takeover, await owner.head_time(C) + 10)
    taken, refusals = await panel.permit(item, listed=(other,))

    assert held_off is None  # a list only ever holds an act back, and only this one
    assert taken is None
    assert refusals[0].code == "no_leg"
    assert all(a.live((owner.account(), victim)) == [] for a in panel.attestors)
    granted, refusals = await panel.permit(reserve)
    assert granted is not None, refusals


_CHILD = """
import os, signal, sys
from pathlib import Path
import orjson
from keeper.state.live import PermitItem
from keeper.state.wire import from_json
from keeper.store.journal import Journal

class Killed:
    def sign(self, digest):
        os.kill(os.getpid(), signal.SIGKILL)

journal = Journal.open(Path(sys.argv[1]))
item = from_json(PermitItem, orjson.loads(sys.stdin.buffer.read()))
journal.sign_permit(item, [])
print(Killed().sign(b"").hex())
"""


async def test_cm13_killed_between_journal_and_signature(panel: Panel, owner: Wallet, tmp_path: Path) -> None:
    """Nothing left the process, and still the item counts: after a crash nobody knows whether it did."""
    await _funded(panel, owner)
    item = await _reserve(panel, owner, 600)
    path = tmp_path / "killed.db"

    child = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", _CHILD, str(path)],
        input=orjson.dumps(to_json(item)),
        capture_output=True,
        env=os.environ,
        check=False,
    )

    assert child.returncode == -signal.SIGKILL, child.stderr
    assert child.stdout == b""
    journal = Journal.open(path)
    try:
        assert journal.live([owner.account()]) == [item]
        journal.sign_permit(item, [])  # the same again is no harm
        other = await _reserve(panel, owner, 500)
        moved = replace(other, permit=replace(other.permit, nonce=item.permit.nonce))
        with pytest.raises(NonceConflict):
            journal.sign_permit(moved, [])
    finally:
        journal.close()


async def test_cm10_a_reorganised_deposit_never_counted(panel: Panel, devnet: Devnet, owner: Wallet) -> None:
    """A deposit at the head frees nothing; reorganised away, it never did."""
    await owner.deposit(A, "USDC", 1_000 * USDC)
    await panel.look_until(owner.last_block, A, final=False)
    head = panel.attestors[0].view.followers[A]
    assert head.final.block.number < owner.last_block
    assert head.head.cash.get(owner.account()) == 1_000 * UNIT
    assert head.final.cash.get(owner.account()) is None
    now = await owner.head_time(A)
    token = devnet.deployment.chains[A].settlement.address
    early = owner.signed_request(A, Withdraw(owner.account(), token, USDC, owner.address), now + 60)
    signed, refusals = await panel.permit(early)
    assert signed is None
    assert refusals[0].code in ("insufficient_free_margin", "vault_short", "net_cash")

    await asyncio.to_thread(devnet.reorg, A, 1)
    await panel.look_until(owner.last_block + 3, A)

    assert all(a.view.followers[A].final.cash.get(owner.account()) is None for a in panel.attestors)


async def test_sequence_01_an_executed_permit_that_is_reorganised_still_counts(
    panel: Panel, devnet: Devnet, owner: Wallet
) -> None:
    """CM-10, CM-12: executed at the head is not executed; after the reorganisation the permit is still live."""
    await owner.deposit(A, "USDC", 1_000 * USDC)
    await panel.look_until(owner.last_block, A)
    now = await owner.head_time(A)
    token = devnet.deployment.chains[A].settlement.address
    action = Withdraw(owner.account(), token, 800 * USDC, owner.address)
    item = owner.signed_request(A, action, now + 120)
    signed, refusals = await panel.permit(item)
    assert signed is not None, refusals
    await owner.use(signed)
    await panel.look_until(owner.last_block, A, final=False)
    assert panel.attestors[0].live((owner.account(),)) == [item]

    await asyncio.to_thread(devnet.reorg, A, 1)
    await panel.look_until(owner.last_block + 2, A)

    assert all(attestor.live((owner.account(),)) == [item] for attestor in panel.attestors)
    again = owner.signed_request(A, action, await owner.head_time(A) + 60)
    second, refusals = await panel.permit(again, listed=(item,))
    assert second is None
    assert refusals[0].code in ("insufficient_free_margin", "net_cash")
    await owner.use(signed)  # the first one still executes, once
    with pytest.raises(Reverted, match="NonceAlreadyUsed"):
        await owner.use(signed)


async def test_a_posted_batch_that_is_reorganised_is_posted_again(panel: Panel, devnet: Devnet, owner: Wallet) -> None:
    """The chain forgets the posting; the follower's head says so, and the same bytes are taken again."""
    quorum = await panel.quorum_batch()
    content = quorum.content
    arguments = (to_abi(content.batch), [to_abi(entry) for entry in content.cut], quorum.signatures)
    verifier = devnet.deployment.chains[A].contracts.verifier
    await owner.send(A, "MarginVerifier", verifier, "postBatch", *arguments)
    await panel.look_until(owner.last_block, A, final=False)
    follower = panel.attestors[0].view.followers[A]
    assert follower.head.posted_epoch == content.batch.epoch

    await asyncio.to_thread(devnet.reorg, A, 1)
    async with asyncio.timeout(20):
        while follower.head.posted_epoch == content.batch.epoch:
            await asyncio.sleep(0.1)
            await panel.look()

    assert follower.head.posted_epoch < content.batch.epoch
    await owner.send(A, "MarginVerifier", verifier, "postBatch", *arguments)
    await panel.look_until(owner.last_block, A, final=False)
    assert follower.head.posted_epoch == content.batch.epoch


async def test_cm13_what_is_executed_for_one_is_listed_for_who_is_behind(panel: Panel, owner: Wallet) -> None:
    """Found by the demo: an attestor a block behind still counts a permit whose execution is final for the others."""
    await _funded(panel, owner)
    signed, refusals = await panel.permit(await _reserve(panel, owner, 100))
    assert signed is not None, refusals
    await owner.use(signed)
    ahead, behind = panel.attestors[0], panel.attestors[-1]
    async with asyncio.timeout(30):
        while ahead.live((owner.account(),)):
            await asyncio.gather(*(ahead.view.poll(chain) for chain in (A, B, C)))
            await asyncio.sleep(0.1)
    ahead.retire_dead()
    assert behind.live((owner.account(),)) == [signed.item]
    item = await _reserve(panel, owner, 50)
    refused = await panel.permit(item, signers=[ahead, behind])
    assert [refusal.code for refusal in refused[1]] == ["missing_items"]
    again = await panel.permit(item, listed=[signed.item], signers=[ahead, behind])
    assert again[1] == []
