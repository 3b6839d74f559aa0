"""What a run depends on: who is there and what happens to the market, and the rules of the clearing house."""

from __future__ import annotations

from dataclasses import dataclass

MARGINS = ("cross", "isolated")
LIQUIDATIONS = ("full", "partial")
SALES = ("market", "auction")


class SettingsError(ValueError):
    """A setting out of range; the message names it and its value."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The population and the path: the same in every run that is compared.

    accounts: owners, traders and market makers together.
    shocks: underlying and fraction that it moves by, e.g. ("ETH", -0.3); between the other underlyings and the first
        shock lies `correlation`: they move by that share of it, and noise has that correlation.
    crowding: the share of directional positions that are long because everybody is; the rest have a side by chance.
    open_interest: gross notional of all traders per underlying, in days of the volume that the margin parameters say
        the market absorbs.
    hedged: the share of traders that hold one position against another, of no side.
    rebound: the share of the (log) shock that is gained back in the second half.
    """

    accounts: int = 2000
    seed: int = 1
    shocks: tuple[tuple[str, float], ...] = (("ETH", -0.30),)
    minutes: float = 60.0
    crowding: float = 0.5
    correlation: float = 0.0
    open_interest: float = 1.0
    hedged: float = 0.2
    rebound: float = 1 / 3
    block_seconds: float = 12.0

    def __post_init__(self) -> None:
        _within("accounts", self.accounts, 10, 1_000_000)
        _within("minutes", self.minutes, 1, 10_000)
        for name in ("crowding", "correlation", "hedged", "rebound"):
            _within(name, getattr(self, name), 0, 1)
        _within("open interest", self.open_interest, 0.001, 100)
        _within("block seconds", self.block_seconds, 0.1, 600)
        if not self.shocks:
            raise SettingsError("no shock")
        for name, move in self.shocks:
            _within(f"shock of {name}", move, -0.95, 5)

    @property
    def blocks(self) -> int:
        return round(self.minutes * 60 / self.block_seconds)


@dataclass(frozen=True, slots=True)
class Rules:
    """How accounts are margined, and what is done with those below maintenance margin.

    margin: `cross`, one account an owner; `isolated`, one for each position (an underlying on a chain) with its share
        of the collateral.
    liquidation: `full` closes everything, `partial` what the liquidation plan says.
    sale: `market`, at once and at any price; `auction`, to bidders, by a concession that grows.
    latency: blocks between an account's fall below maintenance margin and its liquidation.
    fund: USD in the insurance fund at the start; fund_share: of each concession that goes to it.
    impact: Y of the square-root law; 0 for prices that sales do not move. feedback: whether marks, which accounts are
        judged by, follow; without, sales cost what they cost and change nothing for others.
    permanent: the share of impact that does not decay; relax_minutes: in which the rest of what was sold is forgotten
        to 1/e.
    ramp: blocks in which a concession grows to its most; leg_blocks: for which a plan's legs live.
    profit: what bidders want beside the cost of their hedge, fraction; capacity: the most that they hold of one
        underlying, in days of its volume; unload_minutes: in which they sell it on.
    """

    margin: str = "cross"
    liquidation: str = "partial"
    sale: str = "auction"
    latency: int = 5
    fund: float = 1_000_000.0
    fund_share: float = 0.2
    impact: float = 1.0
    feedback: bool = True
    permanent: float = 0.1
    relax_minutes: float = 15.0
    ramp: int = 5
    leg_blocks: int = 5
    profit: float = 0.001
    capacity: float = 0.25
    unload_minutes: float = 15.0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("margin", self.margin, MARGINS),
            ("liquidation", self.liquidation, LIQUIDATIONS),
            ("sale", self.sale, SALES),
        ):
            if value not in known:
                raise SettingsError(f"{name} {value!r}, wanted {' or '.join(known)}")
        _within("latency", self.latency, 0, 100_000)
        _within("fund", self.fund, 0, 1e12)
        for name in ("fund_share", "permanent", "profit"):
            _within(name, getattr(self, name), 0, 1)
        _within("impact", self.impact, 0, 100)
        _within("capacity", self.capacity, 0, 1000)
        for name in ("relax_minutes", "unload_minutes"):
            _within(name, getattr(self, name), 0.01, 1e6)
        for name in ("ramp", "leg_blocks"):
            _within(name, getattr(self, name), 1, 100_000)

    @property
    def name(self) -> str:
        return f"{self.margin}, {self.liquidation}, {self.sale}, {self.latency} blocks"


def _within(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise SettingsError(f"{name}: {value:g}, wanted {least:g} to {most:g}")
