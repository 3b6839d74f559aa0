"""Concentration is counted per owner: over all accounts that one person has, in leaves, permits and liquidation."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import (
    BTC,
    DEPLOYMENT,
    ETH,
    LISTING,
    MAKER,
    NOW,
    OTHER,
    OWNER,
    SUB,
    A,
    B,
    C,
    Chains,
    crowded,
    dollars,
    executed,
    granted,
    inputs,
    leg,
    leg_filled,
    marks,
    move,
    refused,
    report_of,
    trade,
    units,
    usd,
    withdraw,
)

from keeper.attest.batch import build_batch, leaf_faults, reports_at
from keeper.clearing.check import check_legs
from keeper.clearing.legs import leaves_of
from keeper.clearing.plan import plan_legs
from keeper.clearing.sale import Setting, sale_of
from keeper.margin.kernel import concentration
from keeper.margin.owner import others_of, owner_book, owner_groups, with_owner_concentration
from keeper.margin.portfolio import Portfolio, portfolio, portfolios
from keeper.margin.report import AccountReport, evaluate
from keeper.margin.valuation import Valuation
from keeper.state.batch import ChainCut
from keeper.state.deployment import Profile
from keeper.state.ids import FEES, FUND, AccountId, account_id
from keeper.state.world import MarginAccount, accounts_of, component_of, margin_accounts

MODEL = crowded(100_000)
"""0.05 · N · (T ÷ 100,000 − 1) USD."""
PLAIN = crowded(10**12)
SUBS = tuple(account_id(bytes([0xA1]) * 20, n) for n in range(4))
"""Of OWNER, itself first."""


def concentration_of(chains: Chains, account: AccountId, chain_id: int = A) -> float:
    """What an account is charged: its initial margin less what it would be in a market that absorbs everything."""
    book = owner_book(chains.world, LISTING, component_of(chains.world, account, chain_id), marks(), MODEL)
    with_, without = (evaluate([book], marks(), model)[0].initial_margin for model in (MODEL, PLAIN))
    return dollars(with_ - without)


# --- what the others hold -------------------------------------------------------------------------------------------


def test_each_account_is_charged_beside_its_owners_others_by_hand() -> None:
    # 40 and 30 ETH at 3,000: T = 210,000. 5 % · 120,000 · 1.1 = 6,600 and 5 % · 90,000 · 1.1 = 4,950; in one account
    # 5 % · 210,000 · 1.1 = 11,550.
    chains = Chains().size(OWNER, A, 40).size(SUB, A, 30)
    assert concentration_of(chains, OWNER) == pytest.approx(6_600, abs=1e-5)
    assert concentration_of(chains, SUB) == pytest.approx(4_950, abs=1e-5)
    assert concentration_of(Chains().size(OWNER, A, 70), OWNER) == pytest.approx(11_550, abs=1e-5)
    # By absolute value: a short elsewhere costs the market as much.
    assert concentration_of(Chains().size(OWNER, A, 40).size(SUB, A, -30), OWNER) == pytest.approx(6_600, abs=1e-5)
    # Another underlying, and another owner, are none of it.
    apart = Chains().size(OWNER, A, 40).size(SUB, A, 30, BTC).size(OTHER, A, 30)
    assert concentration_of(apart, OWNER) == pytest.approx(0.05 * 120_000 * 0.2, abs=1e-5)


def test_what_the_others_hold_is_netted_over_their_chains_and_with_their_collateral() -> None:
    chains = Chains().linked(SUB, (A, B)).size(SUB, A, 50).size(SUB, B, -20).weth(SUB, A, 5).size(OWNER, A, 1)
    book = owner_book(chains.world, LISTING, chains.account(), marks(), MODEL)
    assert book.elsewhere == {"ETH": usd(35 * 3_000)}


def test_sequence_27_positions_of_the_same_address_on_a_chain_that_is_not_shared_burden_nobody() -> None:
    """CM-09: on B somebody else controls the address, and opens sub-accounts there as large as he likes."""
    chains = Chains().linked(OWNER, (A, C)).size(OWNER, A, 40).size(OWNER, B, 900).size(SUB, B, 900)
    assert concentration_of(chains, OWNER) == pytest.approx(0.05 * 120_000 * 0.2, abs=1e-5)
    # He does count against himself.
    assert others_of(chains.world, component_of(chains.world, OWNER, B)) == [MarginAccount(SUB, (B,))]
    # A sub-account that both chains name joins them: whoever linked it controls both.
    chains.linked(SUB, (B, C))
    assert [each.account_id for each in others_of(chains.world, chains.account())] == [OWNER, SUB]


def test_accounts_are_grouped_by_owner_and_shared_chains() -> None:
    accounts = [
        MarginAccount(SUBS[0], (A,)),
        MarginAccount(OTHER, (A, B)),
        MarginAccount(SUBS[1], (B,)),
        MarginAccount(SUBS[2], (C,)),
        MarginAccount(SUBS[3], (A, B)),
    ]
    assert owner_groups(accounts) == [[0, 2, 4], [1], [3]]
    assert owner_groups([]) == []


def test_accounts_of_an_owner_are_those_among_all() -> None:
    chains = Chains().cash(OWNER, A, 1).weth(SUB, B, 1).link(OWNER, C, [A]).size(OTHER, A, 1)
    chains.reserved(SUBS[2], C, 1, until=1)
    for owner in (OWNER[:20], OTHER[:20], MAKER[:20]):
        every = [each for each in margin_accounts(chains.world) if each.account_id[:20] == owner]
        assert accounts_of(chains.world, owner) == every  # type: ignore[arg-type]
    # What changes is seen: nothing is remembered of a world but its own.
    chains.cash(SUBS[3], A, 5)
    assert MarginAccount(SUBS[3], (A,)) in accounts_of(chains.world, OWNER[:20])  # type: ignore[arg-type]


# --- splitting ------------------------------------------------------------------------------------------------------

usd_amounts = st.floats(0, 5e6, allow_subnormal=False)


@given(st.lists(usd_amounts, min_size=1, max_size=6), st.floats(0.01, 1.0), st.floats(1e3, 1e6))
def test_law_splitting_over_accounts_never_lowers_the_sum_of_charges(
    held: list[float], rate: float, volume: float
) -> None:
    """Also where the whole costs a dollar a dollar already; with what stands in each account as elsewhere to others."""
    whole = sum(held)
    split = sum(concentration(each, whole - each, volume, rate) for each in held)
    assert split >= concentration(whole, 0.0, volume, rate) - 1e-9 * whole


@given(st.lists(st.integers(-2_000, 2_000), min_size=4, max_size=4), st.lists(st.sampled_from([A, B]), min_size=4))
@settings(max_examples=40, deadline=None)
def test_law_an_owner_saves_nothing_by_sub_accounts(sizes: list[int], where: list[int]) -> None:
    """In reports, to their rounding: the same positions in four accounts on two chains, and in one."""
    split, whole = Chains(), Chains().linked(OWNER, (A, B))
    for account, size, chain_id in zip(SUBS, sizes, where, strict=False):
        split.linked(account, (A, B)).size(account, chain_id, size / 10)
    for chain_id in (A, B):
        whole.size(OWNER, chain_id, sum(s for s, c in zip(sizes, where, strict=False) if c == chain_id) / 10)
    charges = sum(concentration_of(split, account) for account in SUBS)
    assert charges >= concentration_of(whole, OWNER) - 1e-4


@given(st.lists(st.floats(0, 3e6), min_size=4, max_size=4), st.floats(0, 3e6))
def test_law_the_charge_for_others_only_grows_with_what_is_held(corners: list[float], volume: float) -> None:
    """Supermodular: what judging the others at their most, where an account holds most, relies on."""
    (less, more), (few, many) = sorted(corners[:2]), sorted(corners[2:])
    at_less, at_more = (
        concentration(held, many, volume + 1, 0.05) - concentration(held, few, volume + 1, 0.05)
        for held in (less, more)
    )
    assert at_less + 1e-6 >= 0
    assert at_less <= at_more + 1e-6


# --- leaves ---------------------------------------------------------------------------------------------------------


def crowd(accounts: int) -> Chains:
    """Owners of one to three accounts on up to three chains."""
    chains = Chains()
    for n in range(accounts):
        account = account_id((n // 3 + 256).to_bytes(20, "big"), n % 3)
        linked = ((A, B), (B, C), (A, C))[n % 3]
        chains.linked(account, linked).size(account, linked[0], (n * 37 % 400 - 200) / 7)
        chains.size(account, linked[1], (n * 11 % 90 - 45) / 900, BTC).cash(account, linked[0], 1_000 + n)
    return chains


def test_attestors_agree_to_the_last_digit_and_each_report_is_the_accounts_own() -> None:
    """What a batch says of an account is what its owner's accounts alone say, whoever else is computed beside it."""
    chains = crowd(60)
    reports = reports_at(chains.world, marks(), MODEL, LISTING)
    # Another attestor that read the same blocks in another order.
    other = {chain_id: replace(state) for chain_id, state in reversed(chains.world.items())}
    assert reports_at(other, marks(), MODEL, LISTING) == reports
    charged = 0
    for report in reports:
        book = owner_book(chains.world, LISTING, report.account, marks(), MODEL)
        assert evaluate([book], marks(), MODEL)[0] == report
        charged += evaluate([replace(book, elsewhere={})], marks(), MODEL)[0].initial_margin < report.initial_margin
    assert charged > 30


