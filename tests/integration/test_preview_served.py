"""Drafts over HTTP, between nodes that run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from keeper.attest.batch import batch_digest
from keeper.attest.messages import BatchDraft, QuorumBatch, draft_digest
from keeper.attest.signatures import sign_digest
from keeper.devnet.chains import ATTESTORS, account
from keeper.devnet.cluster import Cluster
from keeper.node.peers import PeerRefused, Peers
from keeper.state.wire import from_json

if TYPE_CHECKING:
    from keeper.devnet import Devnet

pytestmark = [pytest.mark.devnet, pytest.mark.timeout(180), pytest.mark.asyncio]


async def test_a_draft_of_the_epochs_proposer_is_answered_and_no_other(cluster: Cluster, devnet: Devnet) -> None:
    async with httpx.AsyncClient(base_url=cluster.keeper.url, timeout=10.0, trust_env=False) as http:
        content = from_json(QuorumBatch, (await http.get("/v1/batches/latest")).json()).content
    order = devnet.deployment.attestors
    proposer = order[content.batch.epoch % len(order)]
    digest = draft_digest(batch_digest(devnet.deployment, content.batch))
    peers = Peers({node.address: node.url for node in cluster.attestors if node.address is not None})
    asked = next(peer for peer in peers.urls if peer != proposer)
    for index in ATTESTORS:
        draft = BatchDraft(content, sign_digest(digest, account(index).key))
        if account(index).address == proposer:
            assert await peers.preview(asked, draft) == set()
        else:
            with pytest.raises(PeerRefused, match="not_proposer"):
                await peers.preview(asked, draft)
    await peers.close()
