"""The independent checker finds each violation in logs that one thing was changed in, and names block and figures."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_utils.crypto import keccak
from worlds import DEPLOYMENT, ETH, MAKER, OTHER, OWNER, STRANGER, USDC, WETH, A, B

from keeper.chain.abi import topic
from keeper.state.batch import UNIT
from keeper.state.ids import CLEARING, FEES, FUND, token_id, transfer_id

ROOT = Path(__file__).parents[2]
WETH_A = token_id(A, WETH)
CHAIN, PROFILE = DEPLOYMENT.chains[A], DEPLOYMENT.profile

Logs = dict[int, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def checker() -> Iterator[Any]:
    """scripts/check_chains.py, with what it replays with, imported as the script imports it."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        yield importlib.import_module("check_chains")
    finally:
        sys.path.remove(str(ROOT / "scripts"))


def _word(value: int | bytes) -> bytes:
    return value.rjust(32, b"\0") if isinstance(value, bytes) else value.to_bytes(32, "big", signed=value < 0)


class Story:
    """Logs as the contracts emit them. Cash in USD 1e18."""

    def __init__(self) -> None:
        self.logs: Logs = {}
        self.cash: Counter[bytes] = Counter()
        self.block = 0
        self.transaction = 0

    def at(self, block: int) -> Story:
        self.block = block
        self.transaction += 1
        return self

    def emit(self, name: str, topics: tuple[int | bytes, ...], *words: int | bytes, at: bytes = b"") -> Story:
        first = _TRANSFER if name == "Transfer" else topic(name)
        self.logs.setdefault(self.block, []).append(
            {
                "name": name,
                "address": "0x" + (at or bytes(CHAIN.contracts.clearing_house)).hex(),
                "topics": ["0x" + first.hex(), *("0x" + _word(each).hex() for each in topics)],
                "data": "0x" + b"".join(_word(each) for each in words).hex(),
                "transactionHash": f"0x{self.transaction:064x}",
            }
        )
        return self

    def transfer(self, token: bytes, source: bytes, target: bytes, amount: int) -> Story:
        return self.emit("Transfer", (source, target), amount, at=token)

    def add(self, account: bytes, amount: int) -> Story:
        self.cash[account] += amount
        return self.emit("CashSet", (account,), self.cash[account])

    def pay(self, source: bytes, target: bytes, amount: int) -> Story:
        return self.add(source, -amount).add(target, amount)

    def size(self, account: bytes, size: int) -> Story:
        return self.emit("PositionSet", (account, ETH), size)


_TRANSFER = keccak(text="Transfer(address,address,uint256)")
VAULT = bytes(CHAIN.contracts.vault)
SIZE, PRICE = 333_333_333_333_333_333, 2_450 * UNIT + 1


