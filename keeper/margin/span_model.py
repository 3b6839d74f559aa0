"""span as the model of a deployment that is observed: a combined commodity per underlying, with arrays from its marks.

    requirement = net option value + max(0, risk − net option value)

of each commodity, with `risk` that of `span.evaluate` for the same holdings: option value is in the equity here, so
that what is free is what SPAN leaves of the cash. The initial requirement counts the second term
`initial_to_maintenance` times.

The price scan range is the underlying's `largest_move`; vols move by a share of themselves, whatever the time to
expiry. Perpetuals and collateral are one month, each expiry is another; one calendar spread charges deltas of any month
against any other's. Composite deltas are of the forward, at the seven price moves.

Charges for spreads and credits grow with the lesser of two sides, and the credits with the price risk of whichever
scenario is the active one, which jumps. So requirements are neither convex nor monotone in what is lost, and nobody
signs by them: see `require_convex`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keeper.market.marks import Marks
from keeper.state.batch import UNIT
from keeper.state.ids import AssetId, Kind

from . import span
from .deployed import Deployed, instrument_of, is_option
from .listing import Listing
from .model import Floats, Label, Part, Requirement, Scenarios
from .moves import DOWN, FLAT, UP, Columns, Move
from .names import expiry_name
from .parameters import BASIS, SPAN, MarginParameters, ParameterError, UnderlyingParameters, VolShock
from .pricing import Options, price_of, rounded
from .settled import beside_settled
from .span_book import SCENARIOS, Book, Commodity, Contract, Leg, Spread, composite_delta

_ONE = float(BASIS)
_THIRDS = (0, 1, -1, 2, -2, 3, -3)
_SPOT = "spot"
"""The month of perpetuals and collateral."""


class Span(Deployed):
    """The model of one deployment or book."""

    name = SPAN
    not_convex = "SPAN charges and credits spreads by the lesser of two sides, and by the scenario that is active"

    def __init__(self, parameters: MarginParameters, listing: Listing) -> None:
        """Raises ParameterError where the parameters are not this model's, or lack an underlying of the listing."""
        super().__init__(parameters, listing)
        if parameters.span is None:
            raise ParameterError(f"parameters of the model {parameters.model}, wanted {SPAN}")
        self.span = parameters.span
        scan = self.span.vol_scan
        self._shock = VolShock(up=scan, down=scan, short_power=0, long_power=0, least_up=0)

    def price(self, asset: AssetId, marks: Marks) -> int:
        if asset in marks.settled:
            return marks.settled[asset]
        index = self.index(asset, marks)
        return price_of(instrument_of(asset), index, marks)

    def scenarios(self, marks: Marks, assets: Sequence[AssetId]) -> Scenarios:
        return beside_settled(marks, assets, self._moving)

    def _moving(self, marks: Marks, assets: Sequence[AssetId]) -> SpanScenarios:
        prices = [self.index(asset, marks) for asset in assets]
        instruments = [instrument_of(asset) for asset in assets]
        names = self.listing.underlyings
        contracts: dict[str, list[Contract]] = {name: [] for name in names}
        rows: dict[str, list[int]] = {name: [] for name in names}
        pnl = np.zeros((len(assets), len(names) * SCENARIOS + len(assets)))
        for row, (asset, instrument) in enumerate(zip(assets, instruments, strict=True)):
            underlying = self.listing.underlying_of(asset)
            moves = self._moves(self.parameters.underlyings[underlying])
            columns = Columns.of(moves)
            month = expiry_name(instrument.expiry) if instrument is not None and instrument.expiry else _SPOT
            if instrument is not None and is_option(instrument):
                option = Options.of([instrument], marks)
                gains = option.gains(columns, self._shock)[0]
                nodes = np.array([moves[2 * n].spot for n in range(len(_THIRDS))])
                delta = composite_delta(option.forward_deltas(nodes)[0].tolist())
                value = float(option.value()[0, 0])
                prices[row] = rounded(value)
                kind = "call" if instrument.kind is Kind.CALL else "put"
            else:
                prices[row] = price_of(instrument, prices[row], marks)
                gains, delta, value, kind = columns.weighted * (prices[row] / UNIT), 1.0, 0.0, "future"
            contracts[underlying].append(Contract(asset.hex(), kind, month, delta, value, tuple(gains.tolist())))
            rows[underlying].append(row)
            start = names.index(underlying) * SCENARIOS
            pnl[row, start : start + SCENARIOS] = gains
            pnl[row, len(names) * SCENARIOS + row] = 1.0
        book = Book(
            commodities=tuple(self._commodity(name, contracts[name], marks) for name in names),
            spreads=self._credits(),
            short_option_method=self.span.short_option_method,
            net_option_value_excess="kept",
            initial_to_maintenance=self.span.initial_to_maintenance / _ONE,
        )
        labels = [
            Label(name, move.name) for name in names for move in self._moves(self.parameters.underlyings[name])
        ] + [Label("quantity", f"0x{asset.hex()}") for asset in assets]
        return SpanScenarios(tuple(assets), tuple(prices), pnl, tuple(labels), book, tuple(map(tuple, rows.values())))

    def _commodity(self, name: str, contracts: Sequence[Contract], marks: Marks) -> Commodity:
        spot = marks.prices[name] / UNIT if name in marks.prices else 0.0
        months = tuple(dict.fromkeys(contract.month for contract in contracts))
        legs = (Leg("tier", "all", months, 1.0, 1), Leg("tier", "all", months, 1.0, -1))
        return Commodity(
            name=name,
            contracts=tuple(contracts),
            quantities={},
            spreads=(Spread(legs, self.span.calendar_charge / _ONE * spot),),
            delivery={},
            short_option_minimum=self.span.short_option_minimum / _ONE * spot,
        )

    def _credits(self) -> tuple[Spread, ...]:
        """Those whose underlyings are all listed: no other can form."""
        return tuple(
            Spread(
                tuple(
                    Leg("commodity", leg.underlying, (leg.underlying,), leg.ratio / _ONE, 1 if leg.side == "A" else -1)
                    for leg in credit.legs
                ),
                credit.rate / _ONE,
            )
            for credit in self.span.credits
            if all(leg.underlying in self.listing.underlyings for leg in credit.legs)
        )

    def _moves(self, own: UnderlyingParameters) -> list[Move]:
        """The sixteen scenarios in the standard order."""
        reach, extreme = own.largest_move / _ONE, self.span.extreme_move / _ONE
        found = [
            Move(thirds * reach / 3, vol, name=f"{number}: price {thirds:+d}/3, vol {said}")
            for number, (thirds, (vol, said)) in enumerate(
                ((thirds, way) for thirds in _THIRDS for way in ((UP, "up"), (DOWN, "down"))), start=1
            )
        ]
        share = self.span.extreme_share / _ONE
        for number, sign in ((15, 1), (16, -1)):
            found.append(Move(max(-1.0, sign * extreme * reach), FLAT, share, name=f"{number}: extreme {sign:+d}"))
        return found


