"""The columns of xpm that depend on which instruments there are: skews, contingencies, concentration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from keeper.market.marks import Marks
from keeper.market.surface import YEAR
from keeper.state.ids import AssetId, Instrument, Kind

from .kernel import Floats
from .model import Label
from .names import expiry_name
from .parameters import BASIS, MarginParameters
from .pricing import Options, confidence_of, doubt

_ONE = float(BASIS)


class ColumnBook:
    """Collects columns and groups in a fixed order: pairs of skew columns, groups of contingencies, concentration."""

    def __init__(
        self,
        parameters: MarginParameters,
        names: Sequence[str],
        marks: Marks,
        numbers: Mapping[int, int],
        options: Options,
    ) -> None:
        """`options` are all that there are, `numbers` the number there of an asset that is one."""
        self.names = tuple(names)
        self.stable = marks.stable
        self.skews: list[int] = []
        self.group_start: list[int] = [0]
        self.maintenance: list[float] = []
        self.initial: list[float] = []
        self.labels: list[Label] = []
        self._parameters = parameters
        self._marks = marks
        self._numbers = numbers
        self._options = options
        self._columns: list[dict[int, float]] = []

    def add(
        self,
        assets: Sequence[AssetId],
        instruments: Sequence[Instrument | None],
        places: Sequence[int],
        prices: Sequence[float],
    ) -> None:
        """The columns of these assets, priced in USD; `places` are the numbers of their underlyings."""
        dated = sorted({(places[row], each.expiry) for row, each in enumerate(instruments) if each and each.expiry})
        rows = {
            key: [r for r, each in enumerate(instruments) if each and (places[r], each.expiry) == key] for key in dated
        }
        self._add_skews({key: [row for row in rows[key] if row in self._numbers] for key in dated})
        for u, name in enumerate(self.names):
            self._add_perpetuals(u, name, instruments, places, prices)
        for (u, expiry), held in rows.items():
            self._add_expiry(self.names[u], expiry, held, instruments, prices)
        self._add_doubts(assets, instruments, places, prices)
        self._add_concentration(places, prices)

    def matrix(self, assets: int) -> Floats:
        """The columns, shape (assets, columns)."""
        found = np.zeros((assets, len(self._columns)))
        for column, entries in enumerate(self._columns):
            found[list(entries), column] = list(entries.values())
        return found

    # --- kinds of columns ------------------------------------------------------------------------------------------

    def _add_skews(self, options: dict[tuple[int, int], list[int]]) -> None:
        held = {key: rows for key, rows in options.items() if rows}
        self.skews = [u for u, _ in held]
        gains = [self._priced(rows).skew_gains(self._parameters.skew) for rows in held.values()]
        for kind, said in enumerate(("smile tilts", "wings bend")):
            for (u, expiry), rows, both in zip(held, held.values(), gains, strict=True):
                for sign, way in ((1.0, "up"), (-1.0, "down")):
                    label = Label(self.names[u], f"{said} {way}, {expiry_name(expiry)}")
                    self._column(label, dict(zip(rows, (sign * both[kind]).tolist(), strict=True)))

    def _add_perpetuals(
        self,
        u: int,
        name: str,
        instruments: Sequence[Instrument | None],
        places: Sequence[int],
        prices: Sequence[float],
    ) -> None:
        p = self._parameters
        held = [r for r, each in enumerate(instruments) if each and each.kind is Kind.PERPETUAL and places[r] == u]
        notional = {r: prices[r] for r in held}
        maintenance = p.perpetual_maintenance / _ONE
        self._both(f"{name} perpetual", "notional", notional, maintenance, maintenance + p.perpetual_initial / _ONE)
        curve = self._marks.curves.get(name)
        if curve is not None and curve.funding:
            self._group([(Label(f"{name} funding", "next payment"), dict.fromkeys(held, -curve.funding))], 1.0, 1.0)

    def _add_expiry(
        self, name: str, expiry: int, held: list[int], instruments: Sequence[Instrument | None], prices: Sequence[float]
    ) -> None:
        p, own = self._parameters.contingencies, self._marks.curves[name]
        options = [row for row in held if row in self._numbers]
        years = max(expiry - self._marks.time, 0) / YEAR
        factor = p.basis_add / _ONE + p.basis_slope / _ONE * years
        ways = []
        for sign, way in ((1, "up"), (-1, "down")):
            move = sign * p.basis_move / _ONE
            gains = {r: own.expiries[expiry].forward * move * factor for r in held if r not in options}
            if options:
                priced = self._priced(options)
                gains |= dict(zip(options, (priced.basis_gains(move) * factor).tolist(), strict=True))
            ways.append((Label(f"{name} basis {expiry_name(expiry)}", f"forward {way} against spot"), gains))
        self._group(ways, 1.0, 1.0)
        spot = self._marks.prices[name] / 10**18
        maintenance = p.option_maintenance / _ONE
        for strike in sorted({each.strike for r in options if (each := instruments[r]) is not None}):
            rows = [r for r in options if (each := instruments[r]) is not None and each.strike == strike]
            label = Label(f"{name} options {expiry_name(expiry)}", f"naked shorts at {strike / 1e8:g}")
            # A long of one kind covers a short of the other: either is paid for by the same move of the price.
            self._group([(label, dict.fromkeys(rows, spot))], maintenance, maintenance + p.option_initial / _ONE)

    def _add_doubts(
        self,
        assets: Sequence[AssetId],
        instruments: Sequence[Instrument | None],
        places: Sequence[int],
        prices: Sequence[float],
    ) -> None:
        """Netted per asset, so that both sides of one instrument count once."""
        for row, asset in enumerate(assets):
            each, name = instruments[row], self.names[places[row]]
            rate = doubt(confidence_of(each, name, self._marks), self._parameters)
            if rate > 0:
                dated = each is not None and each.expiry > 0
                notional = self._marks.prices[name] / 10**18 if dated else prices[row]
                self._both(f"{name} confidence", f"0x{asset.hex()}", {row: notional}, 0.0, rate)

    def _add_concentration(self, places: Sequence[int], prices: Sequence[float]) -> None:
        # USD that a unit moves by per 100 % of its underlying.
        slopes = (self._options.forward_delta() * self._options.forward)[:, 0].tolist()
        for u, name in enumerate(self.names):
            held = [row for row, place in enumerate(places) if place == u]
            deltas = {row: slopes[self._numbers[row]] if row in self._numbers else prices[row] for row in held}
            block = f"{name} concentration"
            self._column(Label(block, "net delta, short"), deltas)
            self._column(Label(block, "net delta, long"), {row: -delta for row, delta in deltas.items()})
            self._column(Label(block, "held by the owner's other accounts"), {})

    # --- helpers ---------------------------------------------------------------------------------------------------

    def _priced(self, rows: Sequence[int]) -> Options:
        return self._options.take([self._numbers[row] for row in rows])

    def _both(self, block: str, name: str, value: dict[int, float], maintenance: float, initial: float) -> None:
        """A charge on the absolute value: the worse of two columns."""
        long = (Label(block, f"{name}, long"), {row: -worth for row, worth in value.items()})
        self._group([long, (Label(block, f"{name}, short"), value)], maintenance, initial)

    def _group(self, columns: Sequence[tuple[Label, dict[int, float]]], maintenance: float, initial: float) -> None:
        for label, entries in columns:
            self._column(label, entries)
        self.group_start.append(self.group_start[-1] + len(columns))
        self.maintenance.append(maintenance)
        self.initial.append(initial)

    def _column(self, label: Label, entries: dict[int, float]) -> None:
        self.labels.append(label)
        self._columns.append(entries)
