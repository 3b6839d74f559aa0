"""The prices: a fall in uneven steps, with a gap in the middle that no auction is quick enough for, and a recovery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keeper.devnet.chains import START_PRICES, START_VOLS
from keeper.devnet.processes import DevnetError
from keeper.state.deployment import PERPETUAL, VOL

FALLEN = (0.08, 0.20, 0.34, 0.60, 0.82, 1.0)
"""Of the whole fall, after each step; the fourth is the gap."""
RISEN = (0.80, 0.60, 0.42, 0.27, 0.16, 0.10)
"""Of the fall, what is left after each step of the recovery."""
BETAS: Mapping[str, float] = {"ETH": 1.0, "BTC": 0.8, "SOL": 1.3}
"""How far each falls where ETH falls by one."""
VOL_RISE = 0.8
"""Implied vols at the bottom are higher by so much of what they were."""
DISCOUNT = 0.002
"""Below the index that perpetuals trade at the bottom: longs are paid for it."""


@dataclass(frozen=True, slots=True)
class Step:
    """Answers of all feeds that move, USD 1e8 and fractions of 1e8, `second` seconds after the beginning."""

    second: float
    answers: Mapping[str, int]


def crash(fall: float, seconds: float) -> tuple[Step, ...]:
    """Prices fall by `fall` per cent (ETH; the others by their betas) within `seconds`.

    Raises:
        DevnetError: a price would not stay above zero.
    """
    return _steps(FALLEN, fall, seconds)


def recovery(fall: float, seconds: float) -> tuple[Step, ...]:
    """The way back after `crash`, within `seconds`."""
    return _steps(RISEN, fall, seconds)


def _steps(fractions: tuple[float, ...], fall: float, seconds: float) -> tuple[Step, ...]:
    most = 100 / max(BETAS.values())
    if not 0 < fall < most:
        raise DevnetError(f"a fall of {fall:g} %: more than 0 and less than {most:.0f} is wanted")
    return tuple(
        Step(seconds * number / len(fractions), answers_at(fall / 100 * fraction))
        for number, fraction in enumerate(fractions)
    )


def answers_at(fallen: float) -> dict[str, int]:
    """Every feed's answer where ETH has fallen by `fallen`, a fraction; vols and discounts as of a fall by 30 %."""
    found = {}
    for name, beta in BETAS.items():
        price = START_PRICES[name] * (1 - fallen * beta)
        found[name] = round(price)
        found[name + PERPETUAL] = round(price * (1 - DISCOUNT * fallen / 0.3))
        found[name + VOL] = round(START_VOLS[name] * (1 + VOL_RISE * fallen / 0.3))
    return found
