"""`keeper devnet crash`: many accounts, a fall within a minute, and what becomes of everybody."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from keeper.cli.output import Failure
from keeper.cli.status import StateOption
from keeper.devnet.crash.run import PROFILE, Plan, Run
from keeper.devnet.crash.scenario import LEAST_ACCOUNTS, WEEK, ScenarioError, scenario
from keeper.devnet.launch import FOLDER, Devnet
from keeper.devnet.narrator import Narrator, StepFailed
from keeper.devnet.processes import DevnetError

_SETUP_SECONDS = 70
_SETUP_SECONDS_EACH = 0.6
"""How long deploying, depositing and trading take at most; what expires soon must not have expired by then."""


def crash(
    accounts: Annotated[int, typer.Option(min=LEAST_ACCOUNTS, help="How many margin accounts.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the population: the same seed, the same accounts.")] = 1,
    fall: Annotated[float, typer.Option(help="By how many per cent ETH falls; BTC by 0.8 of it, SOL by 1.3.")] = 30.0,
    seconds: Annotated[float, typer.Option(min=10, help="In what time, and in what time prices come back.")] = 60.0,
    json: Annotated[Path | None, typer.Option("--json", help="Write every step with its figures to this file.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave chains and nodes running.")] = False,
    state: StateOption = FOLDER,
) -> None:
    """Start three chains and six nodes, let prices crash and recover, and say what became of every account.

    Exit code 0 only if every account ended healthy, closed or absorbed, and every block of every chain holds.

    Example: keeper devnet crash --accounts 200 --json crash.json
    """
    console = Console()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _run(console, accounts, seed, fall, seconds, json, keep, state)
    except (DevnetError, StepFailed, ScenarioError) as error:
        raise Failure(str(error)) from error


def _run(
    console: Console, accounts: int, seed: int, fall: float, seconds: float, json: Path | None, keep: bool, state: Path
) -> None:
    now = int(time.time())
    near = now + _SETUP_SECONDS + int(_SETUP_SECONDS_EACH * accounts) + int(seconds)
    plan = Plan(scenario(accounts, seed, near, now + WEEK), near, fall, seconds)
    console.print(f"[bold]{accounts} accounts, a fall by {fall:g} %[/]  (seed {seed})", highlight=False)
    with contextlib.ExitStack() as running:
        devnet = running.enter_context(
            Devnet.up(
                state,
                PROFILE,
                instruments=plan.scenario.instruments,
                report=lambda line: console.print(f"  {line}", highlight=False, soft_wrap=True),
            )
        )
        narrator = Narrator(console, devnet.folder)
        run = Run(devnet, plan, narrator)
        options: dict[str, Any] = {"accounts": accounts, "seed": seed, "fall": fall, "within": seconds}
        try:
            asyncio.run(run.run(running))
        finally:
            if json is not None:
                narrator.write(json, {"options": options, **run.figures})
        held = sum(step.ok for step in narrator.steps)
        console.print(
            f"\n[bold green]{held} of {len(narrator.steps)} steps held[/] in {narrator.seconds:.0f} s", highlight=False
        )
        if keep:
            console.print(f"  left running until `keeper devnet down --state {state}`", highlight=False, soft_wrap=True)
            running.pop_all()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
