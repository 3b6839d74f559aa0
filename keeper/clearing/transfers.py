"""The fewest transfers that settle net positions, and the bilateral ones they replace.

Positions that sum to zero need at least (how many are not zero) − (the most groups they can be split into that sum to
zero each) transfers: every connected set of transfers sums to zero and joins n positions by n − 1 transfers at least,
and within a group that no longer splits n − 1 suffice, since each transfer settles one position and the last one two.
Up to `EXACT` positions the most groups are found by dynamic programming over subsets; beyond, the whole is one group,
which is never more than positions − 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

EXACT = 10
"""So many positions are split exactly: 2**EXACT subsets."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """`amount` > 0, in the unit of the positions it settles."""

    source: int
    target: int
    amount: int


def fewest_transfers(positions: Mapping[int, int]) -> list[Transfer]:
    """Transfers after which every position is 0, ordered by source and target.

    A positive position is short and receives, a negative one has too much and pays; none does both, so that no value
    is moved beyond what is short. The number is the least possible for up to `EXACT` positions that are not 0, and less
    than their number beyond. The same positions give the same transfers, whatever their order.

    Raises:
        ValueError: the positions do not sum to 0.
    """
    open_ = {place: amount for place, amount in sorted(positions.items()) if amount}
    if total := sum(open_.values()):
        raise ValueError(f"positions sum to {total}, not to 0: {dict(open_)}")
    groups = _groups(open_) if len(open_) <= EXACT else [open_]
    found = [transfer for group in groups for transfer in _within(group)]
    return sorted(found, key=lambda transfer: (transfer.source, transfer.target))


def _groups(positions: Mapping[int, int]) -> list[dict[int, int]]:
    """The positions split into as many groups as possible that sum to 0 each."""
    places = list(positions)
    count = len(places)
    sums = [0] * (1 << count)
    most = [0] * (1 << count)
    last = [0] * (1 << count)
    for mask in range(1, 1 << count):
        low = mask & -mask
        sums[mask] = sums[mask ^ low] + positions[places[low.bit_length() - 1]]
        # In the order in which `last` adds positions, each running sum of 0 ends a group.
        best = max(range(count), key=lambda i: (most[mask ^ (1 << i)] if mask >> i & 1 else -1, -i))
        most[mask] = most[mask ^ (1 << best)] + (sums[mask] == 0)
        last[mask] = best
    groups: list[dict[int, int]] = []
    mask = (1 << count) - 1
    while mask:
        if sums[mask] == 0:
            groups.append({})
        place = places[last[mask]]
        groups[-1][place] = positions[place]
        mask ^= 1 << last[mask]
    return groups


def _within(group: Mapping[int, int]) -> list[Transfer]:
    """Largest against largest: each transfer settles one end, the last one both."""
    left = dict(group)
    found = []
    while any(left.values()):
        source = min(left, key=lambda place: (left[place], place))
        target = min(left, key=lambda place: (-left[place], place))
        amount = min(-left[source], left[target])
        found.append(Transfer(source, target, amount))
        left[source] += amount
        left[target] -= amount
    return found