def test_a_leaf_that_leaves_the_owners_others_out_is_found() -> None:
    chains = Chains().size(OWNER, A, 40).size(SUB, A, 30).cash(OWNER, A, 10**5).cash(SUB, A, 10**5)
    reports = reports_at(chains.world, marks(), MODEL, LISTING)
    cut = [ChainCut(chain, 100, bytes(32), NOW, 104, NOW + 4, False) for chain in (A, B, C)]

    def faults(of: list[AccountReport]) -> list[str]:
        return leaf_faults(build_batch(DEPLOYMENT, MODEL, cut, inputs(), of, [], 0), reports, MODEL, 0)

    assert faults(reports) == []
    alone = faults(evaluate(portfolios(chains.world, LISTING), marks(), MODEL))
    assert len(alone) == 4
    assert "initial margin" in alone[0]


def test_the_fund_and_the_fees_are_no_owner() -> None:
    chains = Chains().size(FUND, A, 500).size(FEES, A, 500).size(OWNER, A, 40)
    (report,) = reports_at(chains.world, marks(), MODEL, LISTING)
    assert report == report_of(chains.world, OWNER, model=MODEL)
    assert concentration_of(chains, OWNER) == pytest.approx(0.05 * 120_000 * 0.2, abs=1e-5)


def test_books_of_single_accounts_are_as_they_were() -> None:
    chains = Chains().size(OWNER, A, 40).size(OTHER, A, 30)
    books = portfolios(chains.world, LISTING)
    valuation = Valuation.of(marks(), MODEL, (ETH,))
    assert with_owner_concentration(books, valuation) == books


