"""Whether a provider serves the chain, and the deployment on it, that it is believed to serve.

Contracts have one address on all chains, so a provider of another chain answers every question about accounts, and
answers it wrongly. So it is asked who it is before anything else, and again whenever it may have become another one:
for its chain id, for the code of every contract, and for what the contracts say of themselves and of each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, NamedTuple

from eth_utils.crypto import keccak

from keeper.state.deployment import ChainDeployment, Deployment

from .abi import decode_result, encode, function
from .rpc import Rpc, RpcError, RpcUnavailable, understood

_FIRST_PAUSE, _LAST_PAUSE = 1.0, 30.0
"""Seconds until a provider that was refused is asked again: doubled each time, up to the last."""

_Batch = Callable[[Sequence[tuple[str, Sequence[Any]]]], Awaitable[list[Any]]]


class WrongChain(RpcUnavailable):
    """A provider that is not one of this chain of this deployment: nothing it says counts, and nothing is sent to it.

    `field` names what differs: `eth_chainId`, `code of contracts.vault`, `contracts.verifier.THRESHOLD()`.
    """

    def __init__(self, chain: ChainDeployment, provider: str, field: str, got: str, wanted: str) -> None:
        super().__init__(f"chain {chain.name} ({chain.chain_id}): {provider}: {field} is {got}, wanted {wanted}")
        self.chain_id = chain.chain_id
        self.chain = chain.name
        self.provider = provider
        self.field = field
        self.got = got
        self.wanted = wanted


class _Reading(NamedTuple):
    """What a contract says of itself. `wanted` has one value for each output."""

    part: str
    contract: str
    method: str
    wanted: tuple[Any, ...]
    arguments: tuple[Any, ...] = ()


async def check_identity(rpc: Rpc, deployment: Deployment, chain_id: int) -> None:
    """Ask a provider who it is, by two batches of requests.

    Raises:
        WrongChain: it serves another chain, or another deployment.
        RpcUnavailable, RpcError: it does not answer.
    """
    with understood(rpc):
        await _check(rpc.batch, rpc.name, deployment, deployment.chains[chain_id])


def require_chain_id(chain: ChainDeployment, provider: str, answer: str) -> None:
    """Raise WrongChain where a provider's answer to `eth_chainId` is another chain's."""
    found = int(answer, 16)
    if found != chain.chain_id:
        raise WrongChain(chain, provider, "eth_chainId", _shown(found), str(chain.chain_id))


async def code_hashes(rpc: Rpc, chain: ChainDeployment) -> dict[str, bytes]:
    """The keccak of every contract's code, now, by its name in `ChainDeployment.parts`: what a deployment records.

    Raises:
        WrongChain: a contract has no code.
        RpcUnavailable, RpcError: the provider does not answer.
    """
    with understood(rpc):
        return _hashed(await rpc.batch(_code_requests(chain)), chain, rpc.name)


async def _check(batch: _Batch, provider: str, deployment: Deployment, chain: ChainDeployment) -> None:
    found, *codes = await batch([("eth_chainId", []), *_code_requests(chain)])
    require_chain_id(chain, provider, found)
    for part, value in _hashed(codes, chain, provider).items():
        wanted = chain.code_hashes.get(part, b"")
        if value != wanted:
            raise WrongChain(chain, provider, f"hash of the code of {part}", _shown(value), _shown(wanted))
    readings = [*_core_wiring(deployment, chain), *_token_wiring(chain), *_other_wiring(chain)]
    answers = await batch([_call(reading, chain) for reading in readings])
    for reading, answer in zip(readings, answers, strict=True):
        values = decode_result(reading.contract, reading.method, bytes.fromhex(answer[2:]))
        outputs = function(reading.contract, reading.method)["outputs"]
        for output, value, wanted in zip(outputs, values, reading.wanted, strict=True):
            if value != _as_decoded(wanted):
                name = f".{output['name']}" if len(outputs) > 1 else ""
                arguments = ", ".join(map(_shown, reading.arguments))
                field = f"{reading.part}.{reading.method}({arguments}){name}"
                raise WrongChain(chain, provider, field, _shown(value), _shown(wanted))


def _code_requests(chain: ChainDeployment) -> list[tuple[str, Sequence[Any]]]:
    return [("eth_getCode", ["0x" + where.hex(), "latest"]) for where in chain.parts().values()]


def _hashed(codes: Sequence[str], chain: ChainDeployment, provider: str) -> dict[str, bytes]:
    hashes = {}
    for (part, where), code in zip(chain.parts().items(), codes, strict=True):
        if not (content := bytes.fromhex(code[2:])):
            raise WrongChain(chain, provider, f"code of {part} at 0x{where.hex()}", "empty", "a contract")
        hashes[part] = keccak(content)
    return hashes


def _core_wiring(deployment: Deployment, chain: ChainDeployment) -> Iterator[_Reading]:
    at, p = chain.contracts, deployment.profile
    core = {"VERIFIER": at.verifier, "CLEARING_HOUSE": at.clearing_house, "VAULT": at.vault}
    domain = (b"\x13", deployment.name, deployment.version, 0, bytes(20), deployment.deployment_id, ())
    yield _Reading("contracts.verifier", "MarginVerifier", "eip712Domain", domain)
    contracts: dict[tuple[str, str], dict[str, Any]] = {
        ("verifier", "MarginVerifier"): {
            "DEPLOYMENT_ID": deployment.deployment_id,
            "PARAMETERS_HASH": deployment.parameters_hash,
            "ATTESTOR_SET_ID": deployment.attestor_set_id,
            "THRESHOLD": deployment.threshold,
            "EPOCH_SECONDS": p.epoch_seconds,
            "HEARTBEAT": p.heartbeat_seconds,
            "MAX_SKEW": p.max_skew_seconds,
            "GRACE": p.grace_seconds,
            "MAX_PERMIT_SECONDS": p.max_permit_seconds,
            "HISTORY": at.history,
            "CLEARING_HOUSE": at.clearing_house,
            "VAULT": at.vault,
            "RESERVATIONS": at.reservations,
        },
        ("clearing_house", "ClearingHouse"): {
            "VERIFIER": at.verifier,
            "VAULT": at.vault,
            "RESERVATIONS": at.reservations,
            "PRICE_BAND": p.price_band,
            "FEE_RATE": p.fee_rate,
            "FLAT_FEE": p.flat_fee,
            "FUND_SHARE": p.fund_share,
            "MAX_FUNDING_RATE": p.max_funding_rate,
            "RAMP_SECONDS": p.ramp_seconds,
            "MAX_AGE": p.max_age_seconds,
        },
        ("vault", "CollateralVault"): {
            "VERIFIER": at.verifier,
            "CLEARING_HOUSE": at.clearing_house,
            "RESERVATIONS": at.reservations,
            "SETTLEMENT_TOKEN": chain.settlement.address,
            "BRIDGE": chain.bridge or bytes(20),
        },
        ("reservations", "MarginReservations"): core,
        ("lens", "MarginLens"): {"CLEARING_HOUSE": at.clearing_house, "VAULT": at.vault},
    }
    for (part, contract), answers in contracts.items():
        for method, wanted in answers.items():
            yield _Reading(f"contracts.{part}", contract, method, (wanted,))
    for member in deployment.attestors:
        yield _Reading("contracts.verifier", "MarginVerifier", "isAttestor", (True,), (member,))


def _token_wiring(chain: ChainDeployment) -> Iterator[_Reading]:
    """Decimals as the token and as the vault have them, and that the vault takes the token."""
    for token in (chain.settlement, *chain.collateral):
        where = (token.address,)
        yield _Reading(f"tokens.{token.symbol}", "DevnetToken", "decimals", (token.decimals,))
        yield _Reading("contracts.vault", "CollateralVault", "scaleOf", (10 ** (18 - token.decimals),), where)
        if not token.settlement:
            yield _Reading("contracts.vault", "CollateralVault", "isListed", (True,), where)


def _other_wiring(chain: ChainDeployment) -> Iterator[_Reading]:
    if chain.bridge is not None and chain.cctp is not None:
        answers = {
            "VAULT": chain.contracts.vault,
            "TOKEN": chain.settlement.address,
            "TOKEN_MESSENGER": chain.cctp.messenger,
            "MESSAGE_TRANSMITTER": chain.cctp.transmitter,
        }
        for method, wanted in answers.items():
            yield _Reading("bridge", "CctpBridge", method, (wanted,))
    if chain.swapper is not None and chain.pool is not None:
        yield _Reading("swapper", "DevnetSwapper", "POOL", (chain.pool,))


def _call(reading: _Reading, chain: ChainDeployment) -> tuple[str, Sequence[Any]]:
    where = chain.parts()[reading.part]
    data = encode(reading.contract, reading.method, reading.arguments)
    return ("eth_call", [{"to": "0x" + where.hex(), "data": "0x" + data.hex()}, "latest"])


def _as_decoded(value: Any) -> Any:
    """Decoding gives addresses as hex."""
    return "0x" + value.hex() if isinstance(value, bytes) and len(value) == 20 else value


def _shown(value: Any) -> str:
    """Bounded: what a provider says of itself goes into logs."""
    return ("0x" + value.hex() if isinstance(value, bytes) else str(value))[:80]


class Provider(Rpc):
    """One provider of a chain of a deployment, which is asked who it is before anything is asked or sent.

    And again after every failure, since what answers then may be another one. While it is not the right one every
    request raises WrongChain; it is asked again after a second, then two, up to half a minute. Whoever fails with
    RpcUnavailable where a provider is down needs nothing more for one that is wrong.
    """

    def __init__(self, deployment: Deployment, chain_id: int, url: str | None = None, timeout: float = 2.0) -> None:
        self._deployment = deployment
        self._chain = deployment.chains[chain_id]
        super().__init__(self._chain.rpc if url is None else url, timeout)
        self._known = False
        self._failures = 0
        self._failure: RpcUnavailable | RpcError | None = None
        self._pause = _FIRST_PAUSE
        self._again = 0.0
        self._asking = asyncio.Lock()

    def doubt(self) -> None:
        """Ask it again who it is before the next request."""
        self._known = False

    async def call(self, method: str, params: Sequence[Any] = ()) -> Any:
        await self.identify()
        try:
            return await super().call(method, params)
        except RpcUnavailable:
            self.doubt()
            raise

    async def batch(self, requests: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        await self.identify()
        try:
            return await super().batch(requests)
        except RpcUnavailable:
            self.doubt()
            raise

    async def identify(self) -> None:
        """Ask it who it is, unless it said so since the last doubt.

        Raises:
            WrongChain, RpcUnavailable, RpcError: as `check_identity`.
        """
        if not self._known:
            await self._ask()

    async def _ask(self) -> None:
        failures = self._failures
        async with self._asking:
            if self._known:
                return
            now = asyncio.get_running_loop().time()
            # Who waited shares the answer: else each would wait for its own timeout, one after the other.
            if self._failure is not None and (self._failures != failures or now < self._again):
                raise self._failure.with_traceback(None)
            try:
                with understood(self):
                    await _check(super().batch, self.name, self._deployment, self._chain)
            except (RpcUnavailable, RpcError) as failure:
                self._failed(failure)
                raise
            self._known, self._failure, self._pause = True, None, _FIRST_PAUSE

    def _failed(self, failure: RpcUnavailable | RpcError) -> None:
        self._failure = failure
        self._failures += 1
        if isinstance(failure, WrongChain):
            self._again = asyncio.get_running_loop().time() + self._pause
            self._pause = min(2 * self._pause, _LAST_PAUSE)
