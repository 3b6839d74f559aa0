"""What the contracts refuse whatever the margin is: one list, applied before a permit is judged.

A permit for an act that must revert is worth nothing to its owner and holds his margin until its deadline. So every
refusal of the contracts that follows from the request, the deployment's constants and the chain as it stands at the
attestor's head has its check here, with the contract's error beside it. What may change before the act is executed
(balances, what is left of an order or a leg, the margin itself) is judged in `permits` and `terms`; what the request
says of itself, in `requests`. A test runs acts of every kind against the contracts and compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keeper.margin.listing import UnknownAsset
from keeper.state.actions import Move, Reserve, Takeover, Trade, Unlink, Withdraw
from keeper.state.batch import UNIT
from keeper.state.ids import ZERO32, ZERO_ADDRESS, AssetId, IdError, has_margin, is_token, parse_instrument
from keeper.state.live import PermitItem
from keeper.state.problem import Problem
from keeper.state.world import ChainState

from .facts import Check, Facts
from .permits import Context
from .requests import DEADLINE_SECONDS

MOST_INSTRUMENTS = 48
"""Instruments that one account may hold on one chain (`Ledger.MAX_INSTRUMENTS`)."""


def refused_on_chain(item: PermitItem, head: ChainState, context: Context) -> Problem | None:
    """The first refusal that the contracts would give to an act at its chain's head; None where they give none."""
    facts = Facts(context.deployment, context.listing, head, _marks(item, context))
    for check in CHECKS:
        if isinstance(item.action, check.acts):
            problem = check.judge(item, item.action, facts)
            if problem is not None:
                return problem
    return None


def _marks(item: PermitItem, context: Context) -> tuple[int, ...]:
    if not isinstance(item.action, Trade):
        return ()
    try:
        return tuple(context.model.price(item.orders[0].asset, marks) for marks in context.marks)
    except UnknownAsset:  # the check of instruments names it
        return ()


# --- the permit ------------------------------------------------------------------------------------------------------


def _deadline(item: PermitItem, _: Any, facts: Facts) -> Problem | None:
    now, deadline = facts.state.block.time, item.permit.deadline
    if now < deadline <= now + DEADLINE_SECONDS:
        return None
    return Problem(
        "deadline",
        f"the permit's deadline {deadline} is {deadline - now} s after the head of chain {item.chain_id}, "
        f"wanted 1 to {DEADLINE_SECONDS} s",
        "permit.deadline",
        deadline,
        f"{now + 1} to {now + DEADLINE_SECONDS}",
        "unix seconds",
    )


def _nonce(item: PermitItem, _: Any, facts: Facts) -> Problem | None:
    nonce = item.permit.nonce
    if (item.permit.account_id, nonce) not in facts.state.used_nonces:
        return None
    return Problem(
        "nonce_used", f"nonce {nonce} is spent on chain {item.chain_id}", "permit.nonce", nonce, "one never used"
    )


# --- accounts and addresses ------------------------------------------------------------------------------------------


def _claims_account(item: PermitItem, _: Any, __: Facts) -> Problem | None:
    for name, account in zip(("permit.accountId", "permit.counterpartyId"), item.accounts, strict=False):
        if not has_margin(account):
            return Problem(
                "claims_account",
                "no permit touches an account of claims, nor one without an owner",
                name,
                account,
                "an owner's account, its sub-account below 2**96 - 1",
            )
    return None


def _receiver(item: PermitItem, action: Withdraw, facts: Facts) -> Problem | None:
    vault = facts.deployment.chains[item.chain_id].contracts.vault
    if action.receiver not in (ZERO_ADDRESS, vault):
        return None
    return Problem(
        "bad_address",
        "the receiver is " + ("the vault itself" if action.receiver == vault else "zero"),
        "action.receiver",
        action.receiver,
        "an address that can use the tokens: not zero, not the vault",
    )


def _token(item: PermitItem, action: Withdraw, facts: Facts) -> Problem | None:
    chain = facts.deployment.chains[item.chain_id]
    known = {token.address: token.symbol for token in (chain.settlement, *chain.collateral)}
    if action.token in known:
        return None
    names = ", ".join(f"{symbol} 0x{address.hex()}" for address, symbol in known.items())
    return Problem(
        "unknown_token",
        f"chain {chain.name} holds no token 0x{action.token.hex()}",
        "action.token",
        action.token,
        f"a token of chain {item.chain_id}: {names}",
    )


def _integrator(_: PermitItem, action: Reserve, __: Facts) -> Problem | None:
    if action.integrator != ZERO_ADDRESS:
        return None
    return Problem(
        "bad_address",
        "the integrator is zero",
        "action.integrator",
        action.integrator,
        "the address that may claim and release the reservation",
    )


def _clearance(_: PermitItem, action: Reserve, __: Facts) -> Problem | None:
    """Anybody sends a clearance, so one that names a sender is a reservation gone wrong."""
    if not action.clears or action.submitter == ZERO_ADDRESS:
        return None
    return Problem(
        "clearance",
        f"a clearance is anybody's to send, this one names 0x{action.submitter.hex()}",
        "action.submitter",
        action.submitter,
        "zero",
    )


