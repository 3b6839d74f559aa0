"""Telling a story of steps: live in a terminal, plain lines elsewhere, and all of it as JSON."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.padding import Padding
from rich.status import Status

from .processes import DevnetError


class StepFailed(Exception):
    """A step that did not hold: what was expected, what was found."""

    def __init__(self, expected: str, found: object) -> None:
        super().__init__(f"expected {expected}; found {found}")
        self.expected = expected
        self.found = found


def expect(holds: bool, expected: str, found: object) -> None:
    """Raise StepFailed unless `holds`."""
    if not holds:
        raise StepFailed(expected, found)


@dataclass
class Step:
    """One step and what it showed."""

    name: str
    title: str
    ok: bool = False
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


class Narrator:
    """Runs steps one after another and remembers them. The first failed one ends the story."""

    def __init__(self, console: Console, logs: Path) -> None:
        self.console = console
        self.steps: list[Step] = []
        self._logs = logs
        self._status: Status | None = None
        self._began = time.monotonic()

    @asynccontextmanager
    async def step(self, name: str, title: str) -> AsyncIterator[Step]:
        """Run the block as a step; a failure is told with what was expected and found, and raised on."""
        step = Step(name, title)
        self.steps.append(step)
        began = time.monotonic()
        self.console.print(f"\n[bold cyan]{name}[/]  [bold]{title}[/]", highlight=False)
        if self.console.is_terminal:
            self._status = self.console.status("working", spinner="dots")
            self._status.start()
        try:
            yield step
            step.ok = True
        except BaseException as error:
            step.error = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or repr(error)
            raise
        finally:
            step.seconds = round(time.monotonic() - began, 2)
            if self._status is not None:
                self._status.stop()
                self._status = None
            self._close(step)

    def _close(self, step: Step) -> None:
        mark = "[green]ok[/]" if step.ok else "[bold red]failed[/]"
        self.console.print(f"    {mark}  {step.seconds:.1f} s", highlight=False)
        if step.error is not None:
            self.console.print(f"    [red]{step.error}[/]", highlight=False, markup=True)
            self.console.print(f"    logs: {self._logs}", highlight=False, soft_wrap=True)

    def doing(self, text: str) -> None:
        """What is being waited for now; shown in a terminal only."""
        if self._status is not None:
            self._status.update(text)

    def say(self, text: str, **figures: Any) -> None:
        """A line of the story; figures go into the step's JSON."""
        self.console.print(Padding.indent(text, 4), highlight=False)
        self.steps[-1].figures |= figures

    @property
    def ok(self) -> bool:
        return bool(self.steps) and all(step.ok for step in self.steps)

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self._began, 2)

    def write(self, path: Path, extra: dict[str, Any]) -> None:
        """All steps and `extra` as JSON."""
        steps = [
            {"name": s.name, "title": s.title, "ok": s.ok, "seconds": s.seconds, "figures": s.figures, "error": s.error}
            for s in self.steps
        ]
        body = {"ok": self.ok, "seconds": self.seconds, "steps": steps, **extra}
        try:
            path.write_bytes(orjson.dumps(body, option=orjson.OPT_INDENT_2))
        except OSError as error:
            raise DevnetError(f"cannot write {path}: {error}") from None
