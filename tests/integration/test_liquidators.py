"""Liquidators on real chains: a token taken, sold to the pool and paid in; two after one leg."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from take_overs import conserved, eventually

from keeper.attest.batch import BatchContent, batch_digest, with_roots
from keeper.attest.codec import to_abi
from keeper.attest.messages import QuorumBatch
from keeper.attest.signatures import join_signatures
from keeper.attest.signing import LocalSigner, SignedPermit
from keeper.chain.rpc import Rpc
from keeper.client import AsyncClient
from keeper.client import Refused as ClientRefused
from keeper.devnet.chains import ACCOUNTS, account
from keeper.devnet.reader import ChainReader
from keeper.devnet.wallet import Wallet
from keeper.node.config import KeySource, LiquidateSection, NodeConfig
from keeper.node.liquidator import Liquidator
from keeper.node.node import Node
from keeper.node.peers import Peers
from keeper.node.permits import Declined, PermitClient
from keeper.state.batch import UNIT, LiquidationLeaf
from keeper.state.deployment import Deployment
from keeper.state.ids import AssetId, token_id
from keeper.state.live import LiveItem, PermitItem
from keeper.testing import Panel

if TYPE_CHECKING:
    from keeper.devnet import Devnet

pytestmark = [pytest.mark.devnet, pytest.mark.asyncio, pytest.mark.timeout(240)]

C = 31_337_003
ETHER = 10**18
USDC = 10**6
_USERS = iter(range(140, 156))


class PanelPermits(PermitClient):
    """Requests judged by a panel of attestors directly; `together` holds them until so many are granted."""

    def __init__(
        self, deployment: Deployment, panel: Panel, key: bytes, together: asyncio.Barrier | None = None
    ) -> None:
        super().__init__(deployment, Peers({}), LocalSigner(key))
        self._panel = panel
        self._together = together

    async def ask(self, item: PermitItem) -> SignedPermit:
        await self._panel.look()
        known: dict[object, LiveItem] = {
            other.key: other for attestor in self._panel.attestors for other in attestor.live(item.accounts)
        }
        signed, refusals = await self._panel.permit(item, tuple(known.values()))
        if signed is None:
            raise Declined(refusals[0].problem)
        if self._together is not None:
            await self._together.wait()
        return signed


@pytest_asyncio.fixture
async def wallets(devnet: Devnet, rpcs: dict[int, Rpc]) -> AsyncIterator[Callable[[], Wallet]]:
    async with AsyncExitStack() as open_:

        def new() -> Wallet:
            wallet = Wallet(next(_USERS), devnet.deployment, rpcs, "http://nobody.invalid")
            open_.push_async_callback(wallet.aclose)
            return wallet

        yield new


@pytest_asyncio.fixture
async def reader(devnet: Devnet) -> AsyncIterator[ChainReader]:
    """Of chain C."""
    chain = devnet.deployment.chains[C]
    rpc = Rpc(chain.rpc, timeout=10.0)
    yield ChainReader(chain, rpc)
    await rpc.aclose()


@asynccontextmanager
async def liquidating(
    devnet: Devnet, panel: Panel, wallet: Wallet, folder: Path, together: asyncio.Barrier | None = None, **terms: Any
) -> AsyncIterator[Liquidator]:
    """The liquidator of a node of its own, which follows the chains and asks the panel; its tasks are not run."""
    secret = wallet_key(wallet)
    section = LiquidateSection(
        key=KeySource(private_key="0x" + secret.hex()),  # type: ignore[arg-type]
        patience_seconds=0.0,
        **terms,
    )
    config = NodeConfig(
        deployment=devnet.deployments_file,
        state_dir=folder,
        profile="devnet",
        roles=frozenset({"liquidate"}),
        liquidate=section,
    )
    async with Node(config, devnet.deployment) as node:
        assert node.liquidator is not None
        permits = PanelPermits(devnet.deployment, panel, secret, together)
        node.liquidator.permits = node.liquidator.inventory.permits = permits
        node.batches.add(panel.attestors[0].batches.latest)  # type: ignore[arg-type]
        following = asyncio.create_task(node.view.follow())
        try:
            yield node.liquidator
        finally:
            following.cancel()
            await asyncio.wait([following])


def wallet_key(wallet: Wallet) -> bytes:
    return next(account(i).key for i in range(ACCOUNTS) if account(i).address == wallet.address)


async def list_leg(panel: Panel, poster: Wallet, leg: Callable[[BatchContent], LiquidationLeaf]) -> LiquidationLeaf:
    """Sign a batch that lists one leg, whether or not its account is due, and post it on the leg's chain."""
    _, content = await panel.build()
    content = replace(content, legs=(leg(content),))
    content = replace(content, batch=with_roots(content))
    digest = batch_digest(panel.deployment, content.batch)
    signatures = join_signatures(digest, {a.signer.address: a.signer.sign(digest) for a in panel.attestors})
    for attestor in panel.attestors:
        attestor.batches.add(QuorumBatch(content, signatures))
    posting = (to_abi(content.batch), [to_abi(c) for c in content.cut], signatures)
    listed = content.legs[0]
    verifier = panel.deployment.chains[listed.chain_id].contracts.verifier
    await poster.send(listed.chain_id, "MarginVerifier", verifier, "postBatch", *posting)
    return listed


