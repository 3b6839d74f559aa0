"""Settlement cycles planned and checked, by hand and against every other way on small cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from immutables import Map
from worlds import INTEGRATOR, LISTING, OTHER, OWNER, STRANGER, A, B, C, Chains, usd

from keeper.clearing.settlement import (
    Cycle,
    Ledger,
    Terms,
    Vault,
    cover,
    ledgers,
    offset,
    plan,
    shipments,
    unapplied,
    vaults,
)
from keeper.clearing.settlement_checks import broken
from keeper.clearing.transfers import Transfer
from keeper.margin.valuation import GRAIN
from keeper.state.batch import SettlementLeaf
from keeper.state.ids import FEES, FUND, AccountId, claims_account, transfer_id
from keeper.state.world import MarginAccount

TERMS = Terms(least_transfer=usd(10), least_offset=usd(1))
FINE = Terms(least_transfer=1, least_offset=1)


def ledger(account: AccountId, cash: Mapping[int, float], may_enter: bool = True, deficit: float = 0) -> Ledger:
    amounts = {chain_id: usd(amount) for chain_id, amount in cash.items()}
    return Ledger(MarginAccount(account, tuple(sorted(cash))), amounts, may_enter, usd(deficit))


def vault(held: float = 1_000_000, claims: float = 0, decimals: int = 6) -> Vault:
    return Vault(usd(held), usd(claims), decimals)


def leaf(account: AccountId, chain_id: int, delta: float, cycle: int = 7) -> SettlementLeaf:
    return SettlementLeaf(cycle, account, chain_id, usd(delta))


VAULTS = {A: vault(), B: vault(), C: vault()}


# --- one account -----------------------------------------------------------------------------------------------------


def test_a_negative_balance_is_paid_from_a_positive_one() -> None:
    assert offset({A: usd(100), B: usd(-40)}) == {A: usd(-40), B: usd(40)}


def test_nothing_moves_where_all_is_of_one_sign() -> None:
    assert offset({A: usd(100), B: usd(40), C: 0}) == {}
    assert offset({A: usd(-100), B: usd(-40)}) == {}


def test_the_smallest_balance_is_emptied_and_the_rest_paid_where_tokens_are_short() -> None:
    cash = {1: usd(-50), 2: usd(10), 3: usd(100), 4: usd(200)}
    assert offset(cash) == {1: usd(50), 2: usd(-10), 3: usd(-40)}
    assert offset(cash, {4: usd(5)}) == {1: usd(50), 2: usd(-10), 4: usd(-40)}


def test_with_too_little_the_smallest_debt_is_paid_in_full() -> None:
    assert offset({1: usd(60), 2: usd(-100), 3: usd(-20)}) == {1: usd(-60), 2: usd(40), 3: usd(20)}


def test_fractions_of_a_millionth_stay() -> None:
    """The payer keeps what it has beyond whole millionths, the debt may become less than one positive."""
    assert offset({A: 3 * GRAIN + 5, B: -GRAIN - 1}) == {A: -2 * GRAIN, B: 2 * GRAIN}
    assert offset({A: GRAIN - 1, B: -GRAIN}) == {}


CASH = st.dictionaries(st.integers(1, 4), st.integers(-4, 4), min_size=1, max_size=4)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(CASH)
def test_no_other_offset_of_the_same_amount_leaves_fewer_chains_with_cash(whole: dict[int, int]) -> None:
    """CM-50: against every way to pay negative balances from positive ones."""
    cash = {chain_id: amount * GRAIN for chain_id, amount in whole.items()}
    found = offset(cash)
    after = {chain_id: cash[chain_id] + found.get(chain_id, 0) for chain_id in cash}
    owed = sum(-amount for amount in whole.values() if amount < 0)
    had = sum(amount for amount in whole.values() if amount > 0)
    ways = product(*(range(min(amount, 0), max(amount, 0) + 1) for amount in whole.values()))
    complete = [
        way
        for way in ways  # `way` is what each balance becomes, between itself and 0
        if sum(way) == sum(whole.values()) and sum(abs(amount) for amount in way) == abs(had - owed)
    ]
    assert sum(map(abs, after.values())) == abs(had - owed) * GRAIN
    assert sum(1 for amount in after.values() if amount) == min(sum(1 for v in way if v) for way in complete)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    st.dictionaries(st.integers(1, 6), st.integers(-(10**22), 10**22), min_size=1),
    st.dictionaries(st.integers(1, 6), st.integers(-(10**22), 10**22)),
)
def test_laws_of_an_offset(cash: dict[int, int], position: dict[int, int]) -> None:
    """CM-50: sums to zero, in millionths, never a balance beyond 0, and nothing left to do."""
    found = offset(cash, position)
    assert sum(found.values()) == 0
    assert not any(delta % GRAIN for delta in found.values())
    after = {chain_id: amount + found.get(chain_id, 0) for chain_id, amount in cash.items()}
    for chain_id, amount in cash.items():
        assert 0 <= after[chain_id] <= amount if amount >= 0 else amount <= after[chain_id] < GRAIN
    assert offset(after, position) == {}
    assert min(after.values()) >= 0 or max(after.values()) < GRAIN


# --- a cycle ---------------------------------------------------------------------------------------------------------


def test_two_opposite_accounts_need_no_transfer() -> None:
    """CM-50: gross 80 USD, net nothing."""
    cycle = plan([ledger(OWNER, {A: 100, B: -40}), ledger(OTHER, {A: -40, B: 100})], VAULTS, 7, TERMS)
    assert cycle is not None
    assert cycle.shipments == []
    assert set(cycle.entries) == {
        leaf(OWNER, A, -40),
        leaf(OWNER, B, 40),
        leaf(OTHER, A, 40),
        leaf(OTHER, B, -40),
    }


def test_a_net_flow_is_shipped_once() -> None:
    """A's ledger owes 60 less than it holds; B's is short of 25 and C's of 35."""
    accounts = [ledger(OWNER, {A: 200, B: -45, C: -35}), ledger(OTHER, {A: -20, B: 100})]
    cycle = plan(accounts, VAULTS, 7, TERMS)
    assert cycle is not None
    assert cycle.offsets == sorted(cycle.offsets, key=lambda e: (e.account_id, e.chain_id))
    assert cycle.shipments == [leaf(transfer_id(C), A, -35), leaf(transfer_id(B), A, -25)]
    assert broken(cycle.entries, accounts, VAULTS, TERMS, 6) == []


