"""Instruments priced once per scenario: linear for perpetuals, futures and collateral, Black-76 for options.

Smiles stick to strikes: in a scenario the forward moves with spot by the same fraction, and an option's own vol is what
the shock is applied to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keeper.market.marks import Expiry, MarkError, Marks
from keeper.market.surface import YEAR
from keeper.state.batch import UNIT
from keeper.state.ids import Instrument, Kind

from . import black76
from .kernel import Floats
from .moves import DOWN, PAST, UP, Columns
from .names import expiry_name
from .parameters import BASIS, MarginParameters, SkewShock, VolShock

_ONE = float(BASIS)
_POWER_DAYS = 30


def expiry_of(instrument: Instrument, marks: Marks) -> Expiry:
    """What the marks know of an instrument's expiry. Raises MarkError where it is nothing."""
    curve = marks.curves.get(instrument.underlying)
    found = None if curve is None else curve.expiries.get(instrument.expiry)
    if found is None:
        raise MarkError(f"the marks have no forward for {_at(instrument)}")
    if instrument.kind in (Kind.CALL, Kind.PUT) and found.smile is None:
        raise MarkError(f"the marks have no vol for {_at(instrument)}")
    return found


def _at(instrument: Instrument) -> str:
    return f"{instrument.underlying} at expiry {expiry_name(instrument.expiry)}"


@dataclass(frozen=True, slots=True, eq=False)
class Options:
    """Options of one underlying as arrays of shape (options, 1), for broadcasting over scenarios."""

    forward: Floats
    strike: Floats
    vol: Floats
    years: Floats
    discount: Floats
    call: NDArray[np.bool_]

    @classmethod
    def of(cls, instruments: Sequence[Instrument], marks: Marks) -> Options:
        """Raises MarkError where a forward or a vol is missing."""
        expiries = [expiry_of(each, marks) for each in instruments]
        strike = np.array([each.strike / 1e8 for each in instruments])
        forward = np.array([expiry.forward for expiry in expiries])
        years = np.array([max(each.expiry - marks.time, 0) / YEAR for each in instruments])
        vol = np.zeros(len(instruments))
        # One smile is asked once, for all its strikes.
        by_smile: dict[int, list[int]] = {}
        for number, expiry in enumerate(expiries):
            by_smile.setdefault(id(expiry), []).append(number)
        for numbers in by_smile.values():
            if (smile := expiries[numbers[0]].smile) is not None:
                moneyness = np.log(strike[numbers] / forward[numbers])
                vol[numbers] = smile.vol(moneyness, float(years[numbers[0]]))
        rate = np.array([expiry.rate for expiry in expiries])
        call = np.array([each.kind is Kind.CALL for each in instruments], dtype=bool)
        discount = black76.discount(rate, years)
        f, k, v, t, d = (np.reshape(column, (-1, 1)) for column in (forward, strike, vol, years, discount))
        return cls(f, k, v, t, d, np.reshape(call, (-1, 1)))

    def take(self, rows: Sequence[int]) -> Options:
        """Some of them, by number."""
        at = np.asarray(rows, dtype=np.intp)
        return Options(
            self.forward[at], self.strike[at], self.vol[at], self.years[at], self.discount[at], self.call[at]
        )

    def value(self) -> Floats:
        """Of one unit, USD, shape (options, 1)."""
        return self.discount * black76.price(self.forward, self.strike, self.vol, self.years, self.call)

    def forward_delta(self) -> Floats:
        """Derivative of the value by the forward, shape (options, 1)."""
        return self.discount * black76.delta(self.forward, self.strike, self.vol, self.years, self.call)

    def forward_deltas(self, moves: Floats) -> Floats:
        """The same with the forward moved by so many fractions of itself, shape (options, moves)."""
        forward = self.forward * (1 + moves[None, :])
        return self.discount * black76.delta(forward, self.strike, self.vol, self.years, self.call)

    def gains(self, moves: Columns, shock: VolShock) -> Floats:
        """USD that one unit gains in each scenario, times its weight, shape (options, scenarios)."""
        z = self._scaling(shock)
        vol = np.broadcast_to(self.vol, (len(self.vol), len(moves.spot))).copy()
        for kind, changed in (
            (UP, np.maximum(self.vol * (1 + shock.up / _ONE * z), shock.least_up / _ONE)),
            (DOWN, np.maximum(self.vol * (1 - shock.down / _ONE * z), 0.0)),
            (PAST, self.vol * np.exp(moves.log_vol[None, :] * z)),
        ):
            chosen = moves.vol == kind
            vol[:, chosen] = np.broadcast_to(changed, vol.shape)[:, chosen]
        forward = self.forward * (1 + moves.spot[None, :])
        shocked = black76.price(forward, self.strike, vol, self.years, self.call)
        return (self.discount * shocked - self.value()) * moves.weight[None, :]

    def basis_gains(self, move: float) -> Floats:
        """Undiscounted gain of one unit where its forward moves against spot, shape (options,)."""
        base = black76.price(self.forward, self.strike, self.vol, self.years, self.call)
        moved = black76.price(self.forward * (1 + move), self.strike, self.vol, self.years, self.call)
        return np.asarray((moved - base)[:, 0], dtype=float)

    def skew_gains(self, shock: SkewShock) -> tuple[Floats, Floats]:
        """Gain of one unit where the smile tilts, and where its wings bend, shape (options,) each."""
        root = np.sqrt(self.years)
        k = np.log(self.strike / self.forward)
        width = np.maximum(
            shock.least_width / _ONE, root * (shock.width / _ONE) * (shock.static / _ONE + root * shock.scale / _ONE)
        )
        gains = []
        for moneyness, base, cap_at_zero in (
            (k, shock.linear_base, shock.linear_cap),
            (np.abs(k), shock.absolute_base, shock.absolute_cap),
        ):
            cap = np.maximum(base / _ONE * root + cap_at_zero / _ONE, 0.0)
            vol = np.maximum(self.vol * (1 + np.clip(moneyness * cap / width, -cap, cap)), 0.0)
            shocked = black76.price(self.forward, self.strike, vol, self.years, self.call)
            gains.append(np.asarray((self.discount * shocked - self.value())[:, 0], dtype=float))
        return gains[0], gains[1]

    def _scaling(self, shock: VolShock) -> Floats:
        """(30 ÷ max(days, 1))^power, shape (options, 1)."""
        days = self.years * 365
        power = np.where(days <= _POWER_DAYS, shock.short_power / _ONE, shock.long_power / _ONE)
        return np.asarray((_POWER_DAYS / np.maximum(days, 1.0)) ** power, dtype=float)


