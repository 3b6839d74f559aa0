"""Selling to a Uniswap v3 pool: its price, what a sale would bring, and the calldata of one.

A pool's price is √(token1 ÷ token0, smallest units) · 2^96, token0 being the lower address. Here a price is of a whole
token, in whole settlement tokens, scaled by 1e18.

`ChainDeployment.swapper` sells: the devnet's DevnetSwapper, which asks the pool itself. The seller first approves its
tokens to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt

from keeper.state.deployment import Token
from keeper.state.ids import Address

from .abi import decode_result, encode
from .rpc import Rpc, understood

_UNIT = 10**18
_Q192 = 2**192


@dataclass(frozen=True, slots=True)
class Quote:
    """What a sale would bring now, in the other token's smallest units, and the pool's √price after it."""

    amount_in: int
    amount_out: int
    sqrt_price_after: int

    def least(self, slippage_bps: int) -> int:
        """The least amount to accept: what was quoted less `slippage_bps` basis points, rounded up."""
        return -(-self.amount_out * (10_000 - slippage_bps) // 10_000)


def sqrt_price(price: int, token: Token, settlement: Token) -> int:
    """A price as the pool of the two tokens has it, rounded down. `price` is above zero."""
    whole_token, whole_settlement = 10**token.decimals, 10**settlement.decimals
    if token.address < settlement.address:
        return isqrt(price * whole_settlement * _Q192 // (_UNIT * whole_token))
    return isqrt(_UNIT * whole_token * _Q192 // (price * whole_settlement))


def price_of(sqrt: int, token: Token, settlement: Token) -> int:
    """The price that a pool's √price stands for, rounded down."""
    whole_token, whole_settlement = 10**token.decimals, 10**settlement.decimals
    if token.address < settlement.address:
        return int(sqrt * sqrt * _UNIT * whole_token // (whole_settlement * _Q192))
    return int(_Q192 * _UNIT * whole_token // (sqrt * sqrt * whole_settlement))


async def quote(rpc: Rpc, swapper: Address, token_in: Address, amount_in: int, block: str = "latest") -> Quote:
    """What selling `amount_in` (smallest units, above zero) of `token_in` would bring at a block.

    Raises:
        RpcError: the pool does not trade the token, or cannot take so much.
        RpcUnavailable: no answer, or none that makes sense.
    """
    return (await quotes(rpc, swapper, token_in, [amount_in], block))[0]


async def quotes(
    rpc: Rpc, swapper: Address, token_in: Address, amounts: Sequence[int], block: str = "latest"
) -> list[Quote]:
    """As `quote`, each amount as if it were the only sale; all by one request."""
    calls = [encode("DevnetSwapper", "quoteExactInput", [token_in, amount]) for amount in amounts]
    found = []
    with understood(rpc):
        answers = await rpc.batch([("eth_call", [{"to": _hex(swapper), "data": _hex(data)}, block]) for data in calls])
        for amount, answer in zip(amounts, answers, strict=True):
            out, after = decode_result("DevnetSwapper", "quoteExactInput", bytes.fromhex(answer[2:]))
            found.append(Quote(amount, out, after))
    return found


async def pool_price(rpc: Rpc, swapper: Address, token: Token, settlement: Token, block: str = "latest") -> int:
    """The pool's price at a block. Raises RpcError and RpcUnavailable."""
    with understood(rpc):
        call = {"to": _hex(swapper), "data": _hex(encode("DevnetSwapper", "sqrtPrice", []))}
        (sqrt,) = decode_result(
            "DevnetSwapper", "sqrtPrice", bytes.fromhex((await rpc.call("eth_call", [call, block]))[2:])
        )
        return price_of(sqrt, token, settlement)


def approval(swapper: Address, amount: int) -> bytes:
    """Calldata to the token: lets the swapper take `amount`."""
    return encode("DevnetToken", "approve", [swapper, amount])


def sale(token_in: Address, amount_in: int, least: int, recipient: Address, deadline: int) -> bytes:
    """Calldata to the swapper: sells exactly `amount_in`, for at least `least`, until the block time `deadline`."""
    return encode("DevnetSwapper", "exactInput", [token_in, amount_in, least, recipient, deadline])


def _hex(value: bytes) -> str:
    return "0x" + value.hex()
