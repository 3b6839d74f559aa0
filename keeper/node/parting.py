"""What an attestor's journal says of accounts that are being parted, and of those that a cycle is moving."""

from __future__ import annotations

from keeper.attest.live import is_live
from keeper.clearing.parting import parted_since, unlinks
from keeper.clearing.settlement import unapplied
from keeper.state.ids import AccountId
from keeper.state.world import World
from keeper.store.journal import Journal

from .view import ChainsView


def parting_accounts(journal: Journal, view: ChainsView, world: World) -> frozenset[AccountId]:
    """Accounts that no new cycle at the blocks of `world` may include: an unlink of them is live there or at this
    node's final blocks, or was executed since."""
    final = view.final_world()
    live = [item for item in unlinks(journal.live(None)) if is_live(item, world) or is_live(item, final)]
    return parted_since(world, final) | {item.permit.account_id for item in live}


def settling_accounts(journal: Journal, view: ChainsView) -> frozenset[AccountId]:
    """Accounts with settlement entries that are signed and not applied at this node's final blocks."""
    return frozenset(leaf.account_id for leaf in unapplied(journal.entries(), view.final_world()))
