"""What a person or a protocol does with the system: deposit, link, ask for permits, and use them.

Everything goes the way a stranger's would: transactions to the contracts, requests to a node's HTTP interface.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
import orjson

from keeper.attest.codec import struct_hash, to_abi
from keeper.attest.requests import order_digest, permit_for, request_digest
from keeper.attest.signatures import sign_digest
from keeper.chain.abi import encode
from keeper.chain.rpc import Rpc
from keeper.chain.transactions import Receipt, Sender
from keeper.state.actions import Move, Order, Reserve, Takeover, Trade, Withdraw
from keeper.state.batch import UNIT, MarkLeaf
from keeper.state.deployment import Deployment
from keeper.state.ids import ZERO32, AccountId, Address, AssetId, account_id
from keeper.state.live import PermitItem
from keeper.state.problem import Problem
from keeper.state.wire import from_json, to_json

from .chains import account

T = TypeVar("T")

DEADLINE_SECONDS = 60
MAX_FEE = 10 * UNIT


@dataclass(frozen=True, slots=True)
class Signed:
    """A permit a quorum signed, ready as calldata."""

    item: PermitItem
    signatures: bytes

    @property
    def calldata(self) -> tuple[Any, bytes]:
        return to_abi(self.item.permit), self.signatures


class PermitRefused(Exception):
    """A node's refusal, and why."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.problem = Problem.from_json(answer)
        super().__init__(f"{self.problem.code}: {self.problem.message}")

    @property
    def code(self) -> str:
        return self.problem.code