def test_what_is_left_from_before_is_shipped_with_it_or_cancels() -> None:
    before = {A: vault(claims=30), B: vault(claims=-30), C: vault()}
    cycle = plan([], before, 7, TERMS)
    assert cycle is not None
    assert cycle.entries == (leaf(transfer_id(A), B, -30),)
    cycle = plan([ledger(OWNER, {A: 100, B: -30})], before, 7, TERMS)
    assert cycle is not None
    assert cycle.entries == (leaf(OWNER, A, -30), leaf(OWNER, B, 30))


def test_dust_starts_no_cycle() -> None:
    assert plan([ledger(OWNER, {A: 100, B: -0.5})], VAULTS, 7, TERMS) is None
    small = {A: vault(claims=9), B: vault(claims=-9)}
    assert plan([], small, 7, TERMS) is None
    # Entries alone are a cycle; what they leave to ship waits for more.
    cycle = plan([ledger(OWNER, {A: 100, B: -9})], VAULTS, 7, TERMS)
    assert cycle is not None
    assert cycle.shipments == []
    assert plan([], {A: vault(), B: vault()}, 7, TERMS) is None


def test_who_has_an_entry_unapplied_waits_and_a_chain_left_out_takes_no_part() -> None:
    """CM-50."""
    assert plan([ledger(OWNER, {A: 100, B: -40}, may_enter=False)], VAULTS, 7, TERMS) is None
    cycle = plan([ledger(OWNER, {A: 100, B: -40, C: -50})], {A: vault(), B: vault()}, 7, TERMS)
    assert cycle is not None
    assert {entry.chain_id for entry in cycle.offsets} == {A, B}


def test_at_most_so_many_accounts_enter_those_with_most_first() -> None:
    accounts = [ledger(AccountId(bytes([n]) * 32), {A: 100, B: -n}) for n in range(1, 6)]
    cycle = plan(accounts, VAULTS, 7, replace(TERMS, most_accounts=2))
    assert cycle is not None
    assert {entry.account_id[0] for entry in cycle.offsets} == {4, 5}


def test_of_one_id_with_two_margin_accounts_one_enters_at_a_time() -> None:
    four = {1: vault(), 2: vault(), 3: vault(), 4: vault()}
    cycle = plan([ledger(OWNER, {1: 100, 2: -40}), ledger(OWNER, {3: 100, 4: -50})], four, 7, TERMS)
    assert cycle is not None
    assert {entry.chain_id for entry in cycle.offsets} == {3, 4}


