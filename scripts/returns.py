"""Write keeper/margin/data/returns.csv: daily joint log returns that look like BTC, ETH and SOL, from a fixed seed.

Made, not measured: for the devnet, tests and examples. A jump-diffusion with stochastic volatility:

    log-volatility of underlying i   x_t = x_{t−1} − 0.06 · (x_{t−1} − m_i − s_t) + 0.10 · v_t,    v correlated 0.9
    spot return                      r_t = exp(x_t) · z_t + J_t · β_i + K_t,                        z correlated ρ
    return of the 30-day vol         w_t = −0.35 · r_t + 0.5 · (x_t − x_{t−1}) + 0.02 · n_t − 0.05 · (its log level)

m_i is the log of 2.3 % (BTC), 2.9 % (ETH) and 3.8 % (SOL) a day; s_t adds 0.55 during 260 days, a stressed market. J is
common to all: on 2.5 % of the days, mean −4 %, deviation 5 %, β 1, 1.2, 1.5; K is an underlying's own: on 1 % of the
days, mean 0, deviation 6 %. ρ is 0.82 (BTC, ETH), 0.70 (BTC, SOL), 0.75 (ETH, SOL).
"""

from __future__ import annotations

import math
import sys
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from keeper.margin.returns import Returns

SEED = 20_260_101
DAYS = 1_000
FIRST = date(2023, 4, 7)
NAMES = ("BTC", "ETH", "SOL")
DAILY = (0.023, 0.029, 0.038)
BETAS = np.array([1.0, 1.2, 1.5])
CORRELATION = np.array([[1.0, 0.82, 0.70], [0.82, 1.0, 0.75], [0.70, 0.75, 1.0]])
STRESS = range(330, 590)


def generate() -> Returns:
    """The series, the same on every machine up to the rounding to 1e-9."""
    random = np.random.Generator(np.random.PCG64(SEED))
    means = np.log(np.array(DAILY))
    spots, vols = np.linalg.cholesky(CORRELATION), np.linalg.cholesky(np.full((3, 3), 0.9) + np.eye(3) * 0.1)
    x, level = means.copy(), np.zeros(3)
    spot, vol = np.empty((DAYS, 3)), np.empty((DAYS, 3))
    for day in range(DAYS):
        stress = 0.55 if day in STRESS else 0.0
        moved = -0.06 * (x - means - stress) + 0.10 * (vols @ random.standard_normal(3))
        x = x + moved
        common = random.normal(-0.04, 0.05) if random.random() < 0.025 else 0.0
        own = np.where(random.random(3) < 0.01, random.normal(0.0, 0.06, 3), 0.0)
        spot[day] = np.exp(x) * (spots @ random.standard_normal(3)) + common * BETAS + own
        vol[day] = -0.35 * spot[day] + 0.5 * moved + 0.02 * random.standard_normal(3) - 0.05 * level
        level = level + vol[day]
    dates = tuple((FIRST + timedelta(days=day)).isoformat() for day in range(DAYS))
    return Returns(NAMES, dates, np.round(spot, 9), np.round(vol, 9))


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "keeper/margin/data/returns.csv"
    made = generate()
    target.write_text(made.to_csv())
    print(f"{target.name}: {made.days} days from {made.dates[0]} to {made.dates[-1]}")
    for i, name in enumerate(NAMES):
        print(
            f"  {name}: {100 * made.spot[:, i].std() * math.sqrt(365):.0f} % a year, "
            f"worst {100 * made.spot[:, i].min():.1f} %, best {100 * made.spot[:, i].max():+.1f} %"
        )
