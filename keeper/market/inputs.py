"""What a batch's marks are made of: the observations that attestors compare, and the marks that follow from them.

Everything is an integer, so that who has the same inputs computes the same marks. An attestor compares a proposer's
inputs with its own observations within a tolerance, and recomputes everything else from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from keeper.state.batch import UNIT
from keeper.state.ids import AssetId, Kind, parse_instrument, perpetual

from .marks import Curve, Expiry, Marks
from .surface import AtmSkew

FUNDING_SECONDS = 8 * 3600
"""A perpetual that trades above the index by x pays x in this time."""

MARK_TOLERANCE_BP = 25
"""A proposer's index, or perpetual's price, may differ by this much from an attestor's own, in basis points."""

VOL_TOLERANCE_BP = 200
"""The same for implied vols."""


@dataclass(frozen=True, slots=True)
class UnderlyingInput:
    """One underlying: `index` and the market's price of its `perpetual` (the index where there is no feed) in USD 1e18,
    at-the-money `vol` per year in 1e18 (0 where no feed ever gave one)."""

    underlying: str
    index: int
    perpetual: int
    vol: int = 0


@dataclass(frozen=True, slots=True)
class FundingInput:
    """Cumulative funding of a perpetual: what a long of one unit has paid in total, USD 1e18, signed."""

    asset: AssetId
    index: int


@dataclass(frozen=True, slots=True)
class SettledInput:
    """An expired instrument and the one price it settles at, USD 1e18."""

    asset: AssetId
    price: int


@dataclass(frozen=True, slots=True)
class MarkInputs:
    """Inputs at `time` (the batch's timestamp, unix seconds). `since` is the epoch of the batch whose funding was
    carried on, −1 for none. Underlyings and assets ascend."""

    time: int
    underlyings: tuple[UnderlyingInput, ...]
    funding: tuple[FundingInput, ...] = ()
    settled: tuple[SettledInput, ...] = ()
    since: int = -1

    @property
    def funding_of(self) -> dict[AssetId, int]:
        return {entry.asset: entry.index for entry in self.funding}

    @property
    def settled_at(self) -> dict[AssetId, int]:
        return {entry.asset: entry.price for entry in self.settled}


def marks_of(inputs: MarkInputs, instruments: Iterable[AssetId]) -> Marks:
    """The marks that follow from inputs, with a curve for every expiry of the dated `instruments`.

    Forwards are the index (the carry to expiry is what the basis contingency is for), discounted at no rate; the smile
    of an expiry is flat at the underlying's at-the-money vol.
    """
    expiries: dict[str, set[int]] = {}
    for asset in instruments:
        instrument = parse_instrument(asset)
        if instrument.kind is not Kind.PERPETUAL:
            expiries.setdefault(instrument.underlying, set()).add(instrument.expiry)
    curves: dict[str, Curve] = {}
    for entry in inputs.underlyings:
        smile = AtmSkew(entry.vol / UNIT) if entry.vol > 0 else None
        dated = {e: Expiry(entry.index / UNIT, smile=smile) for e in sorted(expiries.get(entry.underlying, ()))}
        # What a long of one unit pays in the next hour at the present premium.
        owed = (entry.perpetual - entry.index) / UNIT * 3600 / FUNDING_SECONDS
        curves[entry.underlying] = Curve(dated, funding=owed)
    return Marks(
        prices={entry.underlying: entry.index for entry in inputs.underlyings},
        curves=curves,
        time=inputs.time,
        funding=inputs.funding_of,
        settled=inputs.settled_at,
    )


def advanced(
    previous: MarkInputs | None, underlyings: Sequence[UnderlyingInput], time: int, most_rate: int
) -> tuple[FundingInput, ...]:
    """Funding indexes carried from the previous batch's inputs to `time`.

    The rate is the perpetual's premium over the index, paid in FUNDING_SECONDS, clamped to half of `most_rate` (1e18
    of the index per second): the contracts refuse a jump beyond the whole, at prices that may have moved meanwhile.
    Rounded down.
    """
    before = {} if previous is None else previous.funding_of
    seconds = 0 if previous is None else max(0, time - previous.time)
    found = []
    for entry in underlyings:
        asset = perpetual(entry.underlying)
        most = most_rate * entry.index * seconds // (2 * UNIT)
        premium = (entry.perpetual - entry.index) * seconds // FUNDING_SECONDS
        found.append(FundingInput(asset, before.get(asset, 0) + max(-most, min(most, premium))))
    return tuple(sorted(found, key=lambda each: each.asset))


def input_faults(given: MarkInputs, own: Sequence[UnderlyingInput], settled: Mapping[AssetId, int]) -> list[str]:
    """Where given inputs are not within tolerance of one's own observations; empty where nowhere.

    `settled` are the settlement prices that one computed oneself: they must be equal, to the last digit.
    """
    faults = []
    theirs = {entry.underlying: entry for entry in given.underlyings}
    ours = {entry.underlying: entry for entry in own}
    for name in sorted({*theirs, *ours}):
        if name not in theirs or name not in ours:
            faults.append(f"{name}: {'no price given' if name not in theirs else 'a price is given, we have none'}")
            continue
        mine, other = ours[name], theirs[name]
        for what, value, wanted, tolerance in (
            ("index", other.index, mine.index, MARK_TOLERANCE_BP),
            ("perpetual", other.perpetual, mine.perpetual, MARK_TOLERANCE_BP),
            ("vol", other.vol, mine.vol, VOL_TOLERANCE_BP),
        ):
            if abs(value - wanted) * 10_000 > tolerance * wanted:
                faults.append(f"{name}: {what} {value / UNIT} is not within {tolerance} bp of {wanted / UNIT}")
    for entry in given.settled:
        known = settled.get(entry.asset)
        if known != entry.price:
            faults.append(
                f"0x{entry.asset.hex()}: settlement price {entry.price / UNIT}, ours is "
                + ("not known yet" if known is None else f"{known / UNIT}")
            )
    return faults
