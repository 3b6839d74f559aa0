"""Folding the contracts' events into a chain's state.

The `…Set` events carry the value after the change, so folding is assignment: the same logs give the same state in
whatever ranges they arrive. Only what a position cost is summed up, from the events that say why it changed. Words are
sliced directly; a general decoder takes many times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from immutables import Map

from keeper.state.batch import UNIT
from keeper.state.ids import ZERO32, AccountId, Address, AssetId, is_token
from keeper.state.world import BlockRef, ChainState, FundingIndex, Owed, Reservation

from .abi import topic


class EventError(ValueError):
    """A log that is not what its topic says; the message carries block, log index and data."""


Log = Mapping[str, Any]
"""A log as JSON-RPC gives it."""


class _Fold:
    """Mutable copies of a state's maps while logs are applied."""

    def __init__(self, state: ChainState) -> None:
        self.cash = state.cash.mutate()
        self.sizes = state.sizes.mutate()
        self.balances = state.balances.mutate()
        self.closed = state.closed.mutate()
        self.filled = state.filled.mutate()
        self.reservations = state.reservations.mutate()
        self.links = state.links.mutate()
        self.used_nonces = state.used_nonces.mutate()
        self.cancelled = state.cancelled.mutate()
        self.deposited = state.deposited.mutate()
        self.held = state.held
        self.claims = state.claims
        self.applied = state.applied.mutate()
        self.owed = state.owed.mutate()
        self.funding = state.funding.mutate()
        self.funding_paid = state.funding_paid.mutate()
        self.settlement_prices = state.settlement_prices.mutate()
        self.costs = state.costs.mutate()
        self.posted = (state.posted_epoch, state.posted_digest, state.posted_timestamp)

    def finish(self, state: ChainState, block: BlockRef) -> ChainState:
        epoch, digest, timestamp = self.posted
        return replace(
            state,
            block=block,
            cash=self.cash.finish(),
            sizes=self.sizes.finish(),
            balances=self.balances.finish(),
            closed=self.closed.finish(),
            filled=self.filled.finish(),
            reservations=self.reservations.finish(),
            links=self.links.finish(),
            used_nonces=self.used_nonces.finish(),
            cancelled=self.cancelled.finish(),
            deposited=self.deposited.finish(),
            held=self.held,
            claims=self.claims,
            applied=self.applied.finish(),
            owed=self.owed.finish(),
            funding=self.funding.finish(),
            funding_paid=self.funding_paid.finish(),
            settlement_prices=self.settlement_prices.finish(),
            costs=self.costs.finish(),
            posted_epoch=epoch,
            posted_digest=digest,
            posted_timestamp=timestamp,
        )


def fold(state: ChainState, logs: Iterable[Log], block: BlockRef) -> ChainState:
    """The state after `logs` (in chain order), at `block`. Logs of other events are passed over.

    Raises:
        EventError: a log of ours is malformed.
    """
    working: _Fold | None = None
    for log in logs:
        topics = log["topics"]
        handler = _handlers().get(topics[0]) if topics else None
        if handler is None:
            continue
        working = working or _Fold(state)
        try:
            handler(working, [bytes.fromhex(t[2:]) for t in topics], bytes.fromhex(log["data"][2:]))
        except (IndexError, ValueError) as error:
            raise EventError(
                f"chain {state.chain_id}, block {log.get('blockNumber')}, log {log.get('logIndex')}: {error}: "
                f"{log['data']}"
            ) from None
    return replace(state, block=block) if working is None else working.finish(state, block)


def _word(data: bytes, index: int) -> int:
    word = data[32 * index : 32 * index + 32]
    if len(word) != 32:
        raise ValueError(f"word {index} is missing")
    return int.from_bytes(word, "big")


def _signed(data: bytes, index: int) -> int:
    value = _word(data, index)
    return value - 2**256 if value >> 255 else value


def _put(table: Any, key: Any, value: Any) -> None:
    if value:
        table[key] = value
    else:
        table.pop(key, None)


def _put_nested(table: Any, outer: Any, inner: Any, value: Any) -> None:
    row: Map[Any, Any] = table.get(outer, Map())
    if value:
        row = row.set(inner, value)
    elif inner in row:
        row = row.delete(inner)
    _put(table, outer, row)


def _cash(fold: _Fold, topics: list[bytes], data: bytes) -> None:
    _put(fold.cash, AccountId(topics[1]), _signed(data, 0))


def _position(fold: _Fold, topics: list[bytes], data: bytes) -> None:
    _put_nested(fold.sizes, AccountId(topics[1]), AssetId(topics[2]), _signed(data, 0))


def _balance(fold: _Fold, topics: list[bytes], data: bytes) -> None:
    _put_nested(fold.balances, AccountId(topics[1]), Address(topics[2][12:]), _word(data, 0))


def _closed(fold: _Fold, topics: list[bytes], data: bytes) -> None:
    fold.closed[(AccountId(topics[1]), AssetId(topics[2]))] = _word(data, 0)


def _filled(fold: _Fold, topics: list[bytes], data: bytes) -> None:
    fold.filled[topics[1]] = _word(data, 0)


def _reservation(fold: _Fold, topics: list[bytes], data: bytes) -> None:
    value = Reservation(_word(data, 0), _word(data, 1), _word(data, 2))
    _put_nested(fold.reservations, AccountId(topics[1]), Address(topics[2][12:]), value if value.amount else None)


def _linked(fold: _Fold, topics: list[bytes], data: bytes) -> None:
    account = AccountId(topics[1])
    fold.links[account] = fold.links.get(account, frozenset()) | {int.from_bytes(topics[2], "big")}


