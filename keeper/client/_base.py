"""What every question and act of a client stands on: the deployment, its chains, names, and transactions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ValidationError

from keeper import schema
from keeper.chain import identity
from keeper.chain.abi import decode_result
from keeper.chain.identity import Provider
from keeper.chain.rpc import RpcError, RpcUnavailable, understood
from keeper.chain.transactions import Receipt, Sender, TransactionError, TransactionReverted
from keeper.margin.names import UnknownName, parse_name
from keeper.state.deployment import ChainDeployment, Deployment, DeploymentError, Token
from keeper.state.ids import AccountId, Address, AssetId, IdError, account_id, address, parse_account_id
from keeper.state.signer import Signer

from ._draft import Call
from ._errors import BadArgument, NoSigner, Reverted, TransactionFailed, Unavailable, WrongChain
from ._node import NodeHttp
from ._signers import SignerLike, signer_of

M = TypeVar("M", bound=BaseModel)

ChainLike = int | str
"""A chain by its id or by its name in the deployment."""
AccountLike = int | str | bytes
"""An account: a sub-account of the signer's own (0 is its cross-margin account), ADDRESS, ADDRESS/SUB, or its id."""
InstrumentLike = str | bytes
"""An instrument by its name, like ETH-PERP or ETH-20261225-3000-C, or by its id."""
AddressLike = str | bytes

UNIX = 10**9
"""A time below is in seconds from a chain's head."""
_SUB_ACCOUNTS = 2**96


class Base:
    """Holds the connections of a client. Not for use by itself."""

    def __init__(
        self,
        node_url: str,
        *,
        signer: SignerLike | None = None,
        rpcs: Mapping[ChainLike, str] | None = None,
        timeout: float = 10.0,
        attempts: int = 4,
    ) -> None:
        if attempts < 1:
            raise BadArgument("attempts", attempts, "at least 1")
        self._node = NodeHttp(node_url, timeout)
        self._signer = None if signer is None else signer_of(signer)
        self._endpoints = dict(rpcs or {})
        self._timeout = timeout
        self._attempts = attempts
        self._deployment: Deployment | None = None
        self._rpcs: dict[int, Provider] = {}
        self._senders: dict[int, Sender] = {}

    @classmethod
    def from_deployment(cls, deployment: Deployment | str | Path, node_url: str, **options: Any) -> Self:
        """A client of a deployment that is known beforehand, from a file or as read before, so that no node can name
        other contracts. `options` are those of the constructor.

        Raises:
            BadArgument: no such file, or no deployments file.

        Example:
            client = AsyncClient.from_deployment("deployments.json", "http://127.0.0.1:8600")
        """
        client = cls(node_url, **options)
        try:
            found = deployment if isinstance(deployment, Deployment) else Deployment.load(Path(deployment))
        except DeploymentError as error:
            raise BadArgument("deployment", str(deployment), f"a deployments file ({error})") from None
        client._use_deployment(found)
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._node.aclose()
        for rpc in self._rpcs.values():
            await rpc.aclose()

    # --- who and where ---------------------------------------------------------------------------------------------

    @property
    def signer(self) -> Signer:
        """What signs for this client. Raises NoSigner where it only reads."""
        if self._signer is None:
            raise NoSigner("this client only reads: give it a signer to act, like signer='0x…' (a private key)")
        return self._signer

    @property
    def address(self) -> Address:
        """Of the signer, 20 bytes. Raises NoSigner."""
        return self.signer.address

    @property
    def node_url(self) -> str:
        return self._node.url

    def account_id(self, account: AccountLike = 0) -> AccountId:
        """The 32 bytes of an account: a sub-account of the signer's own, ADDRESS, ADDRESS/SUB, or the id itself.

        Raises:
            BadArgument: none of these.
            NoSigner: a sub-account's number at a client that only reads.
        """
        if isinstance(account, int):
            if isinstance(account, bool) or not 0 <= account < _SUB_ACCOUNTS:
                raise BadArgument("account", account, "a sub-account from 0 to 2**96 - 1")
            return account_id(self.address, account)
        try:
            return parse_account_id(account)
        except (IdError, TypeError, AttributeError) as error:
            raise BadArgument("account", account, f"ADDRESS, ADDRESS/SUB or a 32-byte id ({error})") from None

    async def deployment(self) -> Deployment:
        """Name, domain, chains, contracts, tokens and attestors: asked of the node once, then kept.

        Raises:
            Unavailable: the node does not answer, or with no deployment.

        Example:
            deployment = await client.deployment()
            verifier = deployment.chains[31337001].contracts.verifier
        """
        if self._deployment is None:
            told = await self._answer(schema.Deployment, "GET", "/v1/deployment")
            try:
                found = told.plain()
            except (KeyError, TypeError, ValueError) as error:
                raise Unavailable(f"{self.node_url}/v1/deployment: no deployment: {error!r:.200}") from None
            self._use_deployment(found)
        assert self._deployment is not None
        return self._deployment

    async def chain(self, chain: ChainLike) -> ChainDeployment:
        """A chain of the deployment by its id or name. Raises BadArgument."""
        return _chain(await self.deployment(), chain)

    async def token(self, chain: ChainLike, token: AddressLike) -> Token:
        """A token of a chain by its symbol or address. Raises BadArgument."""
        where = await self.chain(chain)
        tokens = (where.settlement, *where.collateral)
        for known in tokens:
            if token in (known.symbol, known.address) or _is_address(token, known.address):
                return known
        names = ", ".join(known.symbol for known in tokens)
        raise BadArgument("token", token, f"a token of chain {where.name} ({names}), by symbol or address")

    async def head_time(self, chain: ChainLike) -> int:
        """Time of a chain's newest block, unix seconds. Raises Unavailable."""
        where = await self.chain(chain)
        rpc = await self._rpc(where)
        with _answered(where), understood(rpc):
            block = await rpc.call("eth_getBlockByNumber", ["latest", False])
            return int(block["timestamp"], 16)

    async def time(self, chain: ChainLike, value: int, field: str = "deadline") -> int:
        """Unix seconds of a time, or of so many seconds from the chain's head. Raises BadArgument."""
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**64:
            raise BadArgument(field, value, "a whole number above 0", "unix seconds, or seconds from the chain's head")
        return value if value >= UNIX else await self.head_time(chain) + value

    # --- transactions ----------------------------------------------------------------------------------------------

    async def read(self, call: Call) -> tuple[Any, ...]:
        """The results of a view function at the chain's head. Raises Reverted, Unavailable."""
        where = await self.chain(call.chain_id)
        rpc = await self._rpc(where)
        with _answered(where), understood(rpc):
            body = {"to": "0x" + call.to.hex(), "data": "0x" + call.data.hex()}
            answer = await rpc.call("eth_call", [body, "latest"])
            return decode_result(call.contract, call.function, bytes.fromhex(answer[2:]))

    async def send(self, call: Call) -> Receipt:
        """Simulate a transaction, send it, and wait until it is mined.

        Raises:
            Reverted: it would revert, and was not sent; or did.
            WrongChain: the endpoint is another chain's.
            TransactionFailed: the provider does not take it (no coin for gas), or no block does.
            Unavailable: the provider does not answer; whether it was sent is then unknown.
        """
        where = await self.chain(call.chain_id)
        rpc = await self._rpc(where)
        sender = self._senders.setdefault(where.chain_id, Sender(rpc, where.chain_id, self.signer))
        with _answered(where, call):
            return await sender.send(call.to, call.data)

    async def simulate(self, call: Call) -> None:
        """Raise Reverted where a transaction of the signer's would revert at the chain's head."""
        where = await self.chain(call.chain_id)
        rpc = await self._rpc(where)
        with _answered(where, call):
            await Sender(rpc, where.chain_id, self.signer).simulate(call.to, call.data)

    async def _rpc(self, chain: ChainDeployment) -> Provider:
        """The connection to a chain: asked before anything else whether it is that chain, with these contracts."""
        deployment = await self.deployment()
        if chain.chain_id not in self._rpcs:
            url = self._endpoints.get(chain.chain_id)
            self._rpcs[chain.chain_id] = Provider(deployment, chain.chain_id, url, self._timeout)
        return self._rpcs[chain.chain_id]

    async def _answer(self, kind: type[M], method: str, path: str, body: Any = None) -> M:
        """A node's answer as its model. Raises Refused, and Unavailable where it has another form."""
        try:
            return kind.model_validate(await self._node.ask(method, path, body))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise Unavailable(f"{self.node_url}{path}: {where or 'the answer'}: {first['msg']}") from None

    def _use_deployment(self, deployment: Deployment) -> None:
        self._endpoints = {_chain(deployment, chain).chain_id: url for chain, url in self._endpoints.items()}
        self._deployment = deployment


