"""What executing a live item does to one margin account, at the worst price it may execute at.

Rounding is the contracts': a buyer pays rounded up, a seller receives rounded down, fees are rounded up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from keeper.margin.listing import Listing, UnknownAsset
from keeper.market.marks import Marks
from keeper.state.actions import Move, Order, Reserve, Takeover, Trade, Unlink, Withdraw
from keeper.state.batch import UNIT, LiquidationLeaf
from keeper.state.deployment import Profile
from keeper.state.ids import ZERO32, AssetId, is_token, token_id
from keeper.state.live import LegItem, PermitItem
from keeper.state.world import ChainState, MarginAccount, World


class UnsupportedAction(ValueError):
    """An action whose effect this protocol version does not define; the message names it."""


@dataclass(frozen=True, slots=True)
class Effect:
    """Changes of one margin account, USD, sizes and amounts in 1e18; `funding` as a portfolio's, 1e36.

    `cash_part` of `reserved` may be claimed in cash; `settlement_out` is the settlement token that leaves the vault,
    which `cash` has already lost.
    """

    cash: int = 0
    positions: Mapping[AssetId, int] = field(default_factory=dict)
    collateral: Mapping[AssetId, int] = field(default_factory=dict)
    reserved: int = 0
    cash_part: int = 0
    settlement_out: int = 0
    elsewhere: Mapping[str, int] = field(default_factory=dict)
    funding: int = 0

    @property
    def nothing(self) -> bool:
        """Whether it changes nothing."""
        return not (self.cash or self.positions or self.collateral or self.reserved or self.cash_part)

    @property
    def assets(self) -> frozenset[AssetId]:
        """Every asset it changes."""
        return frozenset((*self.positions, *self.collateral))


@dataclass(frozen=True, slots=True)
class Touches:
    """The funding index that a fill may touch a position at, on each chain: whatever its contract has stored by then.

    `indexes` are those of the judged marks. A chain's own index only moves forward in time towards them.
    """

    world: World
    indexes: Mapping[AssetId, tuple[int, ...]]

    @classmethod
    def at(cls, world: World, marks: Sequence[Marks]) -> Touches:
        assets = {asset for each in marks for asset in each.funding}
        return cls(world, {asset: tuple(each.funding.get(asset, 0) for each in marks) for asset in assets})

    def worst(self, chain_id: int, asset: AssetId, size: int) -> int:
        """Funding, 1e36, of a change of position by `size` at the worst index: the lowest for who buys."""
        indexes = list(self.indexes.get(asset, ()))
        stored = self.world[chain_id].funding.get(asset) if chain_id in self.world else None
        if stored is not None:
            indexes.append(stored.index)
        if not indexes:
            return 0
        return size * (min(indexes) if size > 0 else max(indexes))


UNTOUCHED = Touches({}, {})
"""Where nothing has any funding."""


@dataclass(frozen=True, slots=True)
class TakeoverTerms:
    """The side of what a taker takes (+1 a long, −1 a short) and the worst price per unit, USD 1e18."""

    side: int
    price: int


def effect_of(
    item: PermitItem,
    account: MarginAccount,
    listing: Listing,
    profile: Profile,
    terms: TakeoverTerms | None = None,
    touches: Touches = UNTOUCHED,
) -> Effect:
    """What executing a permit does to `account`; nothing where it names another account or another component's chain.

    A withdrawal of the settlement token is cash, of another token collateral. A trade executes at its exact price with
    its fee. A reservation takes margin in full. A takeover, for its taker, needs the `terms`; the liquidated account's
    side is its leg's. Moved cash leaves its account as a withdrawal would, so that nobody's own settlement token is
    drawn through a sub-account; a moved position needs the `terms` for the mark it moves at. An unlink changes nothing
    that an account holds, only what counts together: see `parting`.

    Raises:
        UnknownAsset: the deployment does not list the token withdrawn, or the chain.
        UnsupportedAction: a Takeover or a Move of a position without terms.
    """
    if account.account_id not in item.accounts or item.chain_id not in account.chains:
        return Effect()
    if item.chain_id not in listing.settlement:
        raise UnknownAsset(f"chain {item.chain_id} is not listed")
    found = _effect(item, account, listing, profile, terms)
    funding = sum(touches.worst(item.chain_id, asset, size) for asset, size in found.positions.items())
    return replace(found, funding=funding) if funding else found


def _effect(
    item: PermitItem, account: MarginAccount, listing: Listing, profile: Profile, terms: TakeoverTerms | None
) -> Effect:
    action = item.action
    if isinstance(action, Withdraw):
        return _withdraw(action, item.chain_id, listing)
    if isinstance(action, Trade):
        maker, taker = item.orders
        if account.account_id == maker.account_id:
            return fill(maker.asset, action.size, action.price, trade_fee(action, profile))
        return fill(taker.asset, -action.size, action.price, trade_fee(action, profile))
    if isinstance(action, Reserve):
        if action.clears:  # the account's cash fell when it was claimed
            return Effect()
        return Effect(reserved=action.amount, cash_part=action.cash_part)
    if isinstance(action, Unlink):
        return Effect()
    if isinstance(action, Takeover) and terms is not None:
        return taken(action.asset, terms.side * action.size, terms.price)
    if isinstance(action, Move):
        side = 1 if account.account_id == action.target else -1
        if is_cash(action):
            return Effect(cash=side * action.amount, settlement_out=action.amount if side < 0 else 0)
        if terms is not None:
            return fill(AssetId(action.asset), side * action.amount, terms.price, 0)
    raise UnsupportedAction(f"{type(action).__name__} has no effect that is known here")


def fill(asset: AssetId, size: int, price: int, fee: int) -> Effect:
    """The effect of buying `size` (selling where negative) at `price`, less a fee."""
    # floor division of the negative payment rounds what is paid up, of the positive one what is received down.
    return Effect(cash=(-size * price) // UNIT - fee, positions={asset: size})


def taken(asset: AssetId, size: int, price: int) -> Effect:
    """What taking over a position, or collateral, at `price` does to the taker.

    What is paid for collateral becomes the seller's cash, who may draw it: it leaves the taker as a withdrawal does.
    """
    if not is_token(asset):
        return fill(asset, size, price, 0)
    cash = (-size * price) // UNIT
    return Effect(cash=cash, collateral={asset: size}, settlement_out=max(0, -cash))


def is_cash(action: Move) -> bool:
    return action.asset == ZERO32


def trade_fee(trade: Trade, profile: Profile) -> int:
    """What each side of a match pays, USD 1e18, rounded up twice as the clearing house does."""
    notional = _ceil(abs(trade.size) * trade.price, UNIT)
    return _ceil(notional * profile.fee_rate, UNIT)


def order_of(item: PermitItem, role: int) -> tuple[Order, bytes]:
    """The maker's (0) or taker's (1) order of a trade, with its hash."""
    if not isinstance(item.action, Trade):
        raise UnsupportedAction(f"{type(item.action).__name__} has no orders")
    return item.orders[role], (item.action.maker_order, item.action.taker_order)[role]


def leg_side(leg: LegItem) -> int:
    """+1 where a leg closes a long, −1 a short."""
    return 1 if leg.leaf.close_limit > 0 else -1


def concession_at(leg: LiquidationLeaf, time: int, ramp_seconds: int) -> int:
    """What a leg concedes per unit at a block's time, USD 1e18: from 0 to its most in `ramp_seconds`, rounded down.

    The chain starts the clock later than the leg says after a time without batches.
    """
    return leg.max_concession * min(max(0, time - leg.auction_start), ramp_seconds) // ramp_seconds


def leg_remaining(leg: LegItem, state: ChainState) -> int:
    """Size that a leg may still close by its cumulative counter (CM-40).

    Nothing once the account's deposits on its chain have reached the target: they only grow, so the leg is void.
    """
    if state.deposited.get(leg.leaf.account_id, 0) >= leg.leaf.deposit_target:
        return 0
    closed = state.closed.get((leg.leaf.account_id, leg.leaf.asset), 0)
    return max(0, abs(leg.leaf.close_limit) - closed)


def legs_effect(
    legs: Sequence[LegItem], state: ChainState, reachable: int, profile: Profile, touches: Touches = UNTOUCHED
) -> Effect:
    """What live legs on one position together do to the liquidated account, filled in full at the worst terms of any.

    Legs of successive batches on one position share its cumulative counter, so together they close what the largest
    of them may. `legs` have one account, chain, asset and side; `reachable` is the largest size that the position can
    have on that side. A part of the fill is a part of the effect. A leg that names its counterparty has no flat fee.
    """
    side = leg_side(legs[0])
    size = min(max(leg_remaining(leg, state) for leg in legs), reachable)
    if size <= 0:
        return Effect()
    prices = [max(0, leg.leaf.mark_price - side * leg.leaf.max_concession) for leg in legs]
    price = min(prices) if side > 0 else max(prices)
    auctioned = [abs(leg.leaf.close_limit) for leg in legs if leg.leaf.counterparty == ZERO32]
    fee = _ceil(profile.flat_fee * size, min(auctioned)) if auctioned else 0
    leaf = legs[0].leaf
    if is_token(leaf.asset):
        return Effect(cash=size * price // UNIT - fee, collateral={leaf.asset: -size})
    closing = fill(leaf.asset, -side * size, price, fee)
    return replace(closing, funding=touches.worst(leaf.chain_id, leaf.asset, -side * size))


def counterparty_effect(
    legs: Sequence[LegItem], state: ChainState, reachable: int | None, touches: Touches = UNTOUCHED
) -> Effect:
    """What live legs on one position of somebody else, all of which name this account, together do to it.

    It takes what they close, at the worst of their prices. `reachable` is the largest size that its own position on the
    other side can have, which the contract wants; None for the fund, which takes whatever it holds.
    """
    leaf, side = legs[0].leaf, leg_side(legs[0])
    size = max(leg_remaining(leg, state) for leg in legs)
    size = size if reachable is None else min(size, reachable)
    if size <= 0:
        return Effect()
    prices = [leg.leaf.mark_price for leg in legs]
    effect = taken(leaf.asset, side * size, max(prices) if side > 0 else min(prices))
    return replace(effect, funding=touches.worst(leaf.chain_id, leaf.asset, side * size) if effect.positions else 0)


def _withdraw(action: Withdraw, chain_id: int, listing: Listing) -> Effect:
    settlement = listing.settlement[chain_id]
    if action.token == settlement.address:
        amount = action.amount * settlement.scale
        return Effect(cash=-amount, settlement_out=amount)
    asset = token_id(chain_id, action.token)
    if asset not in listing.collateral:
        raise UnknownAsset(f"token 0x{action.token.hex()} is not listed on chain {chain_id}")
    return Effect(collateral={asset: -action.amount * listing.collateral[asset].scale})


def _ceil(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
