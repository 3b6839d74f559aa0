"""A person or a protocol of the devnet: a client with one of the well-known keys, tokens minted as they are needed, and
books on the gas that everything took."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keeper.attest.signing import LocalSigner, SignedPermit, request_for, signed_request
from keeper.chain.rpc import Rpc
from keeper.chain.transactions import Receipt
from keeper.client import AsyncClient, Call, Done
from keeper.state.actions import Action
from keeper.state.deployment import Deployment
from keeper.state.ids import AccountId, Address, AssetId
from keeper.state.live import PermitItem

from .chains import account

_NAMES = {"matchOrders": "match"}
"""What the figures call a function by another name."""


@dataclass(frozen=True, slots=True)
class _Encoded(Call):
    """A call whose data somebody else encoded."""

    encoded: bytes = b""

    @property
    def data(self) -> bytes:
        return self.encoded


class _Recorded(AsyncClient):
    """A client that writes down what its transactions took."""

    gas: list[tuple[str, int]]
    last_block: int

    async def send(self, call: Call) -> Receipt:
        receipt = await super().send(call)
        self.gas.append((_NAMES.get(call.function, call.function), receipt.gas_used))
        self.last_block = receipt.block_number
        return receipt


class Wallet:
    """One key with an account on every chain. `node` is the URL that requests go to unless another is named."""

    def __init__(self, index: int, deployment: Deployment, rpcs: Mapping[int, Rpc], node: str) -> None:
        self.deployment = deployment
        self.signer = LocalSigner(account(index).key)
        endpoints = {chain_id: rpc.url for chain_id, rpc in rpcs.items()}
        self.client = _Recorded.from_deployment(deployment, node, signer=self.signer, rpcs=endpoints)
        self.client.gas, self.client.last_block = [], 0

    async def aclose(self) -> None:
        await self.client.aclose()

    @property
    def address(self) -> Address:
        return self.signer.address

    @property
    def gas(self) -> list[tuple[str, int]]:
        """(kind, gas used) of every transaction."""
        return self.client.gas

    @property
    def last_block(self) -> int:
        """Block of the newest transaction, on whichever chain it was."""
        return self.client.last_block

    def account(self, sub_account: int = 0) -> AccountId:
        return self.client.account_id(sub_account)

    # --- transactions ----------------------------------------------------------------------------------------------

    async def send(self, chain_id: int, contract: str, to: Address, function: str, *arguments: Any) -> Receipt:
        """A transaction to any contract, by the name of its ABI."""
        return await self.client.send(Call(chain_id, contract, to, function, arguments))

    async def send_data(self, chain_id: int, kind: str, to: Address, data: bytes) -> Receipt:
        """A transaction with calldata that is ready; `kind` is its name in the figures."""
        return await self.client.send(_Encoded(chain_id, kind, to, kind, (), data))

    async def mint(self, chain_id: int, symbol: str, amount: int) -> None:
        """Make `amount` (token decimals) of a devnet token for this wallet, as anybody may."""
        token = await self.client.token(chain_id, symbol)
        await self.send(chain_id, "DevnetToken", token.address, "mint", self.address, amount)

    async def deposit(
        self, chain_id: int, symbol: str, amount: int, links: Sequence[int] = (), sub_account: int = 0
    ) -> None:
        """Mint `amount` (token decimals) of a devnet token and deposit it, linking chains on the way."""
        await self.mint(chain_id, symbol, amount)
        await self.client.deposit(chain_id, symbol, amount, links=links, account=sub_account)

    async def link(self, chain_id: int, links: Sequence[int], sub_account: int = 0) -> None:
        await self.client.link(chain_id, links, account=sub_account)

    async def use(self, signed: SignedPermit) -> Done:
        """Send what a permit permits."""
        return await self.client.use(signed)

    async def lender(self, chain_id: int, function: str, *arguments: object) -> Receipt:
        """A transaction to the chain's example integrator, for this wallet's cross-margin account."""
        integrator = self.deployment.chains[chain_id].integrator
        assert integrator is not None
        return await self.send(chain_id, "DevnetLender", integrator, function, self.account(), *arguments)

    async def prove(self, chain_id: int, sub_account: int = 0) -> Done:
        """Prove the account's newest leaf to a chain's verifier."""
        return await self.client.prove(chain_id, account=sub_account)

    # --- permits ---------------------------------------------------------------------------------------------------

    async def head_time(self, chain_id: int) -> int:
        return await self.client.head_time(chain_id)

    async def request(self, chain_id: int, action: Action, *, seconds: int = 60) -> SignedPermit:
        """Ask for a permit valid for `seconds` after the chain's head. Raises Refused."""
        return await self.client.permit(chain_id, action, deadline=seconds)

    def signed_request(self, chain_id: int, action: Action, deadline: int, nonce: int | None = None) -> PermitItem:
        """The owner's signed request until `deadline`, unix seconds."""
        item = request_for(self.deployment, chain_id, action, deadline, nonce)
        return signed_request(self.deployment, item, self.signer)

    async def submit(self, item: PermitItem, node: str | None = None) -> SignedPermit:
        """Have a request signed, asked for once."""
        return await self.client.ask(item, node=node, attempts=1)

    async def get(self, path: str) -> Any:
        """The node's JSON. Raises Refused."""
        return await self.client.get(path)


async def trade(
    maker: Wallet, taker: Wallet, chain_id: int, asset: AssetId, size: int, price: int, taker_sub_account: int = 0
) -> Receipt:
    """The taker buys `size` (sells where negative) from the maker at `price`: two orders, one permit, one match."""
    order = await maker.client.order(chain_id, asset, -size, price)
    signed = await maker.client.sign_order(chain_id, order)
    return (await taker.client.trade(signed, account=taker_sub_account)).receipt


async def together(*work: Any) -> None:
    """Run several wallets' work at once; the first failure ends all."""
    async with asyncio.TaskGroup() as tasks:
        for one in work:
            tasks.create_task(one)
