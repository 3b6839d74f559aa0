"""Chapters g and j: attestors die and come back; at the end everything adds up."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from keeper.devnet.narrator import expect
from keeper.devnet.reader import usd

from .stage import Stage

_GOES_ON = 3
"""Postings that show that batches go on."""


async def attestors_fail(stage: Stage) -> None:
    """g: three of four suffice, two do not, and nothing is signed twice."""
    async with stage.tell.step("g", "One attestor is killed, then a second; both come back"):
        first, second = stage.cluster.attestors[:2]
        first.end(signal.SIGKILL)
        epoch = await _epoch(stage)
        going = await stage.until(
            "batches go on with three of four",
            lambda: _batch(stage),
            40,
            lambda b: b is not None and b["epoch"] >= epoch + 2 * _GOES_ON and b["signatures"] == 3,
        )
        stage.tell.say(
            f"{first.name} killed: batches go on, epoch {going['epoch']} with {going['signatures']} signatures"
        )

        second.end(signal.SIGKILL)
        status = await stage.until(
            "the status says that nothing is signed",
            lambda: stage.get("/v1/status"),
            60,
            lambda found: found is not None and any("no quorum batch for" in reason for reason in found["reasons"]),
        )
        stopped = await _epoch(stage)
        await asyncio.sleep(3 * stage.deployment.profile.epoch_seconds)
        expect(await _epoch(stage) == stopped, f"nothing signed after epoch {stopped}", await _epoch(stage))
        reason = next(r for r in status["reasons"] if "no quorum" in r)
        stage.tell.say(f"{second.name} killed: nothing is signed, and the status says so: {reason}", reason=reason)

        await asyncio.to_thread(stage.cluster.start, first.name, second.name)
        resumed = await stage.until("batches are signed again", lambda: _epoch(stage), 40, lambda e: e > stopped)
        posted = await stage.until(
            "every chain holds a new batch", lambda: _least_held(stage), 60, lambda e: e > stopped
        )
        stage.tell.say(f"both restarted: signed again from epoch {resumed}, posted everywhere by epoch {posted}")
        digests: dict[int, set[str]] = {}
        for reader in stage.readers.values():
            for number, digest in await reader.posted():
                digests.setdefault(number, set()).add(digest)
        twice = {number: found for number, found in digests.items() if len(found) != 1}
        expect(not twice, "one batch per epoch over all chains", twice)
        stage.tell.say(
            f"{len(digests)} epochs posted, none with two batches",
            epochs_posted=len(digests),
            stopped_at=stopped,
            resumed_at=resumed,
        )


async def sums(stage: Stage) -> None:
    """j: CM-30, CM-31 and CM-20, read from the chains."""
    async with stage.tell.step("j", "Everything adds up"):
        for chain, reader in stage.readers.items():
            books = await reader.books()
            name = stage.name(chain)
            expect(books.cash_adds_up, f"CM-30 on {name}: cash {usd(books.held + books.claims):,.2f}", usd(books.cash))
            expect(books.sizes_cancel, f"CM-31 on {name}: sizes sum to zero", books.sizes)
            expect(books.tokens_cover, f"CM-20 on {name}: tokens cover balances", books.collateral)
            stage.tell.say(
                f"{name}: {books.accounts} accounts, Σ cash {usd(books.cash):,.2f} = USDC held {usd(books.held):,.2f} "
                f"+ claims {usd(books.claims):,.2f}, Σ sizes = 0, tokens cover balances (block {books.block})",
                **{name: {"accounts": books.accounts, "cash": usd(books.cash), "held": usd(books.held)}},
            )


async def _batch(stage: Stage) -> dict[str, Any] | None:
    status = await stage.get("/v1/status")
    return None if status is None else status["batch"]


async def _epoch(stage: Stage) -> int:
    batch = await _batch(stage)
    return -1 if batch is None else int(batch["epoch"])


async def _least_held(stage: Stage) -> int:
    return min([await reader.held_epoch() for reader in stage.readers.values()])
