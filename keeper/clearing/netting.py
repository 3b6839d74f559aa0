"""What netting over chains saves, at one set of final blocks and marks: exposure, margin, and payments.

Three questions, each answered by a gross figure, what is left of it net, and the efficiency 1 − net ÷ gross:

* **exposure**: the delta of every position on every chain, against each account's net delta in each underlying;
* **margin**: the sum of what every position on every chain would require alone, against what accounts require;
* **payments**: every account offsetting its own cash between chains, against one multilateral plan; by value and by
  number of transfers.

Exposures and requirements are integers, summed exactly; only ratios are doubles. All of it is read from final holdings
and computed by the functions that margin is enforced with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from keeper.margin.deltas import deltas
from keeper.margin.listing import Listing
from keeper.margin.model import MarginModel
from keeper.margin.portfolio import Portfolio, portfolio
from keeper.margin.report import evaluate_at
from keeper.margin.valuation import Valuation, ceil_usd
from keeper.market.marks import Marks
from keeper.state.batch import UNIT
from keeper.state.ids import AssetId, has_margin, is_token
from keeper.state.world import MarginAccount, World, margin_accounts

from .settlement import Ledger, ledgers, offset
from .transfers import fewest_transfers

Row = TypeVar("Row")

_ROWS = 512
"""Books evaluated at once: bounds the memory of their scenario vectors to some megabytes."""


@dataclass(frozen=True, slots=True)
class Netted:
    """Something before and after netting, both ≥ 0, in one unit. Where parts only cancel, net ≤ gross."""

    gross: int = 0
    net: int = 0

    @property
    def efficiency(self) -> float | None:
        """1 − net ÷ gross: 0 where nothing cancels, 1 where all does. None where there is nothing to net."""
        return (self.gross - self.net) / self.gross if self.gross else None

    def __add__(self, other: Netted) -> Netted:
        return Netted(self.gross + other.gross, self.net + other.net)


@dataclass(frozen=True, slots=True)
class UnderlyingNetting:
    """Delta exposure in one underlying, exact: USD 1e18 · UNIT; `usd` and `units` round it down to 1e18.

    With δ(a, c, i) the delta of account a's position in instrument i on chain c (size × USD per 100 % of the
    underlying; collateral is no position):

        accounts.gross = Σ_a Σ_c Σ_i |δ(a, c, i)|
        accounts.net   = Σ_a |Σ_c Σ_i δ(a, c, i)|                what accounts are exposed to
        chains[c].gross = Σ_a Σ_i |δ(a, c, i)|
        chains[c].net   = Σ_a |Σ_i δ(a, c, i)|                   the same were each chain a house of its own
        overall = |Σ_a Σ_c Σ_i δ(a, c, i)|                       0 while sizes sum to zero (CM-31)

    So overall ≤ accounts.net ≤ Σ_c chains[c].net ≤ accounts.gross = Σ_c chains[c].gross. `index` in USD 1e18.
    """

    index: int
    accounts: Netted
    chains: Mapping[int, Netted]
    overall: int

    @property
    def siloed(self) -> int:
        """What chains that do not know of each other would leave: Σ_c chains[c].net."""
        return sum(each.net for each in self.chains.values())

    @staticmethod
    def usd(exact: int) -> int:
        """USD 1e18."""
        return exact // UNIT

    def units(self, exact: int) -> int:
        """Whole units of the underlying, 1e18: USD ÷ index."""
        return exact // self.index if self.index else 0


@dataclass(frozen=True, slots=True)
class Requirements:
    """Initial margin without reservations, USD 1e18, each book's rounded up to 1e-6 USD as it is enforced.

    `isolated`: the sum of what each position and each collateral amount on each chain requires alone. `siloed`: the sum
    of what the book of each chain requires alone. `portfolio`: what the account requires, all its chains together.
    Portfolios require at most their parts, but for the concentration charge, which grows faster than the position.
    """

    isolated: int = 0
    siloed: int = 0
    portfolio: int = 0

    @property
    def capital_efficiency(self) -> float | None:
        """isolated ÷ portfolio: how much risk a dollar of margin carries. None where nothing is required."""
        return self.isolated / self.portfolio if self.portfolio else None

    @property
    def saved(self) -> int:
        return self.isolated - self.portfolio

    @property
    def netted(self) -> Netted:
        return Netted(self.isolated, self.portfolio)

    def __add__(self, other: Requirements) -> Requirements:
        return Requirements(
            self.isolated + other.isolated, self.siloed + other.siloed, self.portfolio + other.portfolio
        )


@dataclass(frozen=True, slots=True)
class Payments:
    """Cash that accounts owe on one chain and have on another, at their books' balances.

    `value`, USD 1e18: gross is Σ over accounts of what `settlement.offset` moves, net Σ over chains of max(0, net flow)
    with the net flow of a chain the sum of all accounts' deltas there. `transfers`: gross is Σ over accounts of the
    fewest transfers that carry out its own offset, net the fewest that carry out the net flows. The transfers of all
    accounts together carry out the net flows too, so net ≤ gross (for as many chains as are planned exactly).
    """

    value: Netted = field(default_factory=Netted)
    transfers: Netted = field(default_factory=Netted)


@dataclass(frozen=True, slots=True)
class NettingFigures:
    """Everything, at one world and one set of marks. Underlyings by name, chains by id, both ascending.

    Exposure counts every position, also the fund's; margin every account that margin is required of; payments every
    account that a settlement cycle may change.
    """

    underlyings: Mapping[str, UnderlyingNetting]
    margin: Requirements
    accounts: Mapping[MarginAccount, Requirements]
    chain_margin: Mapping[int, int]
    """What the books of one chain require, each alone, USD 1e18; their sum is `margin.siloed`."""
    payments: Payments

    @property
    def exposure(self) -> Netted:
        """Delta over all underlyings, exact: USD 1e18 · UNIT."""
        return sum((each.accounts for each in self.underlyings.values()), Netted())

    @property
    def chains(self) -> dict[int, Netted]:
        """Delta of each chain over all underlyings, netted within each chain and underlying, exact."""
        return {
            chain_id: sum((each.chains.get(chain_id, Netted()) for each in self.underlyings.values()), Netted())
            for chain_id in self.chain_margin
        }


def netting_figures(world: World, listing: Listing, marks: Marks, model: MarginModel) -> NettingFigures:
    """All figures of every margin account in one pass.

    Raises:
        UnknownAsset: a position in what is not listed.
        MarkError: the marks have no price for something held.
    """
    silos = {
        account: [portfolio(world, listing, MarginAccount(account.account_id, (c,))) for c in account.chains]
        for account in margin_accounts(world)
    }
    held = {asset for books in silos.values() for book in books for asset in book.assets}
    accounts = [account for account in silos if has_margin(account.account_id)]
    wholes = [portfolio(world, listing, account) for account in accounts]
    valuation = Valuation.of(marks, model, held)
    found, by_chain = _margin(accounts, [silos[account] for account in accounts], wholes, valuation, sorted(world))
    return NettingFigures(
        underlyings=_exposure(silos.values(), marks, model, held),
        margin=sum(found, Requirements()),
        accounts=dict(zip(accounts, found, strict=True)),
        chain_margin=by_chain,
        payments=payments(ledgers(world)),
    )


def payments(books: Iterable[Ledger]) -> Payments:
    """What settling these balances costs bilaterally, and what multilaterally."""
    flows: dict[int, int] = {}
    value = transfers = 0
    for ledger in books:
        moved = offset(ledger.cash)
        value += sum(delta for delta in moved.values() if delta > 0)
        transfers += len(fewest_transfers(moved)) if moved else 0
        for chain_id, delta in moved.items():
            flows[chain_id] = flows.get(chain_id, 0) + delta
    net = sum(flow for flow in flows.values() if flow > 0)
    return Payments(Netted(value, net), Netted(transfers, len(fewest_transfers(flows))))


def _exposure(
    silos: Iterable[Sequence[Portfolio]],
    marks: Marks,
    model: MarginModel,
    held: Iterable[AssetId],
) -> dict[str, UnderlyingNetting]:
    """By underlying; `silos` are each account's books, one per chain."""
    instruments = [asset for asset in held if not is_token(asset)]
    slope = deltas(marks, model, instruments)
    names = {asset: model.underlying(asset) for asset in instruments}
    chains: dict[tuple[str, int], Netted] = {}
    nets: dict[str, int] = {}
    overall: dict[str, int] = {}
    for books in silos:
        own: dict[str, int] = {}
        for book in books:
            (chain_id,) = book.account.chains
            here: dict[str, tuple[int, int]] = {}
            for asset, size in book.positions.items():
                delta = size * slope[asset]
                gross, net = here.get(names[asset], (0, 0))
                here[names[asset]] = (gross + abs(delta), net + delta)
            for name, (gross, net) in here.items():
                chains[(name, chain_id)] = chains.get((name, chain_id), Netted()) + Netted(gross, abs(net))
                own[name] = own.get(name, 0) + net
        for name, net in own.items():
            nets[name] = nets.get(name, 0) + abs(net)
            overall[name] = overall.get(name, 0) + net
    found = {}
    for name in sorted(nets):
        there = {chain_id: chains[key] for key in sorted(chains) if key[0] == name for chain_id in key[1:]}
        gross = sum(each.gross for each in there.values())
        found[name] = UnderlyingNetting(marks.prices[name], Netted(gross, nets[name]), there, abs(overall[name]))
    return found