class Wallet:
    """One key with an account on every chain. `node` is the URL that requests go to unless another is named."""

    def __init__(self, index: int, deployment: Deployment, rpcs: dict[int, Rpc], node: str) -> None:
        member = account(index)
        self.deployment = deployment
        self.address: Address = member.address
        self.node = node
        self.gas: list[tuple[str, int]] = []
        """(kind, gas used) of every transaction."""
        self.last_block = 0
        """Block of the newest transaction, on whichever chain it was."""
        self._key = member.key
        self._rpcs = rpcs
        self.senders = {chain_id: Sender(rpc, chain_id, member.key) for chain_id, rpc in rpcs.items()}
        self._http = httpx.AsyncClient(timeout=10.0, trust_env=False)

    async def aclose(self) -> None:
        await self._http.aclose()

    def account(self, sub_account: int = 0) -> AccountId:
        return account_id(self.address, sub_account)

    # --- transactions ----------------------------------------------------------------------------------------------

    async def send(self, chain_id: int, kind: str, to: Address, data: bytes) -> Receipt:
        receipt = await self.senders[chain_id].send(to, data)
        self.gas.append((kind, receipt.gas_used))
        self.last_block = receipt.block_number
        return receipt

    async def deposit(
        self, chain_id: int, symbol: str, amount: int, links: Sequence[int] = (), sub_account: int = 0
    ) -> None:
        """Mint, approve and deposit `amount` (token decimals) of a devnet token, linking chains on the way."""
        chain = self.deployment.chains[chain_id]
        token = next(t for t in (chain.settlement, *chain.collateral) if t.symbol == symbol).address
        vault = chain.contracts.vault
        await self.send(chain_id, "mint", token, encode("DevnetToken", "mint", [self.address, amount]))
        await self.send(chain_id, "approve", token, encode("DevnetToken", "approve", [vault, amount]))
        arguments = [self.account(sub_account), token, amount, list(links)]
        await self.send(chain_id, "deposit", vault, encode("CollateralVault", "deposit", arguments))

    async def link(self, chain_id: int, links: Sequence[int], sub_account: int = 0) -> None:
        data = encode("CollateralVault", "link", [self.account(sub_account), list(links)])
        await self.send(chain_id, "link", self.deployment.chains[chain_id].contracts.vault, data)

    def withdraw_data(self, signed: Signed, action: Withdraw | None = None) -> bytes:
        action = action or _as(Withdraw, signed.item.action)
        return encode("CollateralVault", "withdraw", [to_abi(action), *signed.calldata])

    async def withdraw(self, signed: Signed) -> Receipt:
        vault = self.deployment.chains[signed.item.chain_id].contracts.vault
        return await self.send(signed.item.chain_id, "withdraw", vault, self.withdraw_data(signed))

    async def reserve(self, signed: Signed) -> Receipt:
        chain = self.deployment.chains[signed.item.chain_id]
        data = encode("MarginReservations", "reserve", [to_abi(_as(Reserve, signed.item.action)), *signed.calldata])
        return await self.send(signed.item.chain_id, "reserve", chain.contracts.reservations, data)

    async def lender(self, chain_id: int, function: str, *arguments: object) -> Receipt:
        """A transaction to the chain's example integrator, for this wallet's cross-margin account."""
        integrator = self.deployment.chains[chain_id].integrator
        assert integrator is not None
        return await self.send(
            chain_id, function, integrator, encode("DevnetLender", function, [self.account(), *arguments])
        )

    async def move(self, signed: Signed) -> Receipt:
        """Execute a move; of a position at its mark in the newest batch that the chain holds."""
        action = _as(Move, signed.item.action)
        chain = self.deployment.chains[signed.item.chain_id]
        mark: Any = (ZERO32, 0, 0, 0, 0, 0)
        proof: list[bytes] = []
        if action.asset != ZERO32:
            answer = await self.get(f"/v1/marks/0x{action.asset.hex()}/proof?chain={chain.chain_id}")
            mark, proof = to_abi(from_json(MarkLeaf, answer["leaf"])), [bytes.fromhex(n[2:]) for n in answer["proof"]]
        data = encode("ClearingHouse", "move", [to_abi(action), mark, proof, *signed.calldata])
        return await self.send(chain.chain_id, "move", chain.contracts.clearing_house, data)

    async def prove(self, chain_id: int, sub_account: int = 0) -> Receipt:
        """Prove the account's newest leaf to a chain's verifier."""
        proof = await self.get(f"/v1/accounts/0x{self.account(sub_account).hex()}/proof?chain={chain_id}")
        leaf = proof["leaf"]
        arguments = [
            (
                bytes.fromhex(leaf["accountId"][2:]),
                leaf["chainId"],
                *(int(leaf[n]) for n in ("equity", "initialMargin", "maintenanceMargin", "escapeLimit")),
            ),
            [bytes.fromhex(node[2:]) for node in proof["proof"]],
        ]
        verifier = self.deployment.chains[chain_id].contracts.verifier
        return await self.send(chain_id, "prove", verifier, encode("MarginVerifier", "prove", arguments))

    # --- permits ---------------------------------------------------------------------------------------------------

    async def head_time(self, chain_id: int) -> int:
        block = await self._rpcs[chain_id].call("eth_getBlockByNumber", ["latest", False])
        return int(block["timestamp"], 16)

    async def request(
        self,
        chain_id: int,
        action: Withdraw | Reserve | Takeover | Move,
        *,
        seconds: int = DEADLINE_SECONDS,
        node: str | None = None,
    ) -> Signed:
        """Ask for a permit valid for `seconds` after the chain's head.

        Raises:
            PermitRefused: with the attestors' JSON.
        """
        deadline = await self.head_time(chain_id) + seconds
        return await self.submit(self.signed_request(chain_id, action, deadline), node)

    def signed_request(
        self, chain_id: int, action: Withdraw | Reserve | Takeover | Move, deadline: int, nonce: int | None = None
    ) -> PermitItem:
        """The owner's signed request, for a nonce never used before unless one is given."""
        permit = permit_for(self.deployment, action, new_nonce() if nonce is None else nonce, deadline)
        digest = request_digest(self.deployment, PermitItem(chain_id, permit, action, ()))
        return PermitItem(chain_id, permit, action, (sign_digest(digest, self._key),))

    async def submit(self, item: PermitItem, node: str | None = None) -> Signed:
        response = await self._http.post(
            (node or self.node) + "/v1/permits",
            content=orjson.dumps(to_json(item)),
            headers={"content-type": "application/json"},
        )
        answer = orjson.loads(response.content)
        if response.status_code != httpx.codes.OK:
            raise PermitRefused(answer)
        return Signed(from_json(PermitItem, answer["item"]), bytes.fromhex(answer["signatures"][2:]))

    def order(self, asset: AssetId, size: int, price: int, deadline: int, sub_account: int = 0) -> Order:
        return Order(self.account(sub_account), asset, size, price, MAX_FEE, new_nonce(), deadline)

    def sign_order(self, chain_id: int, order: Order) -> bytes:
        return sign_digest(order_digest(self.deployment, chain_id, order), self._key)

    async def get(self, path: str) -> Any:
        response = await self._http.get(self.node + path)
        answer = orjson.loads(response.content)
        if response.status_code != httpx.codes.OK:
            raise PermitRefused(answer)
        return answer


