"""`keeper status`: what a node sees and does, for a person or as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from keeper.cli.figures import price, table
from keeper.cli.output import ask, default_node, print_json
from keeper.devnet.launch import FOLDER

NodeOption = Annotated[str | None, typer.Option("--node", help="URL of a node; by default the devnet's first.")]
StateOption = Annotated[Path, typer.Option("--state", help="The devnet's folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def status(node: NodeOption = None, state: StateOption = FOLDER, json: JsonOption = False) -> None:
    """Say what a node sees of its chains, what was signed and posted, and what is wrong.

    Example: keeper status --node http://127.0.0.1:8600
    """
    answer = ask(node or default_node(state), "/v1/status")
    if json:
        print_json(answer)
    else:
        render(Console(), answer)
    if not answer["ready"]:
        raise typer.Exit(1)


def render(console: Console, answer: dict[str, Any]) -> None:
    ready = "[green]ready[/]" if answer["ready"] else "[red]not ready[/]"
    console.print(f"{answer['name']} ({', '.join(answer['roles'])}): {ready}")
    for reason in answer["reasons"]:
        console.print(f"  [red]{escape(reason)}[/]")
    chains = table("chain", "final", "head", "posted epoch", "accounts", "requests")
    for chain_id, chain in answer["chains"].items():
        final, head = chain.get("final"), chain.get("head")
        chains.add_row(
            f"{chain['name']} ({chain_id})",
            str(final["number"]) if final else "-",
            str(head["number"]) if head else "-",
            str(chain.get("postedEpoch", "-")),
            str(chain.get("accounts", "-")),
            str(chain["requests"]),
        )
    console.print(chains)
    batch = answer["batch"]
    if batch:
        prices = ", ".join(f"{name} {price(value)} USD" for name, value in batch["prices"].items())
        console.print(
            f"epoch {batch['epoch']}: {batch['signatures']} signatures, {batch['accounts']} leaves, "
            f"{batch['legs']} legs; {prices}"
        )
    attestor = answer["attestor"]
    if attestor:
        console.print(
            f"attestor {attestor['address']}, {attestor['threshold']} of {attestor['attestors']}: "
            f"last own proposal {attestor['lastProposal']}, {attestor['live']} live items"
        )
    for stage, figures in answer["latencies"].items():
        unit = "blocks" if stage.endswith("_blocks") else "s"
        console.print(
            f"  {stage}: p50 {figures['p50']:.2f} {unit}, p99 {figures['p99']:.2f} {unit} of {figures['count']}"
        )
