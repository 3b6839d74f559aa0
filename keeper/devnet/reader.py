"""An independent reader: what the chains themselves say, by plain calls and logs.

It shares no code with the nodes that it checks: nothing of node, clearing, attest or store is imported. Accounts and
instruments are those that the contracts' events ever named.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from keeper.chain.abi import decode_result, encode, topic
from keeper.chain.rpc import Rpc
from keeper.state.batch import UNIT
from keeper.state.deployment import ChainDeployment
from keeper.state.ids import AccountId, Address, AssetId


@dataclass(frozen=True, slots=True)
class Books:
    """The sums of one chain at one block, and whether they hold."""

    chain_id: int
    block: int
    accounts: int
    cash: int
    held: int
    """Settlement token held for accounts, USD 1e18."""
    claims: int
    """What this chain's ledger has to come from other chains, net, USD 1e18."""
    vault_settlement: int
    sizes: dict[AssetId, int]
    collateral: dict[Address, tuple[int, int]]
    """Token → (sum of accounts' balances, what the vault owns)."""

    @property
    def cash_adds_up(self) -> bool:
        """CM-30."""
        return self.cash == self.held + self.claims

    @property
    def sizes_cancel(self) -> bool:
        """CM-31."""
        return not any(self.sizes.values())

    @property
    def tokens_cover(self) -> bool:
        """CM-20, and the settlement token likewise."""
        return self.vault_settlement >= self.held and all(own >= owed for owed, own in self.collateral.values())


@dataclass(frozen=True, slots=True)
class TakeOver:
    """One fill of a liquidation leg, as the chain logged it. Sizes in units, prices and fees in USD, 1e18."""

    block: int
    account: AccountId
    taker: AccountId
    closed: int
    """What was added to the account's position: negative where a long was closed."""
    price: int
    concession: int
    flat_fee: int
    to_fund: int
    """Of the concession, what the taker passed on to the fund."""

    @property
    def size(self) -> int:
        return abs(self.closed)

    @property
    def mark(self) -> int:
        return self.price + self.concession if self.closed < 0 else self.price - self.concession

    @property
    def lost(self) -> int:
        """What the account lost against the mark, rounded down."""
        return self.size * self.concession // UNIT + self.flat_fee