def _not_itself(_: PermitItem, action: Takeover, __: Facts) -> Problem | None:
    if action.account_id != action.liquidated:
        return None
    return Problem(
        "self_liquidation",
        "an account does not take over its own position",
        "action.liquidated",
        action.liquidated,
        "another account",
    )


def _linked(item: PermitItem, action: Unlink, facts: Facts) -> Problem | None:
    named = facts.state.links.get(action.account_id, frozenset[int]())
    if action.chain_id in named:
        return None
    told = ", ".join(map(str, sorted(named))) or "none"
    return Problem(
        "not_linked",
        f"on chain {item.chain_id} the account does not name chain {action.chain_id}",
        "action.chainId",
        action.chain_id,
        f"a chain that it names there: {told}",
    )


# --- times -----------------------------------------------------------------------------------------------------------


def _until(_: PermitItem, action: Reserve, facts: Facts) -> Problem | None:
    now = facts.state.block.time
    if action.clears or action.until >= now:
        return None
    return Problem(
        "reservation_in_past",
        f"the reservation would end at {action.until}, {now - action.until} s before the chain's head",
        "action.until",
        action.until,
        f"{now} or later; a loan wants it well past its due date",
        "unix seconds",
    )


# --- instruments -----------------------------------------------------------------------------------------------------


def _asset_of(item: PermitItem) -> AssetId | None:
    """The instrument or token of a Trade, Move or Takeover; None for cash."""
    action = item.action
    if isinstance(action, Trade):
        return item.orders[0].asset
    if isinstance(action, Move):
        return None if action.asset == ZERO32 else AssetId(action.asset)
    return action.asset if isinstance(action, Takeover) else None


def _field(action: Trade | Move | Takeover) -> str:
    return "orders[0].asset" if isinstance(action, Trade) else "action.asset"


def _tradable(item: PermitItem, action: Trade | Move | Takeover, facts: Facts) -> Problem | None:
    """Only instruments are traded and moved; a token is taken over, where this chain's vault holds it."""
    asset = _asset_of(item)
    if asset is None:
        return None
    wanted = "a listed instrument"
    if isinstance(action, Takeover):
        wanted += ", or a collateral token of this chain"
        listed = facts.listing.collateral.get(asset)
        if listed is not None and listed.chain_id == item.chain_id:
            return None
    try:
        parse_instrument(asset)
    except IdError:
        told = f"0x{asset.hex()} is {'a token' if is_token(asset) else 'no instrument'}"
        return Problem("not_tradable", told, _field(action), asset, wanted)
    return None


def _listed(item: PermitItem, action: Trade | Move | Takeover, facts: Facts) -> Problem | None:
    """An instrument that is not listed has no mark, and nothing is done without one."""
    asset = _asset_of(item)
    if asset is None:
        return None
    try:
        facts.listing.underlying_of(asset)
    except UnknownAsset as error:
        return Problem("unknown_asset", str(error), _field(action), asset, "an instrument that the deployment lists")
    return None


def _unexpired(item: PermitItem, action: Trade | Move | Takeover, facts: Facts) -> Problem | None:
    asset = _asset_of(item)
    if asset is None or is_token(asset):
        return None
    expiry, now = parse_instrument(asset).expiry, facts.state.block.time
    if not expiry or now < expiry:
        return None
    return Problem(
        "instrument_expired",
        f"the instrument expired at {expiry}, {now - expiry} s before the chain's head: it only settles",
        _field(action),
        asset,
        f"an instrument whose expiry is after {now}",
        "unix seconds",
    )


def _room(item: PermitItem, action: Trade | Move | Takeover, facts: Facts) -> Problem | None:
    asset = _asset_of(item)
    if asset is None or is_token(asset):
        return None
    for account in item.accounts:
        sizes = facts.state.sizes.get(account)
        if sizes is not None and asset not in sizes and len(sizes) >= MOST_INSTRUMENTS:
            return Problem(
                "position_limit",
                f"account 0x{account.hex()} holds {len(sizes)} instruments on chain {item.chain_id}",
                "action.asset",
                len(sizes) + 1,
                f"at most {MOST_INSTRUMENTS} an account and chain",
                "instruments",
            )
    return None


# --- orders ----------------------------------------------------------------------------------------------------------


def _cancelled(item: PermitItem, _: Trade, facts: Facts) -> Problem | None:
    for number, order in enumerate(item.orders):
        if (order.account_id, order.nonce) in facts.state.cancelled:
            return Problem(
                "order_cancelled",
                f"its owner cancelled order nonce {order.nonce}",
                f"orders[{number}].nonce",
                order.nonce,
                "an order that was not cancelled, under another nonce",
            )
    return None


def _one_submitter(item: PermitItem, _: Trade, __: Facts) -> Problem | None:
    named = [order.submitter for order in item.orders if order.submitter != ZERO_ADDRESS]
    if len(set(named)) < 2:
        return None
    return Problem(
        "two_submitters",
        "each order names another submitter, so nobody can send the match",
        "orders[1].submitter",
        named[1],
        f"zero (anyone) or the maker's, 0x{named[0].hex()}",
    )


