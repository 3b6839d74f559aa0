"""Folding events: the state is the last value of every key, in whatever ranges the logs arrive."""

from __future__ import annotations

from dataclasses import fields
from itertools import pairwise
from typing import Any

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map

from keeper.chain.abi import topic
from keeper.chain.events import EventError, Log, fold, topics_followed
from keeper.state.batch import UNIT
from keeper.state.ids import AccountId, Address, AssetId, perpetual
from keeper.state.world import BlockRef, ChainState, Reservation

CHAIN = 31337001
START = ChainState(CHAIN, BlockRef(0, b"\1" * 32, b"\0" * 32, 0))
ACCOUNTS = [bytes([n]) * 20 + b"\0" * 12 for n in (1, 2, 3)]
WORDS = [bytes([n]) * 32 for n in (4, 5)]
ADDRESSES = [bytes([n]) * 20 for n in (6, 7)]


def log(event: str, topics: list[bytes], types: list[str], values: list[Any]) -> Log:
    return {
        "topics": ["0x" + t.rjust(32, b"\0").hex() for t in (topic(event), *topics)],
        "data": "0x" + encode(types, values).hex(),
        "blockNumber": "0x1",
        "logIndex": "0x0",
    }


def block(number: int) -> BlockRef:
    return BlockRef(number, number.to_bytes(32, "big"), (number - 1).to_bytes(32, "big"), number)


accounts, words, addresses = st.sampled_from(ACCOUNTS), st.sampled_from(WORDS), st.sampled_from(ADDRESSES)
signed, unsigned = st.integers(-(2**255), 2**255 - 1), st.integers(0, 2**256 - 1)
small = st.integers(0, 3)  # so that zeros, which remove keys, are common
amounts = st.one_of(small, unsigned)
logs = st.one_of(
    st.builds(lambda a, v: log("CashSet", [a], ["int256"], [v]), accounts, st.one_of(small, signed)),
    st.builds(lambda a, w, v: log("PositionSet", [a, w], ["int256"], [v]), accounts, words, st.one_of(small, signed)),
    st.builds(lambda a, t, v: log("BalanceSet", [a, t], ["uint256"], [v]), accounts, addresses, amounts),
    st.builds(lambda a, w, v: log("ClosedSet", [a, w], ["uint256"], [v]), accounts, words, amounts),
    st.builds(lambda w, v: log("FilledSet", [w], ["uint256"], [v]), words, amounts),
    st.builds(
        lambda a, i, v, u: log("ReservationSet", [a, i], ["uint256", "uint256", "uint64"], [v, v // 2, u]),
        *(accounts, addresses, amounts, st.integers(0, 2**64 - 1)),
    ),
    st.builds(lambda a, c: log("Linked", [a, c.to_bytes(32, "big")], [], []), accounts, st.integers(1, 3)),
    st.builds(lambda a, n, w: log("NonceUsed", [a], ["uint256", "bytes32"], [n, w]), accounts, unsigned, words),
    st.builds(lambda a, n: log("OrderCancelled", [a], ["uint256"], [n]), accounts, unsigned),
    st.builds(lambda v: log("SettlementHeldSet", [], ["uint256"], [v]), amounts),
    st.builds(lambda a, v: log("DepositedSet", [a], ["uint256"], [v]), accounts, amounts),
    st.builds(
        lambda e, w: log("BatchPosted", [e.to_bytes(32, "big"), w], ["uint64", "address"], [2 * e, "0x" + "08" * 20]),
        *(st.integers(1, 2**63 - 1), words),
    ),
    st.builds(
        lambda a, t: log("Deposited", [a, t], ["uint256", "address"], [1, "0x" + "09" * 20]), accounts, addresses
    ),
)


@given(st.lists(logs, max_size=30), st.lists(st.integers(0, 30), max_size=4))
def test_any_split_of_the_logs_gives_the_same_state(entries: list[Log], cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(entries)) for cut in cuts), len(entries)]
    state = START
    for begin, end in pairwise(edges):
        state = fold(state, entries[begin:end], block(1))
    assert state == fold(START, entries, block(1))


