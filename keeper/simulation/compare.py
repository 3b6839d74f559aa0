"""The same owners on the same path under every combination of rules, and what the figures say."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from multiprocessing import get_context
from typing import Any

from keeper.margin.parameters import MarginParameters

from . import findings
from .engine import World
from .measures import measure, series
from .settings import LIQUIDATIONS, MARGINS, SALES, Rules, Scene

_ALONE = 1_000_000
"""Accounts × blocks below which starting processes takes longer than the runs."""

CROWDINGS = (0.0, 0.25, 0.5, 0.75, 1.0)
HEDGED = (0.0, 0.2, 0.5, 0.8)
CORRELATIONS = (0.0, 0.3, 0.6, 0.9)


@dataclass(frozen=True)
class Task:
    """A run to be measured; `series`: with its prices and what was sold, block by block."""

    scene: Scene
    rules: Rules
    series: bool = False


def grid(scene: Scene, rules: Rules, latencies: Sequence[int]) -> list[Task]:
    """Every margin × liquidation × sale × latency, the rest as in `rules`; series of the latency in the middle."""
    shown = sorted(latencies)[len(latencies) // 2]
    return [
        Task(
            scene,
            replace(rules, margin=margin, liquidation=liquidation, sale=sale, latency=latency),
            series=latency == shown,
        )
        for margin, liquidation, sale, latency in product(MARGINS, LIQUIDATIONS, SALES, latencies)
    ]


def sweep(scene: Scene, rules: Rules, latency: int) -> list[Task]:
    """Isolated against cross over crowding, over the share that is hedged and over correlation, one at a time.

    All is sold in full and at once to the market, late: what spreads a loss is seen best where nothing dampens it.
    """
    plain = replace(rules, liquidation="full", sale="market", latency=latency)
    scenes = [replace(scene, crowding=x) for x in CROWDINGS]
    scenes += [replace(scene, hedged=x) for x in HEDGED]
    scenes += [replace(scene, correlation=x) for x in CORRELATIONS]
    return [Task(each, replace(plain, margin=margin)) for each in scenes for margin in MARGINS]


def compare(
    scene: Scene,
    rules: Rules,
    latencies: Sequence[int],
    parameters: MarginParameters,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Rows of the grid and of the sweep, and findings: sentences made of their figures.

    Runs go to all cores, a process each; which one did a run changes nothing of it.
    """
    cells, lines = grid(scene, rules, latencies), sweep(scene, rules, max(latencies))
    tasks = list(dict.fromkeys([*cells, *lines]))
    found = {}
    for task, figures in zip(tasks, _all(tasks, parameters), strict=True):
        found[task] = figures
        say(f"{len(found)} of {len(tasks)}: {task.rules.name}")
    swept: dict[str, Any] = {}
    for name, values in (("crowding", CROWDINGS), ("hedged", HEDGED), ("correlation", CORRELATIONS)):
        swept[name] = [found[lines.pop(0)] for _ in values for _ in MARGINS]
    table = [found[cell] for cell in cells]
    return {"grid": table, "sweep": swept, "findings": findings.of(scene, table, swept)}


def _all(tasks: Sequence[Task], parameters: MarginParameters) -> Iterator[dict[str, Any]]:
    cores = len(os.sched_getaffinity(0))
    if cores == 1 or sum(task.scene.accounts * task.scene.blocks for task in tasks) < _ALONE:
        yield from (_figures(task, parameters) for task in tasks)
        return
    # Spawned: threads of the margin kernel do not survive a fork.
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_figures, tasks, [parameters] * len(tasks))


def _figures(task: Task, parameters: MarginParameters) -> dict[str, Any]:
    return single(_world(task.scene, parameters.hash(), parameters), task.rules, task.series)


def single(world: World, rules: Rules, with_series: bool = True) -> dict[str, Any]:
    """Figures of one run."""
    found, trace = measure(world, rules)
    about = {name: getattr(world.scene, name) for name in ("crowding", "hedged", "correlation")}
    return about | found | ({"series": series(world, trace)} if with_series else {})


_WORLDS: dict[tuple[Scene, bytes], World] = {}


def _world(scene: Scene, key: bytes, parameters: MarginParameters) -> World:
    """The last world of this process: tasks of one scene follow one another."""
    if (scene, key) not in _WORLDS:
        _WORLDS.clear()
        _WORLDS[scene, key] = World.of(scene, parameters)
    return _WORLDS[scene, key]
