"""The synchronous client: the asynchronous one, run to the end of each call on a loop of its own."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from keeper.state.deployment import Deployment
from keeper.state.ids import AccountId, Address

from ._acts import Acts
from ._async import AsyncClient
from ._base import AccountLike, ChainLike
from ._draft import Draft
from ._errors import ClientError
from ._signers import SignerLike

P = ParamSpec("P")
R = TypeVar("R")


def _sync(
    method: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Client, P], R]:
    """The method of the asynchronous client, with its parameters and documentation."""

    @functools.wraps(method)
    def call(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._run(lambda: method(self._client, *args, **kwargs))

    call.__doc__ = (method.__doc__ or "").replace("await ", "")
    return call


def _drafted(
    draft: Callable[Concatenate[Acts, P], Coroutine[Any, Any, Draft]],
) -> Callable[Concatenate[Drafts, P], Draft]:
    @functools.wraps(draft)
    def call(self: Drafts, /, *args: P.args, **kwargs: P.kwargs) -> Draft:
        return self._client._run(lambda: draft(self._client._client.draft, *args, **kwargs))

    call.__doc__ = (draft.__doc__ or "").replace("await ", "")
    return call


class Drafts:
    """Drafts of acts, as `AsyncClient.draft` makes them."""

    def __init__(self, client: Client) -> None:
        self._client = client

    deposit = _drafted(Acts.deposit)
    link = _drafted(Acts.link)
    unlink = _drafted(Acts.unlink)
    withdraw = _drafted(Acts.withdraw)
    reserve = _drafted(Acts.reserve)
    release = _drafted(Acts.release)
    claim = _drafted(Acts.claim)
    payout = _drafted(Acts.payout)
    move = _drafted(Acts.move)
    takeover = _drafted(Acts.takeover)
    prove = _drafted(Acts.prove)
    trade = _drafted(Acts.trade)


class Client:
    """As `AsyncClient`, without `await`: the same arguments, methods, answers and errors.

    Threads may share one; their calls wait for each other. In a running event loop use `AsyncClient`.

    Example:
        with Client("http://127.0.0.1:8600", signer=key) as client:
            client.deposit("A", "USDC", "100", links=["B"])
            print(client.account().margin_accounts[0].usd.free)
    """

    def __init__(
        self,
        node_url: str,
        *,
        signer: SignerLike | None = None,
        rpcs: Mapping[ChainLike, str] | None = None,
        timeout: float = 10.0,
        attempts: int = 4,
    ) -> None:
        self._client = AsyncClient(node_url, signer=signer, rpcs=rpcs, timeout=timeout, attempts=attempts)
        self._runner = asyncio.Runner()
        self._lock = threading.Lock()

    @classmethod
    def from_deployment(cls, deployment: Deployment | str | Path, node_url: str, **options: Any) -> Self:
        """As `AsyncClient.from_deployment`."""
        client = cls(node_url, **options)
        client._client = AsyncClient.from_deployment(deployment, node_url, **options)
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._run(self._client.aclose)
        self._runner.close()

    def _run(self, start: Callable[[], Coroutine[Any, Any, R]]) -> R:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            with self._lock:
                return self._runner.run(start())
        raise ClientError("an event loop runs here: use keeper.AsyncClient and await its methods")

    @property
    def address(self) -> Address:
        """Of the signer, 20 bytes. Raises NoSigner."""
        return self._client.address

    @property
    def node_url(self) -> str:
        return self._client.node_url

    @property
    def draft(self) -> Drafts:
        """The same acts, drafted and not executed: what would be signed and sent.

        Example:
            print(client.draft.withdraw("A", "USDC", "25").typed_data)
        """
        return Drafts(self)

    def account_id(self, account: AccountLike = 0) -> AccountId:
        """As `AsyncClient.account_id`."""
        return self._client.account_id(account)

    deployment = _sync(AsyncClient.deployment)
    chain = _sync(AsyncClient.chain)
    token = _sync(AsyncClient.token)
    head_time = _sync(AsyncClient.head_time)
    time = _sync(AsyncClient.time)

    account = _sync(AsyncClient.account)
    whatif = _sync(AsyncClient.whatif)
    proof = _sync(AsyncClient.proof)
    mark_proof = _sync(AsyncClient.mark_proof)
    leg_proof = _sync(AsyncClient.leg_proof)
    batch = _sync(AsyncClient.batch)
    liquidations = _sync(AsyncClient.liquidations)
    netting = _sync(AsyncClient.netting)
    status = _sync(AsyncClient.status)
    get = _sync(AsyncClient.get)

    request = _sync(AsyncClient.request)
    ask = _sync(AsyncClient.ask)
    permit = _sync(AsyncClient.permit)
    order = _sync(AsyncClient.order)
    sign_order = _sync(AsyncClient.sign_order)
    request_typed_data = _sync(AsyncClient.request_typed_data)
    order_typed_data = _sync(AsyncClient.order_typed_data)

    read = _sync(AsyncClient.read)
    simulate = _sync(AsyncClient.simulate)
    send = _sync(AsyncClient.send)
    execute = _sync(AsyncClient.execute)
    call_for = _sync(AsyncClient.call_for)
    use = _sync(AsyncClient.use)

    deposit = _sync(AsyncClient.deposit)
    link = _sync(AsyncClient.link)
    unlink = _sync(AsyncClient.unlink)
    withdraw = _sync(AsyncClient.withdraw)
    reserve = _sync(AsyncClient.reserve)
    release = _sync(AsyncClient.release)
    claim = _sync(AsyncClient.claim)
    payout = _sync(AsyncClient.payout)
    move = _sync(AsyncClient.move)
    takeover = _sync(AsyncClient.takeover)
    prove = _sync(AsyncClient.prove)
    trade = _sync(AsyncClient.trade)
