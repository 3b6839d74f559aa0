"""What the chains say happened: states, closed positions, settlement, postings, gas; from logs and receipts alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keeper.chain.abi import topic
from keeper.chain.events import fold
from keeper.chain.rpc import Rpc
from keeper.state.batch import UNIT
from keeper.state.deployment import ChainDeployment
from keeper.state.ids import FUND, AccountId, AssetId, transfer_target
from keeper.state.world import BlockRef, ChainState

_RANGE = 1_000
_AT_ONCE = 200

RUNGS = ("auction", "fund", "payment", "deleveraging")
"""Of the waterfall, in its order: bought by a bidder, taken by the fund, paid by the fund, closed against another."""


@dataclass(frozen=True, slots=True)
class Closed:
    """One fill of a leg. `size` is what was added to the account, 1e18; `price` USD 1e18 a unit; `cost` is what the
    account lost against the mark, USD 1e18, of which `to_fund` went to the fund."""

    rung: str
    chain_id: int
    block: int
    transaction: str
    account: AccountId
    asset: AssetId
    taker: AccountId
    size: int
    price: int
    cost: int = 0
    to_fund: int = 0

    @property
    def value(self) -> int:
        return abs(self.size) * self.price // UNIT


@dataclass
class ChainHistory:
    """One chain from its deployment to a block."""

    state: ChainState
    closed: list[Closed] = field(default_factory=list)
    posted: list[tuple[int, int]] = field(default_factory=list)
    """(block, epoch) of every batch, in order."""
    applied: list[tuple[int, AccountId, int]] = field(default_factory=list)
    """(cycle, account, delta) of every account's settlement entry."""
    shipped: list[int] = field(default_factory=list)
    """USD 1e18."""
    settled: int = 0
    """Positions that expired."""
    transactions: dict[str, list[str]] = field(default_factory=dict)
    """Hashes by what they did."""
    times: dict[int, int] = field(default_factory=dict)
    """Block → its time, of postings and fills."""


_KINDS = {
    "BatchPosted": "postBatch",
    "Matched": "matchOrders",
    "Liquidated": "liquidate",
    "Deleveraged": "deleverage",
    "SettlementApplied": "applySettlement",
    "Settled": "settleExpired",
    "Arrived": "receiveMessage",
}


async def read(rpc: Rpc, chain: ChainDeployment) -> ChainHistory:
    """A chain's history up to its head."""
    head = await rpc.call("eth_getBlockByNumber", ["latest", False])
    last = int(head["number"], 16)
    at = chain.contracts
    addresses = ["0x" + each.hex() for each in (at.verifier, at.clearing_house, at.vault, at.reservations)]
    logs: list[dict[str, Any]] = []
    for first in range(chain.deploy_block, last + 1, _RANGE):
        within = {"fromBlock": hex(first), "toBlock": hex(min(last, first + _RANGE - 1)), "address": addresses}
        logs += await rpc.call("eth_getLogs", [within])
    block = BlockRef(
        last, bytes.fromhex(head["hash"][2:]), bytes.fromhex(head["parentHash"][2:]), _int(head["timestamp"])
    )
    history = ChainHistory(fold(ChainState(chain.chain_id, block), logs, block))
    names = {"0x" + topic(name).hex(): name for name in (*_KINDS, "Shipped")}
    for log in logs:
        name = names.get(log["topics"][0])
        if name is not None:
            _note(history, chain, name, log)
    numbers = sorted({*(entry.block for entry in history.closed), *(number for number, _ in history.posted)})
    for begin in range(0, len(numbers), _AT_ONCE):
        asked = [("eth_getBlockByNumber", [hex(number), False]) for number in numbers[begin : begin + _AT_ONCE]]
        history.times |= {_int(found["number"]): _int(found["timestamp"]) for found in await rpc.batch(asked)}
    return history


def _note(history: ChainHistory, chain: ChainDeployment, name: str, log: Mapping[str, Any]) -> None:
    topics = [bytes.fromhex(entry[2:]) for entry in log["topics"]]
    data = bytes.fromhex(log["data"][2:])
    words = [int.from_bytes(data[i : i + 32], "big", signed=i == 0) for i in range(0, len(data) - 31, 32)]
    block, transaction = _int(log["blockNumber"]), str(log["transactionHash"])
    if name in _KINDS and transaction not in (known := history.transactions.setdefault(_KINDS[name], [])):
        known.append(transaction)
    if name == "BatchPosted":
        history.posted.append((block, int.from_bytes(topics[1], "big")))
    elif name in ("Liquidated", "Deleveraged"):
        account, asset, taker = AccountId(topics[1]), AssetId(topics[2]), AccountId(topics[3])
        if name == "Deleveraged":
            rung, cost, to_fund = "fund" if taker == FUND else "deleveraging", 0, 0
        else:
            rung, cost, to_fund = "auction", abs(words[0]) * words[2] // UNIT + words[3], words[4]
        history.closed.append(
            Closed(rung, chain.chain_id, block, transaction, account, asset, taker, words[0], words[1], cost, to_fund)
        )
    elif name == "SettlementApplied":
        account = AccountId(topics[2])
        if transfer_target(account) is None:
            history.applied.append((int.from_bytes(topics[1], "big"), account, words[0]))
    elif name == "Shipped":
        history.shipped.append(words[0] * 10 ** (18 - chain.settlement.decimals))
    elif name == "Settled":
        history.settled += 1


async def gas_of(rpc: Rpc, history: ChainHistory) -> dict[str, list[int]]:
    """Gas of every transaction by what it did; of settlement in parts, each call of the settler counts once."""
    found: dict[str, list[int]] = {}
    for kind, hashes in history.transactions.items():
        for begin in range(0, len(hashes), _AT_ONCE):
            asked = [("eth_getTransactionReceipt", [each]) for each in hashes[begin : begin + _AT_ONCE]]
            found.setdefault(kind, []).extend(_int(receipt["gasUsed"]) for receipt in await rpc.batch(asked))
    return found


def payments(histories: Sequence[ChainHistory]) -> Counter[AccountId]:
    """What the fund paid to accounts: entries of cycles in which it pays, USD 1e18."""
    found: Counter[AccountId] = Counter()
    for history in histories:
        paying = {cycle for cycle, account, delta in history.applied if account == FUND and delta < 0}
        for cycle, account, delta in history.applied:
            if cycle in paying and account != FUND and delta > 0:
                found[account] += delta
    return found


def _int(value: str) -> int:
    return int(value, 16)
