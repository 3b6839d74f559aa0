"""The permit judgement (CM-11, CM-12, CM-21): whether an act may be signed, given everything else that is live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from keeper.margin.listing import Listing, UnknownAsset
from keeper.margin.model import MarginModel, require_convex
from keeper.margin.owner import others_of
from keeper.margin.parameters import MarginParameters
from keeper.margin.portfolio import portfolio
from keeper.margin.valuation import Valuation
from keeper.market.marks import Marks
from keeper.state.actions import Reserve
from keeper.state.deployment import Deployment
from keeper.state.ids import AccountId
from keeper.state.live import LegItem, LiveItem, PermitItem
from keeper.state.problem import Problem
from keeper.state.wire import to_json
from keeper.state.world import MarginAccount, World, component_of

from .corners import CORNER_ITEMS, Failed, Passed, least_free, reduces, usd, weigh
from .live import LEG_SECONDS, describe_item, is_live, live_of
from .siblings import Account, Siblings
from .terms import malformed, no_leg, overfilled, unavailable

__all__ = [
    "CORNER_ITEMS",
    "LEG_SECONDS",
    "MOST_ASSETS",
    "Context",
    "Grant",
    "Refusal",
    "describe_item",
    "is_live",
    "judge",
    "live_of",
]

MOST_ASSETS = 64
"""Instruments and tokens that one account may hold over all its chains."""


@dataclass(frozen=True, slots=True)
class Context:
    """What an act is judged against.

    `world` holds the final states, `marks` every set of prices to judge at (the last batch's and one's own): each must
    pass. `legs` are legs of other accounts, one of which a takeover names; those in the live list count too. Raises
    NotConvex for a model by which the corners of what is live bound nothing.
    """

    world: World
    marks: tuple[Marks, ...]
    model: MarginModel
    listing: Listing
    deployment: Deployment
    parameters: MarginParameters
    legs: tuple[LegItem, ...] = ()

    def __post_init__(self) -> None:
        require_convex(self.model)


@dataclass(frozen=True, slots=True)
class Grant:
    """May be signed. `free_after` is the least free margin of any account and subset with the act, USD 1e18;
    `reducing` where it passes only because it frees margin."""

    free_after: int
    reducing: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """May not be signed, and why. Figures in USD 1e18, None where something without a price is in the way.

    `free` is the least free margin over all subsets of what is live, without the act; `asked` what the act would take
    of it. `equity` and the margins are final figures, with nothing live executed.
    """

    code: str
    message: str
    account: AccountId
    live: tuple[str, ...]
    free: int | None = None
    asked: int | None = None
    equity: int | None = None
    initial_margin: int | None = None
    maintenance_margin: int | None = None
    field: str | None = None
    got: Any = None
    wanted: Any = None
    unit: str | None = None

    def problem(self) -> Problem:
        """The same as everybody is told it."""
        details = to_json(self.figures())
        return Problem(self.code, self.message, self.field, self.got, self.wanted, self.unit, details)

    def figures(self) -> dict[str, Any]:
        """Everything but code and message, named and written as on the wire: amounts are decimal strings."""
        amounts = {
            "free": self.free,
            "asked": self.asked,
            "equity": self.equity,
            "initialMargin": self.initial_margin,
            "maintenanceMargin": self.maintenance_margin,
        }
        return {
            "account": self.account,
            "live": list(self.live),
            **{name: None if amount is None else str(amount) for name, amount in amounts.items()},
        }


def judge(candidate: PermitItem, live: Sequence[LiveItem], context: Context) -> Grant | Refusal:
    """Judge an act against everything else that is live on its accounts.

    `live` may hold dead items and the candidate itself: they do not count. A Trade or a Move is judged for both
    accounts, a Takeover for the taker. `live` has what is live on every account of their owners: concentration is
    counted per owner, so each account is judged beside the most that the others may hold, and the others for what the
    act adds to their requirement. Signatures, deadlines and nonces are not judged here, but no Takeover may outlive its
    leg.

    Returns:
        Grant, or the Refusal of the first account and set of marks that does not pass, in a fixed order.
    """
    others = [item for item in live_of(live, context.world) if item.identity != candidate.identity]
    grants: list[Grant] = []
    for account_id in candidate.accounts:
        for marks in context.marks:
            verdict = _Case(candidate, account_id, others, marks, context).judge()
            if isinstance(verdict, Refusal):
                return verdict
            grants.append(verdict)
    return Grant(min(grant.free_after for grant in grants), any(grant.reducing for grant in grants))


class _Case:
    """One account of a candidate, at one set of marks."""

    def __init__(
        self, candidate: PermitItem, account_id: AccountId, others: Sequence[LiveItem], marks: Marks, context: Context
    ) -> None:
        self.candidate = candidate
        self.context = context
        self.marks = marks
        self.touches = Touches.at(context.world, context.marks)
        self.others = others
        self.account = component_of(context.world, account_id, candidate.chain_id)
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
            return self._refuse(fault, self._without_act(), None)
        if isinstance(self.candidate.action, Reserve) and self.candidate.action.clears:
            return self._judge_clearance(self.candidate.action)
        try:
            acts = self._acts(self.account)
            others = self._live_effects(self.account, acts)
            siblings = self._siblings(acts, others)
            exposure = self._exposure(acts, others, siblings)
        except UnknownAsset as error:
            return self._refuse(Failed("unknown_asset", str(error)), self._without_act(), None)
        without = replace(exposure, lines=exposure.lines[len(acts) :])
        fault = overfilled(self.candidate, self.others, world) or no_leg(self.candidate, self.legs, world)
        passed: list[Passed] = []
        for act, line in zip(acts, exposure.lines, strict=False):
            verdict = fault or self._weigh(act, line, without, others)
            if isinstance(verdict, Failed):
                return self._refuse(verdict, without, line)
            passed.append(verdict)
        costs = None if siblings is None else siblings.overcharged(self.context.parameters, self.legs, world)
        if costs is not None:
            sibling, before, failed = costs
            return self._refuse(failed, before, None, sibling)
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
            return self._refuse(owed, None, None)
        cleared = {here: action.amount}
        for item in self.own:
            if isinstance(item, PermitItem) and isinstance(item.action, Reserve) and item.action.clears:
                claim = (item.chain_id, item.action.integrator)
                cleared[claim] = cleared.get(claim, 0) + item.action.amount
        without = self._without_act()
        if without is None:
            return self._refuse(Failed("unknown_asset", "what is live has no price"), None, None)
        paid = sum(min(rests.get(claim, 0), amount) for claim, amount in cleared.items())
        left = without.bound().cash_left + sum(rests.values()) - paid
        if left < 0:
            failed = Failed("net_cash", f"the net cash that there is for claims, less clearances, would be {usd(left)}")
            return self._refuse(failed, without, None)
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

    def _without_act(self) -> Exposure | None:
        """The account with what is live on it; None where that has no price."""
        try:
            others = self._live_effects(self.account, [])
            return self._exposure([], others, self._siblings([], others))
        except UnknownAsset:
            return None

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

    def _too_many_assets(self, without: Exposure) -> Failed | None:
        count = len(without.valuation.assets)
        if count <= MOST_ASSETS:
            return None
        return Failed("position_limit", f"{count} assets with what is live, at most {MOST_ASSETS} are allowed")

    def _refuse(
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


def _fault(failed: Failed) -> dict[str, Any]:
    return {"field": failed.field, "got": failed.got, "wanted": failed.wanted, "unit": failed.unit}
