"""Talking to the other attestors over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import httpx
import orjson

from keeper.attest.messages import BatchDraft, BatchProposal, PermitProposal, QuorumBatch
from keeper.attest.signatures import SignatureError, recover
from keeper.state.ids import AccountId, Address
from keeper.state.live import LegItem, LiveItem, PermitItem
from keeper.state.problem import Problem
from keeper.state.wire import from_json, to_json

from .refusal import OF_CHAINS

T = TypeVar("T")

_SECONDS = 2.0
NO_QUORUM = "no_quorum"
"""The code where too few attestors answer to sign."""
_JSON = {"content-type": "application/json"}


class PeerUnavailable(Exception):
    """No answer, or none that makes sense; the message names the peer."""


class PeerRefused(Exception):
    """The peer answered that it does not sign, and why."""

    def __init__(self, peer: Address, problem: Problem) -> None:
        self.peer = peer
        self.problem = problem
        super().__init__(f"0x{peer.hex()}: {problem.code}: {problem.message}")


class Peers:
    """The other attestors, by address. An answer is waited for `seconds`: what a check of a batch may take."""

    def __init__(self, urls: dict[Address, str], seconds: float = _SECONDS) -> None:
        self.urls = urls
        self._seconds = seconds
        self.preview_seconds = min(_SECONDS, seconds / 2)
        """A draft that is waited for longer is a batch of old heads: nobody signs it."""
        self._timeout = httpx.Timeout(seconds, connect=0.5)
        self._client = httpx.AsyncClient(timeout=self._timeout, limits=httpx.Limits(max_connections=32))

    async def close(self) -> None:
        await self._client.aclose()

    async def sign_batch(self, peer: Address, proposal: BatchProposal) -> bytes:
        return _signature(peer, await self._post(peer, "/v1/attest/batch", to_json(proposal)))

    async def preview(self, peer: Address, draft: BatchDraft) -> set[int]:
        """The legs of a draft, by number, that a peer would not sign."""
        answer = await self._post(peer, "/v1/attest/preview", to_json(draft), self.preview_seconds)
        refused = answer.get("refused")
        if not isinstance(refused, list) or not all(isinstance(number, int) for number in refused):
            raise PeerUnavailable(f"0x{peer.hex()}: no list of refused legs")
        return set(refused)

    async def sign_permit(self, peer: Address, proposal: PermitProposal) -> bytes:
        return _signature(peer, await self._post(peer, "/v1/attest/permit", to_json(proposal)))

    async def announce(self, peer: Address, quorum: QuorumBatch) -> None:
        await self._post(peer, "/v1/attest/quorum", to_json(quorum))

    async def live(self, peer: Address, accounts: Sequence[AccountId], seconds: float | None = None) -> list[LiveItem]:
        """What a peer knows to be live on any account of the owners of these."""
        answer = await self._post(peer, "/v1/attest/live", {"accounts": to_json(list(accounts))}, seconds)
        try:
            return live_items(answer.get("items"))
        except ValueError as error:
            raise PeerUnavailable(f"0x{peer.hex()}: {error}") from None

    async def request_permit(self, peer: Address, item: PermitItem, *, forwarded: bool) -> tuple[int, dict[str, Any]]:
        """Ask `peer` for a permit (`forwarded`: it is the proposer); its status code and JSON, whatever they are."""
        path = "/v1/permits" + ("?forwarded=true" if forwarded else "")
        response = await self._send(peer, "POST", path, to_json(item), timeout=6.0)
        return response.status_code, _object(peer, response)

    async def latest(self, peer: Address, after: int) -> QuorumBatch | None:
        """The peer's newest quorum batch if its epoch is later than `after`."""
        response = await self._send(peer, "GET", f"/v1/batches/latest?after={after}", None)
        if response.status_code == httpx.codes.NO_CONTENT:
            return None
        return self._decode(peer, QuorumBatch, response)

    async def batch(self, peer: Address, epoch: int) -> QuorumBatch:
        return self._decode(peer, QuorumBatch, await self._send(peer, "GET", f"/v1/batches/{epoch}", None))

    async def gather(
        self, ask: Callable[[Address], Awaitable[T]], peers: Sequence[Address] | None = None
    ) -> dict[Address, T | PeerUnavailable | PeerRefused]:
        """Ask all peers at once; a failure is a value, so one peer never hides another."""
        asked = list(self.urls) if peers is None else list(peers)

        async def one(peer: Address) -> T | PeerUnavailable | PeerRefused:
            try:
                return await ask(peer)
            except (PeerUnavailable, PeerRefused) as failure:
                return failure

        answers = await asyncio.gather(*(one(peer) for peer in asked))
        return dict(zip(asked, answers, strict=True))

    def _decode(self, peer: Address, kind: type[T], response: httpx.Response) -> T:
        if response.status_code != httpx.codes.OK:
            raise PeerUnavailable(f"0x{peer.hex()}: HTTP {response.status_code}")
        try:
            return from_json(kind, orjson.loads(response.content))
        except ValueError as error:
            raise PeerUnavailable(f"0x{peer.hex()}: {error}") from None

    async def _post(self, peer: Address, path: str, body: Any, seconds: float | None = None) -> dict[str, Any]:
        response = await self._send(peer, "POST", path, body, seconds)
        answer = _object(peer, response)
        if response.status_code != httpx.codes.OK and is_verdict(response.status_code, answer):
            raise PeerRefused(peer, Problem.from_json(answer))
        if response.status_code != httpx.codes.OK:
            raise PeerUnavailable(f"0x{peer.hex()}: HTTP {response.status_code}: {answer}")
        return answer

    async def _send(
        self, peer: Address, method: str, path: str, body: Any, timeout: float | None = None
    ) -> httpx.Response:
        content = None if body is None else orjson.dumps(body)
        try:
            # httpx has a limit for each read: who sends a byte now and then would be waited for without end.
            async with asyncio.timeout(timeout or self._seconds):
                return await self._client.request(
                    method, self.urls[peer] + path, content=content, headers=_JSON, timeout=timeout or self._timeout
                )
        except (httpx.HTTPError, TimeoutError) as error:
            raise PeerUnavailable(f"0x{peer.hex()} at {self.urls[peer]}: {type(error).__name__} {error}") from None


