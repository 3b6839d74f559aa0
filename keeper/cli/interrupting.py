"""Long commands end when they are interrupted, whatever they wait for at that moment."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_AGAIN_SECONDS = 3.0
"""After which a cancellation that came to nothing is repeated; longer than cleaning up takes."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end; on SIGINT or SIGTERM cancel it, until it ends.

    `asyncio.run` cancels once. A cancellation that meets a timeout that ends in the same moment, in our code or a
    library's, is taken for that timeout and lost, and the command would run on to its end.

    Raises:
        KeyboardInterrupt: it was interrupted, once it has cleaned up.
    """
    interrupted = False
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    async def main() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def interrupt() -> None:
            nonlocal interrupted
            interrupted = True
            task.cancel()
            loop.call_later(_AGAIN_SECONDS, interrupt)

        for number in handlers:
            loop.add_signal_handler(number, interrupt)
        return await work

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        if interrupted:
            raise KeyboardInterrupt from None
        raise
    finally:
        for number, handler in handlers.items():  # what asyncio leaves in their place ends a process uncleaned
            signal.signal(number, handler)