class ChainReader:
    """Questions to one chain, answered at its head or at a block."""

    def __init__(self, chain: ChainDeployment, rpc: Rpc) -> None:
        self.chain = chain
        self._rpc = rpc

    async def call(
        self, contract: str, at: Address, function: str, arguments: Sequence[Any], block: str = "latest"
    ) -> Any:
        """One view call; its only result, or all of them as a tuple."""
        data = "0x" + encode(contract, function, arguments).hex()
        answer = await self._rpc.call("eth_call", [{"to": "0x" + at.hex(), "data": data}, block])
        values = decode_result(contract, function, bytes.fromhex(answer[2:]))
        return values[0] if len(values) == 1 else values

    async def head(self) -> tuple[int, int]:
        """Number and time of the newest block."""
        block = await self._rpc.call("eth_getBlockByNumber", ["latest", False])
        return int(block["number"], 16), int(block["timestamp"], 16)

    async def position(self, account: AccountId, asset: AssetId) -> int:
        value = await self.call("ClearingHouse", self.chain.contracts.clearing_house, "positionOf", [account, asset])
        return int(value)

    async def cash(self, account: AccountId) -> int:
        return int(await self.call("ClearingHouse", self.chain.contracts.clearing_house, "cashOf", [account]))

    async def lender_sees_healthy(self, account: AccountId) -> bool:
        assert self.chain.integrator is not None
        return bool(await self.call("DevnetLender", self.chain.integrator, "isHealthy", [account]))

    async def reserved(self, account: AccountId, integrator: Address) -> int:
        arguments = [account, integrator]
        answer = await self.call("MarginReservations", self.chain.contracts.reservations, "reservationOf", arguments)
        return int(answer[0])

    async def proven(self, account: AccountId) -> tuple[int, int, int]:
        """Equity, initial and maintenance margin last proven here, USD 1e18."""
        status = await self.call("MarginVerifier", self.chain.contracts.verifier, "statusOf", [account])
        return int(status[1]), int(status[2]), int(status[3])

    async def held_epoch(self) -> int:
        current, _ = await self.call("MarginVerifier", self.chain.contracts.verifier, "held", [])
        return int(current[0])

    async def logs(self, event: str) -> list[dict[str, Any]]:
        """Every log of one of the protocol's events since the deployment."""
        contracts = self.chain.contracts
        addresses = (contracts.verifier, contracts.clearing_house, contracts.vault, contracts.reservations)
        wanted = {
            "address": ["0x" + a.hex() for a in addresses],
            "topics": ["0x" + topic(event).hex()],
            "fromBlock": hex(self.chain.deploy_block),
            "toBlock": "latest",
        }
        return list(await self._rpc.call("eth_getLogs", [wanted]))

    async def posted(self) -> list[tuple[int, str]]:
        """(epoch, digest) of every batch this chain took, in order."""
        return [(int(entry["topics"][1], 16), entry["topics"][2]) for entry in await self.logs("BatchPosted")]

    async def take_overs(self) -> list[TakeOver]:
        """Every fill of a leg on this chain, in order."""
        found = []
        for entry in await self.logs("Liquidated"):
            _, account, _, taker = (bytes.fromhex(t[2:]) for t in entry["topics"])
            data = bytes.fromhex(entry["data"][2:])
            closed, *rest = (int.from_bytes(data[i : i + 32], "big", signed=i == 0) for i in range(0, 160, 32))
            found.append(TakeOver(int(entry["blockNumber"], 16), AccountId(account), AccountId(taker), closed, *rest))
        return found

    async def changes(
        self, accounts: Iterable[AccountId], asset: AssetId, block: int
    ) -> tuple[dict[AccountId, int], dict[AccountId, int]]:
        """What one block did to the cash of accounts (USD 1e18) and to their positions in an asset (1e18)."""
        house = self.chain.contracts.clearing_house
        cash: dict[AccountId, int] = {}
        sizes: dict[AccountId, int] = {}
        for account in accounts:
            for into, function, arguments in ((cash, "cashOf", [account]), (sizes, "positionOf", [account, asset])):
                before, after = [
                    int(await self.call("ClearingHouse", house, function, arguments, hex(number)))
                    for number in (block - 1, block)
                ]
                into[account] = after - before
        return cash, sizes

    async def books(self) -> Books:
        """Add up cash, sizes and tokens over every account that any event named, all at one block."""
        number, _ = await self.head()
        block = hex(number)
        contracts = self.chain.contracts
        accounts = await self._named("CashSet") | await self._named("BalanceSet") | await self._named("PositionSet")
        assets = {entry["topics"][2] for entry in await self.logs("PositionSet")}
        tokens = [token.address for token in self.chain.collateral]
        instruments = [AssetId(bytes.fromhex(asset[2:])) for asset in sorted(assets)]
        queries = [(bytes.fromhex(account[2:]), instruments, tokens) for account in sorted(accounts)]
        views = await self.call("MarginLens", contracts.lens, "accounts", [queries], block)
        scale = 10 ** (18 - self.chain.settlement.decimals)
        held = await self.call("CollateralVault", contracts.vault, "settlementHeld", [], block)
        own = await self._balance(self.chain.settlement.address, block)
        claims = int(await self.call("ClearingHouse", contracts.clearing_house, "claims", [], block))
        return Books(
            chain_id=self.chain.chain_id,
            block=number,
            accounts=len(accounts),
            cash=sum(view[0] for view in views),
            held=held * scale,
            claims=claims,
            vault_settlement=own * scale,
            sizes={asset: sum(view[1][i] for view in views) for i, asset in enumerate(instruments)},
            collateral={
                token: (sum(view[2][i] for view in views), await self._balance(token, block))
                for i, token in enumerate(tokens)
            },
        )

    async def _named(self, event: str) -> set[str]:
        return {entry["topics"][1] for entry in await self.logs(event)}

    async def _balance(self, token: Address, block: str) -> int:
        return int(await self.call("DevnetToken", token, "balanceOf", [self.chain.contracts.vault], block))


def usd(value: int) -> float:
    """USD 1e18 as a number to show."""
    return round(value / UNIT, 2)
