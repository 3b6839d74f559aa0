"""What one chain's logs say, replayed and checked block by block; scripts/check_chains.py reads the chains.

Nothing but ABIs and identifiers is shared with the nodes whose work is checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from eth_utils.crypto import keccak

from keeper.chain.abi import topic
from keeper.state.deployment import ChainDeployment, Profile
from keeper.state.ids import CLEARING, FUND, AccountId, AssetId, is_token, parse_token, transfer_target

UNIT = 10**18

TRANSFER = "0x" + keccak(text="Transfer(address,address,uint256)").hex()
EVENTS = (
    *("CashSet", "PositionSet", "BalanceSet", "SettlementHeldSet", "ClaimsSet", "FundingPaidSet", "ClosedSet"),
    *("SettlementApplied", "Shipped", "Arrived", "Liquidated", "Deleveraged", "Settled", "Matched", "BatchPosted"),
)

_NAMES = {"0x" + topic(name).hex(): name for name in EVENTS} | {TRANSFER: "Transfer"}

Log = Mapping[str, Any]


class Violation(Exception):
    """A property that does not hold: its name, where, and the figures."""

    def __init__(self, rule: str, chain: str, block: int, figures: str) -> None:
        super().__init__(f"{rule} on chain {chain}, block {block}: {figures}")
        self.rule, self.chain, self.block, self.figures = rule, chain, block, figures


@dataclass
class Closing:
    """What has changed since a leg's ClosedSet: cash by account, sizes by (account, asset), balances by (account,
    token), and the funding that each account paid."""

    cash: Counter[bytes] = field(default_factory=Counter)
    sizes: Counter[tuple[bytes, bytes]] = field(default_factory=Counter)
    balances: Counter[tuple[bytes, bytes]] = field(default_factory=Counter)
    funding: Counter[bytes] = field(default_factory=Counter)
    said: tuple[bytes, bytes, bytes, int, int, Counter[bytes]] | None = None
    """What Liquidated or Deleveraged says: account, asset, taker, size, price, and what is paid beside it."""


@dataclass
class Replay:
    """The state of one chain as its logs tell it, checked after every block. Amounts as the contracts have them."""

    chain: ChainDeployment
    profile: Profile
    cash: dict[bytes, int] = field(default_factory=dict)
    sizes: dict[tuple[bytes, bytes], int] = field(default_factory=dict)
    balances: dict[tuple[bytes, bytes], int] = field(default_factory=dict)
    funding_paid: dict[tuple[bytes, bytes], int] = field(default_factory=dict)
    vault: Counter[bytes] = field(default_factory=Counter)
    """What the vault owns of each token, by the tokens' own Transfer events."""
    held: int = 0
    claims: int = 0
    applied: dict[tuple[int, bytes], int] = field(default_factory=dict)
    """(cycle, account) → delta of every applied entry of an account."""
    shipped: Counter[int] = field(default_factory=Counter)
    """Chain → what was shipped there, token decimals."""
    arrived: int = 0
    """Before the bridge's fee, token decimals."""
    lost_to_bridge: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    first_block: int = 0
    total_cash: int = 0
    size_sums: Counter[bytes] = field(default_factory=Counter)
    balance_sums: Counter[bytes] = field(default_factory=Counter)
    _closing: Closing | None = None
    _touched: set[bytes] = field(default_factory=set)

    @property
    def scale(self) -> int:
        return int(10 ** (18 - self.chain.settlement.decimals))

    def block(self, number: int, logs: Sequence[Log]) -> None:
        """Apply a block's logs, in order, and check what must hold after it. Raises Violation."""
        self._touched.clear()
        for _, group in groupby(logs, key=lambda log: log["transactionHash"]):
            for log in group:
                self._apply(number, log)
            self._finish(number)
        if number >= self.first_block:
            self._check(number)

    # --- replaying -----------------------------------------------------------------------------------------------

    def _apply(self, number: int, log: Log) -> None:
        name = _NAMES.get(log["topics"][0])
        if name is None:
            return
        topics = [bytes.fromhex(entry[2:]) for entry in log["topics"]]
        data = bytes.fromhex(log["data"][2:])
        self.counts[name] += 1
        getattr(self, f"_on_{name}", _nothing)(number, topics, data, log)

    def _on_CashSet(self, _: int, topics: list[bytes], data: bytes, __: Log) -> None:  # noqa: N802
        change = _signed(data, 0) - self.cash.get(topics[1], 0)
        self.cash[topics[1]] = _signed(data, 0)
        self.total_cash += change
        if self._closing is not None:
            self._closing.cash[topics[1]] += change

    def _on_PositionSet(self, _: int, topics: list[bytes], data: bytes, __: Log) -> None:  # noqa: N802
        key = (topics[1], topics[2])
        change = _signed(data, 0) - self.sizes.get(key, 0)
        self.sizes[key] = _signed(data, 0)
        self.size_sums[topics[2]] += change
        self._touched.add(topics[2])
        if self._closing is not None:
            self._closing.sizes[key] += change

    def _on_BalanceSet(self, _: int, topics: list[bytes], data: bytes, __: Log) -> None:  # noqa: N802
        key = (topics[1], topics[2][12:])
        change = _word(data, 0) - self.balances.get(key, 0)
        self.balances[key] = _word(data, 0)
        self.balance_sums[key[1]] += change
        if self._closing is not None:
            self._closing.balances[key] += change

    def _on_SettlementHeldSet(self, _: int, __: list[bytes], data: bytes, ___: Log) -> None:  # noqa: N802
        self.held = _word(data, 0)

    def _on_ClaimsSet(self, _: int, __: list[bytes], data: bytes, ___: Log) -> None:  # noqa: N802
        self.claims = _signed(data, 0)

    def _on_FundingPaidSet(self, _: int, topics: list[bytes], data: bytes, __: Log) -> None:  # noqa: N802
        """Who pays pays rounded up, who receives gets rounded down."""
        key = (topics[1], topics[2])
        owed = self.sizes.get(key, 0) * (_signed(data, 0) - self.funding_paid.get(key, 0))
        self.funding_paid[key] = _signed(data, 0)
        if self._closing is not None:
            paid = -(-owed // UNIT)
            self._closing.funding[topics[1]] += paid
            self._closing.funding[CLEARING] -= paid

    def _on_Transfer(self, _: int, topics: list[bytes], data: bytes, log: Log) -> None:  # noqa: N802
        token = bytes.fromhex(log["address"][2:])
        vault = bytes(self.chain.contracts.vault)
        self.vault[token] += _word(data, 0) * ((topics[2][12:] == vault) - (topics[1][12:] == vault))

    def _on_SettlementApplied(self, number: int, topics: list[bytes], data: bytes, _: Log) -> None:  # noqa: N802
        account, cycle = topics[2], int.from_bytes(topics[1], "big")
        if transfer_target(AccountId(account)) is not None:
            return
        if (cycle, account) in self.applied:
            raise self._violation("CM-50", number, f"cycle {cycle} is applied twice to 0x{account.hex()}")
        self.applied[(cycle, account)] = _signed(data, 0)

    def _on_Shipped(self, _: int, topics: list[bytes], data: bytes, __: Log) -> None:  # noqa: N802
        self.shipped[int.from_bytes(topics[1], "big")] += _word(data, 0)

    def _on_Arrived(self, _: int, __: list[bytes], data: bytes, ___: Log) -> None:  # noqa: N802
        self.arrived += _word(data, 0)
        self.lost_to_bridge += _word(data, 0) - _word(data, 1)

    def _on_ClosedSet(self, number: int, __: list[bytes], ___: bytes, ____: Log) -> None:  # noqa: N802
        self._finish(number)
        self._closing = Closing()

    def _finish(self, number: int) -> None:
        """A closing is judged when all of it is there: the event that names it stands before what it changes."""
        if self._closing is not None and self._closing.said is not None:
            self._conserved(number, self._closing, *self._closing.said)
        self._closing = None

    def _on_Liquidated(self, number: int, topics: list[bytes], data: bytes, _: Log) -> None:  # noqa: N802
        """The account pays the flat fee and the concession, the taker passes a share of that on to the fund."""
        account, asset, taker = topics[1:]
        size, price, concession, flat, to_fund = _signed(data, 0), *(_word(data, i) for i in range(1, 5))
        share = abs(size) * concession // UNIT * self.profile.fund_share // UNIT
        if to_fund != share or flat > self.profile.flat_fee:
            wanted = f"{share} and at most {self.profile.flat_fee}"
            raise self._violation("CM-42", number, f"{to_fund} to the fund and a flat fee of {flat}, wanted {wanted}")
        fees: Counter[bytes] = Counter({account: -flat})
        fees[taker] += flat - to_fund
        fees[FUND] += to_fund
        self._say(number, account, asset, taker, size, price, fees)

    def _on_Deleveraged(self, number: int, topics: list[bytes], data: bytes, _: Log) -> None:  # noqa: N802
        account, asset, counterparty = topics[1:]
        self._say(number, account, asset, counterparty, _signed(data, 0), _word(data, 1), Counter())

    def _say(
        self, number: int, account: bytes, asset: bytes, taker: bytes, size: int, price: int, fees: Counter[bytes]
    ) -> None:
        if self._closing is None:
            name = f"0x{account.hex()}, asset 0x{asset.hex()}"
            raise self._violation("CM-42", number, f"{name} is closed without a ClosedSet")
        self._closing.said = (account, asset, taker, size, price, fees)

    def _conserved(
        self,
        number: int,
        closing: Closing,
        account: bytes,
        asset: bytes,
        taker: bytes,
        size: int,
        price: int,
        fees: Counter[bytes],
    ) -> None:
        """CM-42: every account's cash and holdings changed by exactly what the event says, funding apart."""
        name = f"0x{account.hex()}, asset 0x{asset.hex()}"
        value, rest = divmod(abs(size) * price, UNIT)
        buyer, seller = (taker, account) if size < 0 else (account, taker)
        cash: Counter[bytes] = Counter(fees)
        cash[buyer] -= value + (rest > 0)
        cash[seller] += value
        cash[FUND] += rest > 0
        for party, paid in closing.funding.items():
            cash[party] -= paid
        sizes: Counter[tuple[bytes, bytes]] = Counter()
        balances: Counter[tuple[bytes, bytes]] = Counter()
        if is_token(AssetId(asset)):
            _, token = parse_token(AssetId(asset))
            decimals = next(each.decimals for each in self.chain.collateral if each.address == token)
            amount = size // 10 ** (18 - decimals) if size > 0 else -(-size // 10 ** (18 - decimals))
            balances[(account, token)] += amount
            balances[(taker, token)] -= amount
        else:
            sizes[(account, asset)] += size
            sizes[(taker, asset)] -= size
        for what, found, wanted in (
            ("cash", closing.cash, cash),
            ("sizes", closing.sizes, sizes),
            ("balances", closing.balances, balances),
        ):
            if _present(found) != _present(wanted):
                raise self._violation("CM-42", number, f"{name}: {what} {_shown(found)}, wanted {_shown(wanted)}")
        self.counts["CM-42"] += 1

    # --- checking ------------------------------------------------------------------------------------------------

    def _check(self, number: int) -> None:
        held = self.held * self.scale
        if self.total_cash != held + self.claims:
            figures = f"cash {self.total_cash}, held {held} and claims {self.claims}"
            raise self._violation("CM-30", number, f"{figures}: {self.total_cash - held - self.claims} too much")
        for asset in self._touched:
            if self.size_sums[asset]:
                raise self._violation("CM-31", number, f"sizes of 0x{asset.hex()} sum to {self.size_sums[asset]}")
        if self.vault[self.chain.settlement.address] < self.held:
            own = self.vault[self.chain.settlement.address]
            raise self._violation("CM-20", number, f"{self.held} of the settlement token are held, {own} are there")
        for token, owed in self.balance_sums.items():
            if owed > self.vault[token]:
                raise self._violation("CM-20", number, f"0x{token.hex()}: {owed} are owed, {self.vault[token]} there")
        wanted = self.claims_wanted
        if self.claims != wanted:
            raise self._violation("CM-50", number, f"claims {self.claims}, entries and shipments give {wanted}")
        self.counts["blocks"] += 1

    @property
    def claims_wanted(self) -> int:
        """What entries, shipments and arrivals make of the claims, USD 1e18."""
        return sum(self.applied.values()) + (self.shipped.total() - self.arrived) * self.scale

    def _violation(self, rule: str, number: int, figures: str) -> Violation:
        return Violation(rule, self.chain.name, number, figures)


def _nothing(*_: object) -> None:
    """Only counted."""


def _present(changes: Mapping[Any, int]) -> dict[Any, int]:
    return {key: change for key, change in changes.items() if change}


def _shown(changes: Mapping[Any, int]) -> str:
    def name(key: Any) -> str:
        return "/".join("0x" + part.hex() for part in key) if isinstance(key, tuple) else "0x" + key.hex()

    return "{" + ", ".join(f"{name(key)}: {change:+d}" for key, change in sorted(_present(changes).items())) + "}"


def _word(data: bytes, index: int) -> int:
    return int.from_bytes(data[32 * index : 32 * index + 32], "big")


def _signed(data: bytes, index: int) -> int:
    return int.from_bytes(data[32 * index : 32 * index + 32], "big", signed=True)
