"""Multilateral netting: the fewest transfers between chains, against every way there is on small cases."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keeper.clearing.transfers import EXACT, Transfer, fewest_transfers


def _groups_by_brute_force(amounts: tuple[int, ...]) -> int:
    """The most groups that amounts which sum to 0 can be split into such that each sums to 0."""
    if not amounts:
        return 0
    rest = range(1, len(amounts))
    most = 0
    for size in range(len(amounts)):
        for chosen in combinations(rest, size):
            if amounts[0] + sum(amounts[i] for i in chosen) == 0:
                left = tuple(amounts[i] for i in rest if i not in chosen)
                most = max(most, 1 + _groups_by_brute_force(left))
    return most


def _reachable(positions: tuple[int, ...], transfers: int) -> bool:
    """Whether so many transfers of any whole amount between any two can settle the positions."""
    if not any(positions):
        return True
    if transfers == 0:
        return False
    for i, j in combinations(range(len(positions)), 2):
        for amount in range(-12, 13):
            if amount:
                moved = list(positions)
                moved[i] += amount
                moved[j] -= amount
                if sum(1 for p in moved if p) <= 2 * (transfers - 1) and _reachable(tuple(moved), transfers - 1):
                    return True
    return False


def _balanced(least: int, most: int, bound: int) -> st.SearchStrategy[dict[int, int]]:
    """Positions of so many places that sum to 0."""
    amounts = st.lists(st.integers(-bound, bound), min_size=least - 1, max_size=most - 1)
    return amounts.map(lambda found: dict(enumerate([*found, -sum(found)], start=1)))


def _settled(positions: dict[int, int], transfers: list[Transfer]) -> dict[int, int]:
    left = dict(positions)
    for each in transfers:
        assert each.amount > 0
        left[each.source] += each.amount
        left[each.target] -= each.amount
    return left


def test_one_chain_pays_two() -> None:
    assert fewest_transfers({1: 30, 2: -100, 3: 70}) == [Transfer(2, 1, 30), Transfer(2, 3, 70)]


def test_two_pairs_are_found_where_greed_would_want_three_transfers() -> None:
    # Largest against largest: 3 → 1 of 70, then 3 → 2 of 5, 4 → 2 of 60: three. In pairs two suffice.
    assert fewest_transfers({1: 70, 2: 65, 3: -70, 4: -65}) == [Transfer(3, 1, 70), Transfer(4, 2, 65)]
    assert len(fewest_transfers({1: 60, 2: 40, 3: -75, 4: -25, 5: 75, 6: -75})) == 4


def test_nothing_is_settled_by_nothing() -> None:
    assert fewest_transfers({}) == []
    assert fewest_transfers({1: 0, 2: 0}) == []


def test_what_does_not_sum_to_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"sum to 1, not to 0: \{1: 3, 2: -2\}"):
        fewest_transfers({2: -2, 1: 3})


@settings(max_examples=150, derandomize=True, deadline=None)
@given(_balanced(2, 8, 6))
def test_no_split_into_groups_needs_fewer_transfers(positions: dict[int, int]) -> None:
    """CM-50: at most chains − 1, and the least there is."""
    found = fewest_transfers(positions)
    assert not any(_settled(positions, found).values())
    amounts = tuple(amount for amount in positions.values() if amount)
    assert len(found) == len(amounts) - _groups_by_brute_force(amounts)
    assert len(found) <= max(0, len(amounts) - 1)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(_balanced(2, 4, 4))
def test_no_sequence_of_transfers_at_all_is_shorter(positions: dict[int, int]) -> None:
    """CM-50: also where a chain would forward what it receives."""
    found = fewest_transfers(positions)
    if found:
        assert not _reachable(tuple(positions.values()), len(found) - 1)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(_balanced(2, EXACT + 6, 10**20))
def test_value_is_least_and_nobody_both_pays_and_receives(positions: dict[int, int]) -> None:
    found = fewest_transfers(positions)
    assert not any(_settled(positions, found).values())
    assert sum(each.amount for each in found) == sum(amount for amount in positions.values() if amount > 0)
    assert not {each.source for each in found} & {each.target for each in found}
    assert len(found) <= max(0, sum(1 for amount in positions.values() if amount) - 1)
    assert found == fewest_transfers(dict(reversed(positions.items())))
