"""Settlement cycles as attestors run them: what is pending counts, what is missing is named, lies are found."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from worlds import DEPLOYMENT, LISTING, MODEL, NOW, OWNER, A, B, C, Chains, marks, report_of, usd, usdc

from keeper.clearing.cycles import (
    Books,
    missing_entries,
    settlement_faults,
    terms_of,
    with_pending,
)
from keeper.clearing.sale import Setting
from keeper.clearing.settlement import Cycle
from keeper.clearing.waterfall import deficits
from keeper.state.batch import SettlementLeaf
from keeper.state.ids import FUND, transfer_id
from keeper.state.world import MarginAccount, World

TERMS = terms_of(DEPLOYMENT.profile)
EPOCH = NOW // 2


def books(world: World, signed: tuple[SettlementLeaf, ...] = ()) -> Books:
    pending = with_pending(world, signed, LISTING)
    return Books.at(world, signed, marks(), MODEL, LISTING, owed(pending))


def owed(world: World) -> dict[MarginAccount, int]:
    return deficits(Setting(world, marks(), MODEL, LISTING, DEPLOYMENT.profile, NOW))


def lost_on_b() -> World:
    """5 ETH long on B, 1,000 lost there; 6,000 of cash on A; the tokens are where they were deposited."""
    chains = Chains().cash(OWNER, A, 6_000).size(OWNER, B, 5).cash(OWNER, B, -16_000).linked(OWNER, (A, B))
    chains.held(A, 6_000).held(B, 0).held(C, 0)
    # B's ledger: the other side of the trade has what the owner lost.
    return chains.world


def planned(world: World) -> Cycle:
    (cycle,) = books(world).next_cycles(EPOCH, TERMS)
    return cycle


def test_cm_50_values_are_offset_not_cash() -> None:
    """There are no entry prices: −16,000 of cash and 5 ETH at 3,000 are a loss of 1,000, and that is what is paid."""
    cycle = planned(lost_on_b())
    assert [(leaf.account_id, leaf.chain_id, leaf.cash_delta) for leaf in cycle.offsets] == [
        (OWNER, A, -usd(1_000)),
        (OWNER, B, usd(1_000)),
    ]
    assert [(leaf.account_id, leaf.chain_id, leaf.cash_delta) for leaf in cycle.shipments] == [
        (transfer_id(B), A, -usd(1_000))
    ]


def test_cm_50_applying_an_entry_changes_no_figure() -> None:
    """Equity counts cash and signed deltas, flag and cash read at one block: before, between and after applications."""
    world = lost_on_b()
    entries = planned(world).entries
    before = report_of(world, OWNER)
    for applied in range(len(entries) + 1):
        half = with_pending(world, entries[:applied], LISTING)
        rest = with_pending(half, entries, LISTING)
        assert report_of(rest, OWNER) == before
        assert rest == with_pending(world, entries, LISTING)
    after = with_pending(world, entries, LISTING)
    assert (after[A].held, after[A].claims, after[B].claims) == (usdc(5_000), 0, usd(1_000))


def test_sequence_16_an_entry_between_two_blocks_liquidates_nobody() -> None:
    """Debit read at the head, credit when final: a healthy account is sold. Here both count from signing on."""
    world = lost_on_b()
    entries = planned(world).entries
    debited = with_pending(world, [leaf for leaf in entries if leaf.chain_id == A], LISTING)
    assert report_of(debited, OWNER).equity < report_of(world, OWNER).equity  # what a reader of chains alone would see
    assert report_of(with_pending(debited, entries, LISTING), OWNER) == report_of(world, OWNER)


def test_sequence_15_an_entry_that_a_batch_skipped_stays_in_every_later_one() -> None:
    """The root of one batch is skipped on A: B's +1,000 is spent, A's −1,000 could never be proven any more.

    Every later batch must carry what is signed and not applied at its cut; one that does not gets no signature.
    """
    world = lost_on_b()
    entries = planned(world).entries
    credited = with_pending(world, [leaf for leaf in entries if leaf.chain_id == B], LISTING)
    left = [leaf for leaf in entries if leaf.chain_id == A]
    assert missing_entries([], entries, credited) == left
    assert missing_entries(left, entries, credited) == []
    assert missing_entries([], entries, with_pending(world, entries, LISTING)) == []


def test_an_account_with_an_entry_under_way_enters_no_other_cycle() -> None:
    world = lost_on_b()
    entries = planned(world).entries
    assert books(world, entries).next_cycles(EPOCH + 5, TERMS) == []
    again = tuple(replace(leaf, cycle=EPOCH + 5) for leaf in entries)
    faults = settlement_faults((*entries, *again), entries, world, books(world, entries), TERMS, EPOCH + 5)
    assert any("an earlier entry is not applied" in fault for fault in faults)


def test_cm_50_lies_in_a_cycle_are_found_and_a_carried_one_is_judged_by_its_sums() -> None:
    world = lost_on_b()
    honest = planned(world).entries
    mine = books(world)
    assert settlement_faults(honest, (), world, mine, TERMS, EPOCH) == []
    for lie in (
        (replace(honest[0], cash_delta=-usd(900)), *honest[1:]),
        (replace(honest[0], cash_delta=-usd(7_000)), replace(honest[1], cash_delta=usd(7_000)), honest[2]),
        (*honest[:2], replace(honest[2], cash_delta=-usd(2_000))),
        (SettlementLeaf(EPOCH, FUND, A, -usd(10)), SettlementLeaf(EPOCH, OWNER, A, usd(10))),
    ):
        assert settlement_faults(lie, (), world, mine, TERMS, EPOCH), lie
    # Signed an epoch ago at another mark: the amount is not asked any more, the sums and the fund are.
    earlier = tuple(replace(leaf, cycle=EPOCH - 1) for leaf in honest)
    larger = (replace(earlier[0], cash_delta=-usd(1_010)), replace(earlier[1], cash_delta=usd(1_010)), earlier[2])
    assert settlement_faults(larger, (), world, mine, TERMS, EPOCH) == []
    assert settlement_faults((replace(larger[0], cash_delta=-usd(1)), *larger[1:]), (), world, mine, TERMS, EPOCH)
    drawn = (SettlementLeaf(EPOCH - 1, FUND, A, -usd(10)), SettlementLeaf(EPOCH - 1, OWNER, A, usd(10)))
    assert settlement_faults(drawn, (), world, mine, TERMS, EPOCH)


def test_cm_43_the_fund_pays_what_an_account_with_nothing_left_owes() -> None:
    chains = Chains().cash(OWNER, A, -250).cash(FUND, A, 1_000)
    assert list(owed(chains.world).values()) == [usd(250)]
    cycle = planned(chains.world)
    assert {(leaf.account_id, leaf.chain_id): leaf.cash_delta for leaf in cycle.entries} == {
        (OWNER, A): usd(250),
        (FUND, A): -usd(250),
    }
    assert settlement_faults(cycle.entries, (), chains.world, books(chains.world), TERMS, EPOCH) == []
    # Proposed again a minute later it is the same leaf: no chain takes it twice.
    (again,) = books(chains.world).next_cycles(EPOCH + 1, TERMS)
    assert again == cycle
    # With a position left it is the auction's turn first.
    held = chains.size(OWNER, A, 0.01).world
    assert owed(held) == {}


@given(
    st.lists(st.tuples(st.integers(-9_000, 9_000), st.integers(-4, 4)), min_size=3, max_size=3),
    st.permutations(range(6)),
)
def test_cm_50_whatever_is_applied_first_an_account_has_what_it_had(
    holdings: list[tuple[int, int]], order: list[int]
) -> None:
    chains = Chains().linked(OWNER, (A, B, C))
    for chain_id, (cash, size) in zip((A, B, C), holdings, strict=True):
        chains.cash(OWNER, chain_id, cash).size(OWNER, chain_id, size).held(chain_id, 20_000)
    world = chains.world
    cycles = books(world).next_cycles(EPOCH, TERMS)
    cycle = Cycle(EPOCH, tuple(leaf for each in cycles for leaf in each.entries))
    assert settlement_faults(cycle.entries, (), world, books(world), TERMS, EPOCH) == []
    before = report_of(world, OWNER)
    present = dict(world)
    for number in order:
        if number < len(cycle.entries):
            present = with_pending(present, [cycle.entries[number]], LISTING)
        assert report_of(with_pending(present, cycle.entries, LISTING), OWNER) == before
    assert sum(state.claims for state in present.values()) == -sum(leaf.cash_delta for leaf in cycle.shipments)
