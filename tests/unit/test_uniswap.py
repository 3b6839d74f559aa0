"""Prices as a Uniswap v3 pool has them, and where its factory puts it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keeper.chain.uniswap import Quote, price_of, sqrt_price
from keeper.devnet.liquidity import artifact, liquidity, pool_address
from keeper.state.deployment import Token
from keeper.state.ids import Address, address

LOW, HIGH = Address(b"\1" * 20), Address(b"\2" * 20)
USD = 10**18


def _pair(low: bool, decimals: int = 18) -> tuple[Token, Token]:
    """The collateral token has the lower address, or the settlement token."""
    first, second = (LOW, HIGH) if low else (HIGH, LOW)
    return Token("WETH", first, decimals, "ETH"), Token("USDC", second, 6)


@pytest.mark.parametrize("low", [True, False])
def test_a_price_is_the_ratio_of_smallest_units(low: bool) -> None:
    ratio = 3_000 * 10**6 / 10**18
    wanted = math.sqrt(ratio if low else 1 / ratio) * 2**96
    assert sqrt_price(3_000 * USD, *_pair(low)) == pytest.approx(wanted, rel=1e-12)


@given(price=st.integers(10**12, 10**25), low=st.booleans(), decimals=st.integers(6, 18))
def test_a_price_survives_both_ways(price: int, low: bool, decimals: int) -> None:
    pair = _pair(low, decimals)
    assert price_of(sqrt_price(price, *pair), *pair) == pytest.approx(price, rel=1e-9)


@pytest.mark.parametrize(
    ("fee", "pool"),
    [
        (500, "0x88e6A0c2dDD26FEEb64F039a2c41296FcB3f5640"),
        (3_000, "0x8ad599c3A0ff1De082011EFDDc58f1908eb6e6D8"),
    ],
)
def test_pools_are_where_uniswap_has_them_on_ethereum(fee: int, pool: str) -> None:
    factory = address("0x1F98431c8aD98523631AE4a59f267346ea31F984")
    usdc, weth = (
        address("0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"),
        address("0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2"),
    )
    assert pool_address(factory, usdc, weth, fee) == pool_address(factory, weth, usdc, fee) == address(pool)


def test_liquidity_is_the_root_of_both_amounts() -> None:
    found = liquidity(100, 3_000 * USD, *_pair(True))
    assert found == math.isqrt(100 * 10**18 * 300_000 * 10**6)


def test_the_factorys_artifact_is_a_compiled_one() -> None:
    compiled = artifact("UniswapV3Factory")
    assert compiled["contractName"] == "UniswapV3Factory"
    assert len(bytes.fromhex(compiled["bytecode"][2:])) > 20_000


@given(amount=st.integers(0, 2**128), bps=st.integers(0, 10_000))
def test_the_least_accepted_is_never_below_the_slippage(amount: int, bps: int) -> None:
    least = Quote(1, amount, 1).least(bps)
    assert least * 10_000 >= amount * (10_000 - bps) > (least - 1) * 10_000
