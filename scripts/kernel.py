"""Compile the margin kernel once: numba keeps the result on disk."""

from __future__ import annotations

from keeper.margin import kernel, synthetic
from keeper.margin.parameter_file import default_parameters
from keeper.margin.xpm import Xpm

if __name__ == "__main__":
    market = synthetic.market(instruments=30)
    scenarios = Xpm(default_parameters(), market.listing).scenarios(market.marks, market.instruments)
    books = synthetic.books(2, len(market.instruments), positions=5)
    initial, _ = kernel.evaluate(books, scenarios.rows, scenarios.layout)
    kernel.reduce(scenarios.pnl[:1], scenarios.layout)
    print(f"initial margins of two books: {initial[0]:.2f} and {initial[1]:.2f} USD")
