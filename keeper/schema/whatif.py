"""What an account's margin would be after trades, transfers and reservations."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from .accounts import MarginStatus, Usd
from .base import Amount, Answer, Asked, Count
from .examples import CHAIN, ID, TIME

MOST_CHANGES = 64
"""Changes that one what-if takes."""

ChainId = Annotated[int, Field(ge=1, lt=2**64)]
Asset = Annotated[str, Field(min_length=1, max_length=66)]


class TradeChange(Asked):
    """Buys `size` of an instrument where positive, sells where negative. Scaled by 1e18."""

    kind: Literal["trade"]
    asset: Asset = Field(description="A name like ETH-PERP or ETH-20261225-3000-C, or an asset id")
    size: Amount
    price: Amount | None = Field(default=None, description="USD 1e18; the mark where it is left out")
    chain: ChainId | None = Field(default=None, description="One of the account's; which one makes no difference")


class DepositChange(Asked):
    """Puts in `amount` of a token, in its smallest units."""

    kind: Literal["deposit"]
    token: Asset = Field(description="The token's symbol or address on `chain`")
    amount: Amount
    chain: ChainId


class WithdrawChange(Asked):
    """Takes out `amount` of a token, in its smallest units."""

    kind: Literal["withdraw"]
    token: Asset = Field(description="The token's symbol or address on `chain`")
    amount: Amount
    chain: ChainId


class CashChange(Asked):
    """Adds `amount` of USD 1e18 to the cash, takes it where negative."""

    kind: Literal["cash"]
    amount: Amount


class ReserveChange(Asked):
    """Reserves `amount` of USD 1e18 for an integrator, `cashPart` of it claimable at once."""

    kind: Literal["reserve"]
    amount: Amount
    cash_part: Amount = 0
    chain: ChainId | None = None


Change = Annotated[
    TradeChange | DepositChange | WithdrawChange | CashChange | ReserveChange, Field(discriminator="kind")
]


class WhatIfRequest(Asked):
    """An account and what is to change. Without `account` it is one that holds nothing."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "account": "0x" + ID.hex(),
                    "changes": [
                        {"kind": "trade", "asset": "ETH-PERP", "size": "1000000000000000000"},
                        {"kind": "withdraw", "token": "USDC", "amount": "100000000", "chain": CHAIN},
                    ],
                }
            ]
        }
    )

    account: str | None = Field(default=None, max_length=200, description="Owner's address or account id")
    chains: list[ChainId] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Those of one margin account: needed only where the account has several",
    )
    changes: list[Change] = Field(max_length=MOST_CHANGES)


class Figures(Answer):
    """USD 1e18; `binding` is the scenario that costs most, null where nothing is at risk."""

    status: MarginStatus
    equity: Amount
    initial_margin: Amount
    maintenance_margin: Amount
    free: Amount
    reserved: Amount
    usd: Usd
    binding: str | None


_BEFORE: dict[str, Any] = {
    "status": "healthy",
    "equity": "1000000000000000000000",
    "initialMargin": "0",
    "maintenanceMargin": "0",
    "free": "1000000000000000000000",
    "reserved": "0",
    "usd": {"equity": 1000.0, "initialMargin": 0.0, "maintenanceMargin": 0.0, "free": 1000.0, "reserved": 0.0},
    "binding": None,
}


class WhatIf(Answer):
    """The account as it is, and as it would be. Advice, no permit."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "advice": "no permit: judged at this node's final blocks and marks, without what is live",
                    "accountId": "0x" + ID.hex(),
                    "chains": [CHAIN],
                    "time": TIME,
                    "before": _BEFORE,
                    "after": _BEFORE,
                    "changeOfFree": "0",
                }
            ]
        }
    )

    advice: str
    account_id: str | None
    chains: list[Count]
    time: Count = Field(description="Of the marks, unix seconds")
    before: Figures
    after: Figures
    change_of_free: Amount
