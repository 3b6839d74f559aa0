"""Examples of what attestors send to each other."""

from __future__ import annotations

from typing import Any

from keeper.attest.batch import BatchContent
from keeper.attest.messages import BatchDraft, BatchProposal, PermitProposal, QuorumBatch, Stages
from keeper.market.inputs import FundingInput, MarkInputs, UnderlyingInput
from keeper.schema.examples import CHAIN, ID, ITEM, TIME, USD
from keeper.state.batch import ChainCut, MarginBatch, MarginLeaf, MarkLeaf
from keeper.state.ids import perpetual
from keeper.state.live import PermitItem
from keeper.state.wire import from_json, to_json

_SIGNATURE = bytes.fromhex("1b" * 65)
_ROOT, _HASH = bytes.fromhex("a1" * 32), bytes.fromhex("b2" * 32)
_ETH = perpetual("ETH")
_CONTENT = BatchContent(
    batch=MarginBatch(TIME // 2, TIME, TIME + 300, _ROOT, _ROOT, _ROOT, _ROOT, _HASH, _HASH, attestor_set_id=1),
    cut=(ChainCut(CHAIN, 140, bytes.fromhex("1f" * 32), TIME - 2, 142, TIME),),
    inputs=MarkInputs(TIME, (UnderlyingInput("ETH", 3_000 * USD, 3_000 * USD),), (FundingInput(_ETH, 0),)),
    marks=(MarkLeaf(_ETH, 3_000 * USD, 0, 534 * USD, 534 * USD),),
    accounts=(MarginLeaf(ID, CHAIN, 1_000 * USD, 400 * USD, 400 * USD),),
)
PROPOSAL: dict[str, Any] = to_json(BatchProposal(_CONTENT, _SIGNATURE))
DRAFT: dict[str, Any] = to_json(BatchDraft(_CONTENT, _SIGNATURE))
QUORUM: dict[str, Any] = to_json(QuorumBatch(_CONTENT, _SIGNATURE * 3, Stages(TIME + 0.1, TIME + 0.2, TIME + 0.3)))
PERMIT_PROPOSAL: dict[str, Any] = to_json(PermitProposal(from_json(PermitItem, ITEM), (), _SIGNATURE))