def test_scarce_tokens_go_to_the_chain_that_is_short_already() -> None:
    """C is short of less than B, but its ledger owes it today."""
    position = {A: usd(-100), B: usd(70), C: usd(30)}
    poor = {A: vault(held=50, claims=-100), B: vault(), C: vault(claims=30)}
    assert shipments(position, poor, usd(10)) == [Transfer(A, C, usd(30)), Transfer(A, B, usd(20))]
    assert shipments(position, {**poor, A: vault(held=9, claims=-100)}, usd(10)) == []


def test_what_is_promised_is_not_shipped_again() -> None:
    promised = {A: Vault(usd(100), usd(-80), 6, outgoing=usd(80)), B: Vault(0, usd(80), 6, incoming=usd(80))}
    assert plan([], promised, 7, TERMS) is None
    assert promised[A].available == usd(20)


def test_amounts_are_whole_in_the_coarser_token() -> None:
    position = {A: -usd(100.123456), B: usd(100.123456)}
    coarse = {A: vault(), B: vault(decimals=2)}
    assert shipments(position, coarse, 1) == [Transfer(A, B, usd(100.12))]
    assert shipments(position, {A: vault(decimals=18), B: vault()}, 1) == [Transfer(A, B, usd(100.123456))]


# --- the fund --------------------------------------------------------------------------------------------------------


def test_the_fund_pays_the_smallest_deficit_first_where_the_account_owes_most() -> None:
    accounts = [
        ledger(OWNER, {A: -10, B: -200}, deficit=150),
        ledger(OTHER, {A: -30}, deficit=30),
        ledger(STRANGER, {B: 5}),
    ]
    cycle = cover(accounts, {A: usd(50), B: usd(100), C: usd(9)}, 7, TERMS)
    assert cycle is not None
    assert cycle.entries == (
        leaf(FUND, A, -50),
        leaf(FUND, B, -100),
        leaf(OWNER, A, 20),
        leaf(OWNER, B, 100),
        leaf(OTHER, A, 30),
    )
    fund = [ledger(FUND, {A: 50}), ledger(FUND, {B: 100})]
    assert broken(cycle.entries, [*accounts, *fund], VAULTS, TERMS, 6) == []


def test_a_fund_without_cash_or_accounts_without_deficit_make_no_cycle() -> None:
    poor = [ledger(OWNER, {A: -10}, deficit=10)]
    assert cover(poor, {A: usd(-5), B: usd(100)}, 7, TERMS) is None
    assert cover([replace(poor[0], may_enter=False)], {A: usd(100)}, 7, TERMS) is None
    assert cover([ledger(OWNER, {A: 10})], {A: usd(100)}, 7, TERMS) is None


@settings(max_examples=100, derandomize=True, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from([A, B, C]), st.integers(-(10**20), 10**20), min_size=1),
            st.integers(0, 10**20),
        ),
        max_size=6,
    ),
    st.dictionaries(st.sampled_from([A, B, C]), st.integers(-(10**19), 10**20)),
)
def test_laws_of_a_cover(books: list[tuple[dict[int, int], int]], fund: dict[int, int]) -> None:
    """CM-50: over accounts on one chain the deltas sum to zero; attestors find nothing wrong with what is planned."""
    accounts = [
        Ledger(MarginAccount(AccountId(bytes([n + 1]) * 32), tuple(sorted(cash))), cash, True, deficit)
        for n, (cash, deficit) in enumerate(books)
    ]
    own = [Ledger(MarginAccount(FUND, (chain_id,)), {chain_id: cash}) for chain_id, cash in fund.items()]
    cycle = cover(accounts, fund, 7, TERMS)
    entries = cycle.entries if cycle else ()
    assert broken(entries, [*accounts, *own], VAULTS, TERMS, 6) == []
    for chain_id in (A, B, C):
        assert sum(entry.cash_delta for entry in entries if entry.chain_id == chain_id) == 0


# --- what an attestor refuses ----------------------------------------------------------------------------------------

ACCOUNTS = [
    ledger(OWNER, {A: 100, B: -40}),
    ledger(OTHER, {C: -30}, deficit=30),
    ledger(STRANGER, {B: 500, C: -500}, False),
]
FUNDS = [ledger(FUND, {A: 10}), ledger(FUND, {C: 20})]
GOOD = (leaf(OWNER, A, -40), leaf(OWNER, B, 40), leaf(transfer_id(B), A, -40))


