"""xpm, the cross-chain portfolio margin: scenario grids, joint stress, historical expected shortfall, contingencies.

    S = d · Σ_u max(0, −min_cell PnL_u) + (1 − d) · max(0, −min_joint PnL)
    V = weight · ES(filtered days) + (1 − weight) · ES(stressed days)
    R = max(S, V)
    maintenance = 0.8 · R + contingencies + concentration
    initial     = 1.0 · R + contingencies of both + concentration

Every term is a sum of worst cases over sums of columns, so both requirements are monotone and convex, and, but for
concentration, positively homogeneous and subadditive: an account never gains by being split.

Concentration of an underlying is rate · N · (T ÷ A − 1), with N the account's net delta, T that of all accounts of its
owner, each by its absolute value, A what the market absorbs in a day; from the N on where the next USD would cost a
whole one it costs just that, so that the charge stays convex and below N.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from keeper.market.marks import Marks
from keeper.state.batch import UNIT
from keeper.state.ids import AssetId, Instrument

from . import kernel, moves
from .columns import ColumnBook
from .deployed import Deployed, instrument_of, is_option
from .history import tail_of
from .kernel import Floats, Layout, Rows
from .listing import Listing
from .model import Label, Part, Requirement
from .moves import Columns
from .parameters import BASIS, XPM, MarginParameters
from .pricing import Options, price_of, rounded

JOINT, RECENT, STRESS = "joint", "history", "stress"

_ONE = float(BASIS)


class Xpm(Deployed):
    """The model of one deployment or book."""

    name = XPM

    def __init__(self, parameters: MarginParameters, listing: Listing) -> None:
        """Raises ParameterError where an underlying of the listing has no parameters."""
        super().__init__(parameters, listing)
        names = listing.underlyings
        self._cells = [moves.cells(parameters.underlyings[name], parameters.steps) for name in names]
        joint = moves.joint(parameters, names) if names else []
        recent, stress = moves.past(parameters, names)
        self._counts = (len(joint), len(recent), len(stress))
        together = [*joint, *recent, *stress]
        self._own = [Columns.of(cells) for cells in self._cells]
        self._common = [Columns.of([scenario[u] for scenario in together]) for u in range(len(names))]
        self._labels = [
            Label(name, cell.name) for name, cells in zip(names, self._cells, strict=True) for cell in cells
        ]
        self._labels += [Label(JOINT, moves.named(scenario, names)) for scenario in joint]
        self._labels += [Label(RECENT, f"{day}: {moves.named(s, names)}") for day, s in enumerate(recent)]
        self._labels += [Label(STRESS, f"{day}: {moves.named(s, names)}") for day, s in enumerate(stress)]

    def price(self, asset: AssetId, marks: Marks) -> int:
        if asset in marks.settled:
            return marks.settled[asset]
        index = self.index(asset, marks)
        return price_of(instrument_of(asset), index, marks)

    def scenarios(self, marks: Marks, assets: Sequence[AssetId]) -> XpmScenarios:
        moving = [row for row, asset in enumerate(assets) if asset not in marks.settled]
        if len(moving) < len(assets):
            return self._beside_settled(marks, assets, moving)
        names = self.listing.underlyings
        instruments = [instrument_of(asset) for asset in assets]
        places = [names.index(self.listing.underlying_of(asset)) for asset in assets]
        rows = [row for row, each in enumerate(instruments) if is_option(each)]
        options = Options.of([each for row in rows if (each := instruments[row]) is not None], marks)
        prices = self._prices(marks, assets, instruments, rows, options)
        usd = [price / UNIT for price in prices]
        cells = len(self._cells[0]) if names else 0
        first, common = len(names) * cells, len(names) * cells + sum(self._counts)
        static = np.zeros((len(assets), common))
        for u in range(len(names)):
            numbers = [number for number, row in enumerate(rows) if places[row] == u]
            chosen = np.array([rows[number] for number in numbers], dtype=np.intp)
            linear = [row for row, place in enumerate(places) if place == u and not is_option(instruments[row])]
            for start, own in ((u * cells, self._own[u]), (first, self._common[u])):
                stop = start + len(own.spot)
                for row in linear:
                    static[row, start:stop] = own.weighted * usd[row]
                if numbers:
                    static[chosen, start:stop] = options.take(numbers).gains(own, self.parameters.vol)
        columns = ColumnBook(self.parameters, names, marks, dict(zip(rows, range(len(rows)), strict=True)), options)
        columns.add(assets, instruments, places, usd)
        dynamic = columns.matrix(len(assets))
        return XpmScenarios(
            tuple(assets),
            tuple(prices),
            np.concatenate((static, dynamic), axis=1),
            (*self._labels, *columns.labels),
            self._layout(columns, cells),
            np.array(places, dtype=np.int64),
            names,
        )

    def _beside_settled(self, marks: Marks, assets: Sequence[AssetId], moving: Sequence[int]) -> XpmScenarios:
        """What has its final price moves in no scenario."""
        priced = self.scenarios(marks, [assets[row] for row in moving])
        pnl = np.zeros((len(assets), priced.pnl.shape[1]))
        place = np.zeros(len(assets), dtype=np.int64)
        pnl[moving], place[moving] = priced.pnl, priced.place
        return replace(
            priced,
            assets=tuple(assets),
            prices=tuple(self.price(asset, marks) for asset in assets),
            pnl=pnl,
            place=place,
            _rows=[],
        )

    def _prices(
        self,
        marks: Marks,
        assets: Sequence[AssetId],
        instruments: Sequence[Instrument | None],
        rows: Sequence[int],
        options: Options,
    ) -> list[int]:
        """As `price`, of all options at once."""
        values = dict(zip(rows, options.value()[:, 0].tolist(), strict=True))
        return [rounded(values[row]) if row in values else self.price(asset, marks) for row, asset in enumerate(assets)]

    def _layout(self, columns: ColumnBook, cells: int) -> Layout:
        p = self.parameters
        joint, recent, stress = self._counts
        peg = max(0.0, p.contingencies.peg / _ONE - columns.stable) * p.contingencies.peg_factor / _ONE
        return Layout(
            underlyings=len(columns.names),
            cells=cells,
            joint=joint,
            recent=recent,
            stress=stress,
            skew_underlying=np.array(columns.skews, dtype=np.int64),
            group_start=np.array(columns.group_start, dtype=np.int64) + len(self._labels) + 4 * len(columns.skews),
            maintenance=np.array(columns.maintenance),
            initial=np.array(columns.initial),
            tails=np.array(
                [*tail_of(recent, p.history.confidence), *tail_of(stress, p.history.confidence)], dtype=float
            ),
            weights=np.array(
                [
                    p.correlation_break / _ONE,
                    p.maintenance_factor / _ONE,
                    p.initial_factor / _ONE + peg,
                    p.history.weight / _ONE,
                    p.contingencies.concentration / _ONE,
                ]
            ),
            volume=np.array([float(p.underlyings[name].daily_volume) for name in columns.names]),
        )


@dataclass(frozen=True, eq=False)
class XpmScenarios:
    """Assets priced once; `layout` says where the columns are, `place[a]` which underlying an asset is of."""

    assets: tuple[AssetId, ...]
    prices: tuple[int, ...]
    pnl: Floats
    labels: tuple[Label, ...]
    layout: Layout
    place: kernel.Ints
    names: tuple[str, ...]
    _rows: list[Rows] = field(default_factory=list, repr=False)

    @property
    def rows(self) -> Rows:
        """As the fused pass reads them; split once."""
        if not self._rows:
            self._rows.append(Rows.of(self.pnl, self.place, self.layout))
        return self._rows[0]

    @property
    def profits(self) -> int:
        return self.layout.skew

    @property
    def held(self) -> dict[str, int]:
        return {name: self.layout.concentration + 3 * u for u, name in enumerate(self.names)}

    @property
    def elsewhere(self) -> dict[str, int]:
        return {name: self.layout.concentration + 3 * u + 2 for u, name in enumerate(self.names)}

    def requirements(self, vectors: Floats) -> tuple[Floats, Floats]:
        return kernel.reduce(vectors, self.layout)

    def parts(self, vector: Floats) -> tuple[Part, ...]:
        at, (apart, maintenance, initial, weight, _) = self.layout, map(float, self.layout.weights)
        scan = [self._grid(u, vector) for u in range(at.underlyings)]
        joint = self._joint(vector)
        shares = [apart] * len(scan) + [1 - apart]
        past = [
            self._past(RECENT, at.skew - at.stress - at.recent, at.recent, at.tails[:2], vector),
            self._past(STRESS, at.skew - at.stress, at.stress, at.tails[2:], vector),
        ]
        shortfall = sum(-part.pnl * share for part, share in zip(past, (weight, 1 - weight), strict=True))
        binding = list(zip([*scan, joint], shares, strict=True))
        if shortfall > sum(max(0.0, -part.pnl) * share for part, share in binding):
            binding = list(zip(past, (weight, 1 - weight), strict=True))
        found = [self._counted(part, share * initial, share * maintenance) for part, share in binding]
        found += [self._group(g, vector) for g in range(len(at.group_start) - 1)]
        found += [self._concentration(u, vector) for u in range(at.underlyings)]
        return tuple(found)

    def _counted(self, part: Part, initial: float, maintenance: float) -> Part:
        loss = -part.pnl if part.block in (RECENT, STRESS) else max(0.0, -part.pnl)
        return Part(part.block, part.scenario, part.pnl, Requirement(initial * loss, maintenance * loss), part.columns)

    def _grid(self, u: int, vector: Floats) -> Part:
        start = u * self.layout.cells
        return self._worst(self.names[u], range(start, start + self.layout.cells), vector, [u])

    def _joint(self, vector: Floats) -> Part:
        start = self.layout.common
        everywhere = list(range(self.layout.underlyings))
        return self._worst(JOINT, range(start, start + self.layout.joint), vector, everywhere)

    def _worst(self, block: str, columns: range, vector: Floats, underlyings: Sequence[int]) -> Part:
        """The worst of these columns and of the skew shocks of these underlyings."""
        found: list[tuple[float, str, tuple[tuple[int, float], ...]]] = [
            (float(vector[c]), self.labels[c].move, ((c, 1.0),)) for c in columns
        ]
        pairs = len(self.layout.skew_underlying)
        for kind, name in ((0, "smiles tilt"), (1, "wings bend")):
            chosen = []
            for k in np.flatnonzero(np.isin(self.layout.skew_underlying, underlyings)):
                column = self.layout.skew + 2 * (kind * pairs + int(k))
                chosen.append(column if vector[column] <= vector[column + 1] else column + 1)
            found.append((float(sum(vector[c] for c in chosen)), name, tuple((c, 1.0) for c in chosen)))
        pnl, name, used = min(found, key=lambda entry: entry[0])
        return Part(block, name, pnl, Requirement(0.0, 0.0), used)

    def _past(self, block: str, start: int, count: int, tail: Floats, vector: Floats) -> Part:
        whole, share = int(tail[0]), float(tail[1])
        ordered = [start + int(c) for c in np.argsort(vector[start : start + count], kind="stable")]
        used = [(c, 1.0 / (whole + share)) for c in ordered[:whole]]
        if share:
            used.append((ordered[whole], share / (whole + share)))
        pnl = sum((float(vector[c]) * weight for c, weight in used), 0.0)
        scenario = f"mean of the {whole + share:g} worst of {count} days"
        return Part(block, scenario, pnl, Requirement(0.0, 0.0), tuple(used))

    def _group(self, g: int, vector: Floats) -> Part:
        start, stop = int(self.layout.group_start[g]), int(self.layout.group_start[g + 1])
        column = start + int(vector[start:stop].argmin())
        loss = max(0.0, -float(vector[column]))
        required = Requirement(float(self.layout.initial[g]) * loss, float(self.layout.maintenance[g]) * loss)
        return Part(
            self.labels[column].block, self.labels[column].move, float(vector[column]), required, ((column, 1.0),)
        )

    def _concentration(self, u: int, vector: Floats) -> Part:
        start = self.layout.concentration + 3 * u
        column = start if vector[start] <= vector[start + 1] else start + 1
        held, elsewhere = max(0.0, -float(vector[column])), max(0.0, -float(vector[start + 2]))
        rate, volume = float(self.layout.weights[4]), float(self.layout.volume[u])
        charge = kernel.concentration(held, elsewhere, volume, rate)
        name = f"{(held + elsewhere) / volume:.2f} days of the market"
        return Part(
            self.labels[column].block, name, float(vector[column]), Requirement(charge, charge), ((column, 1.0),)
        )
