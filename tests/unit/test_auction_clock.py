"""CM-41, CM-43: no proposer starts an auction again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from test_leg_desk import Node, below
from worlds import NOW

from keeper.attest.batch import with_roots


def test_a_proposer_does_not_start_an_auction_again(tmp_path: Path) -> None:
    node = Node(tmp_path)
    try:
        assert {leaf.auction_start for leaf in node.batch(NOW, below())} == {NOW}
        node.see(NOW + 18, below())
        content = node.build()
        late = tuple(replace(leaf, auction_start=NOW + 18) for leaf in content.legs)  # one liar's turn
        content = replace(content, legs=late)
        node.sign(replace(content, batch=with_roots(content)))
        starts = {leaf.auction_start for leaf in node.batch(NOW + 20, below())}
        assert starts == {NOW}, f"it began again {max(starts) - NOW} s later, for every honest proposer too"
    finally:
        node.close()