def _unlinked(fold: _Fold, topics: list[bytes], data: bytes) -> None:
    account = AccountId(topics[1])
    _put(fold.links, account, fold.links.get(account, frozenset()) - {int.from_bytes(topics[2], "big")})


def _nonce(fold: _Fold, topics: list[bytes], data: bytes) -> None:
    fold.used_nonces[(AccountId(topics[1]), _word(data, 0))] = data[32:64]


def _cancelled(fold: _Fold, topics: list[bytes], data: bytes) -> None:
    fold.cancelled[(AccountId(topics[1]), _word(data, 0))] = True


def _held(fold: _Fold, topics: list[bytes], data: bytes) -> None:
    fold.held = _word(data, 0)


def _deposited(fold: _Fold, topics: list[bytes], data: bytes) -> None:
    fold.deposited[AccountId(topics[1])] = _word(data, 0)


def _posted(fold: _Fold, topics: list[bytes], data: bytes) -> None:
    fold.posted = (int.from_bytes(topics[1], "big"), topics[2], _word(data, 0))


def _claims(fold: _Fold, topics: list[bytes], data: bytes) -> None:
    fold.claims = _signed(data, 0)


def _applied(fold: _Fold, topics: list[bytes], data: bytes) -> None:
    fold.applied[(AccountId(topics[2]), int.from_bytes(topics[1], "big"))] = _signed(data, 0)


def _owed(fold: _Fold, topics: list[bytes], data: bytes) -> None:
    value = Owed(_word(data, 0), _word(data, 1))
    _put_nested(fold.owed, AccountId(topics[1]), Address(topics[2][12:]), value if value.cash or value.rest else None)


def _funding(fold: _Fold, topics: list[bytes], data: bytes) -> None:
    fold.funding[AssetId(topics[1])] = FundingIndex(_signed(data, 0), _word(data, 1))


def _funding_paid(fold: _Fold, topics: list[bytes], data: bytes) -> None:
    _put(fold.funding_paid, (AccountId(topics[1]), AssetId(topics[2])), _signed(data, 0))


def _settlement_price(fold: _Fold, topics: list[bytes], data: bytes) -> None:
    fold.settlement_prices[AssetId(topics[1])] = _word(data, 0)


def _matched(fold: _Fold, topics: list[bytes], data: bytes) -> None:
    asset, maker, taker = AssetId(topics[1]), AccountId(topics[2]), AccountId(topics[3])
    size, price = _signed(data, 0), _word(data, 1)
    _exchanged(fold, asset, ((maker, size), (taker, -size)), price)


def _closed_out(fold: _Fold, topics: list[bytes], data: bytes) -> None:
    """Liquidated or Deleveraged: `size` is what was added to the account, and taken from the other."""
    account, asset, other = AccountId(topics[1]), AssetId(topics[2]), AccountId(topics[3])
    if not is_token(asset):
        size, price = _signed(data, 0), _word(data, 1)
        _exchanged(fold, asset, ((account, size), (other, -size)), price)


def _moved(fold: _Fold, topics: list[bytes], data: bytes) -> None:
    source, target, asset = AccountId(topics[1]), AccountId(topics[2]), AssetId(topics[3])
    amount, price = _signed(data, 0), _word(data, 1)
    if asset == ZERO32:
        return
    # What is moved keeps what it cost: nobody leaves a profit behind by moving to another account of his own.
    before = _size(fold, source, asset) + amount
    if before * amount > 0 and abs(amount) <= abs(before):
        price = fold.costs.get((source, asset), before * price // UNIT) * UNIT // before
    _exchanged(fold, asset, ((source, -amount), (target, amount)), price)


def _settled(fold: _Fold, topics: list[bytes], data: bytes) -> None:
    fold.costs.pop((AccountId(topics[1]), AssetId(topics[2])), None)


def _exchanged(fold: _Fold, asset: AssetId, changes: Iterable[tuple[AccountId, int]], price: int) -> None:
    """Book what positions cost; their sizes are those after the change. Average cost, rounded down."""
    for account, change in changes:
        after = _size(fold, account, asset)
        before, key = after - change, (account, asset)
        cost = fold.costs.get(key, 0)
        if before * after <= 0:
            cost = after * price // UNIT
        elif abs(after) > abs(before):
            cost += change * price // UNIT
        else:
            cost = cost * after // before
        _put(fold.costs, key, cost)


def _size(fold: _Fold, account: AccountId, asset: AssetId) -> int:
    sizes = fold.sizes.get(account)
    return 0 if sizes is None else sizes.get(asset, 0)


_Handler = Callable[[_Fold, list[bytes], bytes], None]


@cache
def _handlers() -> Mapping[str, _Handler]:
    by_name: dict[str, _Handler] = {
        "CashSet": _cash,
        "PositionSet": _position,
        "BalanceSet": _balance,
        "ClosedSet": _closed,
        "FilledSet": _filled,
        "ReservationSet": _reservation,
        "Linked": _linked,
        "Unlinked": _unlinked,
        "NonceUsed": _nonce,
        "OrderCancelled": _cancelled,
        "SettlementHeldSet": _held,
        "DepositedSet": _deposited,
        "BatchPosted": _posted,
        "ClaimsSet": _claims,
        "SettlementApplied": _applied,
        "OwedSet": _owed,
        "FundingIndexSet": _funding,
        "FundingPaidSet": _funding_paid,
        "SettlementPriceSet": _settlement_price,
        "Matched": _matched,
        "Liquidated": _closed_out,
        "Deleveraged": _closed_out,
        "Moved": _moved,
        "Settled": _settled,
    }
    return {"0x" + topic(name).hex(): handler for name, handler in by_name.items()}


def topics_followed() -> list[str]:
    """First topics of every event that changes a state."""
    return list(_handlers())
