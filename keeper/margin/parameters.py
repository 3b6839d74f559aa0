"""Parameters of the margin model, and the hash by which a deployment names them.

Every rate is an integer number of basis points (1 = 0.01 %), so that the canonical JSON, and with it the hash that
`parametersHash` carries in each batch, is the same on every machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from eth_hash.backends.pysha3 import keccak256

BASIS = 10_000
"""Basis points in one."""


class ParameterError(ValueError):
    """Parameters that no model can use; the message names the field and the value."""


@dataclass(frozen=True, slots=True)
class Tail:
    """A move beyond the range, `move` of the price, whose profit and loss counts at `weight`. Basis points."""

    move: int
    weight: int


@dataclass(frozen=True, slots=True)
class UnderlyingParameters:
    """The largest regular move either way, and what collateral loses in equity (`haircut`). Basis points."""

    largest_move: int
    haircut: int
    tails: tuple[Tail, ...] = (Tail(-3000, 5000), Tail(3000, 5000), Tail(-6000, 2500), Tail(10_000, 1500))
    """Dampened so that a linear book pays about 15 %; every underlying has the same number of them."""


@dataclass(frozen=True, slots=True)
class MarginParameters:
    """All that margins depend on beside holdings and marks.

    `steps` nodes lie on each side of the unmoved price; `correlation_break` (d) is the share of the requirement that
    counts every underlying's worst case by itself; perpetual rates are of the netted notional per underlying, the
    initial one on top of the maintenance one; `buffer` is the share of initial margin that must stay free after a
    permit; `reducing_loss` the share of the initial margin relieved that a reducing act may lose against the mark;
    `concession` the most a liquidation leg concedes, as a share of its standalone maintenance margin.
    `minimum_equity` in USD 1e18, all rates in basis points.
    """

    underlyings: Mapping[str, UnderlyingParameters]
    steps: int = 4
    correlation_break: int = 5000
    initial_factor: int = 10_000
    maintenance_factor: int = 8000
    perpetual_maintenance: int = 200
    perpetual_initial: int = 80
    buffer: int = 200
    reducing_loss: int = 1000
    concession: int = 1000
    minimum_equity: int = field(default=10 * 10**18)

    def __post_init__(self) -> None:
        for name in ("correlation_break", "maintenance_factor", "buffer", "reducing_loss", "concession"):
            if not 0 <= getattr(self, name) <= BASIS:
                raise ParameterError(f"{name}: {getattr(self, name)} basis points, wanted 0 to {BASIS}")
        if self.initial_factor < self.maintenance_factor:
            raise ParameterError(f"initial_factor {self.initial_factor} is below {self.maintenance_factor}")
        if self.steps < 1:
            raise ParameterError(f"steps: {self.steps}, wanted at least 1")
        if min(self.perpetual_maintenance, self.perpetual_initial, self.minimum_equity) < 0:
            raise ParameterError("perpetual rates and the minimum equity are not negative")
        for name, underlying in self.underlyings.items():
            if not 0 < underlying.largest_move < BASIS or not 0 <= underlying.haircut <= BASIS:
                raise ParameterError(
                    f"{name}: range {underlying.largest_move}, haircut {underlying.haircut} basis points"
                )
        if len({len(underlying.tails) for underlying in self.underlyings.values()}) > 1:
            raise ParameterError("underlyings have different numbers of tails: the joint block pairs them")

    def canonical_json(self) -> bytes:
        """Sorted keys, no spaces, integers and ASCII strings only."""
        plain = asdict(self) | {"underlyings": {name: asdict(u) for name, u in self.underlyings.items()}}
        return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")

    def hash(self) -> bytes:
        """keccak-256 of the canonical JSON: what a deployment and every batch name as `parametersHash`."""
        return keccak256(self.canonical_json())


def default_parameters() -> MarginParameters:
    """The parameters of the devnet: ETH and BTC move 15 %, SOL 20 %; WETH and WBTC lose 3 % in equity, SOL 5 %."""
    return MarginParameters(
        underlyings={
            "BTC": UnderlyingParameters(largest_move=1500, haircut=300),
            "ETH": UnderlyingParameters(largest_move=1500, haircut=300),
            "SOL": UnderlyingParameters(largest_move=2000, haircut=500),
        }
    )
