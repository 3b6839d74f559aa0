"""Check a deployment's chains block by block, from nothing but what the chains say.

    .venv/bin/python scripts/check_chains.py .devnet/deployments.json [--from BLOCK] [--json FILE]

Every log since the deployment is replayed. The `…Set` events carry the value after the change, so a state is the last
value of every key. After every block of every chain:

    CM-30   Σ cash of all accounts (fund, fees and clearing included) = settlement token held + claims
    CM-31   Σ sizes of every instrument = 0
    CM-20   Σ balances of every collateral token ≤ what the vault owns of it; held ≤ the vault's settlement token
    CM-50   claims = Σ applied deltas + Σ shipped − Σ arrived, so over all chains
            Σ claims + Σ signed but unapplied deltas = settlement token in flight
    CM-42   in every take-over and deleveraging, what the account loses is what taker and fund gain, to the last unit

and at the last block and a sample of others cash, positions, `settlementHeld`, `claims` and `totalCash` as the
contracts' views give them. Exit code 1 at the first violation, with its chain, block and figures.

Only JSON-RPC, ABIs and identifiers are shared with the nodes; nothing that computes margin, plans or attests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from eth_utils.crypto import keccak

from keeper.chain.abi import decode_result, encode, topic
from keeper.chain.rpc import Rpc
from keeper.state.deployment import ChainDeployment, Deployment, DeploymentError, Profile
from keeper.state.ids import CLEARING, FUND, AccountId, Address, AssetId, is_token, parse_token, transfer_target

UNIT = 10**18
RANGE = 500
"""Blocks of which logs are asked for at once."""
SAMPLES = 8
"""Blocks of each chain at which views are compared, beside the last."""
AT_ONCE = 200
"""Requests in one HTTP request."""

TRANSFER = "0x" + keccak(text="Transfer(address,address,uint256)").hex()
EVENTS = (
    *("CashSet", "PositionSet", "BalanceSet", "SettlementHeldSet", "ClaimsSet", "FundingPaidSet", "FundingIndexSet"),
    *("SettlementApplied", "Shipped", "Arrived", "ClosedSet", "Liquidated", "Deleveraged", "Settled", "Matched"),
    *("BatchPosted",),
)

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
            self._closing = None
            for log in group:
                self._apply(number, log)
        if number >= self.first_block:
            self._check(number)

    # --- replaying -----------------------------------------------------------------------------------------------

    def _apply(self, number: int, log: Log) -> None:
        name = _names().get(log["topics"][0])
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

    def _on_ClosedSet(self, _: int, __: list[bytes], ___: bytes, ____: Log) -> None:  # noqa: N802
        self._closing = Closing()

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
        self._conserved(number, account, asset, taker, size, price, fees)

    def _on_Deleveraged(self, number: int, topics: list[bytes], data: bytes, _: Log) -> None:  # noqa: N802
        account, asset, counterparty = topics[1:]
        self._conserved(number, account, asset, counterparty, _signed(data, 0), _word(data, 1), Counter())

    def _conserved(
        self, number: int, account: bytes, asset: bytes, taker: bytes, size: int, price: int, fees: Counter[bytes]
    ) -> None:
        """CM-42: every account's cash and holdings changed by exactly what the event says, funding apart."""
        closing, self._closing = self._closing, None
        name = f"0x{account.hex()}, asset 0x{asset.hex()}"
        if closing is None:
            raise self._violation("CM-42", number, f"{name} is closed without a ClosedSet")
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


