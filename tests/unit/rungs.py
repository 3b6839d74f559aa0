"""The waterfall of small worlds: an insolvent account's legs on every rung, judged as signers do, and filled."""

from __future__ import annotations

from dataclasses import replace

from worlds import DEPLOYMENT, LISTING, MAKER, MODEL, NOW, OTHER, OWNER, STRANGER, B, Chains, leg_filled, marks

from keeper.attest.batch import reports_at
from keeper.clearing.check import check_legs
from keeper.clearing.legs import leaves_of
from keeper.clearing.plan import plan_legs
from keeper.clearing.sale import Setting, sale_of
from keeper.clearing.waterfall import Waterfall
from keeper.market.marks import Marks
from keeper.state.batch import LiquidationLeaf
from keeper.state.ids import FUND, AccountId
from keeper.state.live import LegItem, LiveItem
from keeper.state.world import World

PROFILE = DEPLOYMENT.profile
RIPE = NOW - 2 * PROFILE.ramp_seconds
"""An auction that began then has had its time."""
GRAIN = 10**12


def setting(chains: Chains, prices: Marks | None = None) -> Setting:
    return Setting(chains.world, prices or marks(), MODEL, LISTING, PROFILE, NOW)


def waterfall(chains: Chains, prices: Marks | None = None, live: list[LiveItem] | None = None) -> Waterfall:
    reports = reports_at(chains.world, prices or marks(), MODEL, LISTING)
    return Waterfall(setting(chains, prices), {report.account: report for report in reports}, live or [])


def planned(
    chains: Chains,
    started: int = RIPE,
    account: AccountId = OWNER,
    chain_id: int = B,
    live: list[LiveItem] | None = None,
    prices: Marks | None = None,
) -> list[LiquidationLeaf]:
    """The legs of one account, checked as a signer does."""
    at, rungs = setting(chains, prices), waterfall(chains, prices, live)
    own = [item for item in live or [] if account in item.accounts]
    sale = rungs.offer(sale_of(chains.account(account, chain_id), at, own), started)
    legs = leaves_of(plan_legs(sale), sale, at, started)
    assert faults(chains, legs, started, live, prices) == []
    return legs


def faults(
    chains: Chains,
    legs: list[LiquidationLeaf],
    started: int = RIPE,
    live: list[LiveItem] | None = None,
    prices: Marks | None = None,
) -> list[str]:
    at, rungs = setting(chains, prices), waterfall(chains, prices, live)
    if not legs:
        return []
    account = chains.account(legs[0].account_id, legs[0].chain_id)
    rungs.note(legs)
    own = [item for item in live or [] if account.account_id in item.accounts]
    sale = sale_of(account, at, own)
    found = check_legs(legs, account, at, own, gains=rungs.gains(sale, legs))
    for leaf in legs:
        found += rungs.faults(leaf, sale, started)
    return found


def insolvent(equity: float = -500, fund: float = 0) -> Chains:
    """5 ETH long on B at 3,000, MM 2,100; OTHER has sold them, MAKER 1 of his own, to STRANGER."""
    chains = Chains().size(OWNER, B, 5).cash(OWNER, B, equity - 15_000)
    chains.size(OTHER, B, -5).cash(OTHER, B, 15_000 + 10_000)
    chains.size(MAKER, B, -1).cash(MAKER, B, 3_000 + 10_000).size(STRANGER, B, 1).cash(STRANGER, B, 0)
    return chains.cash(FUND, B, fund) if fund else chains


def deleveraged(chains: Chains, leaf: LiquidationLeaf) -> World:
    size = abs(leaf.close_limit)
    world = leg_filled(chains.world, LegItem(leaf, NOW), size, 0, AccountId(leaf.counterparty))
    # `leg_filled` pays the taker of an auction its flat fee, which a named counterparty does not get.
    fee = PROFILE.flat_fee * size // abs(leaf.close_limit)
    state = world[leaf.chain_id]
    cash = state.cash.set(leaf.account_id, state.cash.get(leaf.account_id, 0) + fee)
    other = AccountId(leaf.counterparty)
    cash = cash.set(other, cash.get(other, 0) - fee)
    return {**world, leaf.chain_id: replace(state, cash=cash)}
