"""The legs of one batch: planned by its proposer, checked by every other attestor, both from the same figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import structlog

from keeper.attest.batch import due_accounts, reports_at
from keeper.clearing.check import check_legs
from keeper.clearing.collateral import net_cash_at, short_accounts, short_since
from keeper.clearing.cycles import with_pending
from keeper.clearing.legs import leaves_of
from keeper.clearing.plan import plan_legs
from keeper.clearing.sale import Sale, Setting, sale_of
from keeper.clearing.waterfall import Waterfall, deficits, inventory_faults, inventory_legs, is_ripe, rung_of
from keeper.margin.report import AccountReport
from keeper.market.marks import Marks
from keeper.state.batch import UNIT, LiquidationLeaf
from keeper.state.ids import FUND, AccountId, has_margin
from keeper.state.live import LegItem, LiveItem
from keeper.state.world import MarginAccount, World, component_of

if TYPE_CHECKING:
    from .attestor import Attestor

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class LegFault:
    """Why an account's legs are not signed: the code of the refusal, the account in words, all that is wrong, and the
    legs."""

    code: str
    account: str
    faults: list[str]
    legs: tuple[LiquidationLeaf, ...] = ()


class LegDesk:
    """What one node knows that matters for the legs of a batch: its cut and marks, and what is live."""

    def __init__(
        self, attestor: Attestor, world: World, marks: Marks, reports: Sequence[AccountReport], timestamp: int
    ) -> None:
        self._attestor = attestor
        self._reports = reports
        self._setting = Setting(world, marks, attestor.model, attestor.listing, attestor.deployment.profile, timestamp)
        self._timestamp = timestamp

    # --- who is to be sold -----------------------------------------------------------------------------------------

    @cached_property
    def _head_reports(self) -> list[AccountReport]:
        attestor = self._attestor
        return reports_at(attestor.head_world(), attestor.own_marks(), attestor.model, attestor.listing)

    @cached_property
    def due(self) -> list[MarginAccount]:
        """Accounts below maintenance margin at the cut and at the head."""
        found = due_accounts(self._reports)
        at_head = due_accounts(self._head_reports) if found else {}
        return [account for account in found if account in at_head and has_margin(account.account_id)]

    @cached_property
    def short(self) -> list[MarginAccount]:
        """Accounts whose net cash was below zero beyond the floor for the term (CM-21), and is so at the head."""
        parameters = self._attestor.parameters
        found = short_accounts(self._reports, parameters)
        at_head = {report.account: -report.net_cash for report in self._head_reports} if found else {}
        owing = {account: floor for account, floor in found.items() if at_head.get(account, 0) > floor}
        return [a for a, floor in owing.items() if self._was_short(a, floor, parameters.cash_term)]

    def _was_short(self, account: MarginAccount, floor: int, term: int) -> bool:
        """Counted by the quorum batches known here, each at its own cut and marks."""
        past, model = self._past, self._setting.model
        history = [(each.timestamp, net_cash_at(each.book(account), each.marks, model)) for each in past]
        since = short_since(history, floor)
        return since is not None and self._timestamp - since >= term

    @cached_property
    def _past(self) -> list[Setting]:
        """The quorum batches known here, back to the last one that is older than the term: once for all accounts."""
        found: list[Setting] = []
        until = self._timestamp - self._attestor.parameters.cash_term
        for quorum in self._attestor.batches.recent():
            content = quorum.content
            world = self._attestor.view.world_at(content.cut)
            if world is None or content.batch.timestamp > self._timestamp:
                continue
            world = with_pending(world, content.settlements, self._setting.listing)
            at = content.batch.timestamp
            found.append(replace(self._setting, world=world, marks=content.prices, timestamp=at))
            if at <= until:
                break
        return found

    # --- planning --------------------------------------------------------------------------------------------------

    def plan(self) -> list[LiquidationLeaf]:
        """The legs of every account that is due or short, and of the fund's inventory; none while a chain is late.

        An account whose plan cannot pass with what is live on it waits.
        """
        if self._attestor.view.late():
            return []
        legs: list[LiquidationLeaf] = []
        if self.due or self.short:
            waterfall = self._waterfall()
            for account in self.due:
                legs += self._plan_account(account, waterfall, for_cash=False)
            for account in self.short:
                legs += self._plan_account(account, waterfall, for_cash=True)
        for chain_id, state in sorted(self._setting.world.items()):
            if FUND in state.sizes or FUND in state.balances:
                starts = self._attestor.batches.inventory_starts(chain_id)
                legs += inventory_legs(self._setting, chain_id, starts, self._attestor.live((FUND,)))
        return legs

    def deficits(self) -> dict[MarginAccount, int]:
        """What the fund is to pay by a settlement, USD 1e18: of accounts with nothing left to sell, and of those below
        zero of which nothing may be sold on any rung: after two ramps, or at once where all is hedged."""
        waterfall = self._waterfall()
        stuck = [account for account in self.due if self._is_last(account) and not self._planned(account, waterfall)[1]]
        return deficits(self._setting, stuck)

    def _is_last(self, account: MarginAccount) -> bool:
        """Whether no later rung will find anything to sell."""
        waiting = self._attestor.batches.waiting_since(account, self._timestamp)
        report = next(report for report in self._reports if report.account == account)
        return report.equity < 0 and (report.maintenance_margin == 0 or is_ripe(waiting, self._setting))

    def _plan_account(self, account: MarginAccount, waterfall: Waterfall, *, for_cash: bool) -> list[LiquidationLeaf]:
        live = _beside(account.account_id, waterfall.live)
        sale, legs = self._planned(account, waterfall, for_cash=for_cash)
        name = "0x" + account.account_id.hex()
        faults = check_legs(legs, account, self._setting, live, for_cash=for_cash, gains=waterfall.gains(sale, legs))
        if faults:  # a plan that others would refuse costs the whole epoch
            log.error("legs.unsafe", account=name, chains=account.chains, faults=faults)
            return []
        equity = sale.final.equity
        if not legs:
            event = "waterfall.nothing_left" if self._is_last(account) else "legs.none_safe"
            log.warning(event, account=name, chains=account.chains, equity=equity / UNIT)
        waterfall.note(legs)
        for leaf in legs:
            rung = rung_of(leaf)
            if rung != "auction" or equity < 0:
                log.warning(
                    "waterfall.rung",
                    rung=rung,
                    account=name,
                    chain=leaf.chain_id,
                    asset="0x" + leaf.asset.hex(),
                    limit=leaf.close_limit / UNIT,
                    price=leaf.mark_price / UNIT,
                    concession=leaf.max_concession / UNIT,
                    counterparty="0x" + leaf.counterparty.hex(),
                    equity=equity / UNIT,
                )
        return legs

    def _planned(
        self, account: MarginAccount, waterfall: Waterfall, *, for_cash: bool = False
    ) -> tuple[Sale, list[LiquidationLeaf]]:
        batches, live = self._attestor.batches, _beside(account.account_id, waterfall.live)
        sale = sale_of(account, self._setting, live, for_cash=for_cash)
        sale = waterfall.offer(sale, batches.waiting_since(account, self._timestamp))
        start = batches.auction_start(account, self._timestamp)
        return sale, leaves_of(plan_legs(sale), sale, self._setting, start)

    def _waterfall(self) -> Waterfall:
        return Waterfall(self._setting, {r.account: r for r in self._reports}, self._attestor.all_live())

    # --- checking --------------------------------------------------------------------------------------------------

    def faults(self, legs: Sequence[LiquidationLeaf]) -> Iterator[LegFault]:
        """Every account of which the legs are not as they must be, beside the legs of all others."""
        by_account: dict[MarginAccount, list[LiquidationLeaf]] = {}
        for leg in legs:
            account = component_of(self._setting.world, leg.account_id, leg.chain_id)
            by_account.setdefault(account, []).append(leg)
        own = [leg for leg in legs if leg.account_id != FUND]
        waterfall = self._waterfall() if own else None
        if waterfall is not None:
            waterfall.note(own)
        for account, planned in by_account.items():
            if account.account_id == FUND:
                found = self._inventory_fault(planned)
            else:
                assert waterfall is not None
                found = self._account_fault(account, planned, waterfall)
            if found is not None:
                yield replace(found, legs=tuple(planned))

    def _inventory_fault(self, legs: Sequence[LiquidationLeaf]) -> LegFault | None:
        for leg in legs:
            started = self._attestor.batches.inventory_starts(leg.chain_id).get(leg.asset, self._timestamp)
            if not started <= leg.auction_start <= self._timestamp:
                return LegFault("leg_clock", "the fund", [_clock(leg, started, self._timestamp)])
        faults = inventory_faults(legs, self._setting, self._attestor.live((FUND,)))
        return LegFault("leg_unsafe", "the fund", faults) if faults else None

    def _account_fault(
        self, account: MarginAccount, legs: Sequence[LiquidationLeaf], waterfall: Waterfall
    ) -> LegFault | None:
        name = f"account 0x{account.account_id.hex()}"
        for_cash = account not in self.due
        if for_cash and account not in self.short:
            return LegFault(
                "leg_not_due",
                name,
                ["it is neither below maintenance margin nor short of cash for long, at the final and the head state"],
            )
        started = self._attestor.batches.auction_start(account, self._timestamp)
        for leg in legs:
            if not started <= leg.auction_start <= self._timestamp:
                return LegFault("leg_clock", name, [_clock(leg, started, self._timestamp)])
        new = {LegItem(leg, self._timestamp).key for leg in legs}
        live = [item for item in _beside(account.account_id, waterfall.live) if item.key not in new]
        sale = sale_of(account, self._setting, live, for_cash=for_cash)
        gains = waterfall.gains(sale, legs)
        faults = check_legs(legs, account, self._setting, live, for_cash=for_cash, gains=gains)
        waiting = self._attestor.batches.waiting_since(account, self._timestamp)
        for leg in legs:
            faults += waterfall.faults(leg, sale, waiting)
        return LegFault("leg_unsafe", name, faults) if faults else None


def _beside(account_id: AccountId, live: Sequence[LiveItem]) -> list[LiveItem]:
    return [item for item in live if account_id in item.accounts]


def _clock(leg: LiquidationLeaf, started: int, timestamp: int) -> str:
    return f"auction from {leg.auction_start}, wanted {started} to {timestamp}"
