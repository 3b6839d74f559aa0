"""The devnet's Uniswap v3 pool: from which code it is deployed, where it will be, how much lies in it.

Factory and pool are the compiled contracts that Uniswap publishes, as npm's package has them.
"""

from __future__ import annotations

import json
from math import isqrt
from typing import Any

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from keeper.state.deployment import Token
from keeper.state.ids import Address

from .processes import ROOT, DevnetError

FACTORY = "UniswapV3Factory"
_ARTIFACTS = ROOT / "node_modules/@uniswap/v3-core/artifacts/contracts"


def artifact(contract: str) -> dict[str, Any]:
    """ABI and creation code of one of Uniswap's contracts. Raises DevnetError where the package is missing."""
    path = _ARTIFACTS / f"{contract}.sol" / f"{contract}.json"
    try:
        compiled: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise DevnetError(f"{path} is missing: run make setup") from None
    return compiled


def pool_address(factory: Address, token: Address, other: Address, fee: int) -> Address:
    """Where the factory creates the pool: CREATE2, with the hash of tokens and fee as salt."""
    first, second = sorted((token, other))
    salt = keccak(encode(["address", "address", "uint24"], [first, second, fee]))
    code = keccak(hexstr=artifact("UniswapV3Pool")["bytecode"])
    return Address(keccak(b"\xff" + factory + salt + code)[12:])


def liquidity(depth: int, price: int, token: Token, settlement: Token) -> int:
    """√(amount0 · amount1), what a pool over all prices holds: `depth` whole tokens and as much worth at `price`.

    `price` is of a whole token in whole settlement tokens, 1e18.
    """
    amount = depth * 10**token.decimals
    worth = depth * price * 10**settlement.decimals // 10**18
    return isqrt(amount * worth)
