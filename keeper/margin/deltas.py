"""Deltas: what a whole unit of an instrument moves by with its underlying."""

from __future__ import annotations

from collections.abc import Iterable

from keeper.market.marks import Marks
from keeper.state.ids import AssetId, is_token, parse_instrument

from .model import MarginModel
from .pricing import Options, rounded


def deltas(marks: Marks, model: MarginModel, assets: Iterable[AssetId]) -> dict[AssetId, int]:
    """USD 1e18 that a whole unit gains where its underlying gains 100 %, to first order.

    The forward moves with spot by the same fraction: a perpetual and a token count at their mark, a future at its
    forward, an option at its discounted Black-76 delta times its forward, rounded to 1e-12 USD. Divided by the
    underlying's index it is the delta in units of the underlying: 1 for a perpetual. What has its final price moves no
    more.

    Raises:
        UnknownAsset, MarkError: as the model's price.
    """
    ordered = sorted(set(assets))
    found = {asset: 0 for asset in ordered if asset in marks.settled}
    moving = [asset for asset in ordered if asset not in found]
    options = [asset for asset in moving if not is_token(asset) and parse_instrument(asset).strike]
    priced = Options.of([parse_instrument(asset) for asset in options], marks)
    slopes = (priced.forward_delta() * priced.forward)[:, 0].tolist()
    found |= {asset: rounded(slope) for asset, slope in zip(options, slopes, strict=True)}
    return {asset: found[asset] if asset in found else model.price(asset, marks) for asset in ordered}
