"""A command that is interrupted ends, also when a library loses the cancellation."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from keeper.cli import interrupting


def test_what_is_not_interrupted_gives_its_result() -> None:
    async def work() -> int:
        return 3

    assert interrupting.run(work()) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("lost", [0, 2])
def test_an_interruption_that_is_lost_is_repeated(
    number: signal.Signals, lost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupting, "_AGAIN_SECONDS", 0.05)
    cleaned, before = [], signal.getsignal(number)

    async def work() -> None:
        os.kill(os.getpid(), number)
        try:
            for _ in range(lost):
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    pass
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    with pytest.raises(KeyboardInterrupt):
        interrupting.run(work())
    assert cleaned == [True]
    assert signal.getsignal(number) is before


def test_an_error_of_the_work_is_its_own() -> None:
    async def work() -> None:
        raise ValueError("a step")

    with pytest.raises(ValueError, match="a step"):
        interrupting.run(work())
