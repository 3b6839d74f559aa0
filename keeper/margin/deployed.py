"""What every model of one deployment or book does alike: what an asset moves with, and what it loses in equity."""

from __future__ import annotations

from keeper.market.marks import MarkError, Marks
from keeper.state.ids import AssetId, Instrument, is_token, parse_instrument

from .listing import Listing
from .parameters import MarginParameters, ParameterError


class Deployed:
    """A model's parameters, and the listing that it prices."""

    name: str
    not_convex = ""

    def __init__(self, parameters: MarginParameters, listing: Listing) -> None:
        """Raises ParameterError where an underlying of the listing has no parameters."""
        if missing := [name for name in listing.underlyings if name not in parameters.underlyings]:
            raise ParameterError(f"no margin parameters for {', '.join(missing)}")
        self.parameters = parameters
        self.listing = listing

    @property
    def convex(self) -> bool:
        return not self.not_convex

    def underlying(self, asset: AssetId) -> str:
        return self.listing.underlying_of(asset)

    def haircut(self, asset: AssetId) -> int:
        underlying = self.listing.underlying_of(asset)
        return self.parameters.underlyings[underlying].haircut if is_token(asset) else 0

    def index(self, asset: AssetId, marks: Marks) -> int:
        """The price of what an asset moves with, USD 1e18. Raises UnknownAsset or MarkError."""
        underlying = self.listing.underlying_of(asset)
        if underlying not in marks.prices:
            raise MarkError(f"the marks have no price for {underlying}")
        return marks.prices[underlying]


def instrument_of(asset: AssetId) -> Instrument | None:
    """What an id says; None of a token."""
    return None if is_token(asset) else parse_instrument(asset)


def is_option(instrument: Instrument | None) -> bool:
    return instrument is not None and instrument.strike > 0
