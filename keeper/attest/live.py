"""Which items are live, and what they are in words."""

from __future__ import annotations

from collections.abc import Iterable

from keeper.clearing.effects import is_cash, leg_remaining
from keeper.margin.listing import Listing
from keeper.state.actions import Move, Reserve, Takeover, Trade, Unlink, Withdraw
from keeper.state.batch import UNIT
from keeper.state.ids import IdError, is_token, parse_instrument, token_id
from keeper.state.live import LegItem, LiveItem, PermitItem
from keeper.state.world import World

LEG_SECONDS = 60
"""A leg is live until a final block of its chain is later than its batch's timestamp by more than this (CM-40)."""


def is_live(item: LiveItem, world: World) -> bool:
    """Whether an item may still be executed, judged at the final block of its own chain alone (CM-12).

    A permit is dead once that block's time is greater than its deadline, or its nonce is used there; a leg once that
    block is more than 60 s later than its batch, or the counter of what was closed has reached its limit, or the
    account's deposits its target. On a chain that the world does not have, nothing dies.
    """
    if isinstance(item, LegItem):
        state = world.get(item.leaf.chain_id)
        if state is None:
            return True
        return state.block.time <= item.timestamp + LEG_SECONDS and leg_remaining(item, state) > 0
    state = world.get(item.chain_id)
    if state is None:
        return True
    used = (item.permit.account_id, item.permit.nonce) in state.used_nonces
    return state.block.time <= item.permit.deadline and not used


def live_of(items: Iterable[LiveItem], world: World) -> list[LiveItem]:
    """The items that are live, in the order given."""
    return [item for item in items if is_live(item, world)]


def describe_item(item: LiveItem, listing: Listing) -> str:
    """One line: what, how much, where, and until when it counts; with the nonce or batch time that makes its key."""
    if isinstance(item, LegItem):
        leaf = item.leaf
        return (
            f"liquidation leg of {_size(leaf.asset, abs(leaf.close_limit))} on chain {leaf.chain_id}, "
            f"batch of {item.timestamp}, until {item.timestamp + LEG_SECONDS}"
        )
    return f"{_act(item, listing)} on chain {item.chain_id}, nonce {item.permit.nonce}, until {item.permit.deadline}"


def _act(item: PermitItem, listing: Listing) -> str:
    action = item.action
    if isinstance(action, Withdraw):
        settlement = listing.settlement.get(item.chain_id)
        collateral = listing.collateral.get(token_id(item.chain_id, action.token))
        if settlement is not None and action.token == settlement.address:
            return f"withdrawal of {action.amount * settlement.scale / UNIT:g} {settlement.token.symbol}"
        if collateral is not None:
            return f"withdrawal of {action.amount * collateral.scale / UNIT:g} {collateral.token.symbol}"
        return f"withdrawal of {action.amount} of token 0x{action.token.hex()}"
    if isinstance(action, Trade):
        asset = item.orders[0].asset if item.orders else b""
        return f"trade of {_size(asset, action.size)} at {action.price / UNIT:g}"
    if isinstance(action, Reserve) and action.clears:
        return f"clearance of {action.amount / UNIT:g} USD that 0x{action.integrator.hex()} is owed"
    if isinstance(action, Reserve):
        return f"reservation of {action.amount / UNIT:g} USD for 0x{action.integrator.hex()}"
    if isinstance(action, Takeover):
        return f"takeover of {_size(action.asset, action.size)} from 0x{action.liquidated.hex()}"
    if isinstance(action, Move):
        what = f"{action.amount / UNIT:g} USD" if is_cash(action) else _size(action.asset, action.amount)
        return f"move of {what} from 0x{action.source.hex()} to 0x{action.target.hex()}"
    assert isinstance(action, Unlink)
    return f"unlinking of chain {action.chain_id}"


def _size(asset: bytes, size: int) -> str:
    try:
        instrument = parse_instrument(asset) if not is_token(asset) else None  # type: ignore[arg-type]
    except IdError:
        instrument = None
    name = f"0x{asset.hex()}" if instrument is None else f"{instrument.underlying} {instrument.kind.name.lower()}"
    return f"{size / UNIT:g} {name}"
