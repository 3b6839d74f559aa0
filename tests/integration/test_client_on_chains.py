"""Every act of the client on running chains and nodes, in both forms, with nothing but a node's URL and a key."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from take_overs import eventually
from web3 import AsyncWeb3

from keeper.chain.rpc import Rpc
from keeper.client import (
    AsyncClient,
    BadArgument,
    Call,
    Client,
    ClientError,
    Refused,
    Reverted,
    TransactionFailed,
    Unavailable,
    WrongChain,
    abi_of,
)
from keeper.devnet.chains import account
from keeper.devnet.cluster import Cluster
from keeper.devnet.wallet import Wallet
from keeper.schema import ReserveChange, TradeChange
from keeper.state.actions import Reserve, Withdraw
from keeper.state.batch import UNIT
from keeper.state.ids import Address

if TYPE_CHECKING:
    from keeper.devnet import Devnet

pytestmark = [pytest.mark.devnet, pytest.mark.timeout(240)]

A, B, C = 31_337_001, 31_337_002, 31_337_003
USDC = 10**6
OWNER, INTEGRATOR, MAKER, SYNC = 106, 107, 108, 109


async def provided(client: AsyncClient, chain: str, usd: int) -> bool:
    """Whether the batch that a chain holds has the account with so much equity."""
    try:
        return (await client.proof(chain=chain)).leaf.equity >= usd * UNIT
    except ClientError:  # no batch has it yet
        return False


@pytest_asyncio.fixture
async def minted(devnet: Devnet, cluster: Cluster, rpcs: dict[int, Rpc]) -> None:
    """Tokens in the wallets, which everything else is done with."""
    for index, chain, amount in ((OWNER, A, 1_000), (OWNER, C, 50), (MAKER, B, 20_000), (SYNC, A, 1_000)):
        wallet = Wallet(index, devnet.deployment, rpcs, cluster.keeper.url)
        await wallet.mint(chain, "USDC", amount * USDC)
        await wallet.aclose()


@pytest_asyncio.fixture
async def clients(cluster: Cluster, minted: None) -> AsyncIterator[Callable[[int], AsyncClient]]:
    made: list[AsyncClient] = []

    def client(index: int) -> AsyncClient:
        made.append(AsyncClient(cluster.keeper.url, signer=account(index).key))
        return made[-1]

    yield client
    for each in made:
        await each.aclose()


@pytest.mark.asyncio
async def test_an_owner_and_an_integrator_do_everything_by_the_client(
    devnet: Devnet, clients: Callable[[int], AsyncClient]
) -> None:
    owner, integrator, maker = clients(OWNER), clients(INTEGRATOR), clients(MAKER)
    assert (await owner.deployment()).to_json() == devnet.deployment.to_json()

    # Deposit and link: 1,000 USDC on A, the chains A, B and C one account.
    deposited = await owner.deposit("A", "USDC", "1000", links=["B", "C"])
    assert (deposited.permit, len(deposited.receipts)) == (None, 2)  # with an approval
    await owner.link("B", ["A", "C"])
    await owner.link(C, [A, B])
    await maker.deposit("B", "USDC", "20000")
    await eventually(lambda: provided(owner, "C", 1_000))
    await eventually(lambda: provided(maker, "B", 20_000))
    [margin] = (await owner.account()).margin_accounts
    assert (margin.equity, sorted(margin.chains)) == (1_000 * UNIT, [A, B, C])

    # What-if, and what the lists say.
    trade = TradeChange(kind="trade", asset="ETH-PERP", size=UNIT // 10)
    asked = await owner.whatif([trade, ReserveChange(kind="reserve", amount=100 * UNIT)])
    assert asked.before.free == 1_000 * UNIT
    assert asked.change_of_free < -100 * UNIT
    assert (await owner.status()).ready
    assert (await owner.netting(accounts=1)).account_count >= 1
    assert isinstance((await owner.liquidations()).legs, list)
    newest = (await owner.batch()).content.batch.epoch
    assert (await owner.batch(newest)).content.batch.epoch == newest
    with pytest.raises(Refused, match="not_found"):
        await owner.batch(0)

    # Prove, and let a contract read it through web3.py.
    await owner.prove("C")
    deployment = await owner.deployment()
    w3 = AsyncWeb3(AsyncWeb3.AsyncHTTPProvider(deployment.chains[C].rpc))
    verifier = w3.eth.contract(AsyncWeb3.to_checksum_address(deployment.chains[C].contracts.verifier), abi=_abi())
    proof = await owner.proof(chain="C")
    assert (await verifier.functions.check(*proof.arguments, 3_600, 3_600).call())[0] is True
    assert await verifier.functions.isHealthy(owner.account_id(), 3_600, 3_600).call()
    await w3.provider.disconnect()

    # Reserve for an integrator that is a plain account; it releases and claims.
    reserved = await owner.reserve("C", integrator.address, "300", until=600, cash_part="200.5")
    assert reserved.permit is not None
    action = reserved.permit.item.action
    assert isinstance(action, Reserve)
    assert (action.amount, action.cash_part) == (300 * UNIT, 200 * UNIT + UNIT // 2)
    # What a submitter is named for is his to send, and nothing is sent before.
    named = await owner.reserve("C", integrator.address, "10", until=600, submitter=integrator.address)
    assert named.permit is not None
    assert named.receipts == ()
    assert (await integrator.use(named.permit)).receipt.block_number > 0
    await integrator.release("C", owner.account_id(), "60")
    await owner.deposit("C", "USDC", "50")  # tokens that a claim is paid in
    await integrator.claim("C", owner.account_id(), "40")
    await integrator.payout("C", owner.account_id())
    token = await integrator.token("C", "USDC")
    paid = await w3_balance(integrator, token.address)
    assert paid == 40 * USDC
    with pytest.raises(Reverted, match=r"MarginReservations\.claim is not sent: it reverts with ClaimExceeds") as much:
        await integrator.claim("C", owner.account_id(), "500")
    assert much.value.revert.arguments["reserved"] == 210 * UNIT
    assert not much.value.mined

    # A trade: the maker's order, taken in part.
    order = await maker.sign_order("B", await maker.order("B", "ETH-PERP", "-0.2", "3000"))
    traded = await owner.trade(order, size="0.1")
    assert traded.permit is not None
    assert len(traded.permit.item.orders) == 2
    with pytest.raises(BadArgument, match="size: at most the order's"):
        await owner.trade(order, size="0.3")

    # Moves of cash and of a position, to a sub-account and nothing else.
    await owner.move("A", 1, "200")
    await eventually(lambda: _holds(owner, 1, A, 200 * UNIT))
    with pytest.raises(Refused) as refused:
        await owner.move("A", 1, "900")
    assert refused.value.code in ("insufficient_free_margin", "net_cash")
    await owner.link("B", ["A"], account=1)
    await owner.link("A", ["B"], account=1)
    await eventually(lambda: _linked(owner, 1))
    await eventually(lambda: _has_position(owner, 0))
    # The links may be final for the node that was asked a block before they are for the attestors.
    await eventually(lambda: _moved(owner))
    await eventually(lambda: _has_position(owner, 1))

    # Withdraw, to somebody else.
    withdrawn = await owner.withdraw("A", "USDC", "25", receiver="0x" + integrator.address.hex())
    assert withdrawn.permit is not None
    assert isinstance(withdrawn.permit.item.action, Withdraw)
    with pytest.raises(Reverted, match=r"CollateralVault\.withdraw .* NonceAlreadyUsed"):
        await owner.use(withdrawn.permit)
    with pytest.raises(Refused, match="no_leg"):
        await owner.takeover("B", maker.account_id(), "ETH-PERP", "1")


@pytest.mark.asyncio
async def test_what_the_chain_or_the_node_would_refuse_is_said_before_anything_is_sent(
    cluster: Cluster, clients: Callable[[int], AsyncClient]
) -> None:
    owner = clients(OWNER)
    with pytest.raises(BadArgument, match=r"amount: at most the .* USDC in wallet 0x"):
        await owner.deposit("A", "USDC", "1000000")
    with pytest.raises(Reverted, match=r"CollateralVault\.link .* NotOwner"):
        await owner.link("A", ["B"], account="0x" + "5a" * 20)
    draft = await owner.draft.withdraw("A", "USDC", "1")
    assert draft.typed_data[0]["primaryType"] == "PermitRequest"
    assert draft.to_json()["attestorsSign"] is True
    async with AsyncClient(cluster.keeper.url, signer=b"\7" * 32) as poor:
        with pytest.raises(TransactionFailed, match=r"(?i)insufficient funds"):
            await poor.link("A", ["B"])


@pytest.mark.asyncio
async def test_an_endpoint_of_another_chain_gets_no_transaction(devnet: Devnet, cluster: Cluster) -> None:
    wrong = {"A": devnet.deployment.chains[B].rpc}
    async with AsyncClient(cluster.keeper.url, signer=account(OWNER).key, rpcs=wrong) as client:
        with pytest.raises(WrongChain, match=rf"eth_chainId is {B}, wanted {A}"):
            await client.link("A", ["B"])
    async with AsyncClient(cluster.keeper.url, rpcs={"A": "http://127.0.0.1:9"}) as client:
        with pytest.raises(Unavailable, match="chain A"):
            await client.head_time("A")


def test_the_same_without_await(cluster: Cluster, minted: None) -> None:
    with (
        Client(cluster.keeper.url, signer="0x" + account(SYNC).key.hex()) as owner,
        Client(cluster.keeper.url, signer=account(INTEGRATOR).key) as integrator,
    ):
        owner.deposit("A", "USDC", 900 * USDC, links=["C"])
        owner.link("C", ["A"])
        limit = time.monotonic() + 60
        while not _provided(owner, 900):
            assert time.monotonic() < limit
            time.sleep(0.2)
        owner.prove("A")
        draft = owner.draft.reserve("A", integrator.address, "100", until=600, cash_part="50")
        assert owner.execute(draft).act == "reserve"
        integrator.release("A", owner.account_id(), "20")
        integrator.claim("A", owner.account_id(), "30")
        integrator.payout("A", owner.account_id())
        owner.move("A", 1, "10")
        owner.withdraw("A", "USDC", "5")
        assert owner.account().owner == owner.address
        permit = owner.permit("A", Withdraw(owner.account_id(), owner.token("A", "USDC").address, 1, owner.address))
        owner.simulate(owner.call_for(permit))
        owner.use(permit)


def _provided(client: Client, usd: int) -> bool:
    try:
        return client.proof(chain="A").leaf.equity >= usd * UNIT
    except ClientError:  # no batch has it yet
        return False


def _abi() -> list[dict[str, Any]]:
    return abi_of("MarginVerifier")


async def w3_balance(client: AsyncClient, token: Address) -> int:
    (balance,) = await client.read(Call(C, "DevnetToken", token, "balanceOf", (client.address,)))
    return int(balance)


async def _holds(client: AsyncClient, sub_account: int, chain: int, cash: int) -> bool:
    try:
        found = await client.account(sub_account)
    except ClientError:
        return False
    return any(h.cash == cash for m in found.margin_accounts for h in m.holdings if h.chain == chain)


async def _linked(client: AsyncClient, sub_account: int) -> bool:
    return any(len(m.chains) == 2 for m in (await client.account(sub_account)).margin_accounts)


async def _moved(client: AsyncClient) -> bool:
    """Whether the position was permitted and moved."""
    try:
        await client.move("B", 1, "0.1", asset="ETH-PERP")
    except Refused as refused:
        assert refused.code == "insufficient_free_margin"  # noqa: PT017  anything else is a fault
        return False
    return True


async def _has_position(client: AsyncClient, sub_account: int) -> bool:
    found = await client.account(sub_account)
    return any(h.positions for m in found.margin_accounts for h in m.holdings)