def ripe(owner: Wallet, asset: AssetId, size: int, concession: int) -> Callable[[BatchContent], LiquidationLeaf]:
    """A leg of a long whose concession is at its most, at the batch's own mark."""

    def leg(content: BatchContent) -> LiquidationLeaf:
        mark = next(m.price for m in content.marks if m.asset == asset)
        start = content.batch.timestamp - 30
        return LiquidationLeaf(owner.account(), C, asset, size, mark, concession, start)

    return leg


async def looked(liquidator: Liquidator) -> bool:
    """Whether one look at chain C took something."""
    return any(await asyncio.gather(*await liquidator.start(C)))


# --- a token --------------------------------------------------------------------------------------------------------


async def test_cm42_a_token_is_taken_sold_to_the_pool_and_paid_in(
    devnet: Devnet, panel: Panel, reader: ChainReader, wallets: Callable[[], Wallet], tmp_path: Path
) -> None:
    """CM-40, CM-42. The node ends between any two steps of the sale; the next one goes on from the chain alone."""
    devnet.arbitrage([C])
    chain = devnet.deployment.chains[C]
    owner, taker = wallets(), wallets()
    weth = chain.collateral[0]
    asset = token_id(C, weth.address)
    await owner.deposit(C, "WETH", 10 * ETHER)
    await taker.deposit(C, "USDC", 50_000 * USDC)
    await panel.look_until(taker.last_block, C)

    leg = await list_leg(panel, owner, ripe(owner, asset, 4 * ETHER, 60 * UNIT))
    async with liquidating(devnet, panel, taker, tmp_path / "taker", min_profit_usd=150.0) as liquidator:
        # Nothing was posted before: the chain starts the clock with this batch, whatever the leg says.
        assert await eventually(lambda: looked(liquidator))
        [taken] = liquidator.taken
        assert (taken.asset, taken.size) == (asset, 4 * ETHER)  # the pool is deep: the whole leg
        # At most: 60 USD a token less a fifth for the fund, a flat fee, what the pool takes, and gas of 3 USD.
        assert 150 <= taken.profit / UNIT <= 4 * 48 + 1 - 4 * 3_000 * 0.0009 - 2
        assert liquidator.latencies.quantiles()["liquidation_blocks"]["count"] == 1
        assert not await looked(liquidator)  # nothing of it is open any more
    await conserved(reader, asset, [taker])
    [entry] = [entry for entry in await reader.take_overs() if entry.account == owner.account()]
    assert (entry.size, entry.mark) == (4 * ETHER, leg.mark_price)
    assert await _balances(reader, owner, weth.address) == (6 * ETHER, 0)
    assert await _balances(reader, taker, weth.address) == (4 * ETHER, 0)

    steps: list[str] = []
    for number in range(30):
        async with liquidating(devnet, panel, taker, tmp_path / f"again-{number}") as liquidator:
            await liquidator.view.wait(lambda: liquidator.view.started, 10.0)
            if not await liquidator.inventory.step(C):
                if C in liquidator.inventory.waiting:
                    await asyncio.sleep(0.5)  # the take-over is not final yet: no withdrawal is permitted
                    continue
                break
            steps += liquidator.inventory.done
    assert steps == ["withdrawal", "sale", "deposit"]
    assert await _balances(reader, taker, weth.address) == (0, 0)
    assert await _balance_of(reader, chain.settlement.address, taker) == 0
    gained = await reader.cash(taker.account()) - 50_000 * UNIT
    assert taken.profit <= gained <= taken.profit + 20 * UNIT  # what it ripened by until mined, and the gas