async def trade(
    maker: Wallet, taker: Wallet, chain_id: int, asset: AssetId, size: int, price: int, taker_sub_account: int = 0
) -> Receipt:
    """The taker buys `size` (sells where negative) from the maker at `price`: two orders, one permit, one match."""
    deployment = taker.deployment
    deadline = await taker.head_time(chain_id) + DEADLINE_SECONDS
    orders = (
        maker.order(asset, -size, price, deadline),
        taker.order(asset, size, price, deadline, taker_sub_account),
    )
    signatures = (maker.sign_order(chain_id, orders[0]), taker.sign_order(chain_id, orders[1]))
    signed = await taker.submit(trade_item(deployment, chain_id, orders, signatures, -size, price))
    proof = await taker.get(f"/v1/marks/0x{asset.hex()}/proof?chain={chain_id}")
    mark = from_json(MarkLeaf, proof["leaf"])
    data = match_data(signed, mark, [bytes.fromhex(node[2:]) for node in proof["proof"]])
    return await taker.send(chain_id, "match", deployment.chains[chain_id].contracts.clearing_house, data)


def trade_item(
    deployment: Deployment,
    chain_id: int,
    orders: tuple[Order, Order],
    signatures: tuple[bytes, bytes],
    size: int,
    price: int,
) -> PermitItem:
    """The request for a match of `size` (the maker's) at `price`, for as long as the maker's order lives."""
    action = Trade(struct_hash(orders[0]), struct_hash(orders[1]), size, price)
    permit = permit_for(deployment, action, new_nonce(), orders[0].deadline, orders)
    return PermitItem(chain_id, permit, action, signatures, orders)


def match_data(signed: Signed, mark: MarkLeaf, proof: Sequence[bytes]) -> bytes:
    """Calldata of the match that a permit for a trade permits; `proof` is of the mark against the chain's batch."""
    (maker, taker), signatures, action = signed.item.orders, signed.item.signatures, signed.item.action
    assert isinstance(action, Trade)
    match = (
        to_abi(maker),
        signatures[0],
        to_abi(taker),
        signatures[1],
        action.size,
        action.price,
        to_abi(mark),
        list(proof),
        *signed.calldata,
    )
    return encode("ClearingHouse", "matchOrders", [match])


def new_nonce() -> int:
    """Permit and order nonces are unordered: the time in nanoseconds does not come twice."""
    return time.time_ns()


async def together(*work: Any) -> None:
    """Run several wallets' work at once; the first failure ends all."""
    async with asyncio.TaskGroup() as tasks:
        for one in work:
            tasks.create_task(one)


def _as(kind: type[T], value: object) -> T:
    assert isinstance(value, kind)
    return value
