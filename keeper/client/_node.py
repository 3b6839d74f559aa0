"""Asking a node over HTTP: bounded in time and size, every failure of one of three kinds."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import orjson

from keeper.state.problem import Problem

from ._errors import BadArgument, Refused, Unavailable

_MOST = 64 * 1024 * 1024
"""Bytes of an answer that are read; a batch of a hundred thousand accounts has fewer."""


class NodeHttp:
    """One node by its URL. `timeout` bounds a whole answer, seconds."""

    def __init__(self, url: str, timeout: float) -> None:
        self.url = node_url(url)
        self._timeout = timeout
        self._http = httpx.AsyncClient(timeout=timeout, trust_env=False)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def ask(self, method: str, path: str, body: Any = None, node: str | None = None) -> Any:
        """The node's JSON; None where it has nothing (204). `node` asks another one.

        Raises:
            Refused: the node refuses, and says why (4xx).
            Unavailable: it does not answer, not in JSON, or with a fault of its own (5xx).
        """
        url = (self.url if node is None else node_url(node)) + path
        content = None if body is None else orjson.dumps(body)
        try:
            async with asyncio.timeout(self._timeout):
                status, raw = await self._read(method, url, content)
        except TimeoutError:
            raise Unavailable(f"{url}: no answer within {self._timeout:g} s") from None
        except httpx.HTTPError as error:
            raise Unavailable(f"{url}: {type(error).__name__} {error}".rstrip()) from None
        if status == httpx.codes.NO_CONTENT:
            return None
        try:
            answer = orjson.loads(raw)
        except orjson.JSONDecodeError:
            raise Unavailable(f"{url}: HTTP {status}, not JSON") from None
        if httpx.codes.is_success(status):
            return answer
        problem = Problem.from_json(answer)
        if httpx.codes.is_client_error(status):
            raise Refused(problem)
        raise Unavailable(f"{url}: HTTP {status}, {problem.code}: {problem.message}", problem)

    async def _read(self, method: str, url: str, content: bytes | None) -> tuple[int, bytes]:
        headers = {"content-type": "application/json"}
        async with self._http.stream(method, url, content=content, headers=headers) as response:
            read = bytearray()
            async for part in response.aiter_bytes():
                read += part
                if len(read) > _MOST:
                    raise Unavailable(f"{url}: more than {_MOST} bytes")
            return response.status_code, bytes(read)


def node_url(url: str) -> str:
    """A base URL without a slash at its end. Raises BadArgument."""
    if not url.startswith(("http://", "https://")):
        raise BadArgument("node_url", url, "http://HOST:PORT or https://HOST")
    return url.rstrip("/")