def _margin(
    accounts: Sequence[MarginAccount],
    silos: Sequence[Sequence[Portfolio]],
    wholes: Sequence[Portfolio],
    valuation: Valuation,
    chain_ids: Sequence[int],
) -> tuple[list[Requirements], dict[int, int]]:
    """Per account, and what the books of each chain require alone."""
    isolated = _isolated(silos, valuation)
    required = _required(wholes, valuation)
    # What is on one chain only is its own silo.
    several = [number for number, account in enumerate(accounts) if len(account.chains) > 1]
    alone = iter(_required([book for number in several for book in silos[number]], valuation))
    by_chain = dict.fromkeys(chain_ids, 0)
    found = []
    for number, account in enumerate(accounts):
        own = [next(alone) for _ in account.chains] if len(account.chains) > 1 else [required[number]]
        for chain_id, requirement in zip(account.chains, own, strict=True):
            by_chain[chain_id] += requirement
        found.append(Requirements(isolated[number], sum(own), required[number]))
    return found, by_chain


def _required(books: Sequence[Portfolio], valuation: Valuation) -> list[int]:
    """Initial margin without reservations of each book, as it is reported."""
    reports = (report for part in _parts(books) for report in evaluate_at(part, valuation))
    return [report.initial_margin - report.reserved for report in reports]


def _isolated(silos: Sequence[Sequence[Portfolio]], valuation: Valuation) -> list[int]:
    """Per account, the sum of what each amount of each asset on each chain requires alone.

    An amount alone is its asset's row times the amount: all of an asset are one outer product.
    """
    amounts: dict[AssetId, list[tuple[int, int]]] = {}
    for number, books in enumerate(silos):
        for book in books:
            for asset in book.assets:
                amounts.setdefault(asset, []).append((number, book.amount(asset)))
    total = [0] * len(silos)
    for row, asset in enumerate(valuation.assets):
        for part in _parts(amounts.get(asset, ())):  # the fund may be the only one that holds an asset
            sizes = np.array([amount / UNIT for _, amount in part])
            initial, _ = valuation.scenarios.requirements(sizes[:, None] * valuation.pnl[row])
            for (number, _), requirement in zip(part, initial.tolist(), strict=True):
                total[number] += ceil_usd(requirement)
    return total


def _parts(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    return (rows[begin : begin + _ROWS] for begin in range(0, len(rows), _ROWS))