def price_of(instrument: Instrument | None, index: int, marks: Marks) -> int:
    """USD 1e18; a future counts at its forward, an option at its Black-76 value, rounded to 1e-12 USD."""
    if instrument is None or instrument.kind is Kind.PERPETUAL:
        return index
    if instrument.kind is Kind.FUTURE:
        return rounded(expiry_of(instrument, marks).forward)
    return rounded(float(Options.of([instrument], marks).value()[0, 0]))


def rounded(usd: float) -> int:
    """USD as a double to USD 1e18, to the nearest 1e-12."""
    return round(usd * 1e12) * (UNIT // 10**12)


def confidence_of(instrument: Instrument | None, underlying: str, marks: Marks) -> float:
    """The least confidence of the feeds that a price comes from: of a dated instrument all of its expiry's."""
    curve = marks.curves.get(underlying)
    if curve is None:
        return 1.0
    if instrument is None:
        return curve.spot_confidence
    if instrument.kind is Kind.PERPETUAL:
        return min(curve.spot_confidence, curve.perpetual_confidence)
    expiry = expiry_of(instrument, marks)
    feeds = (expiry.forward_confidence, expiry.rate_confidence, expiry.vol_confidence)
    return min(curve.spot_confidence, *feeds)


def doubt(confidence: float, parameters: MarginParameters) -> float:
    """(1 − confidence) × rate below the threshold, else 0: the share of the notional that initial margin takes."""
    own = parameters.contingencies
    if not confidence < own.confidence_threshold / _ONE:
        return 0.0
    return (1 - confidence) * own.confidence_rate / _ONE
