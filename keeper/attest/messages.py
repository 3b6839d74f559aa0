"""What nodes say to each other."""

from __future__ import annotations

from dataclasses import dataclass, field

from keeper.state.live import LiveItem, PermitItem

from .batch import BatchContent


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
