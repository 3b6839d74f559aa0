"""Claims beyond cash parts on running chains: the settler has them cleared by a quorum, and they are paid."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from keeper.attest.requests import clearance_for
from keeper.chain.rpc import Rpc
from keeper.client import Refused
from keeper.devnet.cluster import Cluster
from keeper.devnet.reader import ChainReader
from keeper.devnet.wallet import Wallet
from keeper.state.actions import Reserve
from keeper.state.batch import UNIT
from keeper.state.ids import Address

if TYPE_CHECKING:
    from keeper.devnet import Devnet

pytestmark = [pytest.mark.devnet, pytest.mark.timeout(180), pytest.mark.asyncio]

A, C = 31_337_001, 31_337_003
USDC = 10**6
LOAN = 300 * UNIT
_USERS = iter(range(96, 99))


@pytest_asyncio.fixture
async def wallets(devnet: Devnet, cluster: Cluster, rpcs: dict[int, Rpc]) -> AsyncIterator[Callable[[], Wallet]]:
    async with AsyncExitStack() as open_:

        def new() -> Wallet:
            wallet = Wallet(next(_USERS), devnet.deployment, rpcs, cluster.keeper.url)
            open_.push_async_callback(wallet.aclose)
            return wallet

        yield new


@pytest.fixture
def lender(devnet: Devnet) -> Address:
    found = devnet.deployment.chains[C].integrator
    assert found is not None
    return found


async def defaulted(owner: Wallet, lender: Address, reader: ChainReader) -> None:
    """A loan on C, without a cash part, that is not repaid and claimed."""
    until = await owner.head_time(C) + 600
    async with asyncio.timeout(60):
        while True:  # until the deposit is final for a quorum
            try:
                signed = await owner.request(C, Reserve(owner.account(), lender, LOAN, 0, until))
                break
            except Refused:
                await asyncio.sleep(0.5)
        await owner.use(signed)
        await owner.lender(C, "borrow", LOAN)
        due = await reader.call("DevnetLender", lender, "dueOf", [owner.account()])
        while await owner.head_time(C) <= due:  # noqa: ASYNC110  a chain tells nobody
            await asyncio.sleep(0.5)
        await owner.lender(C, "collect")


async def owed(devnet: Devnet, reader: ChainReader, owner: Wallet, lender: Address) -> tuple[int, int]:
    reservations = devnet.deployment.chains[C].contracts.reservations
    cash, rest = await reader.call("MarginReservations", reservations, "owedOf", [owner.account(), lender])
    return cash, rest


async def test_cm15_net_cash_on_another_chain_pays_a_claim_here(
    devnet: Devnet, wallets: Callable[[], Wallet], rpcs: dict[int, Rpc], lender: Address
) -> None:
    """His 1,000 are on A; on C his cash is below zero once the lender has claimed."""
    owner, reader = wallets(), ChainReader(devnet.deployment.chains[C], rpcs[C])
    token = devnet.deployment.chains[C].settlement.address
    await owner.deposit(A, "USDC", 1_000 * USDC, (C,))
    await owner.link(C, (A,))
    await owner.deposit(C, "USDC", 1_000 * USDC, (), 1)  # tokens of another account, for the lender to be paid with
    before = await reader.call("DevnetToken", token, "balanceOf", [lender])

    await defaulted(owner, lender, reader)

    async with asyncio.timeout(60):
        while await owed(devnet, reader, owner, lender) != (0, 0):  # noqa: ASYNC110
            await asyncio.sleep(0.5)
    assert await reader.call("DevnetToken", token, "balanceOf", [lender]) - before == 300 * USDC


async def test_cm15_collateral_alone_pays_no_claim(
    devnet: Devnet, wallets: Callable[[], Wallet], rpcs: dict[int, Rpc], lender: Address
) -> None:
    """2 WETH and no cash: it is margin, and what is claimed waits until some of it is sold."""
    owner, reader = wallets(), ChainReader(devnet.deployment.chains[C], rpcs[C])
    await owner.deposit(C, "WETH", 2 * 10**18)
    await defaulted(owner, lender, reader)
    assert await owed(devnet, reader, owner, lender) == (0, LOAN)
    deadline = await owner.head_time(C) + 60
    action = Reserve(owner.account(), lender, LOAN, LOAN, 0)
    async with asyncio.timeout(60):
        while True:  # the claim must be final first
            with pytest.raises(Refused) as refused:
                await owner.submit(clearance_for(devnet.deployment, C, action, deadline))
            if refused.value.code != "nothing_owed":
                break
            await asyncio.sleep(0.5)
    assert refused.value.code == "net_cash"
    assert await owed(devnet, reader, owner, lender) == (0, LOAN)
