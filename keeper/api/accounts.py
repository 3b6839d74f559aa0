"""An account's margin with what explains it, what it holds, and what is live on its owner's accounts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from immutables import Map

from keeper.clearing.cycles import with_pending
from keeper.margin.explain import explain, netting
from keeper.margin.owner import owner_book
from keeper.margin.portfolio import per_chain
from keeper.margin.report import evaluate
from keeper.market.marks import Marks
from keeper.node.node import Node
from keeper.state.ids import AccountId, owner_of, sub_account_of
from keeper.state.wire import to_json
from keeper.state.world import ChainState, MarginAccount, World, components

from .live import free_nonce, items_of_owner
from .problems import ApiError
from .views import figures


async def account(node: Node, account_id: AccountId) -> dict[str, Any]:
    """Every margin account of an id (one per connected component of its links), at this node's final blocks."""
    node.view.require_started()
    final = node.view.final_world()
    groups = components(final, account_id)
    if not groups:
        raise ApiError.not_found(f"no chain knows account 0x{account_id.hex()}", "path.account", account_id)
    marks = node.observer.marks()
    live = await items_of_owner(node, account_id, final)
    nonce = free_nonce(account_id, [final, node.view.head_world()], live.items) if live.said_by else None
    return {
        "accountId": "0x" + account_id.hex(),
        "owner": "0x" + owner_of(account_id).hex(),
        "subAccount": str(sub_account_of(account_id)),
        "marginAccounts": [_margin(node, final, MarginAccount(account_id, chains), marks) for chains in groups],
        **live.to_json(node),
        "freeNonce": None if nonce is None else str(nonce),
    }


def _margin(node: Node, final: World, account: MarginAccount, marks: Marks) -> dict[str, Any]:
    world = with_pending(final, node.journal.entries(), node.listing)
    book = owner_book(world, node.listing, account, marks, node.model)
    by_chain = {
        name: replace(piece, elsewhere=book.elsewhere)
        for name, piece in per_chain(world, node.listing, account).items()
    }
    return {
        "chains": list(account.chains),
        **figures(evaluate([book], marks, node.model)[0]),
        "holdings": [_holdings(node, account.account_id, final[chain]) for chain in account.chains],
        "explain": explain(book, marks, node.model),
        "nettingByChain": netting(book, marks, node.model, by_chain),
    }


def _holdings(node: Node, account_id: AccountId, state: ChainState) -> dict[str, Any]:
    balances = state.balances.get(account_id, Map())
    reservations = sorted(state.reservations.get(account_id, {}).items())
    return {
        "chain": state.chain_id,
        "cash": str(state.cash.get(account_id, 0)),
        "positions": {"0x" + a.hex(): str(s) for a, s in state.sizes.get(account_id, {}).items()},
        "balances": {
            "0x" + token.address.hex(): {"symbol": token.symbol, "decimals": token.decimals, "amount": str(amount)}
            for token in node.deployment.chains[state.chain_id].collateral
            if (amount := balances.get(token.address, 0))
        },
        # As the margin has it (CM-12): a reservation counts until a final block is past its end.
        "reservations": {"0x" + i.hex(): to_json(r) for i, r in reservations if state.block.time <= r.until},
        "lapsedReservations": {"0x" + i.hex(): to_json(r) for i, r in reservations if state.block.time > r.until},
        "linked": sorted(state.links.get(account_id, ())),
    }
