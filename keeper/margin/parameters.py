"""Parameters of the margin model, and the hash by which a deployment names them.

Every rate is an integer number of basis points (1 = 0.01 %), so that the canonical JSON, and with it the hash that
`parametersHash` carries in each batch, is the same on every machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from eth_hash.backends.pysha3 import keccak256

from .model_parameters import BASIS as BASIS
from .model_parameters import ParameterError as ParameterError
from .model_parameters import Pmrm2Parameters, SpanParameters
from .returns import Returns

XPM, PMRM2, SPAN = "xpm", "pmrm2", "span"
"""The margin models by name."""
_MOST_STEPS = 100


@dataclass(frozen=True, slots=True)
class Tail:
    """A move beyond the range, `move` of the price, whose profit and loss counts at `weight`. Basis points."""

    move: int
    weight: int


@dataclass(frozen=True, slots=True)
class UnderlyingParameters:
    """The largest regular move either way, and what collateral loses in equity (`haircut`). Basis points.

    `daily_volume` is what the market absorbs in a day, whole USD: from there on a position pays for concentration.
    """

    largest_move: int
    haircut: int
    tails: tuple[Tail, ...] = (Tail(-3000, 5000), Tail(3000, 5000), Tail(-6000, 2500), Tail(10_000, 1500))
    """Dampened so that a linear book pays about 15 %; every underlying has the same number of them."""
    daily_volume: int = 100_000_000


@dataclass(frozen=True, slots=True)
class VolShock:
    """vol × (1 + up · z), at least `least_up`, or × (1 − down · z), z = (30 ÷ max(days, 1))^power. Basis points.

    The short power holds up to 30 days to expiry, the long one beyond.
    """

    up: int = 5000
    down: int = 3000
    short_power: int = 3000
    long_power: int = 1300
    least_up: int = 4000


@dataclass(frozen=True, slots=True)
class SkewShock:
    """A tilt of the smile (linear) and of both its wings (absolute), PMRM_2's. Basis points.

    cap = base · √years + cap at zero; the vol is × (1 + clip(k · cap ÷ k*, ± cap)), with
    k* = max(least_width, √years · width · (static + √years · scale)).
    """

    linear_base: int = -400
    linear_cap: int = 3000
    absolute_base: int = -300
    absolute_cap: int = 1200
    least_width: int = 100
    width: int = 30_000
    static: int = 20_000
    scale: int = -7000


@dataclass(frozen=True, slots=True)
class History:
    """Filtered historical expected shortfall. Days, and basis points.

    `days` of returns, each ÷ its own EWMA volatility × today's (`decay`, seeded with `seed_days`, the ratio within
    `least_ratio` … `most_ratio`), over `horizon` days; the `stress_days` in a row of the greatest volatility are the
    floor against pro-cyclicality. V = weight · ES(days) + (1 − weight) · ES(stress days), both at `confidence`.
    """

    days: int = 500
    stress_days: int = 250
    seed_days: int = 60
    decay: int = 9700
    least_ratio: int = 5000
    most_ratio: int = 30_000
    horizon: int = 2
    confidence: int = 9750
    weight: int = 7500


@dataclass(frozen=True, slots=True)
class Contingencies:
    """What scenarios do not show. Basis points.

    basis: forwards of one expiry move by ± `basis_move` against spot, × (basis_add + basis_slope · years);
    options: naked shorts per strike × spot × rate; a feed whose confidence is below the threshold: (1 − confidence) ×
    `confidence_rate` of its notional, initial only; the settlement token below `peg`: (peg − price) × `peg_factor` of
    the scenario requirement, initial only.
    """

    basis_move: int = 400
    basis_add: int = 5000
    basis_slope: int = 18_000
    option_maintenance: int = 40
    option_initial: int = 30
    confidence_threshold: int = 5500
    confidence_rate: int = 9000
    peg: int = 9850
    peg_factor: int = 25_000
    concentration: int = 500


@dataclass(frozen=True, slots=True)
class MarginParameters:
    """All that margins depend on beside holdings and marks.

    `steps` nodes lie on each side of the unmoved price; `correlation_break` (d) is the share of the requirement that
    counts every underlying's worst case by itself; `opposed` the share of their ranges by which a joint scenario moves
    underlyings against each other; perpetual rates are of the netted notional per underlying, the initial one on top of
    the maintenance one; `buffer` is the share of initial margin that must stay free after a permit; `reducing_loss` the
    share of the initial margin relieved that a reducing act may lose against the mark; `concession` the most a
    liquidation leg concedes, as a share of its standalone maintenance margin.
    An account whose net cash is below −`cash_floor` for `cash_term` seconds has collateral sold; the floor is 0 where
    such accounts of a chain owe more than `cash_limit` together. `minimum_equity`, `cash_floor` and `cash_limit` in USD
    1e18, all rates in basis points. Without `returns` nothing is required for history.
    `model` is one of those named above, with its own section where it is not xpm.
    """

    underlyings: Mapping[str, UnderlyingParameters]
    steps: int = 4
    correlation_break: int = 5000
    opposed: int = 5000
    initial_factor: int = 10_000
    maintenance_factor: int = 8000
    perpetual_maintenance: int = 200
    perpetual_initial: int = 80
    buffer: int = 200
    reducing_loss: int = 1000
    concession: int = 1000
    minimum_equity: int = field(default=10 * 10**18)
    cash_floor: int = field(default=100 * 10**18)
    cash_term: int = 60
    cash_limit: int = field(default=10_000 * 10**18)
    vol: VolShock = VolShock()
    skew: SkewShock = SkewShock()
    history: History = History()
    contingencies: Contingencies = Contingencies()
    returns: Returns | None = None
    model: str = XPM
    pmrm2: Pmrm2Parameters | None = None
    span: SpanParameters | None = None

    def __post_init__(self) -> None:
        for name in ("correlation_break", "opposed", "maintenance_factor", "buffer", "reducing_loss", "concession"):
            if not 0 <= getattr(self, name) <= BASIS:
                raise ParameterError(f"{name}: {getattr(self, name)} basis points, wanted 0 to {BASIS}")
        if self.initial_factor < self.maintenance_factor:
            raise ParameterError(f"initial_factor {self.initial_factor} is below {self.maintenance_factor}")
        if not 1 <= self.steps <= _MOST_STEPS:
            raise ParameterError(f"steps: {self.steps}, wanted 1 to {_MOST_STEPS}")
        if min(self.perpetual_maintenance, self.perpetual_initial, self.minimum_equity) < 0:
            raise ParameterError("perpetual rates and the minimum equity are not negative")
        if min(self.cash_floor, self.cash_term, self.cash_limit) < 0:
            raise ParameterError("cash_floor, cash_term and cash_limit are not negative")
        for name, underlying in self.underlyings.items():
            if not 0 < underlying.largest_move < BASIS or not 0 <= underlying.haircut <= BASIS:
                raise ParameterError(
                    f"{name}: range {underlying.largest_move}, haircut {underlying.haircut} basis points"
                )
            if underlying.daily_volume <= 0:
                raise ParameterError(f"{name}: daily_volume {underlying.daily_volume} USD, wanted more than 0")
            for tail in underlying.tails:
                if tail.move <= -BASIS or not 0 <= tail.weight <= BASIS:
                    raise ParameterError(f"{name}: tail of {tail.move} at weight {tail.weight} basis points")
        if len({len(underlying.tails) for underlying in self.underlyings.values()}) > 1:
            raise ParameterError("underlyings have different numbers of tails: the joint block pairs them")
        self._check_parts()
        self._check_model()
        if self.returns is not None:
            self._check_returns(self.returns)

    def _check_parts(self) -> None:
        for part in (self.vol, self.history, self.contingencies):
            for name, value in asdict(part).items():
                if value < 0:
                    raise ParameterError(f"{name}: {value}, wanted at least 0")
        history = self.history
        for name, value, least, most in (
            ("vol.up", self.vol.up, 0, 100 * BASIS),
            ("vol.down", self.vol.down, 0, BASIS),
            ("vol.short_power", self.vol.short_power, 0, 2 * BASIS),
            ("vol.long_power", self.vol.long_power, 0, 2 * BASIS),
            ("skew.least_width", self.skew.least_width, 1, BASIS),
            ("history.days", history.days, 1, 10_000),
            ("history.stress_days", history.stress_days, 1, 10_000),
            ("history.seed_days", history.seed_days, 1, 10_000),
            ("history.horizon", history.horizon, 1, 365),
            ("history.decay", history.decay, 1, BASIS - 1),
            ("history.confidence", history.confidence, 1, BASIS - 1),
            ("history.weight", history.weight, 0, BASIS),
            ("history.most_ratio", history.most_ratio, max(history.least_ratio, 1), 10**6),
        ):
            if not least <= value <= most:
                raise ParameterError(f"{name}: {value}, wanted {least} to {most}")

    def _check_model(self) -> None:
        if self.model not in (XPM, PMRM2, SPAN):
            raise ParameterError(f"model: {self.model!r}, wanted {XPM}, {PMRM2} or {SPAN}")
        for name, section in ((PMRM2, self.pmrm2), (SPAN, self.span)):
            if (section is not None) != (name == self.model):
                wanted = "wants a section" if name == self.model else "has no section"
                raise ParameterError(f"model {self.model!r}: it {wanted} [{name}]")
        named = {leg.underlying for credit in self.span.credits for leg in credit.legs} if self.span else set()
        named |= set(self.pmrm2.initial_haircuts) if self.pmrm2 else set()
        if unknown := sorted(named - set(self.underlyings)):
            raise ParameterError(f"{self.model}: no underlyings {', '.join(unknown)}")
        for name, extra in (self.pmrm2.initial_haircuts if self.pmrm2 else {}).items():
            if self.underlyings[name].haircut + extra > BASIS:
                raise ParameterError(f"pmrm2.initial_haircuts.{name}: {extra / BASIS:g} beside the haircut is over 1")

    def _check_returns(self, returns: Returns) -> None:
        if missing := sorted(set(self.underlyings) - set(returns.underlyings)):
            raise ParameterError(f"the returns lack {', '.join(missing)}")
        wanted = max(self.history.days, self.history.stress_days) + self.history.seed_days
        if returns.days < wanted:
            raise ParameterError(f"the returns have {returns.days} days, wanted at least {wanted}")

    def canonical_json(self) -> bytes:
        """Sorted keys, no spaces, integers and ASCII strings only; what other models have does not stand in xpm's."""
        plain = {each.name: getattr(self, each.name) for each in fields(self)} | {
            "underlyings": {name: asdict(u) for name, u in self.underlyings.items()},
            "returns": None if self.returns is None else self.returns.digest.hex(),
        }
        plain |= {name: asdict(plain[name]) for name in ("vol", "skew", "history", "contingencies")}
        own = {PMRM2: self.pmrm2, SPAN: self.span}
        plain = {name: value for name, value in plain.items() if name not in ("model", *own)}
        if (section := own.get(self.model)) is not None:
            plain |= {"model": self.model, self.model: section.canonical()}
        return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")

    def hash(self) -> bytes:
        """keccak-256 of the canonical JSON: what a deployment and every batch name as `parametersHash`."""
        return keccak256(self.canonical_json())
