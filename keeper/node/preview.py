"""Which legs a quorum would sign, asked before a batch is signed.

Accounts near maintenance margin are due at one node's head and not at another's, most of all while prices run. One
such account among the legs, and the epoch would be lost to everybody. So the proposer shows its draft, and leaves out
what too few would sign. Nothing is promised: an attestor judges again what it signs.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from keeper.attest.batch import batch_digest, structural_faults
from keeper.attest.messages import BatchDraft, draft_digest
from keeper.clearing.cycles import with_pending
from keeper.state.ids import Address

from .attestor import Attestor
from .leg_desk import LegDesk
from .refusal import Refused


async def refused_legs(attestor: Attestor, draft: BatchDraft) -> list[int]:
    """The legs of a draft, by number and ascending, that this attestor would not sign; all of an account's, or none.

    Raises:
        Refused: the draft is not that of the epoch's proposer, is malformed, or of blocks that are not known here.
    """
    content = draft.content
    digest = draft_digest(batch_digest(attestor.deployment, content.batch))
    attestor.check_turn(content.batch.epoch, digest, draft.signature)
    faults = structural_faults(content, attestor.deployment)
    if faults:
        raise Refused("batch_malformed", faults[0], faults=faults)
    world = with_pending(await attestor.world_of(content.cut), content.settlements, attestor.listing)
    attestor.check_heads(content)
    reports = attestor.reports(content, world)
    if attestor.view.late():
        return list(range(len(content.legs)))
    desk = LegDesk(attestor, world, content.prices, reports, content.batch.timestamp)
    refused = {leg for fault in desk.faults(content.legs) for leg in fault.legs}
    return [number for number, leg in enumerate(content.legs) if leg in refused]


def agreed(legs: int, refused: Mapping[Address, Set[int]], others: int) -> set[int]:
    """The numbers of legs that so many `others` would sign, all of them: each time the one who costs the fewest.

    `refused` has an entry for everybody who answered. Where too few did there is no quorum to be had: all legs, so that
    the refusals of the proposal say why.
    """
    kept = set(range(legs))
    if len(refused) < others:
        return kept
    asked = dict(refused)
    for _ in range(others):
        chosen = min(sorted(asked), key=lambda peer: len(kept & asked[peer]))
        kept -= asked.pop(chosen)
    return kept
