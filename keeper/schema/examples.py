"""Examples of bodies and answers, as they stand in /openapi.json. A test reads each by its model."""

from __future__ import annotations

from typing import Any

from keeper.state.actions import Permit, Reserve
from keeper.state.batch import MarginLeaf, MarkLeaf
from keeper.state.ids import ZERO32, Address, account_id, perpetual
from keeper.state.live import PermitItem
from keeper.state.wire import to_json

OWNER = Address(bytes.fromhex("14dc79964da2c08b23698b3d3cc7ca32193d9955"))
INTEGRATOR = Address(bytes.fromhex("5fbdb2315678afecb367f032d93f642f64180aa3"))
ID = account_id(OWNER)
CHAIN = 31_337_001
TIME = 1_798_000_140
USD = 10**18
_NODE = "0x" + "7c" * 32

_ITEM = PermitItem(
    CHAIN,
    Permit(ID, ZERO32, bytes.fromhex("3f" * 32), 0, TIME + 60, 1),
    Reserve(ID, INTEGRATOR, 400 * USD, 0, TIME + 3_600),
    (bytes.fromhex("51" * 65),),
)
ITEM: dict[str, Any] = to_json(_ITEM)
"""A request to reserve 400 USD."""
SIGNED: dict[str, Any] = {
    "item": ITEM,
    "digest": "0x" + "9a" * 32,
    "signatures": "0x" + "1b" * 195,
    "signers": ["0x" + digit * 40 for digit in "123"],
}

_LEAF = MarginLeaf(ID, CHAIN, 1_000 * USD, 400 * USD, 400 * USD)
ACCOUNT_PROOF: dict[str, Any] = {
    "epoch": TIME // 2,
    "timestamp": TIME,
    "leaf": to_json(_LEAF),
    "proof": [_NODE],
    "arguments": [
        ["0x" + ID.hex(), str(CHAIN), str(1_000 * USD), str(400 * USD), str(400 * USD), "0"],
        [_NODE],
    ],
}
_MARK = MarkLeaf(perpetual("ETH"), 3_000 * USD, 0, 534 * USD, 534 * USD)
MARK_PROOF: dict[str, Any] = {
    "epoch": TIME // 2,
    "timestamp": TIME,
    "leaf": to_json(_MARK),
    "proof": [_NODE],
    "arguments": [
        ["0x" + perpetual("ETH").hex(), str(3_000 * USD), "0", str(534 * USD), str(534 * USD), "0"],
        [_NODE],
    ],
}

_NETTING = {"standalone": {}, "standaloneSum": 0.0, "portfolio": 0.0, "benefit": 0.0, "efficiency": None}
ACCOUNT: dict[str, Any] = {
    "accountId": "0x" + ID.hex(),
    "owner": "0x" + OWNER.hex(),
    "subAccount": "0",
    "marginAccounts": [
        {
            "chains": [CHAIN],
            "status": "healthy",
            "equity": str(1_000 * USD),
            "initialMargin": str(400 * USD),
            "maintenanceMargin": str(400 * USD),
            "free": str(600 * USD),
            "reserved": str(400 * USD),
            "usd": {
                "equity": 1000.0,
                "initialMargin": 400.0,
                "maintenanceMargin": 400.0,
                "free": 600.0,
                "reserved": 400.0,
            },
            "holdings": [
                {
                    "chain": CHAIN,
                    "cash": str(1_000 * USD),
                    "positions": {},
                    "balances": {},
                    "reservations": {
                        "0x" + INTEGRATOR.hex(): {"amount": str(400 * USD), "cashPart": "0", "until": TIME + 3_600}
                    },
                    "lapsedReservations": {},
                    "linked": [],
                }
            ],
            "explain": {
                "model": "xpm",
                "status": "healthy",
                "equity": {"total": 1000.0, "cash": 1000.0, "markToMarket": 0.0, "collateral": 0.0},
                "initialMargin": 400.0,
                "maintenanceMargin": 400.0,
                "free": 600.0,
                "reserved": 400.0,
                "terms": [],
                "binding": None,
                "netting": _NETTING,
                "liquidationPrices": {},
            },
            "nettingByChain": {**_NETTING, "standalone": {f"chain {CHAIN}": 0.0}},
        }
    ],
    "live": [
        {
            "description": f"reservation of 400 USD for 0x{INTEGRATOR.hex()} on chain {CHAIN}, nonce 0, "
            f"until {TIME + 60}",
            "chainId": CHAIN,
            "until": TIME + 60,
            "accounts": ["0x" + ID.hex()],
            "item": to_json(_ITEM, tagged=True),
        }
    ],
    "liveFrom": ["0x" + digit * 40 for digit in "1234"],
    "freeNonce": "1",
}