async def _balances(reader: ChainReader, wallet: Wallet, token: bytes) -> tuple[int, int]:
    """Of a token, in the account and in the wallet."""
    vault = reader.chain.contracts.vault
    account_ = int(await reader.call("CollateralVault", vault, "balanceOf", [wallet.account(), token]))
    return account_, await _balance_of(reader, token, wallet)


async def _balance_of(reader: ChainReader, token: bytes, wallet: Wallet) -> int:
    return int(await reader.call("DevnetToken", token, "balanceOf", [wallet.address]))  # type: ignore[arg-type]


async def test_a_token_that_no_pool_buys_and_a_leg_that_costs_more_are_left_with_the_reason(
    devnet: Devnet, panel: Panel, wallets: Callable[[], Wallet], tmp_path: Path
) -> None:
    chain = devnet.deployment.chains[C]
    owner, taker = wallets(), wallets()
    wbtc, weth = token_id(C, chain.collateral[1].address), token_id(C, chain.collateral[0].address)
    assert chain.collateral[1].symbol == "WBTC"
    await owner.deposit(C, "WBTC", 10**8)
    await owner.deposit(C, "WETH", ETHER)
    await taker.deposit(C, "USDC", 100_000 * USDC)
    await panel.look_until(taker.last_block, C)
    for asset, concession, wanted in (
        (wbtc, 600 * UNIT, "the pool does not buy it"),
        (weth, UNIT, "is below the least"),
    ):
        await list_leg(panel, owner, ripe(owner, asset, ETHER // 2, concession))
        async with liquidating(devnet, panel, taker, tmp_path / asset.hex()) as liquidator:

            async def reasons(liquidator: Liquidator = liquidator) -> list[str]:
                assert not await looked(liquidator)
                return [each.reason for each in liquidator.appraisals[C]]

            [reason] = await eventually(reasons)
            assert wanted in reason
        await _next_epoch(panel)


async def test_what_is_to_stay_stays_and_a_pool_that_pays_too_little_gets_nothing(
    devnet: Devnet, panel: Panel, reader: ChainReader, wallets: Callable[[], Wallet], tmp_path: Path
) -> None:
    devnet.arbitrage([C])
    chain = devnet.deployment.chains[C]
    taker, weth, usdc = wallets(), chain.collateral[0].address, chain.settlement.address
    await taker.deposit(C, "WETH", 3 * ETHER)
    await taker.send(C, "DevnetToken", usdc, "mint", taker.address, 500 * USDC)
    await panel.look_until(taker.last_block, C)
    await panel.quorum_batch()
    terms = {"keep": {"WETH": 2.0}, "float_usd": 300.0}

    async with liquidating(devnet, panel, taker, tmp_path / "dear", pool_discount_bps=0, **terms) as liquidator:
        await liquidator.view.wait(lambda: liquidator.view.started, 10.0)
        assert await liquidator.inventory.step(C)
        assert liquidator.inventory.done == {"deposit": 1}
        assert await reader.cash(taker.account()) == 200 * UNIT
        assert not await liquidator.inventory.step(C)  # the pool takes its fee at least
        assert "the pool pays less than 0 basis points below the mark for WETH" in liquidator.inventory.waiting[C]
    async with liquidating(devnet, panel, taker, tmp_path / "kept", **terms) as liquidator:
        serving = asyncio.create_task(liquidator.inventory.serve(C))

        async def sold() -> bool:
            return liquidator.inventory.done.get("deposit") == 1

        await eventually(sold)
        serving.cancel()
        assert liquidator.inventory.done == {"withdrawal": 1, "sale": 1, "deposit": 1}
    assert await _balances(reader, taker, weth) == (2 * ETHER, 0)
    assert await _balance_of(reader, usdc, taker) == 300 * USDC
    assert await reader.cash(taker.account()) / UNIT == pytest.approx(200 + 3_000, rel=0.002)


async def _next_epoch(panel: Panel) -> None:
    latest = panel.attestors[0].batches.latest
    assert latest is not None

    async def later() -> bool:
        await panel.look()
        seconds = panel.deployment.profile.epoch_seconds
        return panel.attestors[0].view.newest_head_time // seconds > latest.content.batch.epoch

    await eventually(later)


# --- two after one leg ----------------------------------------------------------------------------------------------


async def test_cm40_two_with_a_permit_each_fill_one_leg_once(
    devnet: Devnet, panel: Panel, reader: ChainReader, wallets: Callable[[], Wallet], tmp_path: Path
) -> None:
    """CM-40: both are permitted the whole leg before either executes. One takes it, the other is refused by the chain
    at no cost but a little gas at most, leaves the leg alone for a while, and its permit dies within seconds."""
    devnet.arbitrage([C])
    chain = devnet.deployment.chains[C]
    owner, *takers = (wallets() for _ in range(3))
    asset = token_id(C, chain.collateral[0].address)
    await owner.deposit(C, "WETH", 3 * ETHER)
    for taker in takers:
        await taker.deposit(C, "USDC", 20_000 * USDC)
    await panel.look_until(takers[-1].last_block, C)
    barrier = asyncio.Barrier(2)

    leg = await list_leg(panel, owner, ripe(owner, asset, 3 * ETHER, 60 * UNIT))
    async with AsyncExitStack() as open_:
        both = [
            await open_.enter_async_context(
                liquidating(devnet, panel, taker, tmp_path / str(n), barrier, min_profit_usd=100.0)
            )
            for n, taker in enumerate(takers)
        ]
        for each in both:
            await each.view.wait(lambda each=each: each.view.started, 10.0)  # type: ignore[misc]
        await asyncio.gather(*(_until_tried(each) for each in both))

        winner, loser = sorted(both, key=lambda each: -len(each.taken))
        assert [taken.size for taken in winner.taken] == [3 * ETHER]
        assert loser.taken == []
        [missed] = loser.missed
        assert missed.reason in {"LegExhausted", "ExceedsPosition", "LegSideMismatch"}
        assert loser.waits(leg)
        assert loser.live() != []
        assert winner.appraiser.haste(leg) != loser.appraiser.haste(leg)

        async def free_again() -> bool:
            return not loser.live()

        await eventually(free_again, 25)
    entries = [entry for entry in await reader.take_overs() if entry.account == owner.account()]
    assert [(entry.size, entry.taker) for entry in entries] == [(3 * ETHER, winner.account)]
    await conserved(reader, asset, takers)
    assert await reader.cash(loser.account) == 20_000 * UNIT


async def _until_tried(liquidator: Liquidator) -> None:
    async with asyncio.timeout(50):
        while not liquidator.taken and not liquidator.missed:
            await looked(liquidator)
            await asyncio.sleep(0.05)


# --- by the client ----------------------------------------------------------------------------------------------------


class PanelClient(AsyncClient):
    """A client whose node is the panel, asked in this process."""

    panel: Panel

    async def ask(self, request: PermitItem, *, node: str | None = None, attempts: int | None = None) -> SignedPermit:
        signed, refusals = await self.panel.permit(request)
        assert signed is not None, refusals
        return signed

    async def batch(self, epoch: int | None = None) -> QuorumBatch:
        latest = self.panel.attestors[0].batches.latest
        assert latest is not None
        assert epoch == latest.content.batch.epoch
        return latest


async def test_cm42_anybody_takes_a_leg_by_the_client(
    devnet: Devnet, panel: Panel, reader: ChainReader, wallets: Callable[[], Wallet]
) -> None:
    chain = devnet.deployment.chains[C]
    owner, taker = wallets(), wallets()
    asset = token_id(C, chain.collateral[0].address)
    await owner.deposit(C, "WETH", 10 * ETHER)
    await taker.deposit(C, "USDC", 50_000 * USDC)
    await panel.look_until(taker.last_block, C)
    await list_leg(panel, owner, ripe(owner, asset, 2 * ETHER, 60 * UNIT))
    client = PanelClient.from_deployment(devnet.deployment, "http://nobody.invalid", signer=taker.signer)
    client.panel = panel
    async with client:
        done = await client.takeover("C", owner.account(), asset, "1.5")
        assert done.act == "takeover"
        with pytest.raises(ClientRefused, match="no_leg"):
            await client.takeover("C", taker.account(), asset, "1")
    [entry] = [entry for entry in await reader.take_overs() if entry.account == owner.account()]
    assert (entry.size, entry.taker) == (15 * ETHER // 10, taker.account())
    await conserved(reader, asset, [taker])
