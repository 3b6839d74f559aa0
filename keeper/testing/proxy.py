"""A proxy in front of a chain's provider that counts what passes, and answers wrongly where a test wants it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import orjson
import uvicorn
from fastapi import FastAPI, Request, Response

Fault = Callable[[list[dict[str, Any]], bytes], bytes]
"""(requests, the provider's answer) → what is answered instead."""


class CountingProxy:
    """Forwards JSON-RPC over HTTP. `requests` counts HTTP requests, `calls` what was in them, by method.

    `fault`, where set, stands between the provider's answer and the one who asked.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.requests = 0
        self.calls: Counter[str] = Counter()
        self.bytes_answered = 0
        self.url = ""
        self.fault: Fault | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[CountingProxy]:
        """Serve on a free port of the loopback for as long as the block runs; its address is `url`."""
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        async with httpx.AsyncClient(timeout=30.0, trust_env=False) as client:

            @app.post("/")
            async def forward(request: Request) -> Response:
                body = await request.body()
                sent = orjson.loads(body)
                calls = sent if isinstance(sent, list) else [sent]
                self.requests += 1
                self.calls.update(one["method"] for one in calls)
                answer = await client.post(self.target, content=body, headers={"content-type": "application/json"})
                self.bytes_answered += len(answer.content)
                content = self.fault(calls, answer.content) if self.fault else answer.content
                return Response(content, answer.status_code, media_type="application/json")

            with socket.socket() as listening:
                listening.bind(("127.0.0.1", 0))
                self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
                server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))
                serving = asyncio.create_task(server._serve([listening]))
                try:
                    yield self
                finally:
                    server.should_exit = True
                    await serving