@dataclass(frozen=True, eq=False)
class SpanScenarios:
    """Assets priced once: sixteen profits and losses per underlying, for people, and each asset's quantity, from which
    requirements are computed. `book` has contracts without quantities, `rows` each commodity's assets."""

    assets: tuple[AssetId, ...]
    prices: tuple[int, ...]
    pnl: Floats
    labels: tuple[Label, ...]
    book: Book
    rows: tuple[tuple[int, ...], ...]

    @property
    def profits(self) -> int:
        return len(self.rows) * SCENARIOS

    @property
    def held(self) -> dict[str, int]:
        return {}

    @property
    def elsewhere(self) -> dict[str, int]:
        return {}

    def requirements(self, vectors: Floats) -> tuple[Floats, Floats]:
        flat = np.asarray(vectors, dtype=float).reshape(-1, vectors.shape[-1])
        totals = [[sum(column) for column in zip(*self._of(self._report(v)), strict=True)] or [0.0, 0.0] for v in flat]
        found = np.array(totals, dtype=float).reshape(*vectors.shape[:-1], 2)
        return found[..., 0], found[..., 1]

    def parts(self, vector: Floats) -> tuple[Part, ...]:
        report = self._report(vector)
        found = []
        for number, (entry, (initial, maintenance)) in enumerate(
            zip(report["commodities"], self._of(report), strict=True)
        ):
            column = number * SCENARIOS + entry["active_scenario"] - 1
            said = self.labels[column].move
            if entry["net_option_value"] > entry["risk"]:
                said = "option value beyond the risk"
            elif entry["short_option_minimum"] == entry["risk"] and entry["risk"] > 0:
                said = "short option minimum"
            required = Requirement(initial, maintenance)
            found.append(Part(entry["commodity"], said, float(vector[column]), required, ((column, 1.0),)))
        return tuple(found)

    def _report(self, vector: Floats) -> dict[str, Any]:
        """What SPAN says of the quantities of a vector."""
        quantities = vector[self.profits :].tolist()
        commodities = tuple(
            replace(each, quantities={c.name: quantities[row] for c, row in zip(each.contracts, own, strict=True)})
            for each, own in zip(self.book.commodities, self.rows, strict=True)
        )
        return span.judged(replace(self.book, commodities=commodities))

    def _of(self, report: dict[str, Any]) -> list[tuple[float, float]]:
        """Initial and maintenance requirement of each commodity, with its option value."""
        return [
            (
                entry["net_option_value"] + entry["requirement"] * self.book.initial_to_maintenance,
                entry["net_option_value"] + entry["requirement"],
            )
            for entry in report["commodities"]
        ]
