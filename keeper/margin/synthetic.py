"""Markets and books from a fixed seed, to measure by: 800 instruments on three underlyings, ten positions a book."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keeper.market.marks import Curve, Expiry, Marks
from keeper.market.surface import AtmSkew
from keeper.state.batch import UNIT
from keeper.state.ids import AssetId, Instrument, Kind, instrument_id, perpetual

from .kernel import Books
from .listing import Listing

SPOT = {"BTC": 60_000.0, "ETH": 3_000.0, "SOL": 150.0}
TIME = 1_795_000_000
_DAY = 86_400
_DAYS = (1, 4, 11, 32, 95, 186)


@dataclass(frozen=True, slots=True)
class Market:
    """Marks, the listing for them, and the instruments, ascending by id."""

    marks: Marks
    listing: Listing
    instruments: tuple[AssetId, ...]


def market(instruments: int = 800, scale: float = 1.0) -> Market:
    """The three perpetuals, a future per expiry, and options around the money until there are so many."""
    curves, assets = {}, [perpetual(name) for name in SPOT]
    strikes = np.linspace(0.55, 1.65, 1 + instruments // (2 * len(SPOT) * len(_DAYS)))
    options = []
    for name, spot in SPOT.items():
        expiries = {}
        for days in _DAYS:
            expiry = TIME + days * _DAY
            expiries[expiry] = Expiry(scale * spot * (1 + 0.0002 * days), 0.03, AtmSkew(0.5 + 0.1 / days, -0.1, 0.2))
            assets.append(instrument_id(Instrument(Kind.FUTURE, name, expiry)))
            options += [
                instrument_id(Instrument(kind, name, expiry, round(spot * float(share) * 1e8)))
                for share in strikes
                for kind in (Kind.CALL, Kind.PUT)
            ]
        curves[name] = Curve(expiries)
    chosen = tuple(
        sorted([*assets, *options[:: max(1, len(options) // max(1, instruments - len(assets)))]][:instruments])
    )
    prices = {name: round(scale * spot * UNIT) for name, spot in SPOT.items()}
    listing = Listing({}, {}, tuple(sorted(SPOT)), frozenset(Kind) - {Kind.TOKEN})
    return Market(Marks(prices, curves, TIME), listing, chosen)


def books(accounts: int, instruments: int, positions: int = 10, seed: int = 7) -> Books:
    """`positions` different instruments an account, sizes normal. Memory grows with accounts × positions only."""
    random = np.random.default_rng(seed)
    step = max(1, instruments // positions)
    # One instrument from each of as many strides, so that they differ and ascend without sorting.
    asset = (np.arange(positions, dtype=np.int32) * step)[None, :] + random.integers(
        0, step, (accounts, positions), dtype=np.int32
    )
    size = random.standard_normal(accounts * positions)
    start = np.arange(0, accounts * positions + 1, positions, dtype=np.int64)
    return Books(start, asset.ravel(), size, np.zeros((accounts, len(SPOT))))
