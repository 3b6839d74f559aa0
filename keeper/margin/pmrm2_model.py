"""pmrm2 as the model of a deployment: each underlying by itself, as PMRM_2 margins one account, and their sum.

    equity − initial = initial_margin_balance,     equity − maintenance = maintenance_margin_balance

of `pmrm2.evaluate` for the same holdings, with mark to market in the equity, as is the maintenance haircut of
collateral. Perpetuals count at the index; collateral moves with it. Nothing nets between underlyings, and nothing is
counted per owner. There are no futures.

A requirement is convex if every part is. A long expiry counts at no more than a short one (long ≤ short), so its value
x · discount(x) is the lesser of two lines. But a skew scenario counts −|x · discount(x) − m|: where the value gains,
that is minus the lesser of two lines, bent the wrong way where x changes its sign. And what is unsure of options jumps
with the first perpetual held. So with options listed the model is convex only without skews (or without any discount)
and without confidences; of perpetuals and collateral it is always.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from keeper.market.marks import Curve, Marks
from keeper.state.batch import UNIT
from keeper.state.ids import AssetId, Instrument, Kind, instrument_id

from . import pmrm2
from .deployed import Deployed, instrument_of, is_option
from .listing import Listing, UnknownAsset
from .model import Floats, Label, Scenarios
from .moves import percent
from .names import expiry_name, name_of
from .parameters import BASIS, PMRM2, MarginParameters, ParameterError
from .pmrm2_book import Expiry, Parameters, Scenario, VolMove
from .pmrm2_scenarios import Charge, Dated, Pmrm2Scenarios, Underlying
from .pricing import Options, expiry_of, rounded
from .settled import beside_settled

_ONE = float(BASIS)
_WORDS = {
    VolMove.NONE: "",
    VolMove.UP: ", vol up",
    VolMove.DOWN: ", vol down",
    VolMove.LINEAR: ", smiles tilt",
    VolMove.ABS: ", wings bend",
}


class Pmrm2(Deployed):
    """The model of one deployment or book."""

    name = PMRM2

    def __init__(self, parameters: MarginParameters, listing: Listing) -> None:
        """Raises ParameterError where the parameters are not this model's, or lack an underlying of the listing."""
        super().__init__(parameters, listing)
        if parameters.pmrm2 is None:
            raise ParameterError(f"parameters of the model {parameters.model}, wanted {PMRM2}")
        self.book = parameters.pmrm2.book
        self.not_convex = _bend(self.book) if listing.kinds & {Kind.CALL, Kind.PUT} else ""
        self._initial_haircuts = parameters.pmrm2.initial_haircuts
        self._words = [_word(number, scenario) for number, scenario in enumerate(self.book.scenarios)]

    def price(self, asset: AssetId, marks: Marks) -> int:
        if asset in marks.settled:
            return marks.settled[asset]
        index = self.index(asset, marks)
        instrument = self._known(asset)
        if instrument is None or not is_option(instrument):
            return index
        return rounded(float(self._units([instrument], marks)[0, len(self.book.scenarios)]))

    def scenarios(self, marks: Marks, assets: Sequence[AssetId]) -> Scenarios:
        return beside_settled(marks, assets, self._moving)

    def _moving(self, marks: Marks, assets: Sequence[AssetId]) -> Pmrm2Scenarios:
        prices = [self.index(asset, marks) for asset in assets]
        instruments = [self._known(asset) for asset in assets]
        names = [self.listing.underlying_of(asset) for asset in assets]
        columns = _Columns(len(assets))
        chosen = list(self.listing.underlyings)
        starts = [columns.scenarios(name, self._words) for name in chosen]
        books: list[Underlying] = []
        for name, start in zip(chosen, starts, strict=True):
            rows = [row for row, own in enumerate(names) if own == name]
            linear = [row for row in rows if not is_option(instruments[row])]
            worth = {row: prices[row] / UNIT for row in linear}
            dated: dict[int, list[int]] = {}
            for row in rows:
                if (each := instruments[row]) is not None and each.strike:
                    dated.setdefault(each.expiry, []).append(row)
            units = {at: self._units([i for r in dated[at] if (i := instruments[r])], marks) for at in sorted(dated)}
            for at, values in units.items():
                for row, value in zip(dated[at], values[:, len(self.book.scenarios)].tolist(), strict=True):
                    prices[row] = rounded(value)
            books.append(
                self._underlying(
                    columns, name, start, worth, instruments, {at: dated[at] for at in units}, units, marks
                )
            )
        return Pmrm2Scenarios(
            tuple(assets),
            tuple(prices),
            columns.matrix(),
            tuple(columns.labels),
            len(chosen) * len(self._words),
            self.book,
            pmrm2.initial_factor(marks.stable, self.book),
            tuple(books),
        )

    def _underlying(
        self,
        columns: _Columns,
        name: str,
        start: int,
        worth: Mapping[int, float],
        instruments: Sequence[Instrument | None],
        dated: Mapping[int, Sequence[int]],
        units: Mapping[int, Floats],
        marks: Marks,
    ) -> Underlying:
        """The columns of one underlying: `worth` of linear assets, `units` of options by expiry, in rows `dated`."""
        charges, curve = self.book.contingency, marks.curves.get(name, Curve())
        spot = marks.prices[name] / UNIT if name in marks.prices else 0.0
        gains = columns.count
        for number, (word, scenario) in enumerate(zip(self._words, self.book.scenarios, strict=True)):
            moved = (scenario.spot - 1) * scenario.dampening
            entries = {row: value * moved for row, value in worth.items()}
            columns.add(Label(f"{name} linear", word), entries)
            for at, rows in dated.items():
                change = (units[at][:, number] - units[at][:, -3]) * scenario.dampening
                entries = entries | dict(zip(rows, change.tolist(), strict=True))
            columns.fill(start + number, entries)
        perpetuals = {row: spot for row in worth if instruments[row] is not None}
        held = columns.both(f"{name} perpetual", "notional", perpetuals)
        sure = min(curve.spot_confidence, curve.perpetual_confidence)
        found = [
            Charge(held, charges.mm_perp, charges.mm_perp + charges.im_perp + pmrm2.unsure(sure, charges)),
        ]
        tokens = {row: -value for row, value in worth.items() if instruments[row] is None}
        extra = self._initial_haircuts.get(name, 0) / _ONE + pmrm2.unsure(curve.spot_confidence, charges)
        found.append(Charge((columns.add(Label(f"{name} collateral", "value"), tokens),), 0.0, extra))
        expiries = []
        for at, rows in dated.items():
            said = f"{name} {expiry_name(at)}"
            expiries.append(self._expiry(columns, said, rows, units[at], instruments, marks))
            for strike in sorted({each.strike for row in rows if (each := instruments[row]) is not None}):
                same = [row for row in rows if (each := instruments[row]) is not None and each.strike == strike]
                column = columns.add(
                    Label(f"{said} options", f"naked shorts at {strike / 1e8:g}"), dict.fromkeys(same, spot)
                )
                found.append(Charge((column,), charges.mm_option, charges.mm_option + charges.im_option))
            quote = _quote(instruments[rows[0]], marks)
            without, beside = (
                pmrm2.unsure(pmrm2.sureness(quote, curve.spot_confidence, perpetual), charges)
                for perpetual in (None, curve.perpetual_confidence)
            )
            for row in rows:
                pair = columns.both(f"{said} confidence", _name(instruments[row]), {row: spot})
                found.append(Charge(pair, 0.0, without, beside))
        return Underlying(name, gains, held, tuple(expiries), tuple(found))

    def _expiry(
        self,
        columns: _Columns,
        said: str,
        rows: Sequence[int],
        units: Floats,
        instruments: Sequence[Instrument | None],
        marks: Marks,
    ) -> Dated:
        def entries(values: Floats) -> dict[int, float]:
            return dict(zip(rows, values.tolist(), strict=True))

        quote = _quote(instruments[rows[0]], marks)
        weight = pmrm2.basis_weight(quote.seconds, self.book.basis)
        first = columns.count
        for number, word in enumerate(self._words):
            columns.add(Label(f"{said} value", word), entries(units[:, number]))
        for number, word in enumerate(self._words):
            columns.add(Label(f"{said} value, owed", word), entries(-units[:, number]))
        marked = columns.add(Label(f"{said} mark", "long"), entries(units[:, -3]))
        columns.add(Label(f"{said} mark", "short"), entries(-units[:, -3]))
        for way, column in (("up", -2), ("down", -1)):
            columns.add(Label(f"{said} basis", f"forward {way}"), entries((units[:, column] - units[:, -3]) * weight))
        return Dated(first, marked, pmrm2.discounts(quote.seconds, quote.rate, self.book.margin))

    def _known(self, asset: AssetId) -> Instrument | None:
        instrument = instrument_of(asset)
        if instrument is not None and instrument.kind is Kind.FUTURE:
            raise UnknownAsset(f"{PMRM2} has no futures, got one on {instrument.underlying}")
        return instrument

    def _units(self, options: Sequence[Instrument], marks: Marks) -> Floats:
        """What one of each option of one expiry is worth: as `pmrm2.unit_values`."""
        priced = Options.of(options, marks)
        return pmrm2.unit_values(
            _quote(options[0], marks),
            priced.strike[:, 0],
            priced.vol[:, 0],
            priced.call[:, 0],
            self.book.scenarios,
            self.book,
        )


