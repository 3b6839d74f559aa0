"""`keeper margin`: books from files, judged, explained, changed and measured."""

from __future__ import annotations

import json as json_module
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from keeper.cli import margin_pictures, margin_text
from keeper.cli.output import Failure, print_json
from keeper.cli.status import JsonOption
from keeper.margin.bench import measure
from keeper.margin.black76 import PricingError
from keeper.margin.book_file import Book, BookError, Held
from keeper.margin.explain import explain_fully
from keeper.margin.listing import UnknownAsset
from keeper.margin.model import MarginModel
from keeper.margin.models import DESCRIBED, UnknownModel, check_finite, judge, model_for, read_instruments
from keeper.margin.names import UnknownName, name_of, parse_name
from keeper.margin.parameter_file import default_parameters, load_parameters
from keeper.margin.parameters import MarginParameters, ParameterError
from keeper.margin.pmrm2_book import Pmrm2Error
from keeper.margin.report import AccountReport
from keeper.margin.span import SpanError
from keeper.margin.whatif import Trade, Transfer, whatif
from keeper.market.marks import MarkError
from keeper.state.batch import UNIT
from keeper.state.documents import DocumentError, read_json
from keeper.state.exact import InexactError, literal, scaled, shown, whole_number
from keeper.state.ids import is_token, parse_instrument
from keeper.state.wire import to_json

app = typer.Typer(help="Margins of books in files: evaluate, explain, whatif, models, bench.", no_args_is_help=True)

BookArgument = Annotated[Path, typer.Argument(metavar="BOOK.json", help="A book, or a list of books.")]
ParametersOption = Annotated[
    Path | None,
    typer.Option("--parameters", help="A deployment's parameters; xpm's shipped ones if not given."),
]
PlotOption = Annotated[
    Path | None,
    typer.Option("--plot", help="Draw heat maps and losses: a .png, .svg or .html file."),
]
ERRORS = (
    BookError,
    MarkError,
    ParameterError,
    Pmrm2Error,
    PricingError,
    SpanError,
    UnknownAsset,
    UnknownModel,
    UnknownName,
    margin_pictures.NoPicture,
)


@app.command()
def evaluate(
    book: BookArgument,
    model: Annotated[str | None, typer.Option("--model", help="The book's form: xpm, pmrm2 or span.")] = None,
    parameters: ParametersOption = None,
    plot: PlotOption = None,
    json: JsonOption = False,
) -> None:
    """Initial and maintenance margin of a book, unrounded. A list of books gives a list of reports, in order.

    Example: keeper margin evaluate examples/margin_book.json --json
    """
    data = _load(book)
    chosen = _parameters(parameters)
    many = isinstance(data, list)
    reports = [
        _say_which(partial(judge, one, model, chosen), f"{book}: book {i}: " if many else f"{book}: ")
        for i, one in enumerate(data if many else [data])
    ]
    if json:
        print_json(reports if many else reports[0])
    else:
        for report in reports:
            margin_text.report(Console(), report)
    if plot is not None:
        if many or reports[0]["model"] != "xpm":
            raise Failure("--plot draws one book of the model xpm")
        _plot(plot, _say_which(lambda: _explained(data, chosen), f"{book}: "))


@app.command()
def explain(
    book: BookArgument, parameters: ParametersOption = None, plot: PlotOption = None, json: JsonOption = False
) -> None:
    """Why a book requires what it does, what would bring it back to health, and its liquidation prices.

    Example: keeper margin explain examples/margin_book.json --plot margin.html
    """
    told = _say_which(lambda: _explained(_load(book), _parameters(parameters)), f"{book}: ")
    if json:
        print_json(told)
    else:
        margin_text.explanation(Console(), told)
    if plot is not None:
        _plot(plot, told)


@app.command(name="whatif")
def what_if(
    book: BookArgument,
    trade: Annotated[
        list[str] | None,
        typer.Option("--trade", help="INSTRUMENT:SIZE or INSTRUMENT:SIZE@PRICE; at the mark where no price is given."),
    ] = None,
    cash: Annotated[str, typer.Option("--cash", help="USD that come in; out where negative.")] = "0",
    collateral: Annotated[
        list[str] | None, typer.Option("--collateral", help="UNDERLYING:AMOUNT that comes in; out where negative.")
    ] = None,
    parameters: ParametersOption = None,
    json: JsonOption = False,
) -> None:
    """The margin of a book as it is, and as it would be after trades and transfers.

    Example: keeper margin whatif examples/margin_book.json --trade ETH-PERP:-2@3000 --cash 500
    """

    def run() -> tuple[Book, AccountReport, AccountReport]:
        read = read_instruments(_load(book))
        model = model_for(_parameters(parameters), read.listing)
        trades = [_trade(text, model, read) for text in trade or []]
        transfers = [Transfer(_units("--cash", cash)), *(_transfer(text, read) for text in collateral or [])]
        with np.errstate(all="ignore"):
            answer = whatif(read.portfolio, read.marks, model, trades, transfers)
        return read, answer.before, answer.after

    _, before, after = _say_which(run, f"{book}: ")
    if json:
        print_json(
            {"before": _figures(before), "after": _figures(after), "changeOfFree": (after.free - before.free) / UNIT}
        )
    else:
        margin_text.comparison(Console(), _figures(before), _figures(after))