def story() -> Logs:
    """Deposits, a trade, three closings, an offset between chains, a shipment sent and one that arrives."""
    s = Story()
    for block, account, usd in ((1, OWNER, 2_000), (2, MAKER, 9_000), (3, STRANGER, 9_000), (3, FUND, 500)):
        held = sum(s.cash.values()) // 10**12 + usd * 10**6
        s.at(block).transfer(USDC, b"\x77" * 20, VAULT, usd * 10**6)
        s.emit("SettlementHeldSet", (), held).add(account, usd * UNIT)
    s.at(4).transfer(WETH, b"\x77" * 20, VAULT, 3 * UNIT).emit("BalanceSet", (OWNER, WETH), 3 * UNIT)
    # The owner buys 2 ETH at 3,000 from the maker; each pays a fee of 1.20.
    s.at(5).size(OWNER, 2 * UNIT).size(MAKER, -2 * UNIT).pay(OWNER, MAKER, 6_000 * UNIT)
    s.pay(OWNER, FEES, 12 * UNIT // 10).pay(MAKER, FEES, 12 * UNIT // 10)
    # One of them is taken over at the mark of 2,500 less 50; funding of 5 a unit is due on both.
    s.at(8).emit("ClosedSet", (OWNER, ETH), UNIT).pay(OWNER, STRANGER, UNIT).pay(STRANGER, FUND, 10 * UNIT)
    s.emit("FundingPaidSet", (STRANGER, ETH), 5 * UNIT).size(STRANGER, UNIT)
    s.emit("FundingPaidSet", (OWNER, ETH), 5 * UNIT).pay(OWNER, CLEARING, 10 * UNIT).size(OWNER, UNIT)
    s.pay(STRANGER, OWNER, 2_450 * UNIT)
    s.emit("Liquidated", (OWNER, ETH, STRANGER), -UNIT, 2_450 * UNIT, 50 * UNIT, UNIT, 10 * UNIT)
    # A third of one goes to the fund at a price that does not divide: the buyer pays the dust, to itself.
    value = SIZE * PRICE // UNIT
    s.at(9).emit("ClosedSet", (OWNER, ETH), UNIT + SIZE)
    s.emit("FundingPaidSet", (FUND, ETH), 5 * UNIT).size(FUND, SIZE).size(OWNER, UNIT - SIZE)
    s.pay(FUND, OWNER, value).pay(FUND, FUND, 1)
    s.emit("Deleveraged", (OWNER, ETH, FUND), -SIZE, PRICE)
    # Half a WETH is sold to the stranger at 2,400 less 40, in whole smallest units.
    s.at(11).emit("ClosedSet", (OWNER, WETH_A), UNIT // 2).pay(STRANGER, FUND, 4 * UNIT)
    s.pay(STRANGER, OWNER, 1_180 * UNIT)
    s.emit("BalanceSet", (OWNER, WETH), 5 * UNIT // 2, at=VAULT).emit("BalanceSet", (STRANGER, WETH), UNIT // 2)
    s.emit("Liquidated", (OWNER, WETH_A, STRANGER), -UNIT // 2, 2_360 * UNIT, 40 * UNIT, 0, 4 * UNIT)
    # A cycle takes 300 of the maker here and gives them elsewhere; 200 are shipped, 70 arrive less a fee of 1.
    s.at(12).add(MAKER, -300 * UNIT).emit("ClaimsSet", (), -300 * UNIT)
    s.emit("SettlementApplied", (7, MAKER), -300 * UNIT)
    s.at(13).emit("ClaimsSet", (), -100 * UNIT).emit("SettlementHeldSet", (), 20_300 * 10**6)
    s.transfer(USDC, VAULT, b"\x88" * 20, 200 * 10**6).emit("Shipped", (B,), 200 * 10**6)
    s.emit("SettlementApplied", (7, transfer_id(B)), -200 * UNIT)
    s.at(15).transfer(USDC, b"\x88" * 20, VAULT, 69 * 10**6).emit("SettlementHeldSet", (), 20_369 * 10**6)
    s.emit("Arrived", (), 70 * 10**6, 69 * 10**6).emit("ClaimsSet", (), -170 * UNIT).add(FUND, -UNIT)
    return s.logs


def _replayed(checker: Any, logs: Logs, chain: Any = CHAIN, first: int = 0) -> Any:
    replay = checker.Replay(chain, PROFILE, first_block=first)
    for number in range(17):
        replay.block(number, logs.get(number, []))
    return replay


def test_what_holds_is_passed_and_counted_CM30_CM31_CM42(checker: Any) -> None:
    """CM-20, CM-30, CM-31, CM-42, CM-50: a sound history of seventeen blocks."""
    replay = _replayed(checker, story())
    assert replay.counts["blocks"] == 17
    assert replay.counts["CM-42"] == 3
    assert replay.total_cash == 20_199 * UNIT
    assert replay.held * replay.scale + replay.claims == 20_199 * UNIT
    assert replay.size_sums[ETH] == 0
    assert (replay.shipped[B], replay.arrived, replay.lost_to_bridge) == (200 * 10**6, 70 * 10**6, 10**6)


def _edit(block: int, name: str, number: int, change: Callable[[bytes], bytes]) -> Callable[[Logs], None]:
    """Change the data of the `number`-th log of that name in a block."""

    def apply(logs: Logs) -> None:
        log = [each for each in logs[block] if each["name"] == name][number]
        log["data"] = "0x" + change(bytes.fromhex(log["data"][2:])).hex()

    return apply


def _plus(amount: int, index: int = 0) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        words = [data[i : i + 32] for i in range(0, len(data), 32)]
        value = int.from_bytes(words[index], "big", signed=True) + amount
        words[index] = value.to_bytes(32, "big", signed=True)
        return b"".join(words)

    return change


def _drop(block: int, name: str) -> Callable[[Logs], None]:
    def apply(logs: Logs) -> None:
        logs[block] = [each for each in logs[block] if each["name"] != name]

    return apply


def _again(block: int) -> Callable[[Logs], None]:
    def apply(logs: Logs) -> None:
        logs[block + 1] = list(logs[block])

    return apply


@pytest.mark.parametrize(
    ("doctor", "rule", "block", "figures"),
    [
        (_edit(2, "CashSet", 0, _plus(1)), "CM-30", 2, "1 too much"),
        (_edit(3, "SettlementHeldSet", 1, _plus(-1)), "CM-30", 3, f"{10**12} too much"),
        (_edit(15, "CashSet", 0, _plus(-5)), "CM-30", 15, "-5 too much"),
        (_edit(5, "PositionSet", 1, _plus(-3)), "CM-31", 5, "sum to -3"),
        (_edit(8, "PositionSet", 1, _plus(1)), "CM-42", 8, "sizes"),
        (_drop(3, "Transfer"), "CM-20", 3, "20500000000 of the settlement token are held, 11000000000 are there"),
        (_edit(4, "Transfer", 0, _plus(-1)), "CM-20", 4, f"{3 * UNIT} are owed, {3 * UNIT - 1} there"),
        # The taker gains one unit that nobody lost, or one party lost to another than was said.
        (_edit(8, "CashSet", -2, _plus(1)), "CM-42", 8, "cash"),
        (_edit(8, "Liquidated", 0, _plus(1, 1)), "CM-42", 8, "cash"),
        (_edit(8, "Liquidated", 0, _plus(-1, 4)), "CM-42", 8, f"{10 * UNIT - 1} to the fund"),
        (_edit(8, "Liquidated", 0, _plus(1, 3)), "CM-42", 8, f"a flat fee of {UNIT + 1}"),
        (_edit(8, "FundingPaidSet", 1, _plus(1)), "CM-42", 8, "cash"),
        (_drop(8, "ClosedSet"), "CM-42", 8, "without a ClosedSet"),
        (_edit(9, "Deleveraged", 0, _plus(-UNIT, 1)), "CM-42", 9, "cash"),
        (_edit(9, "Deleveraged", 0, _plus(1)), "CM-42", 9, "cash"),
        (_edit(11, "BalanceSet", 1, _plus(-1)), "CM-42", 11, "balances"),
        (_edit(12, "SettlementApplied", 0, _plus(1)), "CM-50", 12, "entries and shipments give"),
        (_drop(13, "Shipped"), "CM-50", 13, f"claims {-100 * UNIT}, entries and shipments give {-300 * UNIT}"),
        (_again(12), "CM-50", 13, "applied twice"),
    ],
)
def test_each_violation_is_found_and_named_CM30_CM31_CM42(
    checker: Any, doctor: Callable[[Logs], None], rule: str, block: int, figures: str
) -> None:
    """CM-20, CM-30, CM-31, CM-42, CM-50: one log is changed, dropped or repeated."""
    logs = story()
    doctor(logs)
    with pytest.raises(checker.Violation) as found:
        _replayed(checker, logs)
    assert (found.value.rule, found.value.chain, found.value.block) == (rule, "A", block)
    assert figures in str(found.value)


def test_blocks_before_the_first_are_replayed_and_not_judged(checker: Any) -> None:
    logs = story()
    _edit(2, "CashSet", 0, _plus(1))(logs)
    _edit(3, "CashSet", 0, _plus(0))(logs)
    # What was wrong in block 2 is set right in block 5: the maker's cash is set again there.
    assert _replayed(checker, logs, first=5).counts["blocks"] == 12


def _two(checker: Any, arrived: int, applied: int) -> dict[int, Any]:
    """Chain A as in the story, and chain B, where so much of A's 200 arrived, and so much of A's cycle is applied."""
    other = replace(DEPLOYMENT.chains[B])
    b = checker.Replay(other, PROFILE)
    b.arrived, b.shipped = arrived, Counter({A: 70 * 10**6})
    if applied:
        b.applied[(7, bytes(OTHER))] = applied
    b.claims = b.claims_wanted
    return {A: _replayed(checker, story()), B: b}


def test_claims_and_what_is_not_applied_are_in_flight_over_all_chains(checker: Any) -> None:
    """CM-50: what is signed and not applied, and what has not arrived, add up; a cycle in part is named."""
    before = checker.check_across(_two(checker, 0, 0))
    assert before == {"claims": -100 * UNIT, "unapplied": 300 * UNIT, "inFlight": 200 * UNIT}
    assert checker.incomplete(_two(checker, 0, 0)) == [7]
    after = checker.check_across(_two(checker, 200 * 10**6, 300 * UNIT))
    assert after == {"claims": 0, "unapplied": 0, "inFlight": 0}
    assert checker.incomplete(_two(checker, 200 * 10**6, 300 * UNIT)) == []


def test_more_arrived_than_was_shipped_is_found(checker: Any) -> None:
    """CM-50."""
    with pytest.raises(checker.Violation, match=r"CM-50 on chain B, block 0: 2010+ arrived, 20+ were shipped there"):
        checker.check_across(_two(checker, 201 * 10**6, 300 * UNIT))


def test_claims_that_nothing_explains_are_found_over_all_chains(checker: Any) -> None:
    """CM-50."""
    replays = _two(checker, 200 * 10**6, 300 * UNIT)
    replays[B].claims += 1
    with pytest.raises(checker.Violation, match="claims 1 and unapplied 0, in flight 0"):
        checker.check_across(replays)
