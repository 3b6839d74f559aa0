"""An attestor that starts while a provider is down."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest
from attestors import Panel, run

from keeper.node import node as module
from keeper.node.node import Node


def test_a_chain_that_was_never_read_ends_no_attestor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SWEEP_SECONDS", 0.01)

    async def work(panel: Panel) -> None:
        with pytest.raises(TimeoutError):  # it runs until it is cancelled
            async with asyncio.timeout(0.5):
                await Node._sweep(SimpleNamespace(view=panel.attestors[0].view), panel.attestors[0])

    run(tmp_path, work)
