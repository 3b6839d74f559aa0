"""The `keeper` command."""

from __future__ import annotations

import sys

import typer

from keeper.cli import account, acts, demo, devnet, margin, netting, run, simulate, status, trade
from keeper.cli.output import Failure

app = typer.Typer(
    name="keeper",
    help="Cross-chain margin: nodes, accounts, margins of books, and a local devnet.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("run")(run.run)
app.command("status")(status.status)
app.command("account")(account.account)
app.command("netting")(netting.netting)
acts.register(app)
app.command("trade")(trade.trade)
app.command("demo")(demo.demo)
app.command("simulate")(simulate.simulate)
app.add_typer(devnet.app, name="devnet")
app.add_typer(margin.app, name="margin")


def main() -> None:
    """Entry point: one-line errors, exit code 0 only on success, a traceback only with --debug."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        app()
    except Failure as failure:
        if debug:
            raise
        typer.secho(f"keeper: {failure}", fg=typer.colors.RED, err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
