"""The permit judgement (CM-11, CM-12, CM-21): whether an act may be signed, given everything else that is live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from keeper.clearing.parting import unlinks, views
from keeper.state.actions import Unlink
from keeper.state.ids import owner_of
from keeper.state.live import LiveItem, PermitItem

from .case import Case
from .context import MOST_ASSETS, Context, Grant, Refusal
from .corners import CORNER_ITEMS
from .live import LEG_SECONDS, describe_item, is_live, live_of
from .parting import judge_unlink, too_many_unlinks

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


def judge(candidate: PermitItem, live: Sequence[LiveItem], context: Context) -> Grant | Refusal:
    """Judge an act against everything else that is live on its accounts.

    `live` may hold dead items and the candidate itself: they do not count. A Trade or a Move is judged for both
    accounts, a Takeover for the taker. `live` has what is live on every account of their owners: concentration is
    counted per owner, so each account is judged beside the most that the others may hold, and the others for what the
    act adds to their requirement. Beside a live Unlink all of it holds joined and parted. Signatures, deadlines and
    nonces are not judged here, but no Takeover may outlive its leg.

    Returns:
        Grant, or the Refusal of the first account and set of marks that does not pass, in a fixed order.
    """
    others = [item for item in live_of(live, context.world) if item.identity != candidate.identity]
    if isinstance(candidate.action, Unlink):
        refusal = too_many_unlinks(candidate, candidate.permit.account_id, others, context)
        return refusal or judge_unlink(candidate, others, context)
    grants: list[Grant] = []
    for account_id in candidate.accounts:
        refusal = too_many_unlinks(candidate, account_id, others, context)
        if refusal is not None:
            return refusal
        for world in views(context.world, unlinks(others, owner_of(account_id))):
            for marks in context.marks:
                verdict = Case(candidate, account_id, others, marks, replace(context, world=world)).judge()
                if isinstance(verdict, Refusal):
                    return verdict
                grants.append(verdict)
    return Grant(min(grant.free_after for grant in grants), any(grant.reducing for grant in grants))