def check_across(replays: Mapping[int, Replay]) -> dict[str, int]:
    """What must hold over all chains once each was replayed; in flight, unapplied and claims, USD 1e18.

    A cycle's entries of an account sum to zero over chains, and the fund's payments over accounts on one chain: what a
    cycle lacks of that is signed and not applied yet. Raises Violation.
    """
    claims = unapplied = in_flight = 0
    for chain_id, replay in replays.items():
        sent = sum(other.shipped[chain_id] * other.scale for other in replays.values())
        here = replay.arrived * replay.scale
        if here > sent:
            raise Violation("CM-50", replay.chain.name, 0, f"{here} arrived, {sent} were shipped there")
        in_flight += sent - here
        claims += replay.claims
        unapplied -= sum(replay.applied.values())
    if claims + unapplied != in_flight:
        raise Violation("CM-50", "all", 0, f"claims {claims} and unapplied {unapplied}, in flight {in_flight}")
    return {"claims": claims, "unapplied": unapplied, "inFlight": in_flight}


def incomplete(replays: Mapping[int, Replay]) -> list[int]:
    """Cycles that are applied in part: some entries of an account that is no payment of the fund are missing."""
    sums: defaultdict[int, int] = defaultdict(int)
    for replay in replays.values():
        for (cycle, _), delta in replay.applied.items():
            sums[cycle] += delta
    return sorted(cycle for cycle, total in sums.items() if total)


# --- reading a chain -------------------------------------------------------------------------------------------------


async def read_logs(rpc: Rpc, chain: ChainDeployment, last: int) -> list[Log]:
    """Every log of the protocol's contracts, and every transfer of a listed token, up to block `last`, in order."""
    contracts = chain.contracts
    ours = [contracts.verifier, contracts.clearing_house, contracts.vault, contracts.reservations]
    tokens = [chain.settlement.address, *(token.address for token in chain.collateral)]
    filters = (
        {"address": ["0x" + at.hex() for at in ours]},
        {"address": ["0x" + at.hex() for at in tokens], "topics": [TRANSFER]},
    )
    found: list[Log] = []
    for first in range(chain.deploy_block, last + 1, RANGE):
        within = {"fromBlock": hex(first), "toBlock": hex(min(last, first + RANGE - 1))}
        for logs in await rpc.batch([("eth_getLogs", [{**wanted, **within}]) for wanted in filters]):
            found += logs
    return sorted(found, key=lambda log: (int(log["blockNumber"], 16), int(log["logIndex"], 16)))


