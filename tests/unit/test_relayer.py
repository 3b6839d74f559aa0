"""When a chain's batch stands although a newer one lists other legs: so long that its legs can be bid on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_batch_checks import honest
from worlds import DEPLOYMENT, A, B

from keeper.node.relayer import BIDDING_BLOCKS, open_to_bids


@pytest.mark.parametrize("block_seconds", [0.5, 2.0, 12.0])
def test_a_batch_with_legs_stands_for_some_blocks_of_its_chain(block_seconds: float) -> None:
    held = honest()
    chain = replace(DEPLOYMENT.chains[A], block_seconds=block_seconds)
    stands = int(BIDDING_BLOCKS * block_seconds)
    began = held.batch.timestamp
    assert open_to_bids(held, chain, began)
    assert open_to_bids(held, chain, began + stands - 1)
    assert not open_to_bids(held, chain, began + stands)


def test_legs_of_another_chain_hold_nothing_up() -> None:
    held = honest()
    assert not open_to_bids(held, DEPLOYMENT.chains[B], held.batch.timestamp)


def test_a_batch_without_legs_is_replaced_at_once() -> None:
    held = replace(honest(), legs=())
    assert not open_to_bids(held, DEPLOYMENT.chains[A], held.batch.timestamp)
