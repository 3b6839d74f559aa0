"""What is live on an owner's accounts: asked of the attestors, whose journals are the only ones that have all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from keeper.attest.live import LEG_SECONDS, describe_item, is_live
from keeper.attest.requests import RequestError, check_item
from keeper.node.node import Node
from keeper.node.refusal import Refused
from keeper.node.told import check_told
from keeper.state.ids import AccountId, Address, owner_of
from keeper.state.live import LegItem, LiveItem, PermitItem
from keeper.state.wire import to_json
from keeper.state.world import World

log = structlog.get_logger()

UNKNOWN = "unknown here"
_SECONDS = 1.0
"""How long the attestors are waited for: an account is read by people and programs that want it now."""
_MOST = 512
"""Items of one attestor that are looked at."""


@dataclass(frozen=True, slots=True)
class OwnersItems:
    """What is live on any account of an owner, and which attestors said so, ascending; nobody: it is not known."""

    items: tuple[LiveItem, ...]
    said_by: tuple[Address, ...]

    def to_json(self, node: Node) -> dict[str, Any]:
        if not self.said_by:
            return {"live": None, "liveFrom": UNKNOWN}
        return {
            "live": [_entry(node, item) for item in self.items],
            "liveFrom": ["0x" + peer.hex() for peer in self.said_by],
        }


async def items_of_owner(node: Node, account: AccountId, world: World) -> OwnersItems:
    """The union of what every attestor that answers knows, as far as it can be true.

    A permit counts where its owners signed the request for it and an attestor may have signed it. A leg has no owner's
    signature: it counts once its batch has a quorum, which this node checked when it took the batch in; before, nobody
    can execute it.
    """
    owner = owner_of(account)
    answers = await node.peers.gather(lambda peer: node.peers.live(peer, [account], _SECONDS))
    own = node.journal.live_of_owners([owner])
    said_by = [] if node.attestor is None else [node.attestor.signer.address]
    found: dict[object, LiveItem] = {item.identity: item for item in own}
    for peer, answer in answers.items():
        if isinstance(answer, list):
            said_by.append(peer)
            found |= {item.identity: item for item in _credible(node, owner, answer[:_MOST], peer)}
    items = sorted(found.values(), key=lambda item: repr(item.key))
    return OwnersItems(tuple(item for item in items if is_live(item, world)), tuple(sorted(said_by)))


def _credible(node: Node, owner: Address, items: Sequence[LiveItem], peer: Address) -> list[PermitItem]:
    credible = []
    for item in items:
        if not isinstance(item, PermitItem) or owner not in {owner_of(account) for account in item.accounts}:
            continue
        try:
            check_item(item, node.deployment)
            check_told(item, node.deployment, node.listing, node.model, node.view, node.observer.marks)
        except (RequestError, Refused) as error:
            log.warning("peer.bad_list", peer="0x" + peer.hex(), reason=str(error))
        else:
            credible.append(item)
    return credible


def _entry(node: Node, item: LiveItem) -> dict[str, Any]:
    if isinstance(item, LegItem):
        chain_id, until = item.leaf.chain_id, item.timestamp + LEG_SECONDS
    else:
        chain_id, until = item.chain_id, item.permit.deadline
    return {
        "description": describe_item(item, node.listing),
        "chainId": chain_id,
        "until": until,
        "accounts": ["0x" + account.hex() for account in item.accounts],
        "item": to_json(item, tagged=True),
    }


def free_nonce(account: AccountId, worlds: Sequence[World], items: Sequence[LiveItem]) -> int:
    """The lowest nonce of an account that no chain of `worlds` has as used and no item is for.

    Nonces are unordered: the verifier keeps one bit each, 256 to a word. To fill word after word costs the least gas.
    """
    states = [state for world in worlds for state in world.values()]
    taken = {nonce for state in states for (used_by, nonce) in state.used_nonces if used_by == account}
    taken |= {i.permit.nonce for i in items if isinstance(i, PermitItem) and i.permit.account_id == account}
    return next(nonce for nonce in range(len(taken) + 1) if nonce not in taken)
