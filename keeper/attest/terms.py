"""What an act must satisfy beside margin: well-formed amounts, orders not overfilled, tokens there, a leg to take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from keeper.clearing.effects import is_cash, leg_remaining
from keeper.clearing.exposure import legs_for
from keeper.margin.listing import Listing
from keeper.state.actions import Move, Reserve, Takeover, Trade, Withdraw
from keeper.state.batch import UNIT
from keeper.state.ids import AccountId, owner_of
from keeper.state.live import LegItem, LiveItem, PermitItem
from keeper.state.world import World

from .corners import Failed, usd
from .live import LEG_SECONDS

_LIMIT = 2**128
"""Amounts and prices from here on are refused before anything is computed with them."""


def malformed(item: PermitItem, world: World) -> Failed | None:
    """A chain without a final state, or amounts that no contract would take: a negative one would look like a gift."""
    action = item.action
    if item.chain_id not in world:
        return Failed("unknown_chain", f"no final state of chain {item.chain_id} is known", "chainId", item.chain_id)
    if isinstance(action, Withdraw):
        amounts = {"amount": action.amount}
    elif isinstance(action, Trade):
        amounts = {"size": abs(action.size), "price": action.price}
    elif isinstance(action, Reserve):
        if not 0 <= action.cash_part <= action.amount:
            told = f"a cash part of {usd(action.cash_part)} in a reservation of {usd(action.amount)}"
            bound = f"0 to {action.amount}"
            return Failed("bad_amount", told, "action.cashPart", action.cash_part, bound, "USD 1e18")
        amounts = {"amount": action.amount}
    elif isinstance(action, Takeover):
        amounts = {"size": action.size}
    elif isinstance(action, Move):
        if action.source == action.target or owner_of(action.source) != owner_of(action.target):
            told = "a move is between two accounts of one owner"
            return Failed("not_one_owner", told, "action.to", action.target, "another account of the same owner")
        amounts = {"amount": action.amount if is_cash(action) else abs(action.amount)}
    else:
        amounts = {}  # an unlink names a chain and no amount
    for name, amount in amounts.items():
        if not 0 < amount < _LIMIT:
            unit = "the token's smallest units" if isinstance(action, Withdraw) else "1e18"
            told = f"{name} {amount} is not above 0 and below 2**128"
            return Failed("bad_amount", told, f"action.{name}", amount, "above 0, below 2**128", unit)
    return None


def overfilled(item: PermitItem, live: Iterable[LiveItem], world: World) -> Failed | None:
    """A trade beyond an order: filled at the final block, by live trades, and by this one."""
    action = item.action
    if not isinstance(action, Trade):
        return None
    others = [other.action for other in live if isinstance(other, PermitItem) and other.chain_id == item.chain_id]
    for order, order_hash in zip(item.orders, (action.maker_order, action.taker_order), strict=True):
        filled = world[item.chain_id].filled.get(order_hash, 0) if item.chain_id in world else 0
        pending = sum(
            abs(other.size)
            for other in others
            if isinstance(other, Trade) and order_hash in (other.maker_order, other.taker_order)
        )
        if filled + pending + abs(action.size) > abs(order.size):
            return Failed(
                "order_overfilled",
                f"order 0x{order_hash.hex()} of {abs(order.size) / UNIT:g}: {filled / UNIT:g} filled, "
                f"{pending / UNIT:g} live, {abs(action.size) / UNIT:g} asked",
                "action.size",
                action.size,
                f"at most {max(0, abs(order.size) - filled - pending)} either way",
                "units of 1e18",
            )
    return None


def no_leg(item: PermitItem, legs: Sequence[LegItem], world: World) -> Failed | None:
    """A takeover without a live leg that names its position, has its size left, and outlives the permit.

    While a leg is live no leg of the other side is signed, so a takeover that dies with its leg has one side only.
    """
    action = item.action
    if not isinstance(action, Takeover):
        return None
    found = legs_for(item, legs)
    if not found:
        told = f"no live leg names this position of account 0x{action.liquidated.hex()}"
        return Failed("no_leg", told, "action.liquidated", action.liquidated, "an account with a leg for this asset")
    end = max(leg.timestamp for leg in found) + LEG_SECONDS
    if item.permit.deadline > end:
        told = f"the leg is live until {end}, the permit would be until {item.permit.deadline}"
        return Failed("no_leg", told, "permit.deadline", item.permit.deadline, f"at most {end}", "unix seconds")
    left = max(leg_remaining(leg, world[item.chain_id]) for leg in found)
    if action.size > left:
        told = f"the leg has {left / UNIT:g} left, {action.size / UNIT:g} asked"
        return Failed("no_leg", told, "action.size", action.size, f"at most {left}", "units of 1e18")
    return None


def unavailable(
    item: PermitItem, account: AccountId, live: Iterable[LiveItem], world: World, listing: Listing
) -> Failed | None:
    """A withdrawal of tokens that the account, or the vault of that chain, does not have beside live withdrawals."""
    action = item.action
    if not isinstance(action, Withdraw):
        return None
    state = world[item.chain_id]
    pending = [
        other.action
        for other in live
        if isinstance(other, PermitItem)
        and isinstance(other.action, Withdraw)
        and other.chain_id == item.chain_id
        and other.action.token == action.token
    ]
    if action.token == listing.settlement[item.chain_id].address:
        # What the chain owes to others is set aside, shipped or not (CM-50).
        owed = -(min(0, state.claims) // listing.settlement[item.chain_id].scale)
        left = state.held - owed - sum(other.amount for other in pending)
        code, place = "vault_short", f"the vault of chain {item.chain_id}"
    else:
        balances = state.balances.get(account)
        held = balances.get(action.token, 0) if balances is not None else 0
        left = held - sum(other.amount for other in pending if other.account_id == account)
        code, place = "insufficient_balance", f"the account on chain {item.chain_id}"
    if action.amount <= left:
        return None
    return Failed(
        code,
        f"{place} has {left} of the token's smallest units beside live withdrawals, {action.amount} asked",
        "action.amount",
        action.amount,
        f"at most {max(0, left)}",
        "the token's smallest units",
    )
