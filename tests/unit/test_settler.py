"""What the settler does without being asked: it brings up funding indexes that nobody touches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from test_leg_desk import Node
from worlds import BTC, ETH, NOW, OWNER, A, Chains

from keeper.chain.cctp import Iris
from keeper.node.peers import Peers
from keeper.node.settler import Settler
from keeper.state.world import FundingIndex


@pytest.mark.parametrize(("age", "due"), [(3_600, [ETH]), (3_599, []), (None, [])])
def test_a_funding_index_is_brought_up_before_a_fall_makes_the_step_too_large(
    tmp_path: Path, age: int | None, due: list[bytes]
) -> None:
    """Found by review: after a day without a trade and a fall by half the contract refused trades for hours."""
    node = Node(tmp_path)
    try:
        chains = Chains().size(OWNER, A, 5).cash(OWNER, A, 5_000 - 15_000)
        node.see(NOW, chains)
        content = node.build()
        head = chains.world[A]
        stored = {} if age is None else {ETH: FundingIndex(0, content.batch.timestamp - age)}
        stored |= {BTC: FundingIndex(0, 0)}  # nobody holds any
        for asset, index in stored.items():
            head = replace(head, funding=head.funding.set(asset, index))
        settler = Settler(node.deployment, node.view, node.attestor.batches, {}, Iris(""), Peers({}))
        calls = settler._funding(node.deployment.chains[A], head, content)
        assert [call.key[:2] for call in calls] == [("funding", asset) for asset in due]
    finally:
        node.close()
