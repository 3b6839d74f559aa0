"""Nodes word their refusals differently; what they mean decides what a sender does next."""

import pytest

from keeper.chain.wording import Meaning, meaning_of, minimum_of

SAID = [
    ("already known", Meaning.KNOWN),
    ("AlreadyKnown", Meaning.KNOWN),
    ("Known transaction", Meaning.KNOWN),
    ("ALREADY_EXISTS: already known", Meaning.KNOWN),
    ("transaction already imported", Meaning.KNOWN),
    ("Transaction with the same hash was already imported.", Meaning.KNOWN),
    ("nonce too low", Meaning.NONCE_USED),
    ("Nonce too low", Meaning.NONCE_USED),
    ("nonce too low: next nonce 12, tx nonce 11", Meaning.NONCE_USED),
    ("OldNonce, Current nonce: 7, nonce of rejected tx: 6", Meaning.NONCE_USED),
    ("Transaction nonce is too low. Try incrementing the nonce.", Meaning.NONCE_USED),
    ("replacement transaction underpriced", Meaning.NOT_RAISED),
    ("Replacement transaction underpriced", Meaning.NOT_RAISED),
    ("INTERNAL_ERROR: could not replace existing tx", Meaning.NOT_RAISED),
    ("ReplacementNotAllowed, existing transaction pays more", Meaning.NOT_RAISED),
    (
        "Transaction gas price supplied is too low. There is another transaction with same nonce in the queue.",
        Meaning.NOT_RAISED,
    ),
    ("transaction underpriced", Meaning.FEE_TOO_LOW),
    ("transaction underpriced: gas tip cap 1000000000, minimum needed 25000000000", Meaning.FEE_TOO_LOW),
    ("max fee per gas less than block base fee: address 0x00, maxFeePerGas: 1, baseFee: 7", Meaning.FEE_TOO_LOW),
    ("FeeTooLow, MaxFeePerGas too low", Meaning.FEE_TOO_LOW),
    ("Gas price below configured minimum gas price", Meaning.FEE_TOO_LOW),
    ("insufficient funds for gas * price + value: balance 0, tx cost 1", Meaning.UNFUNDED),
    ("InsufficientFunds, Account balance: 0", Meaning.UNFUNDED),
    ("Upfront cost exceeds account balance", Meaning.UNFUNDED),
    ("sender doesn't have enough funds to send tx", Meaning.UNFUNDED),
    ("intrinsic gas too low", Meaning.OTHER),
    ("", Meaning.OTHER),
]


@pytest.mark.parametrize(("message", "meaning"), SAID)
def test_what_a_node_says_is_understood(message: str, meaning: Meaning) -> None:
    assert meaning_of(message) is meaning


def test_a_minimum_that_is_said_is_read() -> None:
    assert minimum_of("gas tip cap 1000000000, minimum needed 25000000000") == 25 * 10**9
    assert minimum_of("transaction underpriced") is None
    assert minimum_of("minimum needed " + "9" * 60) is None
