"""The waterfall on real chains: two accounts that a fall ruins, one where the fund is rich, one where it has nothing.

Four attestors plan, check and sign every batch; tests post them and execute what they list.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from keeper.attest.codec import to_abi
from keeper.attest.messages import QuorumBatch
from keeper.attest.signing import trade_request
from keeper.chain.rpc import Rpc
from keeper.clearing.waterfall import rung_of
from keeper.client import Proof, Reverted, match_call
from keeper.devnet.wallet import Wallet
from keeper.state.batch import UNIT, LiquidationLeaf
from keeper.state.ids import FUND, AccountId, perpetual
from keeper.testing import Panel

if TYPE_CHECKING:
    from keeper.devnet import Devnet

pytestmark = [pytest.mark.devnet, pytest.mark.asyncio, pytest.mark.timeout(300)]

B, C = 31_337_002, 31_337_003
USDC = 10**6
ETH = perpetual("ETH")
_USERS = range(156, 160)


@pytest_asyncio.fixture
async def wallets(devnet: Devnet, rpcs: dict[int, Rpc]) -> AsyncIterator[list[Wallet]]:
    wallets = [Wallet(index, devnet.deployment, rpcs, "http://nobody.invalid") for index in _USERS]
    yield wallets
    for wallet in wallets:
        await wallet.aclose()


async def _post(wallet: Wallet, chain_id: int, quorum: QuorumBatch) -> None:
    content = quorum.content
    arguments = (to_abi(content.batch), [to_abi(entry) for entry in content.cut], quorum.signatures)
    verifier = wallet.deployment.chains[chain_id].contracts.verifier
    await wallet.send(chain_id, "MarginVerifier", verifier, "postBatch", *arguments)


async def _buy(panel: Panel, seller: Wallet, buyer: Wallet, chain_id: int, size: int) -> None:
    """At the mark of a batch that is posted for it."""
    quorum = await panel.quorum_batch()
    await _post(buyer, chain_id, quorum)
    mark = next(leaf for leaf in quorum.content.marks if leaf.asset == ETH)
    sides = ((seller, -size), (buyer, size))
    orders = [await party.client.order(chain_id, ETH, each, mark.price, until=60) for party, each in sides]
    signed_orders = [
        await party.client.sign_order(chain_id, order) for (party, _), order in zip(sides, orders, strict=True)
    ]
    await panel.look()
    sold, bought = signed_orders
    item = trade_request(
        buyer.deployment,
        chain_id,
        (sold.order, bought.order),
        (sold.signature, bought.signature),
        -size,
        mark.price,
    )
    signed, refusals = await panel.permit(item)
    assert signed is not None, refusals
    batch, proof = quorum.content.batch, tuple(quorum.content.mark_tree.proof(mark))
    await buyer.client.send(match_call(buyer.deployment, signed, Proof(batch.epoch, batch.timestamp, mark, proof)))


async def _deleverage(wallet: Wallet, quorum: QuorumBatch, leaf: LiquidationLeaf) -> None:
    await _post(wallet, leaf.chain_id, quorum)
    house = wallet.deployment.chains[leaf.chain_id].contracts.clearing_house
    arguments = (to_abi(leaf), quorum.content.leg_tree.proof(leaf), abs(leaf.close_limit))
    await wallet.send(leaf.chain_id, "ClearingHouse", house, "deleverage", *arguments)


def _held(panel: Panel, chain_id: int, account: AccountId) -> tuple[int, int]:
    """Cash and ETH position at the head, as every follower folds them."""
    state = panel.attestors[0].view.followers[chain_id].head
    sizes = state.sizes.get(account)
    return state.cash.get(account, 0), 0 if sizes is None else sizes.get(ETH, 0)


def _legs(quorum: QuorumBatch, chain_id: int, account: AccountId) -> list[LiquidationLeaf]:
    return [leg for leg in quorum.content.legs if (leg.chain_id, leg.account_id) == (chain_id, account)]


async def test_cm_43_the_fund_takes_where_it_can_and_the_other_side_closes_where_it_can_not(
    panel: Panel, devnet: Devnet, wallets: list[Wallet]
) -> None:
    """CM-43: 2 ETH bought with 1,300 on B and on C; a fall of 30 % leaves −500 each. B's fund has 20,000, C's none."""
    long_b, long_c, short_b, short_c = wallets
    for wallet, chain_id, usdc in ((long_b, B, 1_300), (long_c, C, 1_300), (short_b, B, 20_000), (short_c, C, 20_000)):
        await wallet.deposit(chain_id, "USDC", usdc * USDC)
    token, vault = devnet.deployment.chains[B].settlement.address, devnet.deployment.chains[B].contracts.vault
    await long_b.send(B, "DevnetToken", token, "mint", long_b.address, 20_000 * USDC)
    await long_b.send(B, "DevnetToken", token, "approve", vault, 20_000 * USDC)
    await long_b.send(B, "CollateralVault", vault, "deposit", FUND, token, 20_000 * USDC, [])
    for wallet, chain_id in ((long_b, B), (short_b, B), (long_c, C), (short_c, C)):
        await panel.look_until(wallet.last_block, chain_id)
    await _buy(panel, short_b, long_b, B, 2 * UNIT)
    await _buy(panel, short_c, long_c, C, 2 * UNIT)
    await panel.look_until(long_b.last_block, B)
    await panel.look_until(long_c.last_block, C)
    final = panel.attestors[0].view.followers[C].final
    assert final.costs[(long_c.account(), ETH)] == 2 * devnet.price("ETH") * UNIT // 10**8
    was, _ = await asyncio.to_thread(devnet.shock, "ETH", -30)
    try:
        await panel.look()
        first = await panel.quorum_batch()
        for wallet, chain_id in ((long_b, B), (long_c, C)):
            (leg,) = _legs(first, chain_id, wallet.account())
            assert rung_of(leg) == "auction"
        began = first.content.batch.timestamp
        while panel.attestors[0].view.newest_head_time <= began + 2 * devnet.deployment.profile.ramp_seconds:
            await asyncio.sleep(1.0)
            await panel.look()
        quorum = await panel.quorum_batch()
        (by_fund,) = _legs(quorum, B, long_b.account())
        (by_other,) = _legs(quorum, C, long_c.account())
        assert (rung_of(by_fund), rung_of(by_other)) == ("fund", "deleverage")
        assert by_other.counterparty == short_c.account()
        cash, _ = _held(panel, C, short_c.account())
        await _deleverage(short_c, quorum, by_other)
        await _deleverage(short_b, quorum, by_fund)
        with pytest.raises(Reverted, match="LegSideMismatch"):
            await _deleverage(short_c, quorum, by_other)
        await panel.look_until(short_c.last_block, C)
        await panel.look_until(short_b.last_block, B)
        # C: exactly nothing is left, and nobody but the counterparty paid. B: the deficit, and the fund is 2 long.
        left, size = _held(panel, C, long_c.account())
        assert size == 0
        assert 0 <= left + UNIT // 10**5 <= UNIT // 10**4
        paid, size = _held(panel, C, short_c.account())
        assert size == 0
        assert paid == pytest.approx(cash - 2 * by_other.mark_price, abs=2)
        owed, size = _held(panel, B, long_b.account())
        assert (size, owed < 0) == (0, True)
        assert _held(panel, B, FUND)[1] == 2 * UNIT
        # Next the fund offers what it took.
        await panel.look_until(short_b.last_block, B)
        inventory = _legs(await panel.quorum_batch(), B, FUND)
        assert [(leg.asset, leg.close_limit, rung_of(leg)) for leg in inventory] == [(ETH, 2 * UNIT, "auction")]
    finally:
        await asyncio.to_thread(devnet.set_price, "ETH", was)
