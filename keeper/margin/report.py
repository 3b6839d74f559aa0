"""Reports: what every account is worth, what it must hold, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keeper.market.marks import Marks
from keeper.state.batch import UNIT, MarkLeaf
from keeper.state.ids import AssetId, parse_instrument
from keeper.state.world import MarginAccount

from .model import MarginModel
from .portfolio import Portfolio
from .valuation import EXACT, Valuation, ceil_grain, ceil_usd, floor_grain


@dataclass(frozen=True, slots=True)
class AccountReport:
    """Figures of one margin account, USD 1e18, rounded to 1e-6 USD against it.

    Both margins include open reservations in full. `net_cash` is cash and mark to market; `gross_notional` the
    absolute value of every netted position and collateral amount.
    """

    account: MarginAccount
    equity: int
    initial_margin: int
    maintenance_margin: int
    reserved: int
    net_cash: int
    gross_notional: int

    @property
    def free(self) -> int:
        """What may be withdrawn, reserved or used for new risk; negative below initial margin."""
        return self.equity - self.initial_margin

    @property
    def status(self) -> str:
        if self.equity >= self.initial_margin:
            return "healthy"
        return "at_risk" if self.equity >= self.maintenance_margin else "liquidatable"

    def worse_than(self, other: AccountReport) -> bool:
        """Whether equity covers less of the maintenance margin than in `other`; by cross-multiplication."""
        return self.equity * other.maintenance_margin < other.equity * self.maintenance_margin


def evaluate(portfolios: Sequence[Portfolio], marks: Marks, model: MarginModel) -> list[AccountReport]:
    """A report for each portfolio, in the order given. Each report depends on its own portfolio alone.

    Raises:
        UnknownAsset: a portfolio holds what is not listed.
        MarkError: the marks have no price for something held.
    """
    valuation = Valuation.of(marks, model, (asset for p in portfolios for asset in p.assets))
    return evaluate_at(portfolios, valuation)


def evaluate_at(portfolios: Sequence[Portfolio], valuation: Valuation) -> list[AccountReport]:
    """As `evaluate`, at marks already applied to everything held."""
    initial, maintenance = valuation.scenarios.requirements(valuation.scenario_pnl(portfolios))
    return [
        _report(p, valuation, float(im), float(mm)) for p, im, mm in zip(portfolios, initial, maintenance, strict=True)
    ]


def _report(p: Portfolio, valuation: Valuation, initial: float, maintenance: float) -> AccountReport:
    reserved = ceil_grain(p.reserved * EXACT)
    return AccountReport(
        account=p.account,
        equity=floor_grain(valuation.equity(p)),
        initial_margin=ceil_usd(initial) + reserved,
        maintenance_margin=ceil_usd(maintenance) + reserved,
        reserved=reserved,
        net_cash=floor_grain(valuation.net_cash(p)),
        gross_notional=ceil_grain(valuation.gross_notional(p)),
    )


def mark_leaves(marks: Marks, model: MarginModel, assets: Sequence[AssetId]) -> list[MarkLeaf]:
    """A leaf per asset, in the order given, with the standalone initial margin of a whole unit held long and short.

    For a token the long requirement is its haircut times the price plus its own scenario loss, the short one the
    scenario loss of owing it. Rounded up to 1e-6 USD. What is settled needs none, and says when it expired.
    """
    scenarios = model.scenarios(marks, assets)
    long, _ = scenarios.requirements(scenarios.pnl)
    short, _ = scenarios.requirements(-scenarios.pnl)
    leaves = []
    for row, asset in enumerate(assets):
        price = model.price(asset, marks)
        haircut = ceil_grain(price * model.haircut(asset) * UNIT)
        settled_at = parse_instrument(asset).expiry if asset in marks.settled else 0
        leaves.append(
            MarkLeaf(
                asset,
                price,
                marks.funding.get(asset, 0),
                haircut + ceil_usd(float(long[row])),
                ceil_usd(float(short[row])),
                settled_at,
            )
        )
    return leaves
