"""Attestors and settlement cycles: what is signed is carried on whoever proposes, and no lie about it is signed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from keeper.attest.batch import BatchContent
from keeper.chain.rpc import Rpc
from keeper.devnet.wallet import Wallet
from keeper.node.refusal import Refused
from keeper.state.actions import Reserve
from keeper.state.batch import UNIT, SettlementLeaf
from keeper.state.ids import FUND, AccountId
from keeper.state.wire import from_json
from keeper.testing import Panel

if TYPE_CHECKING:
    from keeper.devnet import Devnet

pytestmark = [pytest.mark.devnet, pytest.mark.asyncio]

A, C = 31_337_001, 31_337_003
OWED = 300 * UNIT
_USERS = iter(range(80, 84))


@pytest_asyncio.fixture
async def debtor(devnet: Devnet, panel: Panel, rpcs: dict[int, Rpc]) -> AsyncIterator[Wallet]:
    """1,000 of cash on A; −300 on C, where a lender has claimed what was reserved for it. Final everywhere."""
    wallet = Wallet(next(_USERS), devnet.deployment, rpcs, "http://nobody.invalid")
    await wallet.deposit(A, "USDC", 1_000 * 10**6, (C,))
    await panel.look_until(wallet.last_block, A)
    await wallet.link(C, (A,))
    # Somebody's tokens for the lender to be paid with.
    await wallet.deposit(C, "USDC", 1_000 * 10**6, (), 1)
    await panel.look_until(wallet.last_block, C)
    lender = devnet.deployment.chains[C].integrator
    assert lender is not None
    now = await wallet.head_time(C)
    request = wallet.signed_request(C, Reserve(wallet.account(), lender, OWED, OWED, now + 600), now + 60)
    signed, refusals = await panel.permit(request)
    assert signed is not None, refusals
    await wallet.use(signed)
    await wallet.lender(C, "borrow", OWED)
    due = await wallet.head_time(C) + 6
    await panel.look_until_time(due + 1, C)
    await wallet.lender(C, "collect")
    await panel.look_until(wallet.last_block, C)
    yield wallet
    await wallet.aclose()


def of(content: BatchContent, account: AccountId) -> list[SettlementLeaf]:
    return [leaf for leaf in content.settlements if leaf.account_id == account]


async def test_cm50_a_cycle_that_a_minority_signed_is_carried_by_every_later_batch(
    panel: Panel, debtor: Wallet
) -> None:
    """CM-50, CM-13: a cycle counts once signed. Who does not carry it gets no signature of those who know it."""
    proposer, content = await panel.build()
    account = debtor.account()
    assert [(leaf.chain_id, leaf.cash_delta) for leaf in of(content, account)] == [(A, -OWED), (C, OWED)]
    aware = panel.others(proposer)[0]
    await proposer.sign_batch(content)
    await aware.sign_proposed_batch(panel.propose(proposer, content))

    while True:
        second, later = await panel.build()
        if second not in (proposer, aware) and later.batch.epoch > content.batch.epoch:
            break
        await asyncio.sleep(0.3)
    answers = dict(zip(panel.others(second), await panel.answers(panel.propose(second, later), second), strict=True))
    refusal = answers[aware]
    assert isinstance(refusal, Refused)
    assert refusal.code == "missing_entries"
    told = from_json(tuple[SettlementLeaf, ...], refusal.details["items"])
    assert set(told) == set(content.settlements)

    # The others who signed the second proposal know its cycle beside: both are carried, and the next one moves back.
    second.adopt_entries((*told, *later.settlements))
    for _ in range(40):
        third, carried = await panel.build()
        if third is second and carried.batch.epoch > later.batch.epoch:
            break
        await asyncio.sleep(0.3)
    assert third is second
    assert set(of(content, account)) < set(of(carried, account))
    last = await panel.answers(panel.propose(second, carried), second)
    assert all(isinstance(answer, bytes) for answer in last), [str(answer) for answer in last]


async def test_cm50_lies_about_a_cycle_get_no_signature(panel: Panel, debtor: Wallet) -> None:
    """CM-50: an entry without its other side, other amounts, money from the fund for nobody's deficit."""
    proposer, content = await panel.build()
    account = debtor.account()
    own = of(content, account)
    assert own
    others = tuple(leaf for leaf in content.settlements if leaf.account_id != account)
    epoch = content.batch.epoch
    for lie in (
        (own[1],),
        (own[0], replace(own[1], cash_delta=own[1].cash_delta + UNIT)),
        tuple(replace(leaf, cash_delta=leaf.cash_delta * 5) for leaf in own),
        (SettlementLeaf(epoch, FUND, C, -UNIT), SettlementLeaf(epoch, account, C, UNIT)),
    ):
        lied = replace(content, settlements=tuple(sorted((*others, *lie), key=lambda leaf: leaf.account_id)))
        answers = await panel.answers(panel.propose(proposer, lied), proposer)
        assert {answer.code for answer in answers if isinstance(answer, Refused)} == {"cycle_unsafe"}, answers
        assert all(isinstance(answer, Refused) for answer in answers)