def is_verdict(status: int, answer: dict[str, Any]) -> bool:
    """Whether an attestor signed or refused; else it could do neither, which says nothing about what it was asked."""
    if status == httpx.codes.SERVICE_UNAVAILABLE:
        return answer.get("code") in {*OF_CHAINS, NO_QUORUM}
    return status in (httpx.codes.OK, httpx.codes.CONFLICT, httpx.codes.UNPROCESSABLE_ENTITY)


def live_items(data: Any) -> list[LiveItem]:
    """Decode a list of tagged live items. Raises ValueError for anything else."""
    if not isinstance(data, list):
        raise ValueError(f"live items: wanted a list, got {data!r:.80}")
    kinds: dict[str, type[PermitItem] | type[LegItem]] = {"PermitItem": PermitItem, "LegItem": LegItem}
    items: list[LiveItem] = []
    for entry in data:
        kind = kinds.get(str(entry.get("type"))) if isinstance(entry, dict) else None
        if kind is None:
            raise ValueError(f"live items: {entry!r:.80} is none")
        items.append(from_json(kind, {k: v for k, v in entry.items() if k != "type"}))
    return items


def signed_by(digest: bytes, signature: bytes, peer: Address) -> bool:
    """Whether `signature` is the peer's over `digest`: an answer is counted only then."""
    try:
        return recover(digest, signature) == peer
    except SignatureError:
        return False


def _object(peer: Address, response: httpx.Response) -> dict[str, Any]:
    """A peer's answer, which must be a JSON object: what it says is its own, and no reason for us to fall over."""
    try:
        answer = orjson.loads(response.content)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise PeerUnavailable(f"0x{peer.hex()}: HTTP {response.status_code}, not a JSON object")
    return answer


def _signature(peer: Address, answer: dict[str, Any]) -> bytes:
    try:
        return bytes.fromhex(str(answer.get("signature")).removeprefix("0x"))
    except ValueError:
        raise PeerUnavailable(f"0x{peer.hex()}: no signature in {answer!r:.120}") from None
