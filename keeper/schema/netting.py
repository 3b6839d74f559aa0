"""What netting saves: exposure, margin and payments, gross and net."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from .base import Amount, Answer, Count, Hex32


class Netted(Answer):
    """USD 1e18; `efficiency` is 1 − net ÷ gross, null where there is nothing."""

    gross: Amount
    net: Amount
    efficiency: float | None


class Counted(Answer):
    gross: int
    net: int
    efficiency: float | None


class Exposure(Answer):
    usd: Amount
    units: Amount


class NettedExposure(Answer):
    gross: Exposure
    net: Exposure
    efficiency: float | None


class UnderlyingNetting(NettedExposure):
    index: Amount
    siloed: Exposure
    overall: Exposure
    chains: dict[str, NettedExposure]


class ChainNetting(Answer):
    name: str
    exposure: Netted
    initial_margin: Amount


class MarginNetting(Answer):
    """Initial margin of every position alone, of every chain alone, and of portfolios over all chains; USD 1e18."""

    isolated: Amount
    siloed: Amount
    portfolio: Amount
    efficiency: float | None
    capital_efficiency: float | None


class AccountNetting(MarginNetting):
    account_id: Hex32
    chains: list[Count]


class Payments(Answer):
    value: Netted
    transfers: Counted


class Point(Answer):
    """The efficiencies at one batch."""

    epoch: int
    time: Count
    exposure: float | None
    value: float | None
    transfers: float | None
    margin: float | None
    capital_efficiency: float | None


_NETTED: dict[str, Any] = {"gross": "6000000000000000000000", "net": "0", "efficiency": 1.0}
_AMOUNT: dict[str, Any] = {"usd": "6000000000000000000000", "units": "2000000000000000000"}
_NONE: dict[str, Any] = {"usd": "0", "units": "0"}
_MARGIN: dict[str, Any] = {
    "isolated": "1068000000000000000000",
    "siloed": "1068000000000000000000",
    "portfolio": "0",
    "efficiency": 1.0,
    "capitalEfficiency": None,
}


class NettingFigures(Answer):
    """Exposure, margin and payments at this node's final blocks, gross and net, and the efficiencies over time."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "epoch": 899000070,
                    "time": 1798000140,
                    "finals": {"31337001": 140},
                    "exposure": _NETTED,
                    "underlyings": {
                        "ETH": {
                            "index": "3000000000000000000000",
                            "gross": _AMOUNT,
                            "net": _NONE,
                            "efficiency": 1.0,
                            "siloed": _AMOUNT,
                            "overall": _NONE,
                            "chains": {"31337001": {"gross": _AMOUNT, "net": _AMOUNT, "efficiency": 0.0}},
                        }
                    },
                    "chains": {"31337001": {"name": "A", "exposure": _NETTED, "initialMargin": "0"}},
                    "margin": _MARGIN,
                    "payments": {"value": _NETTED, "transfers": {"gross": 2, "net": 1, "efficiency": 0.5}},
                    "accountCount": 1,
                    "accounts": [{"accountId": "0x" + "14" * 20 + "00" * 12, "chains": [31337001], **_MARGIN}],
                    "history": [],
                }
            ]
        }
    )

    epoch: int = Field(ge=-1)
    time: Count
    finals: dict[str, int] = Field(description="Final block number by chain id")
    exposure: Netted
    underlyings: dict[str, UnderlyingNetting]
    chains: dict[str, ChainNetting]
    margin: MarginNetting
    payments: Payments
    account_count: int
    accounts: list[AccountNetting]
    history: list[Point]
