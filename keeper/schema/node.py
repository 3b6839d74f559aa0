"""How a node is: alive, ready, what it sees of every chain, and what its liquidator does."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from .base import Amount, Answer, Count, Hex20, Hex32
from .problem import Problem


class Health(Answer):
    """The process lives."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "alive", "name": "keeper"}]})

    status: Literal["alive"]
    name: str


class Ready(Answer):
    """Every chain is fresh and batches are signed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ready": True, "reasons": []}]})

    ready: bool
    reasons: list[str]


class Unready(Problem):
    """What a node that is not ready answers: a problem, with every reason."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "ready": False,
                    "reasons": ["chain B (31337002): head is 14 s behind"],
                    "code": "not_ready",
                    "message": "chain B (31337002): head is 14 s behind",
                    "field": None,
                    "got": None,
                    "wanted": None,
                    "unit": None,
                    "details": {},
                }
            ]
        }
    )

    ready: Literal[False]
    reasons: list[str]


class FinalBlock(Answer):
    number: Count
    hash: Hex32
    time: Count


class HeadBlock(Answer):
    number: Count
    time: Count


class ChainStatus(Answer):
    """One chain. What is known only once it was read is absent until then."""

    name: str
    late: str | None = Field(description="Why the chain counts as late; null where it does not")
    error: str | None = Field(description="What its provider answers instead of blocks; null where it answers")
    requests: int = Field(ge=0, description="HTTP requests sent to its provider")
    final: FinalBlock | None = None
    head: HeadBlock | None = None
    posted_epoch: int | None = Field(default=None, ge=-1, description="Of the batch it holds, −1 for none")
    accounts: int | None = Field(default=None, ge=0)


class BatchSummary(Answer):
    epoch: Count
    timestamp: Count
    accounts: int
    legs: int
    signatures: int
    late_chains: list[Count]
    prices: dict[str, float] = Field(description="Index of each underlying, USD")


class AttestorStatus(Answer):
    address: Hex20
    threshold: int
    attestors: int
    last_proposal: str
    live: int = Field(ge=0, description="Permits and legs that may still be executed")


class Posting(Answer):
    epoch: int = Field(ge=-1)
    posted: int = Field(ge=0, description="Batches posted so far")
    gas_used: int
    error: str | None


class Quantiles(Answer):
    count: int
    p50: float
    p99: float


class Status(Answer):
    """What a node sees and does."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "keeper",
                    "roles": ["liquidate", "relay", "serve"],
                    "ready": True,
                    "reasons": [],
                    "chains": {
                        "31337001": {
                            "name": "A",
                            "late": None,
                            "error": None,
                            "requests": 512,
                            "final": {"number": 140, "hash": "0x" + "1f" * 32, "time": 1798000140},
                            "head": {"number": 142, "time": 1798000142},
                            "postedEpoch": 899000070,
                            "accounts": 12,
                        }
                    },
                    "batch": {
                        "epoch": 899000070,
                        "timestamp": 1798000140,
                        "accounts": 24,
                        "legs": 0,
                        "signatures": 3,
                        "lateChains": [],
                        "prices": {"BTC": 60000.0, "ETH": 3000.0},
                    },
                    "attestor": None,
                    "relayer": {"31337001": {"epoch": 899000070, "posted": 40, "gasUsed": 91000, "error": None}},
                    "latencies": {"posted": {"count": 40, "p50": 1.1, "p99": 1.9}},
                }
            ]
        }
    )

    name: str
    roles: list[str]
    ready: bool
    reasons: list[str]
    chains: dict[str, ChainStatus] = Field(description="By chain id")
    batch: BatchSummary | None = Field(description="The newest quorum batch that is known here")
    attestor: AttestorStatus | None
    relayer: dict[str, Posting] | None = Field(description="By chain id")
    latencies: dict[str, Quantiles] = Field(description="Seconds, by stage of a batch")


class Bid(Answer):
    """What this node bids for a leg now; `reason` where it bids nothing."""

    size: Amount
    profit: Amount
    reason: str | None


class Leg(Answer):
    """A liquidation leg of the newest batch, with what is open of it and conceded now."""

    account_id: Hex32
    chain_id: Count
    asset: Hex32
    close_limit: Amount
    mark_price: Amount
    max_concession: Amount
    auction_start: Count
    deposit_target: Amount
    counterparty: Hex32
    open: Amount
    concession: Amount = Field(description="USD 1e18 per unit, at this node's head of the leg's chain")
    bid: Bid | None = Field(description="Null where this node does not liquidate")


class Taken(Answer):
    account_id: Hex32
    chain_id: Count
    asset: Hex32
    size: Amount
    gas_used: int
    profit: Amount
    blocks: Amount
    seconds: float


class Missed(Answer):
    account_id: Hex32
    chain_id: Count
    asset: Hex32
    size: Amount
    reason: str
    mined: bool


class Sales(Answer):
    done: dict[str, int]
    waiting: dict[str, str] = Field(description="Why nothing is sold, by chain id")


class Liquidations(Answer):
    """Open legs, and what this node's liquidator took and missed."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "legs": [
                        {
                            "accountId": "0x" + "14" * 20 + "00" * 12,
                            "chainId": 31337001,
                            "asset": "0x01455448" + "00" * 28,
                            "closeLimit": "2000000000000000000",
                            "markPrice": "3000000000000000000000",
                            "maxConcession": "150000000000000000000",
                            "auctionStart": 1798000140,
                            "depositTarget": str(2**256 - 1),
                            "counterparty": "0x" + "00" * 32,
                            "open": "2000000000000000000",
                            "concession": "15000000000000000000",
                            "bid": {"size": "0", "profit": "0", "reason": "the concession does not pay the risk yet"},
                        }
                    ],
                    "taken": [],
                    "missed": [],
                    "lastRefusal": None,
                    "sales": {"done": {}, "waiting": {}},
                }
            ]
        }
    )

    legs: list[Leg]
    taken: list[Taken]
    missed: list[Missed]
    last_refusal: Problem | None
    sales: Sales | None
