"""Markets with futures and options for tests: three underlyings, four expiries each, books drawn from them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from worlds import NOW, WETH, A, B, make_deployment

from keeper.margin.listing import Listing
from keeper.margin.model import Floats
from keeper.margin.parameter_file import default_parameters
from keeper.margin.xpm import Xpm, XpmScenarios
from keeper.market.marks import Curve, Expiry, Marks
from keeper.market.surface import AtmSkew, Svi
from keeper.state.ids import AssetId, Instrument, Kind, instrument_id, perpetual, token_id

NAMES = ("BTC", "ETH", "SOL")
SPOT = {"BTC": 60_000.0, "ETH": 3_000.0, "SOL": 150.0}
DAY = 86_400
EXPIRIES = tuple(NOW + days * DAY for days in (2, 9, 30, 180))
LISTING = replace(Listing.of(make_deployment(NAMES)), kinds=frozenset(Kind) - {Kind.TOKEN}, dated=None)
PARAMETERS = default_parameters()
CHARGE_FREE = replace(PARAMETERS, contingencies=replace(PARAMETERS.contingencies, concentration=0))
"""Without the concentration charge, the one term that is neither homogeneous nor subadditive."""

XPM = Xpm(PARAMETERS, LISTING)
LAWFUL = Xpm(CHARGE_FREE, LISTING)


def market(scale: float = 1.0, **changes: float) -> Marks:
    """Every price times `scale`; `changes` to each curve."""
    curves = {
        name: Curve(
            {
                expiry: Expiry(
                    forward=scale * SPOT[name] * (1 + 0.0002 * (expiry - NOW) / DAY),
                    rate=0.03,
                    smile=Svi(0.001 + 0.0009 * (expiry - NOW) / DAY, 0.02, -0.3, 0.0, 0.2)
                    if name == "ETH"
                    else AtmSkew(0.55, -0.1, 0.2),
                )
                for expiry in EXPIRIES
            },
            **changes,
        )
        for name in NAMES
    }
    return Marks({name: round(scale * price * 10**18) for name, price in SPOT.items()}, curves, NOW)


MARKS = market()


def option(name: str, kind: Kind, expiry: int, moneyness: float) -> AssetId:
    return instrument_id(Instrument(kind, name, EXPIRIES[expiry], round(SPOT[name] * moneyness * 1e8)))


def future(name: str, expiry: int) -> AssetId:
    return instrument_id(Instrument(Kind.FUTURE, name, EXPIRIES[expiry]))


UNIVERSE = tuple(
    sorted(
        [perpetual(name) for name in NAMES]
        + [token_id(A, WETH), token_id(B, WETH)]
        + [future(name, e) for name in NAMES for e in (1, 3)]
        + [
            option(name, kind, e, m)
            for name in NAMES
            for kind in (Kind.CALL, Kind.PUT)
            for e in range(4)
            for m in (0.7, 0.9, 1.0, 1.2)
        ]
    )
)
SCENARIOS: XpmScenarios = XPM.scenarios(MARKS, UNIVERSE)
LAWFUL_SCENARIOS: XpmScenarios = LAWFUL.scenarios(MARKS, UNIVERSE)

books = st.dictionaries(
    st.integers(0, len(UNIVERSE) - 1), st.floats(-50, 50, allow_subnormal=False).filter(bool), min_size=1, max_size=10
)
"""Asset number → size."""


def vector(book: dict[int, float], scenarios: XpmScenarios = LAWFUL_SCENARIOS) -> Floats:
    """Summed in ascending order, as the engine does."""
    total = np.zeros(scenarios.layout.columns)
    for asset, size in sorted(book.items()):
        total = total + size * scenarios.pnl[asset]
    return total
