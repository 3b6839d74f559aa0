"""`keeper devnet`: three local chains, and what can happen to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console

from keeper.cli.crash import crash
from keeper.cli.figures import price, table
from keeper.cli.output import Failure, default_node, print_json
from keeper.cli.status import JsonOption, StateOption
from keeper.devnet import FOLDER, Devnet, DevnetError, down
from keeper.devnet.chains import DevnetChain, chain_named
from keeper.state.deployment import DeploymentError
from keeper.state.exact import InexactError, literal, scaled
from keeper.state.ids import IdError, address

app = typer.Typer(help="Three local chains with everything deployed.", no_args_is_help=True)
app.command("crash")(crash)

ChainArgument = Annotated[str, typer.Argument(help="A, B or C, or a chain id.")]


@app.command("up")
def up(state: StateOption = FOLDER, json: JsonOption = False) -> None:
    """Start three chains, deploy to them, and leave them running.

    Example: keeper devnet up
    """
    console = Console(stderr=json)
    with _failures():
        devnet = Devnet.up(state, report=lambda line: console.print(line, highlight=False, soft_wrap=True))
        answer = _status(devnet)
    if json:
        print_json(answer)
    else:
        console.print("keeper devnet status shows them, keeper devnet down ends them", highlight=False)


@app.command("down")
def end(state: StateOption = FOLDER) -> None:
    """End the chains and nodes that were started here, and no others. Logs stay.

    Example: keeper devnet down
    """
    with _failures():
        ended = down(state)
    typer.echo(f"ended {', '.join(ended)}" if ended else f"no devnet in {state}")


@app.command("status")
def status(state: StateOption = FOLDER, json: JsonOption = False) -> None:
    """Say where the chains are, how far, and what their feeds say.

    Example: keeper devnet status --json
    """
    with _failures():
        answer = _status(Devnet.load(state))
    if json:
        print_json(answer)
        return
    found = table("chain", "id", "state", "block", "url", "pid", texts=6)
    for chain in answer["chains"]:
        block = "-" if chain["number"] is None else str(chain["number"])
        found.add_row(chain["name"], str(chain["chainId"]), chain["state"], block, chain["url"], str(chain["pid"]))
    console = Console(highlight=False)
    console.print(found)
    console.print("feeds: " + ", ".join(f"{name} {price(value / 1e8)} USD" for name, value in answer["prices"].items()))
    console.print(f"deployments: {answer['deployments']}", soft_wrap=True)


@app.command("shock", context_settings={"ignore_unknown_options": True})
def shock(
    asset: Annotated[str, typer.Argument(help="A feed: ETH, BTC, SOL or USDC, ETH-PERP or ETH-VOL, ...")],
    percent: Annotated[float, typer.Argument(help="By how much; negative falls.")],
    state: StateOption = FOLDER,
) -> None:
    """Move a price on all chains. The perpetual's moves along, and so does the pool that trades the asset.

    Example: keeper devnet shock ETH -12.5
    """
    with _failures():
        before, after = Devnet.load(state).shock(asset.upper(), percent)
    typer.echo(f"{asset.upper()} {price(before / 1e8)} -> {price(after / 1e8)} USD on every chain")


@app.command("mint")
def mint(
    chain: ChainArgument,
    token: Annotated[str, typer.Argument(help="USDC, WETH or WBTC.")],
    amount: Annotated[str, typer.Argument(help="Whole tokens, with decimals: 1000.5")],
    to: Annotated[str, typer.Argument(help="Whose wallet gets them: an address.")],
    state: StateOption = FOLDER,
) -> None:
    """Give a wallet tokens: on the devnet anybody may mint.

    Example: keeper devnet mint A USDC 1000 0x14dC79964da2C08b23698B3D3cc7Ca32193d9955
    """
    with _failures():
        found, devnet = chain_named(chain), Devnet.load(state)
        deployed = devnet.deployment.chains[found.chain_id]
        tokens = {each.symbol: each for each in (deployed.settlement, *deployed.collateral)}
        if token.upper() not in tokens:
            raise Failure(f"token: one of {', '.join(tokens)} wanted, got {token}")
        known = tokens[token.upper()]
        devnet.mint(found.chain_id, known.symbol, address(to), scaled(literal(amount), known.decimals, 2**128))
    typer.echo(f"{amount} {known.symbol} on chain {found.name} are 0x{address(to).hex()}'s")


@app.command("url")
def url(state: StateOption = FOLDER) -> None:
    """Print the URL of the node that serves people, for curl and for clients.

    Example: keeper devnet url
    """
    typer.echo(default_node(state))


@app.command("halt")
def halt(chain: ChainArgument, state: StateOption = FOLDER) -> None:
    """Stop a chain: no blocks, no answers, until `resume`.

    Example: keeper devnet halt B
    """
    with _failures():
        found = chain_named(chain)
        Devnet.load(state).halt(found.chain_id)
    typer.echo(f"chain {found.name} is halted; keeper devnet resume {found.name} lets it go on")


@app.command("resume")
def resume(chain: ChainArgument, state: StateOption = FOLDER) -> None:
    """Let a halted chain go on. Blocks it missed are not made up.

    Example: keeper devnet resume B
    """
    with _failures():
        found = chain_named(chain)
        Devnet.load(state).resume(found.chain_id)
    typer.echo(f"chain {found.name} goes on")


@app.command("reorg")
def reorg(
    chain: ChainArgument,
    depth: Annotated[int, typer.Argument(min=1, help="How many of the newest blocks to replace.")],
    state: StateOption = FOLDER,
) -> None:
    """Replace a chain's newest blocks by empty ones; their transactions are dropped.

    Example: keeper devnet reorg C 3
    """
    with _failures():
        found = chain_named(chain)
        Devnet.load(state).reorg(found.chain_id, depth)
    typer.echo(f"chain {found.name}: the newest {depth} blocks are replaced")


def _status(devnet: Devnet) -> dict[str, Any]:
    found = devnet.status()
    running = next((s.chain for s in found if s.state == "running"), None)
    return {
        "folder": str(devnet.folder),
        "deployments": str(devnet.deployments_file),
        "chains": [
            {
                "name": s.chain.name,
                "chainId": s.chain.chain_id,
                "state": s.state,
                "number": s.number,
                "time": s.time,
                "url": s.url,
                "pid": s.pid,
            }
            for s in found
        ],
        "prices": _prices(devnet, running) if running else {},
    }


def _prices(devnet: Devnet, chain: DevnetChain) -> dict[str, int]:
    """USD 1e8, as one chain's feeds say them; feeds move together unless somebody sets one alone."""
    feeds = devnet.deployment.chains[chain.chain_id].feeds
    return {asset: devnet.price(asset, chain.chain_id) for asset in sorted(feeds)}


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except (DevnetError, DeploymentError, LookupError, IdError, InexactError) as error:
        raise Failure(str(error)) from error