# --- permits --------------------------------------------------------------------------------------------------------


def owner_with(own: float, sub: float, sub_free: float) -> Chains:
    """OWNER with 10 million USD and so many ETH, its sub-account with so many and so much free margin."""
    chains = Chains().size(OWNER, A, own).size(SUB, A, sub).cash(OWNER, A, 10**7).cash(MAKER, A, 10**9)
    free = dollars(report_of(chains.world, SUB, model=MODEL).free)
    return chains.cash(SUB, A, sub_free - free)


@pytest.mark.cm("CM-11")
def test_CM11_an_act_that_a_sibling_cannot_bear_is_refused_for_it() -> None:
    # Each ETH that OWNER buys raises what its sub-account requires by 5 % · 90,000 · 3,000 ÷ 100,000 = 135, in a free
    # margin of 2,000 above the buffer.
    chains = owner_with(40, 30, 0)
    buffer = 0.02 * dollars(report_of(chains.world, SUB, model=MODEL).initial_margin)
    context = owner_with(40, 30, 2_000 + buffer).context(model=MODEL)
    granted(trade(14.4, order_size=20), [], context)
    refusal = refused(trade(14.8), [], context, "owner_concentration")
    assert refusal.account == SUB
    assert refusal.free == usd(2_000 + buffer)
    assert report_of(context.world, SUB, model=MODEL).free == refusal.free
    # What the grant said is so: the sub-account keeps its buffer.
    after = report_of(executed(context.world, trade(14.4)), SUB, model=MODEL)
    assert dollars(after.free) >= 0.02 * dollars(after.initial_margin)
    # Not so for another owner, nor in a market that absorbs it, nor for what makes the owner's positions smaller.
    granted(trade(14.8, account=OTHER), [], Chains(dict(context.world)).cash(OTHER, A, 10**7).context(model=MODEL))
    granted(trade(14.8), [], owner_with(40, 30, 2_000).context(model=PLAIN))
    granted(trade(-20), [], owner_with(40, 30, 0).context(model=MODEL))


@pytest.mark.cm("CM-11")
def test_CM11_a_sibling_in_trouble_holds_up_only_what_costs_it_margin() -> None:
    context = owner_with(40, 30, -500).context(model=MODEL)
    granted(trade(-1), [], context)
    granted(withdraw(1_000), [], context)
    granted(trade(0.05, asset=BTC), [], context)
    refused(trade(0.1), [], context, "owner_concentration")
    # Where concentration costs the sibling nothing: its trouble is its own.
    granted(trade(1), [], owner_with(1, 1, -500).context(model=MODEL))