def _faults(*entries: SettlementLeaf, newest: int = 6) -> list[str]:
    return broken(entries, [*ACCOUNTS, *FUNDS], VAULTS, TERMS, newest)


def test_what_is_planned_is_not_broken() -> None:
    cycle = plan(ACCOUNTS, VAULTS, 7, TERMS)
    assert cycle == Cycle(7, GOOD)
    assert _faults(*GOOD) == []


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ((leaf(OWNER, A, -40), leaf(OWNER, B, 30)), "its deltas sum to -10.000000 USD"),
        ((leaf(OWNER, A, -50), leaf(OWNER, B, 50)), "pays 50.000000 USD into a balance of -40.000000 USD"),
        ((leaf(OWNER, A, 40), leaf(OWNER, B, -40)), "takes 40.000000 USD from a balance of -40.000000 USD"),
        ((leaf(OWNER, A, 40), leaf(OWNER, B, -40)), "pays 40.000000 USD into a balance of 100.000000 USD"),
        ((leaf(OWNER, A, -0.5), leaf(OWNER, B, 0.5)), "less than 1.000000 USD is offset"),
        ((leaf(OWNER, A, -40), leaf(OWNER, C, 40)), f"no such account on chain {C}"),
        ((leaf(OWNER, A, -40), leaf(OWNER, 5, 40)), "chain 5 takes no part"),
        ((leaf(STRANGER, B, -500), leaf(STRANGER, C, 500)), "an earlier entry is not applied"),
        ((*GOOD, leaf(OWNER, B, 40)), f"on chain {B}: 2 entries"),
        ((*GOOD[:2], leaf(transfer_id(B), A, -40, cycle=8)), "more than one cycle: [7, 8]"),
        ((leaf(OWNER, A, 0),), "0 is 0 or no multiple"),
        ((replace(GOOD[0], cash_delta=-GRAIN - 1), replace(GOOD[1], cash_delta=GRAIN + 1)), "no multiple of 1e-6 USD"),
        ((*GOOD[:2], leaf(transfer_id(B), A, -41)), f"chain {A}: ships 41.000000 USD of 40.000000 USD"),
        ((*GOOD[:2], leaf(transfer_id(C), A, -40)), f"chain {C}: receives 40.000000 USD and is short of 0.000000 USD"),
        ((*GOOD[:2], leaf(transfer_id(B), A, -9)), "9.000000 USD is too little"),
        ((*GOOD[:2], leaf(transfer_id(B), A, 40)), "-40.000000 USD is too little"),
        ((*GOOD[:2], replace(GOOD[2], cash_delta=-usd(20) - 1)), "no whole amount of both tokens"),
        ((*GOOD[:2], leaf(transfer_id(A), A, -40)), f"nothing can be shipped to chain {A}"),
        ((*GOOD[:2], leaf(transfer_id(5), A, -40)), "nothing can be shipped to chain 5"),
        ((leaf(FUND, A, -30), leaf(OTHER, C, 30)), f"chain {A}: deltas sum to -30.000000 USD"),
        ((leaf(FUND, C, -30), leaf(OTHER, C, 30)), "the fund has 20.000000 USD and would pay 30.000000 USD"),
        ((leaf(FUND, A, -5), leaf(OWNER, A, 5)), "gets 5.000000 USD for a deficit of 0.000000 USD"),
        ((leaf(FUND, A, 5), leaf(OWNER, A, -5)), "takes 5.000000 USD beside the fund"),
        ((leaf(FUND, A, 5), leaf(OWNER, A, -5)), "the fund has 10.000000 USD and would pay -5.000000 USD"),
    ],
)
def test_cm50_a_broken_cycle_is_named(entries: tuple[SettlementLeaf, ...], says: str) -> None:
    faults = _faults(*entries)
    assert any(says in fault for fault in faults), faults


def test_a_number_that_is_known_too_many_accounts_and_too_many_transfers_are_named() -> None:
    """CM-50: a number names one cycle for ever."""
    assert _faults(*GOOD, newest=7)[0].endswith("cycle 7 is not later than 7")
    two = [ledger(OWNER, {A: 100, B: -40}), ledger(OTHER, {A: 100, B: -20})]
    cycle = plan(two, VAULTS, 7, TERMS)
    assert cycle is not None
    assert broken(cycle.entries, two, VAULTS, replace(TERMS, most_accounts=1), 6) == ["more than 1 accounts enter"]
    four = {1: vault(claims=-40), 2: vault(claims=-40), 3: vault(claims=40), 4: vault(claims=40)}
    pairs = [leaf(transfer_id(target), source, -20) for source in (1, 2) for target in (3, 4)]
    assert broken(pairs, [], four, TERMS, 6) == ["4 transfers between 4 chains that have a position"]


