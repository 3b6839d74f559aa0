"""The files that a devnet's folder and its nodes share."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from .processes import end_recorded

NODES = "nodes.json"
"""The nodes that run on the devnet, by name; the one that serves people first."""


@dataclass(frozen=True, slots=True)
class RecordedNode:
    """A node's base URL and its process: pid and the kernel's start time of it."""

    url: str
    pid: int
    started: int


def write_nodes(folder: Path, nodes: dict[str, RecordedNode]) -> None:
    (folder / NODES).write_text(json.dumps({name: asdict(node) for name, node in nodes.items()}, indent=2))


def read_nodes(folder: Path) -> dict[str, RecordedNode]:
    """Empty where no node was recorded."""
    try:
        recorded = json.loads((folder / NODES).read_text())
    except FileNotFoundError:
        return {}
    return {name: RecordedNode(**node) for name, node in recorded.items()}


def end_nodes(folder: Path) -> list[str]:
    """End the nodes that were recorded in `folder`, and no other process. Returns their names."""
    ended = [name for name, node in read_nodes(folder).items() if end_recorded(node.pid, node.started)]
    (folder / NODES).unlink(missing_ok=True)
    return ended
