"""What all commands share: one-line failures, JSON, and asking a node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import orjson
import typer

from keeper.devnet.layout import NODES, read_nodes


class Failure(Exception):
    """Ends the command with one line that says what to do."""


def print_json(value: Any) -> None:
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def default_node(state: Path) -> str:
    """The URL of the devnet's first node, as the devnet recorded it."""
    nodes = read_nodes(state)
    if not nodes:
        hint = "give --node URL, or start some with `keeper demo --keep`"
        raise Failure(f"no node is known ({state / NODES} is missing): {hint}")
    return next(iter(nodes.values())).url


def ask(node: str, path: str) -> Any:
    """GET a node's JSON; a refusal becomes a Failure with its message."""
    try:
        response = httpx.get(node.rstrip("/") + path, timeout=5.0)
    except httpx.HTTPError as error:
        raise Failure(f"no answer from {node}: {error}") from None
    try:
        answer = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        raise Failure(f"{node}{path}: HTTP {response.status_code}, not JSON") from None
    if response.status_code >= 400 and path != "/ready":
        raise Failure(f"{answer.get('code')}: {answer.get('message')}")
    return answer
