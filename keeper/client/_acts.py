"""Every act of an owner and of an integrator, drafted: what to sign and what to send, with nothing signed or sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keeper.attest.signing import (
    SignedPermit,
    new_nonce,
    order_typed_data,
    request_typed_data,
    signed_order,
    signed_request,
    trade_request,
)
from keeper.state.actions import Action, Move, Order, Reserve, Takeover, Unlink, Withdraw
from keeper.state.ids import ZERO32, ZERO_ADDRESS
from keeper.state.live import PermitItem
from keeper.state.signer import Signer

from ._amounts import USD, Amount, exact
from ._base import AccountLike, AddressLike, ChainLike, InstrumentLike, address_of, instrument
from ._calls import call_of, liquidate_call, match_call, move_call, reserve_call, unlink_call, withdraw_call
from ._draft import Call, Draft, SignedOrder
from ._errors import BadArgument
from ._orders import max_fee
from ._reads import DEADLINE_SECONDS, Reads

CASH = "cash"
"""In place of an instrument: what a move of cash moves."""
_NOBODY = b""
"""In place of the signatures that a draft does not have yet."""


class Acts:
    """Drafts of acts. Each method of a client by the same name executes what this one drafts."""

    def __init__(self, client: Reads) -> None:
        self._client = client

    async def deposit(
        self,
        chain: ChainLike,
        token: AddressLike,
        amount: Amount,
        *,
        links: Sequence[ChainLike] = (),
        account: AccountLike = 0,
    ) -> Draft:
        """Pay a token of the signer's into an account: approve the vault where it is not yet, then deposit.

        `amount` counts the token's smallest unit, or whole tokens as a decimal string. `links` are chains that the
        account shall span with this one; each of them has to `link` back. Anybody's account may be paid into, but only
        its owner may link.

        Raises:
            BadArgument: an unknown token, an inexact amount, or more than the wallet has.
            Reverted, Unavailable, TransactionFailed, WrongChain, NoSigner.

        Example:
            await client.deposit("A", "USDC", "100.50", links=["B", "C"])
        """
        client, where = self._client, await self._client.chain(chain)
        paid = await client.token(chain, token)
        units = exact(amount, paid.decimals, "amount", paid.symbol)
        vault, owner = where.contracts.vault, client.address

        def of_token(function: str, *arguments: Any) -> Call:
            return Call(where.chain_id, "DevnetToken", paid.address, function, arguments)

        (balance,) = await client.read(of_token("balanceOf", owner))
        if balance < units:
            held = f"{balance / 10**paid.decimals:g}"
            raise BadArgument("amount", amount, f"at most the {held} {paid.symbol} in wallet 0x{owner.hex()}")
        (allowed,) = await client.read(of_token("allowance", owner, vault))
        arguments = (client.account_id(account), paid.address, units, await client._chain_ids(links))
        deposit = call_of(where, "CollateralVault", "deposit", *arguments)
        approvals = () if allowed >= units else (of_token("approve", vault, units),)
        return Draft("deposit", (*approvals, deposit))

    async def link(self, chain: ChainLike, chains: Sequence[ChainLike], *, account: AccountLike = 0) -> Draft:
        """Name chains that belong to an account of the signer's with this one. They count as one account once each has
        named the other.

        Example:
            await client.link("B", ["A", "C"])
        """
        where, named = await self._client.chain(chain), await self._client._chain_ids(chains)
        if not named:
            raise BadArgument("chains", list(chains), "at least one chain")
        return Draft("link", (call_of(where, "CollateralVault", "link", self._client.account_id(account), named),))

    async def unlink(
        self,
        chain: ChainLike,
        other: ChainLike,
        *,
        account: AccountLike = 0,
        deadline: int = DEADLINE_SECONDS,
    ) -> Draft:
        """Take chain `other` out of what an account of the signer's names on `chain`, by a permit. Once that is final,
        the chains that only this link joined are accounts of their own; each must have margin and net cash for itself.

        Raises:
            Refused: `not_linked`, `insufficient_free_margin`, `net_cash`, `leg_live`, `unlink_pending` and others.
            BadArgument, Reverted, Unavailable, TransactionFailed, WrongChain, NoSigner.

        Example:
            await client.unlink("A", "B")
        """
        action = Unlink(self._client.account_id(account), (await self._client.chain(other)).chain_id)
        return await self._permitted("unlink", chain, action, deadline)

    async def withdraw(
        self,
        chain: ChainLike,
        token: AddressLike,
        amount: Amount,
        *,
        receiver: AddressLike | None = None,
        account: AccountLike = 0,
        deadline: int = DEADLINE_SECONDS,
    ) -> Draft:
        """Take a token out of an account of the signer's, by a permit; to `receiver`, or the signer.

        `amount` counts the token's smallest unit, or whole tokens as a decimal string.

        Raises:
            Refused: `insufficient_free_margin`, `net_cash`, `vault_short`, `chain_late` and others.
            BadArgument, Reverted, Unavailable, TransactionFailed, WrongChain, NoSigner.

        Example:
            await client.withdraw("A", "USDC", "25")
        """
        client, paid = self._client, await self._client.token(chain, token)
        to = client.address if receiver is None else address_of(receiver, "receiver")
        units = exact(amount, paid.decimals, "amount", paid.symbol)
        return await self._permitted(
            "withdraw", chain, Withdraw(client.account_id(account), paid.address, units, to), deadline
        )

    async def reserve(
        self,
        chain: ChainLike,
        integrator: AddressLike,
        amount: Amount,
        *,
        until: int,
        cash_part: Amount | None = None,
        submitter: AddressLike | None = None,
        account: AccountLike = 0,
        deadline: int = DEADLINE_SECONDS,
    ) -> Draft:
        """Set margin of an account of the signer's aside for an integrator on a chain, by a permit, until `until`
        (unix seconds, or seconds from the chain's head).

        `amount` and `cash_part` are USD: decimal strings, or integers of 1e-18. The cash part of a claim is paid at
        once, out of positive net cash. With a `submitter`, a contract, nothing is sent: the permit is for its call.

        Raises:
            Refused: `insufficient_free_margin`, `net_cash`, `chain_late` and others.
            BadArgument, Reverted, Unavailable, TransactionFailed, WrongChain, NoSigner.

        Example:
            await client.reserve("C", "0x976EA74026E726554dB657fA54763abd0C3a0aa9", "500", until=3600)
        """
        units = exact(amount, 18, "amount", USD)
        cash = 0 if cash_part is None else exact(cash_part, 18, "cash_part", USD)
        if cash > units:
            raise BadArgument("cash_part", cash_part, f"at most the amount, {amount}", USD)
        action = Reserve(
            self._client.account_id(account),
            address_of(integrator, "integrator"),
            units,
            cash,
            await self._client.time(chain, until, "until"),
            ZERO_ADDRESS if submitter is None else address_of(submitter, "submitter"),
        )
        return await self._permitted("reserve", chain, action, deadline, sent=submitter is None)

    async def release(self, chain: ChainLike, account: AccountLike, amount: Amount) -> Draft:
        """Give back USD `amount` of what an account reserved for the signer, who is the integrator.

        Example:
            await client.release("C", "0x14dC79964da2C08b23698B3D3cc7Ca32193d9955", "100")
        """
        return await self._integrators("release", chain, account, amount)

    async def claim(self, chain: ChainLike, account: AccountLike, amount: Amount) -> Draft:
        """Take USD `amount` of what an account reserved for the signer, who is the integrator, before the reservation
        ends: its cash part at once, the rest once the account has the cash.

        Example:
            await client.claim("C", "0x14dC79964da2C08b23698B3D3cc7Ca32193d9955", "100")
        """
        return await self._integrators("claim", chain, account, amount)

    async def payout(self, chain: ChainLike, account: AccountLike, *, integrator: AddressLike | None = None) -> Draft:
        """Have paid what can be paid now of an integrator's claims on an account; of the signer's own where none is
        named. Anybody may.

        Example:
            await client.payout("C", "0x14dC79964da2C08b23698B3D3cc7Ca32193d9955")
        """
        client = self._client
        to = client.address if integrator is None else address_of(integrator, "integrator")
        arguments = (client.account_id(account), to)
        return Draft("payout", (call_of(await client.chain(chain), "MarginReservations", "payout", *arguments),))

    async def move(
        self,
        chain: ChainLike,
        to: AccountLike,
        amount: Amount,
        *,
        asset: InstrumentLike = CASH,
        account: AccountLike = 0,
        deadline: int = DEADLINE_SECONDS,
    ) -> Draft:
        """Move cash (USD), or a position at its mark, between two accounts of the signer on one chain, by a permit.

        `amount` is a decimal string, or an integer of 1e-18; of a position it is signed: `to` gets a short where it is
        negative.

        Raises:
            Refused: `insufficient_free_margin` of either account, `chain_late` and others.
            BadArgument, Reverted, Unavailable, TransactionFailed, WrongChain, NoSigner.

        Example:
            await client.move("A", 1, "50")
        """
        client, cash = self._client, asset == CASH
        units = exact(amount, 18, "amount", USD if cash else "units", signed=not cash)
        asset_id = ZERO32 if cash else instrument(asset)
        action = Move(client.account_id(account), client.account_id(to), asset_id, units)
        return await self._permitted("move", chain, action, deadline)

    async def takeover(
        self,
        chain: ChainLike,
        liquidated: AccountLike,
        asset: InstrumentLike,
        size: Amount,
        *,
        account: AccountLike = 0,
        deadline: int = 20,
    ) -> Draft:
        """Take over `size` of a position or collateral token that a liquidation leg closes, for an account of the
        signer's, by a permit. `size` counts whole units as a decimal string, or 1e-18.

        Raises:
            Refused: `no_leg`, `insufficient_free_margin` and others.
            Reverted: somebody was first, or the leg is no longer in the newest batch.
            BadArgument, Unavailable, TransactionFailed, WrongChain, NoSigner.

        Example:
            await client.takeover("B", failing_account, "ETH-PERP", "0.5")
        """
        client = self._client
        action = Takeover(
            client.account_id(account),
            client.account_id(liquidated),
            instrument(asset),
            exact(size, 18, "size", "units"),
        )
        return await self._permitted("takeover", chain, action, deadline)

    async def prove(self, chain: ChainLike, *, account: AccountLike = 0) -> Draft:
        """Prove an account's newest margin to a chain, for whoever asks `isHealthy` there. Anybody may.

        Raises:
            Refused: `not_found` where the batch that the chain holds has no leaf of the account.

        Example:
            await client.prove("C")
        """
        proof = await self._client.proof(account, chain=chain)
        where = await self._client.chain(chain)
        return Draft("prove", (call_of(where, "MarginVerifier", "prove", *proof.arguments),))

    async def trade(
        self,
        order: SignedOrder,
        *,
        size: Amount | None = None,
        account: AccountLike = 0,
        deadline: int = DEADLINE_SECONDS,
    ) -> Draft:
        """Take somebody's order at its limit price: sign an order of the other side, have the match permitted for both
        accounts, and send it.

        `size` is how much of it, unsigned: whole units as a decimal string, or 1e-18; all of it by default.

        Raises:
            Refused: `insufficient_free_margin` of either account, `order_overfilled`, `chain_late` and others.
            BadArgument, Reverted, Unavailable, TransactionFailed, WrongChain, NoSigner.

        Example:
            await client.trade(order, size="0.5")
        """
        client, maker = self._client, order.order
        deployment, chain_id = await client.deployment(), order.chain_id
        filled = abs(maker.size) if size is None else exact(size, 18, "size", "units")
        if filled > abs(maker.size):
            raise BadArgument("size", size, f"at most the order's {abs(maker.size)} of 1e-18", "units")
        made = filled if maker.size > 0 else -filled
        ends = min(maker.deadline, await client.time(chain_id, deadline))
        taker = Order(
            client.account_id(account),
            maker.asset,
            -made,
            maker.limit_price,
            max_fee(deployment, maker.limit_price),
            new_nonce(),
            ends,
        )

        def request(own: bytes) -> PermitItem:
            signatures = (order.signature, own)
            return trade_request(deployment, chain_id, (maker, taker), signatures, made, maker.limit_price, ends)

        async def match(permit: SignedPermit) -> Call:
            return match_call(deployment, permit, await client.mark_proof(maker.asset, chain=chain_id))

        return Draft(
            "trade",
            (await match(SignedPermit(request(_NOBODY), _NOBODY)),),
            (order_typed_data(deployment, chain_id, taker),),
            lambda signer: request(signed_order(deployment, chain_id, taker, signer)),
            match,
        )

    async def _permitted(
        self, act: str, chain: ChainLike, action: Action, deadline: int, *, sent: bool = True
    ) -> Draft:
        """The draft of an act that its owner asks a permit for, and sends or leaves to somebody else."""
        deployment = await self._client.deployment()
        request = await self._client._unsigned(chain, action, deadline)

        def sign(signer: Signer) -> PermitItem:
            return signed_request(deployment, request, signer)

        return Draft(
            act,
            (await self.call_for(SignedPermit(request, _NOBODY)),) if sent else (),
            (request_typed_data(deployment, request),),
            sign,
            self.call_for if sent else None,
        )

    async def call_for(self, permit: SignedPermit) -> Call:
        """The transaction that a permit permits, with what it needs of the batch that the chain holds."""
        client, item = self._client, permit.item
        deployment, action = await client.deployment(), item.action
        match action:
            case Withdraw():
                return withdraw_call(deployment, permit)
            case Unlink():
                return unlink_call(deployment, permit)
            case Reserve():
                return reserve_call(deployment, permit)
            case Move():
                moved = None
                if action.asset != ZERO32:
                    moved = await client.mark_proof(action.asset, chain=item.chain_id)
                return move_call(deployment, permit, moved)
            case Takeover():
                leg = await client.leg_proof(action.liquidated, action.asset, chain=item.chain_id)
                return liquidate_call(deployment, permit, leg)
            case _:
                mark = await client.mark_proof(item.orders[0].asset, chain=item.chain_id)
                return match_call(deployment, permit, mark)

    async def _integrators(self, act: str, chain: ChainLike, account: AccountLike, amount: Amount) -> Draft:
        arguments = (self._client.account_id(account), exact(amount, 18, "amount", USD))
        return Draft(act, (call_of(await self._client.chain(chain), "MarginReservations", act, *arguments),))