@app.command()
def models(json: JsonOption = False) -> None:
    """The margin models that a deployment may have, what may be signed by each, and the parameters shipped for them.

    Example: keeper margin models --json
    """
    shipped = {each.name: default_parameters(each.name) for each in DESCRIBED}
    if json:
        described = [
            {
                "name": m.name,
                "summary": m.summary,
                "book": m.book,
                "deployable": m.deployable,
                "signs": m.signs,
                "parametersHash": "0x" + shipped[m.name].hash().hex(),
                "parameters": json_module.loads(shipped[m.name].canonical_json()),
            }
            for m in DESCRIBED
        ]
        own = {key: described[0][key] for key in ("parametersHash", "parameters")}
        print_json(to_json({"models": described, **own}))
        return
    console = Console()
    table = Table("model", "", "its books", "what is signed by it", box=None, padding=(0, 2, 1, 0))
    for each in DESCRIBED:
        table.add_row(f"[bold]{each.name}[/]", each.summary, each.book, each.signs)
    console.print(table)
    for name, parameters in shipped.items():
        console.print(f"hash of the parameters shipped for {name}:\n  0x{parameters.hash().hex()}")


@app.command()
def bench(
    accounts: Annotated[int, typer.Option("--accounts", min=1000, help="Accounts of the main measure.")] = 1_000_000,
    scaling: Annotated[str, typer.Option("--scaling", help="More numbers of accounts.")] = "10000,100000,1000000",
    json: JsonOption = False,
) -> None:
    """Accounts per second, against scipy in the same process and against this machine's limits.

    Example: keeper margin bench --accounts 200000 --scaling 10000,100000
    """
    try:
        counts = tuple(whole_number(part.strip(), 9) for part in scaling.split(","))
    except InexactError:
        counts = (0,)
    if min(counts) < 1:
        raise Failure(f"--scaling: {shown(scaling)}, wanted whole numbers with commas between, like 10000,100000")
    console = Console(stderr=True)
    found = measure(accounts, counts, (lambda text: None) if json else lambda text: console.print(f"  {text}"))
    if json:
        print_json(found)
    else:
        margin_text.measures(Console(), found)


# --- parts ----------------------------------------------------------------------------------------------------------


def _explained(data: Any, parameters: MarginParameters) -> dict[str, Any]:
    book = read_instruments(data)
    model = model_for(parameters, book.listing)

    def position(part: Held) -> str:
        return book.names.get(part.asset) or name_of(part.asset)

    pieces = {
        "position": book.pieces(position),
        "chain": book.pieces(lambda part: part.chain),
        "protocol": book.pieces(lambda part: part.protocol or "none named"),
        "underlying": book.pieces(lambda part: model.underlying(part.asset)),
    }
    with np.errstate(all="ignore"):
        told = explain_fully(book.portfolio, book.marks, model, pieces) | {"warnings": book.warnings}
    check_finite(told)
    return told


def _plot(path: Path, told: dict[str, Any]) -> None:
    try:
        margin_pictures.write(path, told)
    except margin_pictures.NoPicture as error:
        raise Failure(str(error)) from None
    typer.echo(f"wrote {path}", err=True)


def _figures(report: AccountReport) -> dict[str, Any]:
    return {
        "status": report.status,
        "equity": report.equity / UNIT,
        "initialMargin": report.initial_margin / UNIT,
        "maintenanceMargin": report.maintenance_margin / UNIT,
        "free": report.free / UNIT,
    }


def _load(path: Path) -> Any:
    try:
        return read_json(path)
    except DocumentError as error:
        raise Failure(f"{path}: {error}") from None


def _parameters(path: Path | None) -> MarginParameters:
    try:
        return default_parameters() if path is None else load_parameters(path)
    except ParameterError as error:
        raise Failure(str(error)) from None


def _say_which(run: Callable[[], Any], prefix: str) -> Any:
    try:
        return run()
    except ERRORS as error:
        raise Failure(f"{prefix}{error}") from None


def _trade(text: str, model: MarginModel, book: Book) -> Trade:
    name, colon, rest = text.partition(":")
    size, at, price = rest.partition("@")
    if not colon:
        raise UnknownName(f"--trade: {shown(text)}, wanted INSTRUMENT:SIZE or INSTRUMENT:SIZE@PRICE")
    try:
        asset = parse_name(name)
    except UnknownName as error:
        raise UnknownName(f"--trade: {error}") from None
    if (underlying := parse_instrument(asset).underlying) not in book.marks.prices:
        raise UnknownName(f"--trade: {shown(name)}: {underlying} is not in the market of this book")
    mark = model.price(asset, book.marks)
    paid = _units("--trade, the price", price) if at else mark
    if at and paid <= 0:
        raise UnknownName(f"--trade, the price: {shown(price)}, wanted more than 0")
    return Trade(asset, _units("--trade, the size", size), paid)


def _transfer(text: str, book: Book) -> Transfer:
    underlying, colon, amount = text.partition(":")
    if not colon:
        raise UnknownName(f"--collateral: {shown(text)}, wanted UNDERLYING:AMOUNT")
    held = [asset for asset in book.portfolio.collateral if book.listing.underlying_of(asset) == underlying]
    if not held or not is_token(held[0]):
        raise UnknownName(f"--collateral: the book holds no collateral of {shown(underlying)}")
    return Transfer(_units("--collateral, the amount", amount), held[0])


def _units(option: str, text: str) -> int:
    """Scaled by 1e18, within the bounds of a book's file."""
    try:
        return scaled(literal(text), 18, 2**128)
    except InexactError as error:
        raise UnknownName(f"{option}: {shown(text)}, {error}") from None
