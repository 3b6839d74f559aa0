"""What all tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from keeper.devnet import Devnet

os.environ.setdefault("ETH_HASH_BACKEND", "pysha3")  # before anything hashes; make sets it for commands

# A run in the background of a shell inherits that interrupts are ignored, and so would the commands that tests start
# and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples every time, wherever the suite runs; HYPOTHESIS_PROFILE=explore looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

# What tests share asserts too.
pytest.register_assert_rewrite(
    "leg_plans", "rungs", "settlement_blocks", "settlement_machine", "simulation_models", "take_overs", "worlds"
)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def devnet(worker_id: str) -> Iterator[Devnet]:
    """Three chains with everything deployed, one set for each worker of a run, with folder and ports of its own.

    Shared by the session's tests: who moves a price, or halts a chain, puts it back. What a killed run left behind in
    the same folder is ended first.
    """
    from keeper.devnet import Devnet, down  # only the tests that want one pay for the import

    folder = ROOT / ".devnet" / f"tests-{worker_id}"
    down(folder)
    with Devnet.up(folder) as running:
        yield running
