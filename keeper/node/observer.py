"""What this node would sign as marks: its own feeds, the funding carried on from the last batch, what has settled."""

from __future__ import annotations

from keeper.market.inputs import MarkInputs, SettledInput, advanced, marks_of
from keeper.market.marks import Marks
from keeper.market.settlement import settlement_value
from keeper.state.deployment import Deployment
from keeper.state.ids import AssetId, parse_instrument

from .batches import BatchBook
from .view import ChainsView, NotReady


class Observer:
    """Joins what the chains say now with what the newest quorum batch said."""

    def __init__(self, deployment: Deployment, view: ChainsView, batches: BatchBook) -> None:
        self._deployment = deployment
        self._view = view
        self._batches = batches
        instruments = [parse_instrument(asset) for asset in deployment.instruments]
        self._with_options = {each.underlying for each in instruments if each.strike}

    def inputs(self) -> MarkInputs:
        """This node's own inputs, now. Raises NotReady where a feed that is needed has no valid answer."""
        latest = self._batches.latest
        previous = None if latest is None else latest.content.inputs
        time = self._view.timely_head_time
        underlyings = self._view.observed(previous)
        for entry in underlyings:
            if entry.vol == 0 and entry.underlying in self._with_options:
                raise NotReady(f"options on {entry.underlying} are listed, and no feed gave its vol yet")
        return MarkInputs(
            time=time,
            underlyings=underlyings,
            funding=advanced(previous, underlyings, time, self._deployment.profile.max_funding_rate),
            settled=tuple(SettledInput(asset, price) for asset, price in sorted(self.settled().items())),
            since=-1 if latest is None else latest.content.batch.epoch,
        )

    def marks(self) -> Marks:
        """This node's own marks, now. Raises NotReady as `inputs` does."""
        return marks_of(self.inputs(), self._deployment.instruments)

    def settled(self) -> dict[AssetId, int]:
        """The final price of every listed instrument that has one: as a quorum signed it, else as computed here."""
        latest = self._batches.latest
        found = {} if latest is None else latest.content.inputs.settled_at
        for asset in self._deployment.instruments:
            instrument = parse_instrument(asset)
            price = self._view.settlements.get((instrument.underlying, instrument.expiry))
            if price is not None and asset not in found:
                found[asset] = settlement_value(instrument, price)
        return found
