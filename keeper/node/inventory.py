"""What becomes of tokens that a liquidator took: out of the vault, to the pool, and back as cash.

No step remembers the one before. Each is read off the chain, so that a node that ends between any two goes on where it
was: settlement token in the wallet above the float is deposited, a token in the wallet is sold, a token in the account
beyond what it keeps is withdrawn. It works from the start of the node, and from each take-over of a token, until
nothing is left to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from keeper.attest.codec import to_abi
from keeper.chain.abi import decode_result, encode
from keeper.chain.rpc import RpcError, RpcUnavailable, understood
from keeper.chain.transactions import Sender, TransactionError
from keeper.chain.uniswap import Quote, approval, quotes, sale
from keeper.margin.listing import Listing, UnknownAsset
from keeper.margin.model import MarginModel
from keeper.margin.parameters import BASIS
from keeper.market.marks import MarkError, Marks
from keeper.state.actions import Withdraw
from keeper.state.batch import UNIT
from keeper.state.deployment import ChainDeployment, Deployment, Token
from keeper.state.ids import AccountId, Address, owner_of, token_id

from .config import SaleTerms
from .peers import PeerUnavailable
from .permits import Declined, PermitClient
from .view import ChainsView, NotReady

log = structlog.get_logger()

_PAUSE_SECONDS = 1.0
_MOST_PAUSE_SECONDS = 16.0
"""Before a step that had to wait is tried again, doubled each time: a withdrawal waits for a final block."""
_DEADLINE_SECONDS = 60
_PARTS = 7
"""A sale that the pool pays too little for is halved up to so many times less one."""


@dataclass
class Inventory:
    """Sells what one account took, each chain by its own task."""

    deployment: Deployment
    listing: Listing
    model: MarginModel
    view: ChainsView
    permits: PermitClient
    senders: Mapping[int, Sender]
    account: AccountId
    terms: SaleTerms
    marks: Callable[[], Marks]
    done: dict[str, int] = field(default_factory=dict)
    """How often each step was mined."""
    waiting: dict[int, str] = field(default_factory=dict)
    """What a chain's next step waits for."""
    _awake: dict[int, asyncio.Event] = field(default_factory=dict)

    @property
    def wallet(self) -> Address:
        return owner_of(self.account)

    def wake(self, chain_id: int) -> None:
        """There is something to sell on a chain."""
        self._event(chain_id).set()

    def _event(self, chain_id: int) -> asyncio.Event:
        return self._awake.setdefault(chain_id, asyncio.Event())

    async def serve(self, chain_id: int) -> None:
        """Work off what is there, then sleep until woken; until cancelled."""
        while not await self.view.wait(lambda: self.view.started, _MOST_PAUSE_SECONDS):
            pass
        pause = _PAUSE_SECONDS
        while True:
            event = self._event(chain_id)
            event.clear()
            if await self.step(chain_id):
                pause = _PAUSE_SECONDS
                continue
            if chain_id not in self.waiting:
                await event.wait()
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), pause)
            pause = min(_MOST_PAUSE_SECONDS, 2 * pause)

    async def step(self, chain_id: int) -> bool:
        """One step where one is due; False where none is, or where it must wait: `waiting` says for what."""
        self.waiting.pop(chain_id, None)
        chain = self.deployment.chains[chain_id]
        try:
            name = await self._deposit(chain) or await self._sell(chain) or await self._withdraw(chain)
        except (Declined, PeerUnavailable, RpcUnavailable, RpcError, TransactionError, NotReady) as error:
            self.waiting[chain_id] = str(error)
            log.info("inventory.waits", chain=chain_id, reason=str(error))
            return False
        if name:
            self.done[name] = self.done.get(name, 0) + 1
            log.info("inventory.done", chain=chain_id, step=name)
        return bool(name)

    # --- steps, the last first: each returns its name where it was done ---------------------------------------------

    async def _deposit(self, chain: ChainDeployment) -> str:
        amount = await self._balance(chain, chain.settlement)
        amount -= self.terms.float // 10 ** (18 - chain.settlement.decimals)
        if amount <= 0:
            return ""
        await self._approve(chain, chain.settlement, chain.contracts.vault, amount)
        arguments = [self.account, chain.settlement.address, amount, []]
        await self._send(chain, chain.contracts.vault, encode("CollateralVault", "deposit", arguments))
        return "deposit"

    async def _sell(self, chain: ChainDeployment) -> str:
        if chain.swapper is None:
            return ""
        for token in chain.collateral:
            held = await self._balance(chain, token)
            quote = await self._acceptable(chain, token, held) if held else None
            if quote is None:
                continue
            await self._approve(chain, token, chain.swapper, quote.amount_in)
            deadline = self.view.followers[chain.chain_id].head.block.time + _DEADLINE_SECONDS
            least = quote.least(self.terms.slippage)
            data = sale(token.address, quote.amount_in, least, self.wallet, deadline)
            await self._send(chain, chain.swapper, data)
            return "sale"
        return ""

    async def _withdraw(self, chain: ChainDeployment) -> str:
        balances = self.view.followers[chain.chain_id].head.balances.get(self.account)
        for token in chain.collateral if balances is not None and chain.swapper is not None else ():
            assert balances is not None
            kept = self.terms.keep.get(token.symbol, 0) // 10 ** (18 - token.decimals)
            amount = balances.get(token.address, 0) - kept
            quote = await self._acceptable(chain, token, amount) if amount > 0 else None
            if quote is None:
                continue
            action = Withdraw(self.account, token.address, quote.amount_in, self.wallet)
            deadline = self.view.followers[chain.chain_id].head.block.time + _DEADLINE_SECONDS
            granted = await self.permits.ask(self.permits.signed(chain.chain_id, action, deadline))
            data = encode("CollateralVault", "withdraw", [to_abi(action), *granted.calldata])
            await self._send(chain, chain.contracts.vault, data)
            return "withdrawal"
        return ""

    # --- parts -----------------------------------------------------------------------------------------------------

    async def _acceptable(self, chain: ChainDeployment, token: Token, amount: int) -> Quote | None:
        """The quote for as much of `amount` as the pool pays enough for, by halves; None where it buys no such token.

        Raises:
            NotReady: it pays too little for any part, or the token has no mark now.
        """
        assert chain.swapper is not None
        tried = [part for k in range(_PARTS) if (part := amount >> k) > 0]
        try:
            price = self.model.price(token_id(chain.chain_id, token.address), self.marks())
        except (UnknownAsset, MarkError) as error:
            raise NotReady(str(error)) from None
        try:
            found = await quotes(self.view.rpcs[chain.chain_id], chain.swapper, token.address, tried)
        except RpcError:
            return None
        scale, scale_out = 10 ** (18 - token.decimals), 10 ** (18 - chain.settlement.decimals)
        for quote in found:
            wanted = quote.amount_in * scale * price // UNIT * (BASIS - self.terms.discount) // BASIS
            if quote.amount_out * scale_out >= wanted:
                return quote
        raise NotReady(f"the pool pays less than {self.terms.discount} basis points below the mark for {token.symbol}")

    async def _balance(self, chain: ChainDeployment, token: Token) -> int:
        return await self._read(chain, token.address, "balanceOf", [self.wallet])

    async def _approve(self, chain: ChainDeployment, token: Token, spender: Address, amount: int) -> None:
        if await self._read(chain, token.address, "allowance", [self.wallet, spender]) < amount:
            await self._send(chain, token.address, approval(spender, amount))

    async def _read(self, chain: ChainDeployment, token: Address, name: str, arguments: list[bytes]) -> int:
        rpc = self.view.rpcs[chain.chain_id]
        call = {"to": "0x" + token.hex(), "data": "0x" + encode("DevnetToken", name, arguments).hex()}
        with understood(rpc):
            answer = await rpc.call("eth_call", [call, "latest"])
            (value,) = decode_result("DevnetToken", name, bytes.fromhex(answer[2:]))
            return int(value)

    async def _send(self, chain: ChainDeployment, to: Address, data: bytes) -> None:
        receipt = await self.senders[chain.chain_id].send(to, data)
        follower = self.view.followers[chain.chain_id]
        await self.view.wait(lambda: follower.head.block.number >= receipt.block_number, 5.0)
