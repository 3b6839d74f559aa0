"""The judgement of an unlink (CM-09, CM-11): the account stands while it is joined, and every part stands alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from keeper.clearing.exposure import leg_is_live_on
from keeper.clearing.parting import after, parts, unlinks, views
from keeper.margin.owner import others_of
from keeper.state.ids import AccountId, owner_of
from keeper.state.live import LiveItem, PermitItem
from keeper.state.world import MarginAccount, World

from .case import Case
from .context import Context, Grant, Refusal
from .corners import Failed, buffer_of, heaviest, least_free, usd
from .terms import malformed

MOST_UNLINKS = 3
"""Live unlinks of one owner beside which anything is judged: every subset of them is another view of his accounts."""


def too_many_unlinks(
    candidate: PermitItem, account_id: AccountId, others: Sequence[LiveItem], context: Context
) -> Refusal | None:
    """Beside more of them nothing of their owner's is judged."""
    count = len(unlinks(others, owner_of(account_id)))
    if count <= MOST_UNLINKS:
        return None
    failed = Failed(
        "too_many_live",
        f"{count} unlinks of the owner are live: beside more than {MOST_UNLINKS} nothing is judged",
    )
    return Case(candidate, account_id, others, context.marks[0], context).refuse(failed, None, None)


def judge_unlink(candidate: PermitItem, others: Sequence[LiveItem], context: Context) -> Grant | Refusal:
    """Judge an unlink beside `others`, which are live: in every view of what else of the owner's may be parted.

    Where it ends no group of chains in any of them it is granted: it changes nothing, and stays live as one that may
    come to part something, so what is signed later is judged both ways.
    """
    account_id = candidate.permit.account_id
    first = Case(candidate, account_id, others, context.marks[0], context)
    fault = malformed(candidate, context.world)
    if fault is not None:
        return first.refuse(fault, None, None)
    grants: list[Grant] = []
    for world in views(context.world, unlinks(others, owner_of(account_id))):
        verdicts = _in_view(candidate, others, replace(context, world=world))
        if isinstance(verdicts, Refusal):
            return verdicts
        grants += verdicts
    if grants:
        return Grant(min(grant.free_after for grant in grants), reducing=False)
    without = first.without_act()
    if without is None:
        return first.refuse(Failed("unknown_asset", "what is live has no price"), None, None)
    return Grant(least_free(without), reducing=False)


def _in_view(candidate: PermitItem, others: Sequence[LiveItem], context: Context) -> list[Grant] | Refusal:
    account_id = candidate.permit.account_id
    ended, left = parts(context.world, candidate)
    if not ended:
        return []
    if account_id in context.settling:
        # An entry that is applied after the parting would move cash from one part to another.
        told = "settlement entries between the account's chains are signed and not final"
        case = Case(candidate, account_id, others, context.marks[0], context)
        return case.refuse(Failed("unlink_pending", told), None, None)
    parted = replace(context, world=after(context.world, candidate))
    grants: list[Grant] = []
    for view, groups in ((context, ended), (parted, left)):
        for group in groups:
            for marks in view.marks:
                verdict = Case(candidate, account_id, others, marks, view, group[0]).judge()
                if isinstance(verdict, Refusal):
                    return verdict
                grants.append(verdict)
    for sibling in _siblings(context.world, account_id, ended):
        refusal = _overcharged(sibling, candidate, others, context, parted)
        if refusal is not None:
            return refusal
    return grants


def _siblings(world: World, account_id: AccountId, groups: Sequence[tuple[int, ...]]) -> list[MarginAccount]:
    found = [each for group in groups for each in others_of(world, MarginAccount(account_id, group))]
    return sorted({each for each in found if each.account_id != account_id}, key=lambda e: (e.account_id, e.chains))


def _overcharged(
    sibling: MarginAccount, candidate: PermitItem, others: Sequence[LiveItem], joined: Context, parted: Context
) -> Refusal | None:
    """Concentration is counted per owner by each account's own net delta: longs and shorts that offset in one account
    do not in its parts, and another account may be charged for that."""
    for marks in joined.marks:
        cases = [
            Case(candidate, sibling.account_id, others, marks, view, sibling.chains[0]) for view in (joined, parted)
        ]
        was, will = cases[0].at_most(), cases[1].at_most()
        if was is None or will is None:
            return cases[1].refuse(Failed("unknown_asset", "what is live has no price"), None, None)
        before, then = heaviest(was).corners(), heaviest(will).corners()
        buffer = buffer_of(then.initial, joined.parameters)
        short = (then.free < buffer).astype(bool) | leg_is_live_on(sibling, cases[1].legs, parted.world)
        bad = np.flatnonzero(short & (then.initial > before.initial).astype(bool))
        if len(bad):
            worst = min(bad.tolist(), key=lambda subset: then.free[subset])
            told = (
                f"parted, the account raises by {usd(then.initial[worst] - before.initial[worst])} what another of the "
                f"owner must hold for concentration, whose free margin would be {usd(then.free[worst])}, a buffer of "
                f"{usd(buffer[worst])} is wanted"
            )
            return cases[1].refuse(Failed("owner_concentration", told), cases[1].without_act(), None)
    return None