@given(st.lists(logs, max_size=30))
def test_folding_again_changes_nothing(entries: list[Log]) -> None:
    """Values after the change, not changes: what arrives twice, in order, is as if it came once."""
    once = fold(START, entries, block(1))
    assert fold(once, entries, block(1)) == once


@given(st.lists(logs, max_size=30))
def test_the_state_before_is_untouched(entries: list[Log]) -> None:
    before = fold(START, entries[: len(entries) // 2], block(1))
    kept = {field.name: getattr(before, field.name) for field in fields(before)}
    fold(before, entries[len(entries) // 2 :], block(2))
    assert kept == {field.name: getattr(before, field.name) for field in fields(before)}


def test_every_event_lands_in_its_place() -> None:
    account, word, where = ACCOUNTS[0], WORDS[0], ADDRESSES[0]
    state = fold(
        START,
        [
            log("CashSet", [account], ["int256"], [-5]),
            log("PositionSet", [account, word], ["int256"], [-(2**255)]),
            log("BalanceSet", [account, where], ["uint256"], [2**256 - 1]),
            log("ClosedSet", [account, word], ["uint256"], [7]),
            log("FilledSet", [word], ["uint256"], [8]),
            log("ReservationSet", [account, where], ["uint256", "uint256", "uint64"], [9, 4, 1_800_000_000]),
            log("Linked", [account, (31337002).to_bytes(32, "big")], [], []),
            log("Linked", [account, (31337003).to_bytes(32, "big")], [], []),
            log("NonceUsed", [account], ["uint256", "bytes32"], [10, word]),
            log("OrderCancelled", [account], ["uint256"], [14]),
            log("SettlementHeldSet", [], ["uint256"], [11]),
            log("DepositedSet", [account], ["uint256"], [12]),
            log("BatchPosted", [(13).to_bytes(32, "big"), word], ["uint64", "address"], [26, "0x" + "08" * 20]),
        ],
        block(3),
    )
    owner = AccountId(account)
    assert state.block == block(3)
    assert dict(state.cash) == {owner: -5}
    assert dict(state.sizes[owner]) == {AssetId(word): -(2**255)}
    assert dict(state.balances[owner]) == {Address(where): 2**256 - 1}
    assert dict(state.closed) == {(owner, AssetId(word)): 7}
    assert dict(state.filled) == {word: 8}
    assert dict(state.reservations[owner]) == {Address(where): Reservation(9, 4, 1_800_000_000)}
    assert state.links[owner] == {31337002, 31337003}
    assert dict(state.used_nonces) == {(owner, 10): word}
    assert dict(state.cancelled) == {(owner, 14): True}
    assert (state.held, dict(state.deposited)) == (11, {owner: 12})
    assert (state.posted_epoch, state.posted_digest, state.posted_timestamp) == (13, word, 26)


def test_a_chain_that_is_taken_out_is_linked_no_more() -> None:
    account = ACCOUNTS[0]
    there, other = ((31337002 + n).to_bytes(32, "big") for n in range(2))
    linked = [log("Linked", [account, chain], [], []) for chain in (there, other)]
    state = fold(ChainState(1, block(1)), [*linked, log("Unlinked", [account, there], [], [])], block(2))
    assert state.links[AccountId(account)] == {31337003}
    assert not fold(state, [log("Unlinked", [account, other], [], [])], block(3)).links


def test_zeros_leave_nothing_behind() -> None:
    account, word, where = ACCOUNTS[0], WORDS[0], ADDRESSES[0]
    entries = [
        entry
        for value in (1, 0)
        for entry in (
            log("CashSet", [account], ["int256"], [value]),
            log("PositionSet", [account, word], ["int256"], [value]),
            log("BalanceSet", [account, where], ["uint256"], [value]),
            log("ReservationSet", [account, where], ["uint256", "uint256", "uint64"], [value, 0, 5]),
        )
    ]
    assert fold(START, entries, block(1)) == fold(START, [], block(1))
    assert not fold(START, entries, block(1)).accounts()


def test_other_events_are_passed_over() -> None:
    stranger = {"topics": ["0x" + "ab" * 32], "data": "0x", "blockNumber": "0x1", "logIndex": "0x0"}
    anonymous = {"topics": [], "data": "0x", "blockNumber": "0x1", "logIndex": "0x1"}
    assert fold(START, [stranger, anonymous], block(1)) == fold(START, [], block(1))
    assert len(topics_followed()) == 24


@pytest.mark.parametrize("damage", ["data", "topics", "hex"])
def test_a_malformed_log_is_named(damage: str) -> None:
    entry = dict(log("PositionSet", [ACCOUNTS[0], WORDS[0]], ["int256"], [1]))
    if damage == "data":
        entry["data"] = "0x01"
    elif damage == "topics":
        entry["topics"] = entry["topics"][:2]
    else:
        entry["data"] = "0xzz"
    with pytest.raises(EventError, match=r"chain 31337001, block 0x1, log 0x0"):
        fold(START, [entry], block(1))


ETH = perpetual("ETH")


def position(account: bytes, size: int) -> Log:
    return log("PositionSet", [account, ETH], ["int256"], [size])


def exchange(state: ChainState, event: str, first: bytes, second: bytes, size: int, price: int) -> ChainState:
    """`first` buys `size` of `second`; both sizes, then the reason, as the clearing house logs it."""
    held = [state.sizes.get(AccountId(account), {}).get(ETH, 0) for account in (first, second)]
    sizes = [position(first, held[0] + size), position(second, held[1] - size)]
    if event == "Matched":
        reason = log(event, [ETH, first, second], ["int256"] + ["uint256"] * 3, [size, price, 0, 0])
    elif event == "Moved":
        reason = log(event, [second, first, ETH], ["int256", "uint256"], [size, price])
    elif event == "Deleveraged":
        reason = log(event, [first, ETH, second], ["int256", "uint256"], [size, price])
    else:
        reason = log(event, [first, ETH, second], ["int256"] + ["uint256"] * 4, [size, price, 0, 0, 0])
    return fold(state, [*sizes, reason], block(1))


def cost(state: ChainState, account: bytes) -> int:
    return state.costs.get((AccountId(account), ETH), 0)


def test_what_a_position_cost_is_its_average_price() -> None:
    a, b, _ = ACCOUNTS
    usd = 10**18
    state = exchange(START, "Matched", a, b, 2 * UNIT, 3_000 * usd)
    state = exchange(state, "Liquidated", a, b, 2 * UNIT, 2_000 * usd)
    assert (cost(state, a), cost(state, b)) == (10_000 * usd, -10_000 * usd)
    state = exchange(state, "Deleveraged", b, a, UNIT, 9_000 * usd)  # a sells one: at what does not matter
    assert (cost(state, a), cost(state, b)) == (7_500 * usd, -7_500 * usd)
    state = exchange(state, "Matched", a, b, -4 * UNIT, 1_000 * usd)  # a goes from 3 long to 1 short
    assert (cost(state, a), cost(state, b)) == (-1_000 * usd, 1_000 * usd)
    assert exchange(state, "Matched", a, b, UNIT, 5 * usd).costs == Map()


def test_a_moved_position_keeps_what_it_cost() -> None:
    a, b, c = ACCOUNTS
    state = exchange(START, "Matched", a, b, 4 * UNIT, 1_000 * UNIT)
    state = exchange(state, "Moved", c, a, UNIT, 3_000 * UNIT)
    assert (cost(state, a), cost(state, c)) == (3_000 * UNIT, 1_000 * UNIT)
    state = exchange(state, "Moved", c, a, 3 * UNIT, 3_000 * UNIT)
    assert (cost(state, a), cost(state, c)) == (0, 4_000 * UNIT)


def test_what_is_settled_costs_nothing_any_more() -> None:
    a, b, _ = ACCOUNTS
    state = exchange(START, "Matched", a, b, UNIT, 3_000 * UNIT)
    gone = log("Settled", [a, ETH], ["int256", "uint256"], [UNIT, 3_100 * UNIT])
    state = fold(state, [position(a, 0), gone], block(2))
    assert (cost(state, a), cost(state, b)) == (0, -3_000 * UNIT)