@settings(max_examples=100, derandomize=True, deadline=None)
@given(
    st.lists(st.dictionaries(st.integers(1, 5), st.integers(-(10**21), 10**21), min_size=1), max_size=8),
    st.lists(
        st.tuples(st.integers(0, 10**22), st.integers(-(10**21), 10**21), st.sampled_from([6, 6, 18, 2])),
        min_size=5,
        max_size=5,
    ),
    st.sampled_from([TERMS, FINE, Terms(usd(100), usd(50), 3)]),
)
def test_what_is_planned_is_never_broken(
    cash: list[dict[int, int]], held: list[tuple[int, int, int]], terms: Terms
) -> None:
    """CM-50: whatever the books; and shipments are at most the chains that move − 1."""
    accounts = [
        Ledger(MarginAccount(AccountId(bytes([n + 1]) * 32), tuple(sorted(own))), own) for n, own in enumerate(cash)
    ]
    places = {n: Vault(*figures) for n, figures in enumerate(held, start=1)}
    cycle = plan(accounts, places, 7, terms)
    if cycle is not None:
        assert broken(cycle.entries, accounts, places, terms, 6) == []
        assert cycle == plan(reversed(accounts), dict(reversed(places.items())), 7, terms)
        assert len(cycle.shipments) <= len(places) - 1


# --- from worlds -----------------------------------------------------------------------------------------------------


def test_what_is_signed_and_not_applied_counts_in_vaults_and_bars_its_account() -> None:
    """CM-50: an entry is final on A and not on B; the shipment left A and has not arrived."""
    chains = Chains().cash(OWNER, A, 60).cash(OWNER, B, -40).cash(OTHER, B, 10).linked(OWNER, (A, B))
    for chain_id in (A, B, C):
        chains.held(chain_id, 100)
    world = chains.world
    world[A] = replace(world[A], claims=usd(0), applied=Map({(OWNER, 7): usd(-40), (transfer_id(B), 7): usd(-40)}))
    assert unapplied(GOOD, world) == [GOOD[1]]
    deficits = {MarginAccount(OTHER, (B,)): usd(3)}
    found = {each.account.account_id: each for each in ledgers(world, GOOD, deficits)}
    assert found[OWNER] == ledger(OWNER, {A: 60, B: -40}, may_enter=False)
    assert found[OTHER] == ledger(OTHER, {B: 10}, deficit=3)
    assert vaults(world, LISTING, GOOD) == {
        A: Vault(usd(100), 0, 6),
        B: Vault(usd(100), 0, 6, pending=usd(40), incoming=usd(40)),
        C: Vault(usd(100), 0, 6),
    }
    # A leaf that is applied counts by its flag, whether or not it is still among those signed.
    assert vaults(world, LISTING, GOOD[1:2]) == vaults(world, LISTING, GOOD)
    before = Chains().held(A, 100).world
    assert vaults(before, LISTING, GOOD)[A] == Vault(usd(100), 0, 6, pending=usd(-40), outgoing=usd(40))
    # Applied on B as well, its claims are 40 until the tokens arrive.
    applied = Map({(OWNER, 7): usd(40)})
    under_way = {**world, B: replace(world[B], claims=usd(40), applied=applied)}
    assert vaults(under_way, LISTING, GOOD)[B] == Vault(usd(100), usd(40), 6, incoming=usd(40))
    arrived = {**world, B: replace(world[B], claims=0, applied=applied)}
    assert vaults(arrived, LISTING, GOOD)[B] == Vault(usd(100), 0, 6)
    assert all(each.may_enter for each in ledgers(arrived, GOOD))


def test_what_integrators_claimed_and_fees_are_not_netted_and_the_fund_is_known_on_each_chain() -> None:
    """CM-50: the clearing house refuses a delta of an integrator's claims."""
    claims = claims_account(INTEGRATOR)
    chains = Chains().cash(claims, A, 50).cash(claims, B, -20).cash(FEES, A, 5).cash(FUND, A, 7).cash(FUND, B, -3)
    chains.linked(claims, (A, B))
    assert [(each.account, each.cash) for each in ledgers(chains.world)] == [
        (MarginAccount(FUND, (A,)), {A: usd(7)}),
        (MarginAccount(FUND, (B,)), {B: usd(-3)}),
    ]
