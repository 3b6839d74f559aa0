"""`keeper demo`: the main job as a story."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from keeper.cli.output import Failure
from keeper.cli.status import StateOption
from keeper.devnet.chains import minutes, series
from keeper.devnet.cluster import Cluster
from keeper.devnet.launch import FOLDER, Devnet
from keeper.devnet.narrator import Narrator, StepFailed
from keeper.devnet.processes import DevnetError
from keeper.devnet.story import tell
from keeper.devnet.story.run import show_addresses, show_summary


def demo(
    json: Annotated[Path | None, typer.Option("--json", help="Write every step with its figures to this file.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave chains and nodes running and say how to go on.")] = False,
    state: StateOption = FOLDER,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Save what was shown as an SVG.", hidden=True)
    ] = None,
) -> None:
    """Start three chains and five nodes, and check the whole job step by step. Exit code 0 only if every step held.

    Example: keeper demo --json demo.json
    """
    console = Console(record=picture is not None, width=None if picture is None else 110)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _run(console, json, keep, state)
    except (DevnetError, StepFailed) as error:
        raise Failure(str(error)) from error
    finally:
        if picture is not None:
            # Without its web fonts: a picture asks nobody for anything.
            picture.write_text(
                re.sub(r"@font-face {.*?}", "", console.export_svg(title="keeper demo"), flags=re.DOTALL)
            )


def _run(console: Console, json: Path | None, keep: bool, state: Path) -> None:
    console.print("[bold]Three chains, one margin[/]")
    now = int(time.time())
    with contextlib.ExitStack() as running:
        devnet = running.enter_context(
            Devnet.up(
                state,
                report=lambda line: console.print(f"  {line}", highlight=False, soft_wrap=True),
                instruments=(*series(now), *minutes(now)),
            )
        )
        cluster = running.enter_context(Cluster.up(devnet.folder))
        console.print("  four attestors (three must agree), a relayer and a liquidator are up")
        narrator = Narrator(console, devnet.folder)
        figures: dict[str, Any] = {}
        try:
            figures = asyncio.run(tell(devnet, cluster, narrator))
        finally:
            if json is not None:
                narrator.write(json, figures)
        show_summary(console, narrator, figures)
        if keep:
            show_addresses(console, devnet, cluster)
            running.pop_all()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
