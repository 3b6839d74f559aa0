"""Anvil processes: started on ports the system gives, remembered by pid and start time, and never mistaken.

A pid alone may have been reused since it was written down; name and start time of its process, from /proc, tell.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .chains import ACCOUNTS, MNEMONIC, DevnetChain

ROOT = Path(__file__).resolve().parents[2]
"""The project's root. Chains and compilers live in its node_modules: a devnet needs the source tree."""
ANVIL = ROOT / "node_modules" / ".bin" / "anvil"

_LISTENING = re.compile(r"^Listening on 127\.0\.0\.1:(\d+)\s*$", re.MULTILINE)
_START_SECONDS = 20.0
_END_SECONDS = 5.0

_children: dict[int, subprocess.Popen[bytes]] = {}
"""Started by this process: to be reaped, or they stay as zombies."""


class DevnetError(RuntimeError):
    """The devnet cannot do what was asked; the message says why and what helps."""


@dataclass(frozen=True, slots=True)
class Node:
    """One anvil. `started` is the kernel's start time of the process, in clock ticks since boot."""

    chain: DevnetChain
    pid: int
    started: int
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def state(self) -> str:
        """`running`, `halted` (stopped by SIGSTOP) or `gone`."""
        found = _stat(self.pid)
        if found is None or found.name != "anvil" or found.started != self.started or found.state in "ZX":
            return "gone"
        return "halted" if found.state == "T" else "running"

    def halt(self) -> None:
        """Stop the clock of this chain: no blocks, no answers. Missed blocks are not made up later."""
        self._signal(signal.SIGSTOP)
        _wait(lambda: self.state == "halted", _END_SECONDS)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)
        _wait(lambda: self.state == "running", _END_SECONDS)

    def end(self) -> None:
        """End this process and no other; does nothing where it is gone."""
        for stop in (signal.SIGTERM, signal.SIGKILL):
            self._signal(stop)
            self._signal(signal.SIGCONT)
            if _wait(self._reaped, _END_SECONDS):
                break

    def _reaped(self) -> bool:
        # A child of ours is a zombie from when its first thread ends, and can be reaped only once its last one has.
        if child := _children.get(self.pid):
            if child.poll() is None:
                return False
            del _children[self.pid]
        return self.state == "gone"

    def _signal(self, number: signal.Signals) -> None:
        if self.state != "gone":
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass


def start(chain: DevnetChain, folder: Path) -> Node:
    """Start one chain; its log is `folder/anvil-<name>.log`.

    Calls are answered at blocks of the last `STATES_SECONDS` at least. Finality is short so that a demonstration need
    not wait: `safe` is the head − 1, `finalized` the head − 2.

    Raises:
        DevnetError: anvil is missing, ends, or does not listen within 20 s; the message carries the end of its log.
    """
    if not ANVIL.exists():
        raise DevnetError(f"{ANVIL} is missing: run make setup (anvil is packaged for Linux on x86-64 and arm64)")
    log = folder / f"anvil-{chain.name}.log"
    command = [
        str(ANVIL.resolve()),
        *("--chain-id", str(chain.chain_id)),
        *("--block-time", f"{chain.block_seconds:g}"),
        *("--slots-in-an-epoch", "1"),
        *("--mnemonic", MNEMONIC),
        *("--accounts", str(ACCOUNTS)),
        *("--host", "127.0.0.1", "--port", "0"),
        # Of old states the oldest go to the disk, one file for each block: left to itself, anvil keeps 3,600 of them.
        *("--cache-path", str(states_folder(chain, folder))),
        *("--max-persisted-states", str(chain.states)),
    ]
    with log.open("wb") as output:
        # A session of its own: Ctrl-C reaches us and not the chains, so that we end them in order.
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        _children[child.pid] = child
        _wait(lambda: child.poll() is not None or _LISTENING.search(log.read_text()) is not None, _START_SECONDS)
        listening, found = _LISTENING.search(log.read_text()), _stat(child.pid)
        if found is None or listening is None or child.poll() is not None:
            raise DevnetError(f"chain {chain.name}: anvil did not start; {log} ends with:\n{log.read_text()[-1000:]}")
        return Node(chain, child.pid, found.started, int(listening[1]))
    except BaseException:
        child.kill()
        child.wait()
        del _children[child.pid]
        raise


def states_folder(chain: DevnetChain, folder: Path) -> Path:
    """Where a chain keeps old states; of no use without its process."""
    return folder / f"states-{chain.name}"


def start_time(pid: int) -> int | None:
    """The kernel's start time of a process, in clock ticks since boot: with the pid it names one process for ever."""
    found = _stat(pid)
    return None if found is None or found.state in "ZX" else found.started


def end_recorded(pid: int, started: int) -> bool:
    """End the process that was recorded by pid and start time, and no other. True where it was there."""
    if start_time(pid) != started:
        return False
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return True
        if _wait(lambda: start_time(pid) != started, _END_SECONDS):
            break
    return True


class _Stat(NamedTuple):
    name: str
    state: str
    started: int


def _stat(pid: int) -> _Stat | None:
    """Name, state letter and start time of a process, from /proc; None where there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    head, _, tail = text.rpartition(")")  # the name between the parentheses may hold spaces and parentheses
    fields = tail.split()
    return _Stat(head.partition("(")[2], fields[0], int(fields[19]))


def _wait(done: Callable[[], bool], seconds: float) -> bool:
    limit = time.monotonic() + seconds
    while not done():
        if time.monotonic() > limit:
            return False
        time.sleep(0.02)
    return True
