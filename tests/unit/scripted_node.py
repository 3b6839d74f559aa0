"""A node that answers what it is told to, one answer after another: honest, lying, broken, or not at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

HANGS = None
"""In place of an answer: the connection stays open and nothing comes."""


@dataclass
class ScriptedNode:
    """`answers` are (status, body), bodies JSON values or raw bytes; the last is given again and again. `asked` has the
    method, path and body of every request."""

    answers: Sequence[tuple[int, Any] | None]
    url: str = ""
    asked: list[tuple[str, str, Any]] = field(default_factory=list)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, path, _ = head.split(" ", 2)
            lengths = [line.split(":")[1] for line in head.lower().splitlines() if line.startswith("content-length")]
            body = await reader.readexactly(int(lengths[0])) if lengths else b""
            self.asked.append((method, path, json.loads(body) if body else None))
            answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
            if answer is HANGS:
                await reader.read()  # until the client gives up
                return
            status, value = answer
            raw = value if isinstance(value, bytes) else json.dumps(value).encode()
            header = f"HTTP/1.1 {status} Said\r\ncontent-length: {len(raw)}\r\nconnection: close\r\n\r\n"
            writer.write(header.encode() + raw)
            await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def scripted(*answers: tuple[int, Any] | None) -> AsyncIterator[ScriptedNode]:
    """A node on a port that the system chose."""
    node = ScriptedNode(answers)
    server = await asyncio.start_server(node.handle, "127.0.0.1", 0)
    node.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield node
    finally:
        server.close()
