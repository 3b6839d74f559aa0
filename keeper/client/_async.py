"""The asynchronous client."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec

from keeper.attest.signing import SignedPermit
from keeper.state.actions import Order

from ._acts import Acts
from ._amounts import Amount
from ._base import AccountLike, AddressLike, ChainLike, InstrumentLike
from ._draft import Call, Done, Draft
from ._orders import ORDER_SECONDS, new_order
from ._reads import Reads

P = ParamSpec("P")


def _executed(
    draft: Callable[Concatenate[Acts, P], Coroutine[Any, Any, Draft]],
) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, Done]]:
    """The act that a draft is of, under its name, with its parameters and documentation."""

    @functools.wraps(draft, assigned=("__doc__", "__name__"))
    async def act(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> Done:
        return await self.execute(await draft(self.draft, *args, **kwargs))

    act.__signature__ = inspect.signature(draft).replace(return_annotation="Done")  # type: ignore[attr-defined]
    return act


class AsyncClient(Reads):
    """What an owner or an integrator does with the system: ask a node, sign, have permits signed, send transactions.

    Args:
        node_url: any node's URL; requests for permits go through it to the attestors.
        signer: what signs for the account's owner: a private key (32 bytes, or 64 hex digits), an eth_account
            LocalAccount, or an object with `address` and `sign(digest) -> 65 bytes`. None only reads.
        rpcs: endpoints of chains, by id or name, in place of the deployment's.
        timeout: bound of every answer, seconds.
        attempts: how often a request for a permit is sent at most.

    Contracts and attestors are what the node says they are, unless the client is made by `from_deployment`. Nothing
    else of a node is believed: permits and batches need a quorum's signatures, proofs are checked by the contracts.

    Amounts are integers of the smallest unit, or decimal strings and Decimals of whole units; never floats. Times are
    unix seconds, or seconds from the chain's head. Chains go by name or id, tokens by symbol or address, instruments
    by name or id, accounts by ADDRESS, ADDRESS/SUB, id, or the number of a sub-account of the signer's own.

    Example:
        async with AsyncClient("http://127.0.0.1:8600", signer=key) as client:
            await client.deposit("A", "USDC", "100", links=["B"])
            await client.link("B", ["A"])
            await client.withdraw("A", "USDC", "25")
    """

    @property
    def draft(self) -> Acts:
        """The same acts, drafted and not executed: what would be signed and sent.

        Example:
            draft = await client.draft.withdraw("A", "USDC", "25")
            print(draft.typed_data)
            await client.execute(draft)
        """
        return Acts(self)

    async def execute(self, draft: Draft) -> Done:
        """Do what was drafted: sign, have the permit signed, send.

        Raises:
            Refused: by the attestors, and why.
            Reverted, Unavailable, TransactionFailed, WrongChain, NoSigner.
        """
        permit, calls = None, draft.calls
        if draft.sign is not None:
            permit = await self.ask(draft.sign(self.signer))
            if draft.permitted is not None:
                calls = (*calls[:-1], await draft.permitted(permit))
        return Done(draft.act, permit, tuple([await self.send(call) for call in calls]))

    async def call_for(self, permit: SignedPermit) -> Call:
        """The transaction that a permit permits, with the mark or leg of the batch that the chain holds where it needs
        one.

        Example:
            await client.simulate(await client.call_for(permit))
        """
        return await self.draft.call_for(permit)

    async def use(self, permit: SignedPermit) -> Done:
        """Send what a permit permits.

        Raises:
            Reverted: it was used, is over, or is not for this.
            Unavailable, TransactionFailed, WrongChain, NoSigner.

        Example:
            await client.use(await client.permit("A", action))
        """
        receipt = await self.send(await self.call_for(permit))
        return Done(type(permit.item.action).__name__.lower(), permit, (receipt,))

    async def order(
        self,
        chain: ChainLike,
        asset: InstrumentLike,
        size: Amount,
        price: Amount,
        *,
        until: int = ORDER_SECONDS,
        account: AccountLike = 0,
        submitter: AddressLike | None = None,
    ) -> Order:
        """An order of the signer's, still to be signed by `sign_order`: buys where `size` is positive, sells where it
        is negative, at `price` (USD per unit) or better, until `until`.

        Example:
            order = await client.order("B", "ETH-PERP", "-1.5", "3000")
        """
        return await new_order(self, chain, asset, size, price, until, account, submitter)

    deposit = _executed(Acts.deposit)
    link = _executed(Acts.link)
    unlink = _executed(Acts.unlink)
    withdraw = _executed(Acts.withdraw)
    reserve = _executed(Acts.reserve)
    release = _executed(Acts.release)
    claim = _executed(Acts.claim)
    payout = _executed(Acts.payout)
    move = _executed(Acts.move)
    takeover = _executed(Acts.takeover)
    prove = _executed(Acts.prove)
    trade = _executed(Acts.trade)
