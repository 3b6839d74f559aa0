"""What a provider means by refusing a transaction: clients word one thing in many ways.

Geth, Nethermind, Besu, Erigon, Reth, Anvil and the rollups' own clients are told apart by nothing else than the text of
the error, so it is read without regard to case and punctuation.
"""

from __future__ import annotations

import re
from enum import Enum


class Meaning(Enum):
    """Why a transaction was not taken."""

    KNOWN = "known"
    """This very transaction is there already: its receipt will tell."""
    NONCE_USED = "nonce used"
    """Another transaction, or this one, was mined under its nonce."""
    NOT_RAISED = "not raised"
    """One with the same nonce waits, and this one does not offer enough more to replace it."""
    FEE_TOO_LOW = "fee too low"
    """It offers less than the node, or the next block, wants of anybody."""
    UNFUNDED = "unfunded"
    """The account cannot pay for it."""
    OTHER = "other"


# In this order: "transaction underpriced" is of the fee, "replacement transaction underpriced" of the one before it.
_WORDINGS: tuple[tuple[Meaning, str], ...] = (
    (Meaning.KNOWN, r"already known|alreadyknown|known transaction|already imported|already exists|already in mempool"),
    (Meaning.NONCE_USED, r"nonce too low|nonce is too low|oldnonce|nonce too small|nonce has already been used"),
    (
        Meaning.NOT_RAISED,
        r"replacement|could not replace|another transaction with same nonce|replacementnotallowed|pricebump",
    ),
    (Meaning.UNFUNDED, r"insufficient funds|insufficientfunds|upfront cost exceeds|doesnt have enough funds"),
    (
        Meaning.FEE_TOO_LOW,
        r"underpriced|minimum needed|fee too low|feetoolow|tip too low|block base fee|current base fee",
    ),
    (Meaning.FEE_TOO_LOW, r"gas price (is )?too low|price is too low|gas price below|below configured minimum"),
)
_MINIMUM = re.compile(r"minimum (?:needed|required|gas price is) *:? *(\d+)")


def meaning_of(message: str) -> Meaning:
    """What the text of a provider's error to `eth_sendRawTransaction` means."""
    plain = re.sub(r"['’\"`_]", "", message.lower())
    for meaning, wording in _WORDINGS:
        if re.search(wording, plain):
            return meaning
    return Meaning.OTHER


def minimum_of(message: str) -> int | None:
    """The tip that a node says it wants at least, wei per gas; None where it does not say."""
    found = _MINIMUM.search(message.lower())
    return int(found[1]) if found and len(found[1]) < 30 else None
