"""What nodes say to each other."""

from __future__ import annotations

from dataclasses import dataclass, field

from keeper.state.live import LiveItem, PermitItem

from .batch import BatchContent
from .codec import keccak


@dataclass(frozen=True, slots=True)
class Stages:
    """When a batch reached each stage on its proposer's clock, unix seconds; 0 where unknown. Figures, not facts."""

    head: float = 0.0
    observed: float = 0.0
    evaluated: float = 0.0
    signed: float = 0.0


@dataclass(frozen=True, slots=True)
class BatchProposal:
    """A batch with its proposer's own signature, which shows whose turn it was."""

    content: BatchContent
    signature: bytes


@dataclass(frozen=True, slots=True)
class BatchDraft:
    """What its proposer means to propose: nothing that can be posted. The signature is over `draft_digest`."""

    content: BatchContent
    signature: bytes


@dataclass(frozen=True, slots=True)
class QuorumBatch:
    """A batch with a quorum's signatures, concatenated in ascending order of signers."""

    content: BatchContent
    signatures: bytes
    stages: Stages = field(default_factory=Stages)


@dataclass(frozen=True, slots=True)
class PermitProposal:
    """A request with everything that is live on its accounts, and the proposer's own signature on the permit."""

    item: PermitItem
    listed: tuple[LiveItem, ...]
    signature: bytes


def draft_digest(batch_digest: bytes) -> bytes:
    """What the proposer of a draft signs, in 32 bytes; no digest of typed data begins like this."""
    return keccak(b"draft of a margin batch" + batch_digest)
