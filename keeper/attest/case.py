"""One account that an act is judged for, with everything live on it, and on its owner's others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from keeper.clearing.effects import Effect, Touches, effect_of
from keeper.clearing.exposure import (
    Exposure,
    Line,
    LiveEffect,
    Prices,
    leg_is_live_on,
    live_effects,
    marked_assets,
    takeover_terms,
)
from keeper.margin.listing import UnknownAsset
from keeper.margin.owner import others_of
from keeper.margin.portfolio import portfolio
from keeper.margin.valuation import Valuation
from keeper.market.marks import Marks
from keeper.state.actions import Reserve, Unlink
from keeper.state.ids import AccountId
from keeper.state.live import LegItem, LiveItem, PermitItem
from keeper.state.world import MarginAccount, component_of

from .context import MOST_ASSETS, Context, Grant, Refusal
from .corners import Failed, Passed, least_free, reduces, usd, weigh
from .live import describe_item, live_of
from .siblings import Account, Siblings
from .terms import malformed, no_leg, overfilled, unavailable


class Case:
    """One account, at one set of marks, as a candidate finds it and leaves it: the margin account of `account_id` on
    the candidate's chain, or on `chain_id`."""

    def __init__(
        self,
        candidate: PermitItem,
        account_id: AccountId,
        others: Sequence[LiveItem],
        marks: Marks,
        context: Context,
        chain_id: int | None = None,
    ) -> None:
        self.candidate = candidate
        self.context = context
        self.marks = marks
        self.touches = Touches.at(context.world, context.marks)
        self.others = others
        self.account = component_of(context.world, account_id, candidate.chain_id if chain_id is None else chain_id)
        self.siblings = others_of(context.world, self.account)
        self.book = portfolio(context.world, context.listing, self.account)
        self.own = [item for item in others if account_id in item.accounts]
        known = (*others, *live_of(context.legs, context.world))
        self.legs = list({item.identity: item for item in known if isinstance(item, LegItem)}.values())
        self.rise = Effect()

    def judge(self) -> Grant | Refusal:
        world = self.context.world
        fault = malformed(self.candidate, world)
        if fault is not None:
            return self.refuse(fault, self.without_act(), None)
        if isinstance(self.candidate.action, Reserve) and self.candidate.action.clears:
            return self._judge_clearance(self.candidate.action)
        try:
            acts = self._acts(self.account)
            others = self._live_effects(self.account, acts)
            siblings = self._siblings(acts, others)
            exposure = self._exposure(acts, others, siblings)
        except UnknownAsset as error:
            return self.refuse(Failed("unknown_asset", str(error)), self.without_act(), None)
        without = replace(exposure, lines=exposure.lines[len(acts) :])
        fault = overfilled(self.candidate, self.others, world) or no_leg(self.candidate, self.legs, world)
        passed: list[Passed] = []
        for act, line in zip(acts, exposure.lines, strict=False):
            verdict = fault or self._weigh(act, line, without, others)
            if isinstance(verdict, Failed):
                return self.refuse(verdict, without, line)
            passed.append(verdict)
        costs = None if siblings is None else siblings.overcharged(self.context.parameters, self.legs, world)
        if costs is not None:
            sibling, before, failed = costs
            return self.refuse(failed, before, None, sibling)
        return Grant(min(entry.free for entry in passed), any(entry.reducing for entry in passed))

    def _judge_clearance(self, action: Reserve) -> Grant | Refusal:
        """CM-15, CM-21: of claims' rests as much as the account has net cash, in every subset of what else is live.

        Net cash is less by what is claimed. So with the unpaid rests added it is what there is for them; a withdrawal
        leaves them alone, since it is judged by what is left. A contract clears no more of a claim than its rest,
        however many clearances are live: so nobody holds up a claim by having had a part of it cleared.
        """
        world, here = self.context.world, (self.candidate.chain_id, action.integrator)
        rests = {
            (chain_id, integrator): owed.rest
            for chain_id in self.account.chains
            for integrator, owed in (world[chain_id].owed.get(self.account.account_id) or {}).items()
        }
        if action.amount > rests.get(here, 0):
            owed = Failed("nothing_owed", f"the integrator is owed {usd(rests.get(here, 0))} beside cash parts")
            return self.refuse(owed, None, None)
        cleared = {here: action.amount}
        for item in self.own:
            if isinstance(item, PermitItem) and isinstance(item.action, Reserve) and item.action.clears:
                claim = (item.chain_id, item.action.integrator)
                cleared[claim] = cleared.get(claim, 0) + item.action.amount
        without = self.without_act()
        if without is None:
            return self.refuse(Failed("unknown_asset", "what is live has no price"), None, None)
        paid = sum(min(rests.get(claim, 0), amount) for claim, amount in cleared.items())
        left = without.bound().cash_left + sum(rests.values()) - paid
        if left < 0:
            failed = Failed("net_cash", f"the net cash that there is for claims, less clearances, would be {usd(left)}")
            return self.refuse(failed, without, None)
        return Grant(least_free(without), reducing=False)

    # --- what executing does ---------------------------------------------------------------------------------------

    def _acts(self, account: MarginAccount) -> list[Effect]:
        """The candidate's effect; for a takeover whose leg is not known, that of either side."""
        listing, profile = self.context.listing, self.context.deployment.profile
        return [
            effect_of(self.candidate, account, listing, profile, terms, self.touches)
            for terms in takeover_terms(self.candidate, account.account_id, self.legs, self._takeover_prices)
        ]

    def _live_effects(self, account: MarginAccount, acts: Sequence[Effect]) -> list[LiveEffect]:
        own = [item for item in self.others if account.account_id in item.accounts]
        return live_effects(
            account,
            {item.identity: item for item in (*own, *self.legs)}.values(),
            self.context.world,
            self.context.listing,
            self.context.deployment.profile,
            self._takeover_prices,
            [(self.candidate.chain_id, act) for act in acts],
            self.touches,
        )

    @cached_property
    def _takeover_prices(self) -> Prices:
        """Every judged mark of what a takeover takes or a move moves: it may execute at any of them."""
        judged = {self.account.account_id, *(each.account_id for each in self.siblings)}
        assets = marked_assets((*(item for item in self.others if judged & {*item.accounts}), self.candidate))
        price = self.context.model.price
        return {asset: tuple(price(asset, marks) for marks in self.context.marks) for asset in assets}

    def _siblings(self, acts: Sequence[Effect], others: Sequence[LiveEffect]) -> Siblings | None:
        """The account among its owner's, with what is live on each; None where it is the only one."""
        if not self.siblings:
            return None
        found = [Account(self.book, tuple(entry.effect for entry in others), tuple(acts))]
        named = {account_id for item in (*self.others, *self.legs) for account_id in item.accounts}
        for each in self.siblings:
            book = portfolio(self.context.world, self.context.listing, each)
            judged = each.account_id in self.candidate.accounts and self.candidate.chain_id in each.chains
            if judged or each.account_id in named:
                own = self._acts(each) if judged else []
                lines = tuple(entry.effect for entry in self._live_effects(each, own))
                found.append(Account(book, lines, tuple(own), judged))
            elif book.assets:  # what holds nothing is charged nothing, and costs nobody anything
                found.append(Account(book, ()))
        held = {asset for each in found for asset in each.assets}
        return Siblings(tuple(found), Valuation.of(self.marks, self.context.model, held))

    def _exposure(
        self, acts: Sequence[Effect], others: Sequence[LiveEffect], siblings: Siblings | None = None
    ) -> Exposure:
        """Before the act, its owner's other accounts count at their least, with it at their most: what an act frees is
        free whatever they do."""
        book = self.book
        if siblings is not None:
            book = replace(book, elsewhere=siblings.least)
            acts = [replace(act, elsewhere=siblings.rise(siblings.after)) for act in acts]
            self.rise = Effect(elsewhere=siblings.rise(siblings.most))
        effects = [*acts, *(other.effect for other in others)]
        held = {*self.book.assets, *(asset for effect in effects for asset in effect.assets)}
        return Exposure.of(book, effects, Valuation.of(self.marks, self.context.model, held))

    def without_act(self) -> Exposure | None:
        """The account with what is live on it; None where that has no price."""
        try:
            others = self._live_effects(self.account, [])
            return self._exposure([], others, self._siblings([], others))
        except UnknownAsset:
            return None

    def at_most(self) -> Exposure | None:
        """The account with what is live on it, its owner's others at their most; None where that has no price."""
        without = self.without_act()
        if without is None:
            return None
        return without.plus(Line(0, 0, 0, without.valuation.scenario_pnl([self.rise])[0]))

    # --- the rules -------------------------------------------------------------------------------------------------

    def _weigh(self, act: Effect, line: Line, without: Exposure, others: Sequence[LiveEffect]) -> Passed | Failed:
        leg_is_live = leg_is_live_on(self.account, self.legs, self.context.world)
        verdict = weigh(without, line, self.context.parameters, leg_is_live)
        if isinstance(verdict, Failed):
            return verdict
        return (
            self._net_cash(act, line, without, others)
            or unavailable(
                self.candidate, self.account.account_id, self.others, self.context.world, self.context.listing
            )
            or self._too_many_assets(without)
            or verdict
        )

    def _net_cash(self, act: Effect, line: Line, without: Exposure, others: Sequence[LiveEffect]) -> Failed | None:
        """CM-21: settlement token leaves, or is promised, only against positive net cash.

        So with such an act, or with one live, or with a cash part open, cash and mark to market less cash parts stay
        at least 0 for every subset. An act that reduces risk is not held up by a promise that the market has already
        taken under water: it takes nothing out.
        """
        if isinstance(self.candidate.action, Unlink):
            return self._own_net_cash(without.plus(line))
        leaving = any(effect.settlement_out or effect.cash_part for effect in (act, *(o.effect for o in others)))
        if not leaving and not self.book.cash_parts:
            return None
        left = without.plus(line).bound().cash_left
        if left >= 0:
            return None
        under_water = not leaving and replace(without, lines=()).bound().cash_left < 0
        if under_water and reduces(without, line, self.context.parameters):
            return None
        return Failed(
            "net_cash",
            f"cash and mark to market, less live withdrawals and cash parts of reservations, would be {usd(left)}: "
            "settlement token leaves only against positive net cash",
        )

    def _own_net_cash(self, executed: Exposure) -> Failed | None:
        """CM-21 of an account that is parted: what one part owes in settlement token, another could draw."""
        left = executed.bound().cash_left
        if left >= 0:
            return None
        return Failed(
            "net_cash",
            f"on {_chains(self.account)} cash and mark to market, less live withdrawals and cash parts of "
            f"reservations, would be {usd(left)}: each part wants net cash of its own",
        )

    def _too_many_assets(self, without: Exposure) -> Failed | None:
        count = len(without.valuation.assets)
        if count <= MOST_ASSETS:
            return None
        return Failed("position_limit", f"{count} assets with what is live, at most {MOST_ASSETS} are allowed")

    def refuse(
        self, failed: Failed, without: Exposure | None, act: Line | None, account: MarginAccount | None = None
    ) -> Refusal:
        """For `account`, the judged one where none is given, with its owner's other accounts at their most."""
        account_id = (account or self.account).account_id
        own = {item.identity: item for item in self.others if account_id in item.accounts}
        own |= {leg.identity: leg for leg in self.legs if leg.leaf.account_id == account_id}
        live = tuple(describe_item(item, self.context.listing) for item in own.values())
        if without is None:
            return Refusal(failed.code, failed.message, account_id, live, **_fault(failed))
        executed = None if act is None else without.plus(act)
        if account is None:
            without = without.plus(Line(0, 0, 0, without.valuation.scenario_pnl([self.rise])[0]))
        final = replace(without, lines=()).bound()
        free = least_free(without)
        asked = None if executed is None else free - least_free(executed)
        figures = f"free {usd(free)}" + ("" if asked is None else f", asked {usd(asked)}")
        return Refusal(
            code=failed.code,
            message=f"{failed.message} ({figures}, {len(live)} other item(s) live)",
            account=account_id,
            live=live,
            free=free,
            asked=asked,
            equity=final.equity,
            initial_margin=final.initial,
            maintenance_margin=final.maintenance,
            **_fault(failed),
        )


def _chains(account: MarginAccount) -> str:
    return f"chain{'s' * (len(account.chains) > 1)} {', '.join(map(str, account.chains))}"


def _fault(failed: Failed) -> dict[str, Any]:
    return {"field": failed.field, "got": failed.got, "wanted": failed.wanted, "unit": failed.unit}
