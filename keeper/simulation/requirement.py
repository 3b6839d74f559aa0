"""The margin model over the arrays of a simulation: perpetuals only, so that three numbers say all of an account.

Perpetuals are linear: a row of scenarios is the price times numbers that do not change, so that an account with sizes
q at prices p needs what sizes q · p ÷ p₀ need at the prices p₀, at which the model priced them once. No approximation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keeper.margin import kernel
from keeper.margin.kernel import Books
from keeper.margin.listing import Listing
from keeper.margin.parameters import BASIS, MarginParameters
from keeper.margin.xpm import Xpm
from keeper.market.marks import Marks
from keeper.state.batch import UNIT
from keeper.state.ids import perpetual

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_ROUNDING = 1 + 1e-9


class Requirements:
    """`xpm` for the perpetuals of these underlyings, in the order of `names` (sorted)."""

    def __init__(self, parameters: MarginParameters, prices: dict[str, float]) -> None:
        """`prices` in USD, where everything is priced once. Raises ParameterError for an unknown underlying."""
        self.names = tuple(sorted(prices))
        self.start = np.array([prices[name] for name in self.names])
        self.parameters = parameters
        self.model = Xpm(parameters, Listing({}, {}, self.names))
        marks = Marks({name: round(prices[name] * UNIT) for name in self.names})
        scenarios = self.model.scenarios(marks, [perpetual(name) for name in self.names])
        self._rows, self._layout = scenarios.rows, scenarios.layout
        self.volume = np.array([float(parameters.underlyings[name].daily_volume) for name in self.names])
        unit = np.diag(1.0 / self.start)
        one = [self._evaluate(sign * unit, self.start) for sign in (1.0, -1.0)]
        self.rates: Floats = np.array(one)
        """What one USD needs alone, shape (long and short, initial and maintenance, underlyings): proportional to it
        as far as nothing is charged for its size."""
        self.concession_rate: Floats = self.rates[:, 1].max(axis=0) * parameters.concession / BASIS
        """The most that a USD of each concedes in a liquidation leg, of the greater side."""
        self._concentration = parameters.contingencies.concentration / BASIS

    def of(self, net: Floats, prices: Floats) -> tuple[Floats, Floats]:
        """Initial and maintenance margin, USD, of sizes `net`, shape (accounts, underlyings), whole units.

        Of one underlying alone they are its rates, by positive homogeneity, below the size that is charged for; the
        model's kernel computes all others.
        """
        usd = net * prices
        alone = ((usd != 0).sum(axis=1) <= 1) & (np.abs(usd) <= self.volume).all(axis=1)
        long, short = np.maximum(usd, 0.0), np.maximum(-usd, 0.0)
        initial, maintenance = (long @ self.rates[0, kind] + short @ self.rates[1, kind] for kind in (0, 1))
        others = np.flatnonzero(~alone)
        if len(others):
            initial[others], maintenance[others] = self._evaluate(net[others], prices)
        return initial, maintenance

    def _evaluate(self, net: Floats, prices: Floats) -> tuple[Floats, Floats]:
        count, width = net.shape
        books = Books(
            np.arange(0, count * width + 1, width, dtype=np.int64),
            np.tile(np.arange(width, dtype=np.int32), count),
            np.ascontiguousarray(net * (prices / self.start)).ravel(),
            np.zeros((count, width)),
        )
        return kernel.evaluate(books, self._rows, self._layout)

    def most(self, net: Floats, prices: Floats) -> Floats:
        """What the maintenance margin does not exceed: the sum of every underlying's alone, by subadditivity.

        What is charged for size is a sum over underlyings by itself, of which this counts the parabola.
        """
        usd = net * prices
        held = np.abs(usd)
        charge = self._concentration * held * np.maximum(0.0, held / self.volume - 1.0)
        alone = np.maximum(usd, 0.0) @ self.rates[0, 1] + np.maximum(-usd, 0.0) @ self.rates[1, 1]
        return np.asarray((alone + charge.sum(axis=1)) * _ROUNDING)

    def judge(self, net: Floats, prices: Floats, equity: Floats, screen: bool = True) -> NDArray[np.bool_]:
        """Which accounts have less equity than maintenance margin; `screen`: only those that may are computed."""
        below = np.zeros(len(net), dtype=bool)
        chosen = np.arange(len(net)) if not screen else np.flatnonzero(equity < self.most(net, prices))
        if len(chosen):
            below[chosen] = equity[chosen] < self.of(net[chosen], prices)[1]
        return below