def instrument(value: InstrumentLike) -> AssetId:
    """The id of an instrument or token by name or id. Raises BadArgument."""
    if isinstance(value, bytes):
        if len(value) != 32:
            raise BadArgument("instrument", value, "an id of 32 bytes")
        return AssetId(value)
    if value.startswith("0x"):
        try:
            return instrument(bytes.fromhex(value[2:]))
        except ValueError:
            raise BadArgument("instrument", value, "a name like ETH-PERP, or 0x and 64 hex digits") from None
    try:
        return parse_name(value)
    except UnknownName as error:
        raise BadArgument("instrument", value, f"a name like ETH-PERP ({error})") from None


def address_of(value: AddressLike, field: str) -> Address:
    """20 bytes. Raises BadArgument."""
    try:
        return address(value)
    except (IdError, TypeError, ValueError):
        raise BadArgument(field, value, "an address of 20 bytes, like 0x and 40 hex digits") from None


def _chain(deployment: Deployment, chain: ChainLike) -> ChainDeployment:
    for known in deployment.chains.values():
        if str(chain) in (known.name, str(known.chain_id)):
            return known
    names = ", ".join(f"{known.name} ({known.chain_id})" for known in deployment.chains.values())
    raise BadArgument("chain", chain, f"one of {names}")


def _is_address(value: AddressLike, wanted: Address) -> bool:
    return isinstance(value, str) and value.lower() == "0x" + wanted.hex()


@contextmanager
def _answered(chain: ChainDeployment, call: Call | None = None) -> Iterator[None]:
    """Around what asks a chain: its failures as the client's own."""
    what = "a call" if call is None else f"{call.contract}.{call.function}"
    try:
        yield
    except identity.WrongChain as error:
        raise WrongChain(str(error)) from None
    except TransactionReverted as error:
        raise Reverted(f"chain {chain.name}: {what}", error.revert, error.mined) from None
    except TransactionError as error:
        raise TransactionFailed(f"chain {chain.name}: {what}: {error}") from None
    except RpcUnavailable as error:
        raise Unavailable(f"chain {chain.name} ({chain.chain_id}): {error}") from None
    except RpcError as error:
        raise TransactionFailed(f"chain {chain.name}: {what}: {error}") from None