async def check_chain(rpc: Rpc, chain: ChainDeployment, profile: Profile, first: int = 0) -> Replay:
    """Replay one chain to its head and compare views at the last block and a sample. Raises Violation."""
    last = int(await rpc.call("eth_blockNumber"), 16)
    logs = await read_logs(rpc, chain, last)
    replay = Replay(chain, profile, first_block=max(first, chain.deploy_block))
    by_block: dict[int, list[Log]] = {}
    for log in logs:
        by_block.setdefault(int(log["blockNumber"], 16), []).append(log)
    step = max(1, (last - replay.first_block) // SAMPLES)
    sampled = {*range(last, replay.first_block - 1, -step), last}
    for number in range(chain.deploy_block, last + 1):
        replay.block(number, by_block.get(number, ()))
        if number in sampled:
            await compare_views(rpc, replay, number)
    return replay


async def compare_views(rpc: Rpc, replay: Replay, number: int) -> None:
    """Cash, positions, held, claims and total as the contracts' views give them at a block. Raises Violation."""
    chain, house = replay.chain, replay.chain.contracts.clearing_house
    queries: list[tuple[str, str, Address, tuple[Any, ...], int]] = [
        ("ClearingHouse", "totalCash", house, (), replay.total_cash),
        ("ClearingHouse", "claims", house, (), replay.claims),
        ("CollateralVault", "settlementHeld", chain.contracts.vault, (), replay.held),
    ]
    queries += [("ClearingHouse", "cashOf", house, (account,), cash) for account, cash in replay.cash.items()]
    queries += [("ClearingHouse", "positionOf", house, key, size) for key, size in replay.sizes.items()]
    queries += [
        ("CollateralVault", "balanceOf", chain.contracts.vault, key, balance)
        for key, balance in replay.balances.items()
    ]
    for begin in range(0, len(queries), AT_ONCE):
        part = queries[begin : begin + AT_ONCE]
        calls = [
            ("eth_call", [{"to": "0x" + at.hex(), "data": "0x" + encode(contract, name, key).hex()}, hex(number)])
            for contract, name, at, key, _ in part
        ]
        for (contract, name, _, key, wanted), answer in zip(part, await rpc.batch(calls), strict=True):
            value = decode_result(contract, name, bytes.fromhex(answer[2:]))[0]
            if value != wanted:
                asked = ", ".join("0x" + bytes(each).hex() for each in key)
                raise Violation("view", chain.name, number, f"{name}({asked}) is {value}, the logs give {wanted}")
    replay.counts["views"] += len(queries)
    replay.counts["sampled"] += 1


async def check(deployment: Deployment, first: int = 0) -> dict[int, Replay]:
    """Every chain of a deployment. Raises Violation."""
    replays = {}
    for chain_id, chain in deployment.chains.items():
        rpc = Rpc(chain.rpc, timeout=60.0)
        try:
            replays[chain_id] = await check_chain(rpc, chain, deployment.profile, first)
        finally:
            await rpc.aclose()
    return replays


# --- telling ---------------------------------------------------------------------------------------------------------

COLUMNS = ("blocks", "views", "Matched", "Liquidated", "Deleveraged", "CM-42", "Settled", "SettlementApplied")


def figures(replays: Mapping[int, Replay], across: Mapping[str, int]) -> dict[str, Any]:
    """What was checked, as JSON; amounts are strings of USD 1e18."""
    chains = {}
    for chain_id, replay in replays.items():
        chains[str(chain_id)] = {
            "name": replay.chain.name,
            **{name: replay.counts[name] for name in COLUMNS},
            "accounts": len(replay.cash),
            "instruments": len(replay.size_sums),
            "cash": str(replay.total_cash),
            "held": str(replay.held * replay.scale),
            "claims": str(replay.claims),
            "shipped": str(replay.shipped.total() * replay.scale),
            "arrived": str(replay.arrived * replay.scale),
        }
    cycles = {cycle for replay in replays.values() for cycle, _ in replay.applied}
    return {
        "ok": True,
        "chains": chains,
        "cycles": len(cycles),
        "incomplete": incomplete(replays),
        **{name: str(value) for name, value in across.items()},
    }


def table(found: Mapping[str, Any]) -> str:
    """The figures of every chain, a line each."""
    rows = [["chain", "accounts", *COLUMNS, "cash USD", "held USD", "claims USD"]]
    for chain in found["chains"].values():
        usd = [f"{int(chain[name]) / UNIT:,.2f}" for name in ("cash", "held", "claims")]
        rows.append([chain["name"], *(str(chain[name]) for name in ("accounts", *COLUMNS)), *usd])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Check CM-20, 30, 31, 42 and 50 at every block of every chain.")
    parser.add_argument("deployments", type=Path, help="the deployments file")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first block to check (default: all)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    chosen = parser.parse_args(arguments)
    try:
        replays = asyncio.run(check(Deployment.load(chosen.deployments), chosen.first))
        found = figures(replays, check_across(replays))
    except DeploymentError as error:
        print(f"check_chains: {error}", file=sys.stderr)
        return 2
    except Violation as violation:
        print(f"violated: {violation}", file=sys.stderr)
        found = {"ok": False, "rule": violation.rule, "chain": violation.chain, "block": violation.block}
        found["figures"] = violation.figures
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(found, indent=2))
    if not found["ok"]:
        return 1
    print(table(found))
    print(f"{found['cycles']} settlement cycles, in flight {int(found['inFlight']) / UNIT:,.2f} USD; every block holds")
    return 0


def _names() -> dict[str, str]:
    return _NAMES


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


_NAMES = {"0x" + topic(name).hex(): name for name in EVENTS} | {TRANSFER: "Transfer"}

if __name__ == "__main__":
    raise SystemExit(main())