class _Columns:
    """Collects columns in order."""

    def __init__(self, assets: int) -> None:
        self.labels: list[Label] = []
        self._assets = assets
        self._columns: list[Mapping[int, float]] = []

    @property
    def count(self) -> int:
        return len(self._columns)

    def scenarios(self, name: str, words: Sequence[str]) -> int:
        """Columns to be filled later; returns the first."""
        first = self.count
        for word in words:
            self.add(Label(name, word), {})
        return first

    def add(self, label: Label, entries: Mapping[int, float]) -> int:
        self.labels.append(label)
        self._columns.append(entries)
        return len(self._columns) - 1

    def fill(self, column: int, entries: Mapping[int, float]) -> None:
        self._columns[column] = entries

    def both(self, block: str, name: str, entries: Mapping[int, float]) -> tuple[int, int]:
        """A pair of which one loses, whichever side is held."""
        long = self.add(Label(block, f"{name}, long"), {row: -value for row, value in entries.items()})
        return long, self.add(Label(block, f"{name}, short"), entries)

    def matrix(self) -> Floats:
        found = np.zeros((self._assets, len(self._columns)))
        for column, entries in enumerate(self._columns):
            found[list(entries), column] = list(entries.values())
        return found


def _quote(instrument: Instrument | None, marks: Marks) -> Expiry:
    """What the marks say of an option's expiry, as the formula's own record."""
    assert instrument is not None
    found = expiry_of(instrument, marks)
    return Expiry(
        expiry_name(instrument.expiry),
        float(instrument.expiry - marks.time),
        found.forward,
        found.rate,
        found.forward_confidence,
        found.rate_confidence,
        found.vol_confidence,
    )


def _name(instrument: Instrument | None) -> str:
    assert instrument is not None
    return name_of(instrument_id(instrument))


def _word(number: int, scenario: Scenario) -> str:
    weight = "" if scenario.dampening == 1 else f" × {scenario.dampening:g}"
    return f"{number}: {percent((scenario.spot - 1) * BASIS)}{weight}{_WORDS[scenario.vol]}"


def _bend(book: Parameters) -> str:
    """Why a requirement of options is not convex, empty where it is; see above."""
    margin, charges = book.margin, book.contingency
    times = (margin.short_rate_mult, margin.long_rate_mult, margin.short_rate_add, margin.long_rate_add)
    long, short = margin.base_discount_long, margin.base_discount_short
    if min(times) < 0 or long > min(1.0, short):
        return "a long expiry may count at more than a short one"
    if any(scenario.vol in pmrm2.SKEWED for scenario in book.scenarios) and (any(times) or long != short):
        return "a skew scenario counts the worse sign of a value that is discounted differently long and short"
    if charges.confidence_margin > 0 and charges.confidence_threshold > 0:
        return "what is unsure of options jumps with the first perpetual held"
    return ""