def _fee(item: PermitItem, action: Trade, facts: Facts) -> Problem | None:
    fee = -(-action.price * facts.deployment.profile.fee_rate // UNIT)
    for number, order in enumerate(item.orders):
        if fee > order.max_fee:
            return Problem(
                "fee_above_max",
                f"the fee would be {fee / UNIT:.12g} USD a unit, the order allows {order.max_fee / UNIT:.12g}",
                f"orders[{number}].maxFee",
                order.max_fee,
                f"at least {fee}",
                "USD 1e18 a unit",
            )
    return None


def _band(item: PermitItem, action: Trade, facts: Facts) -> Problem | None:
    """Outside the band around every mark that the match may find on chain: it needs the market to move first."""
    band, marks = facts.deployment.profile.price_band, facts.marks
    if not marks or any(abs(action.price - mark) <= mark * band // UNIT for mark in marks):
        return None
    least, most = marks[0] - marks[0] * band // UNIT, marks[0] + marks[0] * band // UNIT
    return Problem(
        "price_outside_band",
        f"the price {action.price / UNIT:.12g} USD is more than {band / UNIT * 100:g} % from the mark "
        f"{marks[0] / UNIT:.12g}",
        "action.price",
        action.price,
        f"{least} to {most}",
        "USD 1e18 a unit",
    )


ANY = (Withdraw, Trade, Reserve, Takeover, Move, Unlink)
CHECKS: tuple[Check, ...] = (
    Check("deadline", ("PermitExpired", "PermitTooLong"), ANY, _deadline),
    Check("nonce_used", ("NonceAlreadyUsed",), ANY, _nonce),
    Check("claims_account", ("ClaimsAccount",), ANY, _claims_account),
    Check("bad_address", ("BadAddress",), (Withdraw,), _receiver),
    Check("bad_address", ("BadAddress",), (Reserve,), _integrator),
    Check("unknown_token", ("InsufficientBalance",), (Withdraw,), _token),
    Check("not_linked", ("NotLinked",), (Unlink,), _linked),
    Check("reservation_in_past", ("ReservationInPast",), (Reserve,), _until),
    Check("clearance", ("ClearanceNamesSubmitter",), (Reserve,), _clearance),
    Check("self_liquidation", ("SelfLiquidation",), (Takeover,), _not_itself),
    Check("not_tradable", ("NotTradable",), (Trade, Move, Takeover), _tradable),
    Check("unknown_asset", ("MarkAssetMismatch",), (Trade, Move, Takeover), _listed),
    Check("instrument_expired", ("InstrumentExpired", "InstrumentSettled"), (Trade, Move, Takeover), _unexpired),
    Check("position_limit", ("TooManyInstruments",), (Trade, Move, Takeover), _room),
    Check("order_cancelled", ("OrderIsCancelled",), (Trade,), _cancelled),
    Check("two_submitters", ("NotSubmitter",), (Trade,), _one_submitter),
    Check("fee_above_max", ("FeeAboveMax",), (Trade,), _fee),
    Check("price_outside_band", ("PriceOutsideBand",), (Trade,), _band),
)

ELSEWHERE: Mapping[str, tuple[str, ...]] = {
    # What the request says of itself: `requests`.
    "UnknownAttestorSet": ("attestor_set",),
    "PermitAccountMismatch": ("permit_mismatch",),
    "ActionMismatch": ("permit_mismatch",),
    "NotOwner": ("owner_signature", "not_one_owner"),
    "NotOwnerOrSubmitter": ("owner_signature",),  # who sends it is seen on chain only; whom the owner named, he signed
    "OrderSignatureInvalid": ("owner_signature",),
    "AssetMismatch": ("trade_terms",),
    "SelfMatch": ("trade_terms",),
    "SideMismatch": ("trade_terms",),
    "OrderExpired": ("trade_terms",),
    "LimitExceeded": ("trade_terms",),
    "CashPartExceedsAmount": ("bad_amount", "clearance"),
    "SameAccount": ("not_one_owner",),
    # Amounts, and what may change before the act is executed: `terms`.
    "ZeroAmount": ("bad_amount", "trade_terms"),
    "NegativeAmount": ("bad_amount",),
    "InsufficientBalance": ("insufficient_balance", "insufficient_free_margin"),
    "InsufficientHeld": ("vault_short", "insufficient_free_margin"),
    "Overfill": ("order_overfilled", "trade_terms"),
    "InvalidProof": ("no_leg",),
    "LegNotInLatestBatch": ("no_leg",),
    "LegNamesCounterparty": ("no_leg",),
    "LegVoid": ("no_leg",),
    "LegSideMismatch": ("no_leg",),
    "LegExhausted": ("no_leg",),
    "ExceedsPosition": ("no_leg",),
}
"""Errors of permitted acts that are refused in other places, with the codes they are refused by there."""
