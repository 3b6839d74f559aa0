"""JSON-RPC over HTTP, batched.

web3's providers decode and re-validate every answer; a follower asks for raw logs and headers many times a second and
decodes them itself, so it speaks JSON-RPC directly.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
from eth_abi.exceptions import DecodingError


class RpcUnavailable(Exception):
    """No answer in time, or none that is JSON-RPC. The message names the provider and the reason."""


class RpcError(Exception):
    """The provider's error to one request."""

    def __init__(self, method: str, code: int, message: str, data: Any = None) -> None:
        super().__init__(f"{method}: {message} ({code})")
        self.method = method
        self.code = code
        self.message = message
        self.data = data


@contextmanager
def understood(rpc: Rpc) -> Iterator[None]:
    """Around what reads answers: one that is JSON-RPC and still nonsense counts as none.

    Raises:
        RpcUnavailable: in place of what reading it raised.
    """
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, DecodingError) as error:
        rpc.doubt()
        raise RpcUnavailable(f"{rpc.name}: malformed answer: {error!r}") from error


def provider_name(url: str) -> str:
    """Host and port of a provider. The rest of its URL often is a secret that no log and no answer may show."""
    try:
        found = urlsplit(url)
        host = found.hostname or ""
        return f"{host}:{found.port}" if found.port is not None else host or "a provider without a host"
    except ValueError:
        return "a provider with a malformed URL"


class Rpc:
    """One provider of one chain. `requests` counts HTTP requests, whatever the size of their batch.

    `name` is how it is called in messages.
    """

    def __init__(self, url: str, timeout: float = 2.0) -> None:
        self.url = url
        self.name = provider_name(url)
        self.requests = 0
        self._ids = itertools.count(1)
        self._client = httpx.AsyncClient(timeout=timeout, trust_env=False)

    async def aclose(self) -> None:
        await self._client.aclose()

    def doubt(self) -> None:
        """What the provider said makes no sense: it may not be the one it was."""

    async def call(self, method: str, params: Sequence[Any] = ()) -> Any:
        """The result of one request. Raises RpcError or RpcUnavailable."""
        return self._result(method, await self._post(self._request(method, params)))

    async def batch(self, requests: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Results in the order of the requests, by one HTTP request. Raises the first RpcError, or RpcUnavailable."""
        bodies = [self._request(method, params) for method, params in requests]
        answers = await self._post(bodies)
        if not isinstance(answers, list):
            raise RpcUnavailable(f"{self.name}: {len(bodies)} requests answered by {_excerpt(answers)}")
        by_id = {answer.get("id"): answer for answer in answers if isinstance(answer, dict)}
        missing = [body["method"] for body in bodies if body["id"] not in by_id]
        if missing:
            raise RpcUnavailable(f"{self.name}: no answer to {missing[0]}")
        return [self._result(body["method"], by_id[body["id"]]) for body in bodies]

    def _request(self, method: str, params: Sequence[Any]) -> dict[str, Any]:
        return {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(params)}

    async def _post(self, body: Any) -> Any:
        self.requests += 1
        try:
            response = await self._client.post(
                self.url, content=orjson.dumps(body), headers={"content-type": "application/json"}
            )
            return orjson.loads(response.content)
        except httpx.HTTPError as error:
            raise RpcUnavailable(f"{self.name}: {type(error).__name__} {error}".rstrip()) from None
        except orjson.JSONDecodeError:
            raise RpcUnavailable(f"{self.name}: HTTP {response.status_code}, not JSON") from None

    def _result(self, method: str, answer: Any) -> Any:
        if not isinstance(answer, dict) or ("result" not in answer and "error" not in answer):
            raise RpcUnavailable(f"{self.name}: {method}: no JSON-RPC answer: {_excerpt(answer)}")
        if answer.get("error") is not None:
            error = answer["error"]
            raise RpcError(method, int(error.get("code", 0)), str(error.get("message", "")), error.get("data"))
        return answer["result"]


def _excerpt(value: Any) -> str:
    return repr(value)[:120]