@pytest.mark.cm("CM-11")
def test_CM11_what_is_live_on_a_sibling_counts_at_its_most() -> None:
    """The sub-account may buy 10 ETH: OWNER is judged as if it had, and as if it had not where an act frees margin."""
    chains = owner_with(40, 30, 50_000)
    live = trade(10, account=SUB)
    context = chains.context(model=MODEL)
    # Free margin less what 10 ETH more elsewhere cost: 5 % · 120,000 · 30,000 ÷ 100,000.
    free = dollars(report_of(chains.world, OWNER, model=MODEL).free)
    assert dollars(granted(withdraw(1), [], context).free_after) == pytest.approx(free - 1, abs=1e-5)
    assert dollars(granted(withdraw(1), [live], context).free_after) == pytest.approx(free - 1 - 1_800, abs=1e-5)
    too_much = refused(withdraw(free), [live], context, "insufficient_free_margin")
    assert dollars(too_much.free or 0) == pytest.approx(free - 1_800, abs=1e-5)
    assert dollars(too_much.asked or 0) == pytest.approx(free, abs=1e-5)
    # A sale that closes what is elsewhere may also not be executed.
    sale = trade(-10, account=SUB)
    assert dollars(granted(withdraw(1), [sale], context).free_after) == pytest.approx(free - 1, abs=1e-5)


@pytest.mark.cm("CM-11")
def test_CM11_what_an_act_frees_is_free_whatever_the_siblings_do() -> None:
    """Selling 10 ETH relieves more concentration the more is held elsewhere, which may be gone, or come back."""
    chains = owner_with(40, 300, 10**7)
    worst = report_of(chains.world, OWNER, model=MODEL)
    chains.cash(OWNER, A, 10**7 - dollars(worst.free) - 50_000)
    sale = trade(-10, price=2_970)
    assert granted(sale, [], chains.context(model=MODEL)).reducing
    refused(sale, [trade(-250, account=SUB)], chains.context(model=MODEL), "insufficient_free_margin")


@pytest.mark.cm("CM-11")
def test_CM11_a_leg_on_a_sibling_lets_nothing_cost_it_margin() -> None:
    context = owner_with(40, 30, 100_000).context(model=MODEL)
    granted(trade(1), [], context)
    assert refused(trade(1), [leg(5, SUB, concession=1)], context, "owner_concentration").account == SUB
    granted(trade(-1), [leg(5, SUB, concession=1)], context)


@pytest.mark.cm("CM-11")
def test_CM11_a_move_within_an_owner_is_judged_for_a_third_account_too() -> None:
    """Cash moves nobody's delta; a position that hedges there and not here moves it for all."""
    third = SUBS[2]
    chains = owner_with(40, 30, 10**6).size(third, A, 40).cash(third, A, 0)
    chains.cash(third, A, -dollars(report_of(chains.world, third, model=MODEL).free))
    context = chains.context(model=MODEL)
    granted(move(100), [], context)
    # 30 to the other side and back: what the two hold together stays 70, so the third is charged as before.
    granted(move(10, ETH), [], context)
    # A short of 80 in one, a long of 110 in the other: 190 in place of 70.
    assert refused(move(80, ETH, source=OWNER, target=SUB), [], context, "owner_concentration").account == third


# --- liquidation ----------------------------------------------------------------------------------------------------


@pytest.mark.cm("CM-41")
def test_CM41_a_leg_is_planned_and_checked_beside_what_the_owners_others_hold() -> None:
    """Alone the account would be healthy: only beside its sibling it is below maintenance margin, to every attestor."""
    chains = owner_with(200, 30, 0)
    sub = report_of(chains.world, SUB, model=MODEL)
    chains.cash(SUB, A, dollars(chains.world[A].cash[SUB]) - dollars(sub.free) + dollars(sub.maintenance_margin))
    chains.cash(SUB, A, dollars(chains.world[A].cash[SUB]) - dollars(sub.initial_margin) - 500)
    account = component_of(chains.world, SUB, A)
    beside = report_of(chains.world, SUB, model=MODEL)
    alone = evaluate([portfolio(chains.world, LISTING, account)], marks(), MODEL)[0]
    assert (alone.status, beside.status) == ("healthy", "liquidatable")
    setting = Setting(chains.world, marks(), MODEL, LISTING, Profile(), NOW)
    sale = sale_of(account, setting)
    (leaf,) = leaves_of(plan_legs(sale), sale, setting, NOW)
    assert check_legs([leaf], account, setting) == []
    # q = equity ÷ maintenance margin does not fall by a full fill at the worst price.
    taken = leg(dollars(leaf.close_limit), SUB, concession=dollars(leaf.max_concession))
    after = report_of(leg_filled(chains.world, taken, leaf.close_limit, leaf.max_concession), SUB, model=MODEL)
    assert not after.worse_than(beside)
    assert after.equity >= after.initial_margin


def test_units_of_reports_are_exact() -> None:
    book = Portfolio(MarginAccount(OWNER, (A,)), 0, {ETH: units(1)}, {}, elsewhere={"ETH": usd(200_000)})
    # 5 % · 3,000 · (203,000 ÷ 100,000 − 1).
    charge = evaluate([book], marks(), MODEL)[0].initial_margin - evaluate([book], marks(), PLAIN)[0].initial_margin
    assert dollars(charge) == pytest.approx(154.5, abs=1e-5)
