"""Compile once what every process would compile again: the bytecode of what a node imports, and the margin kernel.

Both lie on disk afterwards. Packages come without bytecode, and to compile all of it takes five times as long.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys

import keeper
from keeper.margin import kernel, synthetic
from keeper.margin.parameter_file import default_parameters
from keeper.margin.xpm import Xpm


def import_everything() -> int:
    """Import every module of keeper that another one imports; returns how many. alembic runs the migrations."""
    names = [module.name for module in pkgutil.walk_packages(keeper.__path__, "keeper.")]
    others = ("keeper.__main__", "keeper.testing", "keeper.store.migrations")
    wanted = [name for name in names if not name.startswith(others)]
    for name in wanted:
        importlib.import_module(name)
    return len(wanted)


if __name__ == "__main__":
    if sys.dont_write_bytecode:
        sys.exit("nothing is kept where PYTHONDONTWRITEBYTECODE is set")
    print(f"{import_everything()} modules")
    market = synthetic.market(instruments=30)
    scenarios = Xpm(default_parameters(), market.listing).scenarios(market.marks, market.instruments)
    books = synthetic.books(2, len(market.instruments), positions=5)
    initial, _ = kernel.evaluate(books, scenarios.rows, scenarios.layout)
    kernel.reduce(scenarios.pnl[:1], scenarios.layout)
    print(f"initial margins of two books: {initial[0]:.2f} and {initial[1]:.2f} USD")
