"""`keeper simulate`: a shock, forced sales that push the price further, and who pays."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

from keeper.cli import margin_pictures, simulate_pictures, simulate_text
from keeper.cli.output import Failure, print_json
from keeper.margin.parameter_file import default_parameters
from keeper.simulation.compare import compare as compare_all
from keeper.simulation.compare import single
from keeper.simulation.engine import World
from keeper.simulation.settings import Rules, Scene, SettingsError


def simulate(
    accounts: Annotated[int, typer.Option("--accounts", help="Owners, traders and market makers.")] = 2000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of everything random: the same seed, the same run.")] = 1,
    shock: Annotated[
        list[str], typer.Option("--shock", help="UNDERLYING:PERCENT that a price moves by; may be given again.")
    ] = ["ETH:-30"],  # noqa: B006 - typer reads it once
    minutes: Annotated[float, typer.Option("--minutes", help="How long; the shock comes in the first quarter.")] = 60.0,
    margin: Annotated[str | None, typer.Option("--margin", help="cross or isolated.")] = None,
    liquidation: Annotated[str | None, typer.Option("--liquidation", help="partial or full.")] = None,
    sale: Annotated[str | None, typer.Option("--sale", help="auction or market.")] = None,
    latency: Annotated[
        int, typer.Option("--latency", help="Blocks from the fall below maintenance margin to the liquidation.")
    ] = 5,
    fund: Annotated[float, typer.Option("--fund", help="USD in the insurance fund.")] = 1_000_000.0,
    crowding: Annotated[float, typer.Option("--crowding", help="Share of positions that follow the crowd.")] = 0.5,
    hedged: Annotated[float, typer.Option("--hedged", help="Share of traders with no side.")] = 0.2,
    correlation: Annotated[
        float, typer.Option("--correlation", help="Share of the shock that other underlyings move by.")
    ] = 0.0,
    impact: Annotated[float, typer.Option("--impact", help="Y of the square-root law; 0: sales move nothing.")] = 1.0,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="All margins, liquidations and sales, at latencies 0, L and 5 L; so it is where none is named.",
        ),
    ] = False,
    json: Annotated[Path | None, typer.Option("--json", help="Write all figures to a file; - prints them.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw: a .png, .svg or .html file.")] = None,
) -> None:
    """Thousands of margined accounts through a shock: cascades, contagion, deficits, and who pays for them.

    Example: keeper simulate --shock ETH:-30 --margin cross --sale market
    """
    named: dict[str, Any] = {
        name: value
        for name, value in (("margin", margin), ("liquidation", liquidation), ("sale", sale))
        if value is not None
    }
    if compare and named:
        raise Failure(f"--compare runs every {' and '.join('--' + name for name in named)}: name none")
    progress = Console(stderr=True)
    parameters = default_parameters()
    try:
        scene = Scene(
            accounts,
            seed,
            tuple(_shock(text) for text in shock),
            minutes,
            crowding=crowding,
            hedged=hedged,
            correlation=correlation,
        )
        rules = replace(Rules(latency=latency, fund=fund, impact=impact), **named)
        about = {"scene": asdict(scene)}
        world = World.of(scene, parameters)
        # The path checks the shocks before anything long begins.
        _ = world.path
        found: dict[str, Any]
        if named:
            found = about | {"run": single(world, rules)}
        else:
            found = about | compare_all(
                scene, rules, sorted({0, latency, 5 * latency}), parameters, lambda text: progress.print(f"  {text}")
            )
    except SettingsError as error:
        raise Failure(str(error)) from None
    _write(found, json)
    if json is None or str(json) != "-":
        simulate_text.show(Console(), found)
    if plot is not None:
        try:
            simulate_pictures.write(plot, found)
        except margin_pictures.NoPicture as error:
            raise Failure(str(error)) from None
        typer.echo(f"wrote {plot}", err=True)


def _shock(text: str) -> tuple[str, float]:
    name, _, percent = text.partition(":")
    try:
        return name, float(percent.removesuffix("%")) / 100
    except ValueError:
        raise SettingsError(f"shock {text!r}, wanted UNDERLYING:PERCENT, such as ETH:-30") from None


def _write(found: dict[str, Any], path: Path | None) -> None:
    if path is None:
        return
    if str(path) == "-":
        print_json(found)
        return
    try:
        path.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n")
    except OSError as error:
        raise Failure(f"--json {path}: {error.strerror}") from None
