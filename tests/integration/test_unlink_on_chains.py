"""An owner parts his account on running chains, by the client: refused while a part is short, then permitted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from take_overs import eventually

from keeper.chain.rpc import Rpc
from keeper.client import AsyncClient, ClientError, Refused, Unlink
from keeper.devnet.chains import account
from keeper.devnet.cluster import Cluster
from keeper.devnet.wallet import Wallet
from keeper.state.batch import UNIT

if TYPE_CHECKING:
    from keeper.devnet import Devnet

pytestmark = [pytest.mark.devnet, pytest.mark.timeout(240)]

A, B = 31_337_001, 31_337_002
USDC = 10**6
OWNER, MAKER = 70, 71


@pytest_asyncio.fixture
async def owner(devnet: Devnet, cluster: Cluster, rpcs: dict[int, Rpc]) -> AsyncIterator[AsyncClient]:
    for index, chain, amount in ((OWNER, A, 1_000), (OWNER, B, 500), (MAKER, B, 20_000)):
        wallet = Wallet(index, devnet.deployment, rpcs, cluster.keeper.url)
        await wallet.mint(chain, "USDC", amount * USDC)
        await wallet.aclose()
    async with AsyncClient(cluster.keeper.url, signer=account(OWNER).key) as client:
        yield client


@pytest_asyncio.fixture
async def maker(cluster: Cluster, owner: AsyncClient) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(cluster.keeper.url, signer=account(MAKER).key) as client:
        yield client


async def groups(client: AsyncClient) -> list[list[int]]:
    try:
        return [sorted(each.chains) for each in (await client.account()).margin_accounts]
    except ClientError:  # nothing of it is final yet
        return []


@pytest.mark.asyncio
async def test_an_owner_takes_a_chain_out_once_both_parts_stand(owner: AsyncClient, maker: AsyncClient) -> None:
    await owner.deposit("A", "USDC", "1000", links=["B"])
    await owner.link("B", ["A"])
    await maker.deposit("B", "USDC", "20000")

    async def funded() -> bool:
        try:
            await owner.proof(chain="B")
            return (await maker.proof(chain="B")).leaf.equity >= 20_000 * UNIT
        except ClientError:
            return False

    await eventually(funded)
    assert await groups(owner) == [[A, B]]

    # On B a position with nothing behind it there: A carries it, so B does not stand alone.
    order = await maker.sign_order("B", await maker.order("B", "ETH-PERP", "-0.2", "3000"))
    await owner.trade(order)

    async def short() -> bool:
        try:
            await owner.permit("A", Unlink(owner.account_id(), B), deadline=10)
        except Refused as refused:
            return refused.code in ("insufficient_free_margin", "net_cash")
        return False  # the trade is not final for every attestor yet

    await eventually(short)
    with pytest.raises(Refused, match="not_linked"):
        await owner.unlink("A", "C")

    # With margin of its own it does; what is signed meanwhile holds both ways.
    await owner.deposit("B", "USDC", "500")

    async def permitted() -> bool:
        try:
            await owner.unlink("A", "B")
        except Refused as refused:
            # The deposit is not final yet, or a cycle moves what the trade cost.
            assert refused.code in ("insufficient_free_margin", "net_cash", "unlink_pending", "missing_items")  # noqa: PT017
            return False
        return True

    await eventually(permitted)

    async def parted() -> bool:
        return await groups(owner) == [[A], [B]]

    await eventually(parted)
    # Executed once; and what A alone does not have is not withdrawn there any more.
    with pytest.raises(Refused, match="not_linked"):
        await owner.unlink("A", "B")
    with pytest.raises(Refused, match="insufficient_free_margin"):
        await owner.withdraw("A", "USDC", "1000.01")
    await owner.withdraw("A", "USDC", "900")

    # Linking back wants no permit.
    await owner.link("A", ["B"])

    async def joined() -> bool:
        return await groups(owner) == [[A, B]]

    await eventually(joined)
