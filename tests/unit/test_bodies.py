"""How much of a request is read."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import httpx

from keeper.api.app import create_app
from keeper.api.problems import MAX_BODY


def test_a_body_without_a_length_is_bounded_too() -> None:
    read = 0

    async def body():
        nonlocal read
        for _ in range(4 * MAX_BODY // 2**20):
            read += 2**20
            yield b" " * 2**20

    async def work() -> httpx.Response:
        app = create_app(SimpleNamespace(attestor=None, desk=None, peers=SimpleNamespace(urls={})))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://node") as client:
            return await client.post("/v1/permits", content=body())

    response = asyncio.run(work())
    assert response.status_code == 413, f"{response.status_code}: {read} bytes were taken in"
