"""The devnet's pool: Uniswap's own contracts at the feeds' price, deep enough to sell to, moved when prices move."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from keeper.chain.abi import encode
from keeper.chain.rpc import Rpc, RpcError
from keeper.chain.uniswap import approval, pool_price, quote, sale
from keeper.client import Reverted
from keeper.devnet.reader import ChainReader
from keeper.devnet.wallet import Wallet
from keeper.state.deployment import ChainDeployment
from keeper.state.ids import Address

if TYPE_CHECKING:
    from keeper.devnet import Devnet

pytestmark = [pytest.mark.devnet, pytest.mark.asyncio]

A, B, C = 31_337_001, 31_337_002, 31_337_003
ETHER = 10**18
USD = 10**18
_USERS = iter(range(72, 78))


@pytest_asyncio.fixture
async def seller(devnet: Devnet) -> AsyncIterator[Wallet]:
    """Somebody with WETH on chain C that the swapper may take, at a pool that is where the feeds are."""
    rpc = Rpc(devnet.deployment.chains[C].rpc, timeout=10.0)
    wallet = Wallet(next(_USERS), devnet.deployment, {C: rpc}, "http://nobody.invalid")
    chain = devnet.deployment.chains[C]
    assert chain.swapper is not None
    devnet.arbitrage([C])
    weth = chain.collateral[0].address
    await wallet.send(C, "DevnetToken", weth, "mint", wallet.address, 1_000 * ETHER)
    await wallet.send_data(C, "approve", weth, approval(chain.swapper, 1_000 * ETHER))
    yield wallet
    await wallet.aclose()
    await rpc.aclose()


@pytest_asyncio.fixture
async def rpc(devnet: Devnet) -> AsyncIterator[Rpc]:
    rpc = Rpc(devnet.deployment.chains[C].rpc, timeout=10.0)
    yield rpc
    await rpc.aclose()


def _parts(devnet: Devnet) -> tuple[ChainDeployment, Address, Address]:
    chain = devnet.deployment.chains[C]
    assert chain.swapper is not None
    return chain, chain.swapper, chain.collateral[0].address


async def _usdc(chain: ChainDeployment, rpc: Rpc, owner: Address) -> int:
    return int(await ChainReader(chain, rpc).call("DevnetToken", chain.settlement.address, "balanceOf", [owner]))


async def test_one_ether_sells_at_about_the_market_price(devnet: Devnet, seller: Wallet, rpc: Rpc) -> None:
    chain, swapper, weth = _parts(devnet)
    market = devnet.price("ETH", C) * 10**10
    quoted = await quote(rpc, swapper, weth, ETHER)
    assert await pool_price(rpc, swapper, chain.collateral[0], chain.settlement) == pytest.approx(market, rel=1e-9)
    # The fee is five basis points, and one in five thousand moves the price by two: half of it is paid on average.
    assert quoted.amount_out * 10**12 == pytest.approx(market * (1 - 0.0005) * (1 - 0.0002), rel=1e-6)
    data = sale(weth, ETHER, quoted.least(10), seller.address, int(time.time()) + 60)
    receipt = await seller.send_data(C, "sell", swapper, data)
    assert await _usdc(chain, rpc, seller.address) == quoted.amount_out  # to the unit, as nobody came between
    after = await pool_price(rpc, swapper, chain.collateral[0], chain.settlement)
    assert after == pytest.approx(market * (1 - 0.0004), rel=1e-5)
    assert receipt.gas_used < 200_000


async def test_large_sales_move_the_price(devnet: Devnet, seller: Wallet, rpc: Rpc) -> None:
    chain, swapper, weth = _parts(devnet)
    small, large = [await quote(rpc, swapper, weth, amount) for amount in (ETHER, 500 * ETHER)]
    assert large.amount_out / 500 == pytest.approx(small.amount_out / (1 + 0.1), rel=1e-3)  # x·y = k
    assert large.sqrt_price_after != small.sqrt_price_after
    data = sale(weth, 500 * ETHER, small.amount_out * 495, seller.address, int(time.time()) + 60)
    with pytest.raises(Reverted, match=rf"TooLittleReceived\(amountOut={large.amount_out}, least="):
        await seller.send_data(C, "sell", swapper, data)
    assert await _usdc(chain, rpc, seller.address) == 0


async def test_a_late_sale_and_a_foreign_token_are_refused(devnet: Devnet, seller: Wallet, rpc: Rpc) -> None:
    chain, swapper, weth = _parts(devnet)
    with pytest.raises(Reverted, match=r"SaleExpired\(deadline=1000000000"):
        await seller.send_data(C, "sell", swapper, sale(weth, ETHER, 0, seller.address, 10**9))
    wbtc = chain.collateral[1].address
    with pytest.raises(Reverted, match="UnknownToken"):
        await seller.send_data(C, "sell", swapper, sale(wbtc, ETHER, 0, seller.address, int(time.time()) + 60))
    with pytest.raises(RpcError):
        await quote(rpc, swapper, wbtc, ETHER)


async def test_only_the_devnet_moves_the_price_for_nothing(devnet: Devnet, seller: Wallet) -> None:
    _, swapper, _ = _parts(devnet)
    for method, arguments in (("swapTo", [2**96]), ("provide", [10**18])):
        with pytest.raises(Reverted, match="NotDeployer"):
            await seller.send_data(C, method, swapper, encode("DevnetSwapper", method, arguments))
    for method in ("uniswapV3SwapCallback", "uniswapV3MintCallback"):
        with pytest.raises(Reverted, match="NotPool"):
            await seller.send_data(C, method, swapper, encode("DevnetSwapper", method, [1, 0, b""]))


async def test_a_shock_moves_every_pool(devnet: Devnet) -> None:
    start = devnet.price("ETH")
    try:
        for percent in (-20.0, 30.0):
            _, after = devnet.shock("ETH", percent)
            for chain_id in (A, B, C):
                assert await _price(devnet, chain_id) == pytest.approx(after * 10**10, rel=1e-9)
        devnet.shock("USDC", -1)
        assert await _price(devnet, B) == pytest.approx(after * 10**10 / 0.99, rel=1e-9)
    finally:
        for name, price in (("ETH", start), ("ETH-PERP", start), ("USDC", 10**8)):
            devnet.set_price(name, price)
        devnet.arbitrage()
    assert await _price(devnet, A) == pytest.approx(start * 10**10, rel=1e-9)


async def _price(devnet: Devnet, chain_id: int) -> int:
    chain = devnet.deployment.chains[chain_id]
    assert chain.swapper is not None
    rpc = Rpc(chain.rpc)
    try:
        return await pool_price(rpc, chain.swapper, chain.collateral[0], chain.settlement)
    finally:
        await rpc.aclose()
