"""Liquidation legs of small worlds: planned as proposers plan them, judged as signers do, filled to any part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from worlds import DEPLOYMENT, LISTING, MODEL, NOW, OWNER, A, B, Chains, marks

from keeper.clearing.check import check_legs
from keeper.clearing.effects import Effect, legs_effect
from keeper.clearing.legs import leaves_of
from keeper.clearing.plan import plan_legs
from keeper.clearing.sale import Setting, deposit_target, sale_of
from keeper.margin.portfolio import portfolio
from keeper.margin.report import AccountReport, evaluate
from keeper.market.marks import Marks
from keeper.state.batch import LiquidationLeaf
from keeper.state.ids import AccountId
from keeper.state.live import LegItem, LiveItem

PROFILE = DEPLOYMENT.profile
GRAIN = 10**12


def setting(chains: Chains, prices: Marks | None = None, timestamp: int = NOW) -> Setting:
    return Setting(chains.world, prices or marks(), MODEL, LISTING, PROFILE, timestamp)


def plans(
    chains: Chains,
    account: AccountId = OWNER,
    chain_id: int = A,
    prices: Marks | None = None,
    live: Sequence[LiveItem] = (),
    timestamp: int = NOW,
    auction_start: int = NOW - 5,
) -> list[LiquidationLeaf]:
    at = setting(chains, prices, timestamp)
    sale = sale_of(chains.account(account, chain_id), at, live)
    return leaves_of(plan_legs(sale), sale, at, auction_start) if sale.due else []


def plan(
    chains: Chains,
    account: AccountId = OWNER,
    chain_id: int = A,
    prices: Marks | None = None,
    live: Sequence[LiveItem] = (),
) -> LiquidationLeaf | None:
    """The only leg, None where there is none."""
    found = plans(chains, account, chain_id, prices, live)
    assert len(found) <= 1
    return found[0] if found else None


def planned(chains: Chains, prices: Marks | None = None, live: Sequence[LiveItem] = ()) -> LiquidationLeaf:
    leaf = plan(chains, prices=prices, live=live)
    assert leaf is not None
    assert faults(chains, leaf, prices=prices, live=live) == []
    return leaf


def faults(
    chains: Chains, *legs: LiquidationLeaf, prices: Marks | None = None, live: Sequence[LiveItem] = ()
) -> list[str]:
    account = chains.account(legs[0].account_id, legs[0].chain_id)
    return check_legs(legs, account, setting(chains, prices), live)


def targeted(leaf: LiquidationLeaf, chains: Chains) -> LiquidationLeaf:
    """With the deposit target that the account's legs on that chain have."""
    at = setting(chains)
    account = chains.account(leaf.account_id, leaf.chain_id)
    return replace(leaf, deposit_target=deposit_target(sale_of(account, at), leaf.chain_id, at))


def filled(chains: Chains, leaf: LiquidationLeaf, part: float = 1.0, prices: Marks | None = None) -> AccountReport:
    """The account after filling a part of a leg at its worst price."""
    return all_filled(chains, [(leaf, part)], prices)


def fill_effect(chains: Chains, leaf: LiquidationLeaf, part: float) -> Effect:
    state = chains.world[leaf.chain_id]
    remaining = abs(leaf.close_limit) - state.closed.get((leaf.account_id, leaf.asset), 0)
    return legs_effect([LegItem(leaf, NOW)], state, int(remaining * part), PROFILE)


def all_filled(
    chains: Chains, fills: Sequence[tuple[LiquidationLeaf, float]], prices: Marks | None = None
) -> AccountReport:
    first = fills[0][0]
    book = portfolio(chains.world, LISTING, chains.account(first.account_id, first.chain_id))
    for leaf, part in fills:
        book = book.plus(fill_effect(chains, leaf, part))
    return evaluate([book], prices or marks(), MODEL)[0]


def long_five(equity: float) -> Chains:
    """5 ETH long on B at 3,000: IM 2,670, MM 2,100; cash on A such that equity is as asked."""
    return Chains().size(OWNER, B, 5).cash(OWNER, B, -15_000).cash(OWNER, A, equity).linked(OWNER, (A, B))
