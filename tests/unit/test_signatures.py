"""Signatures and quorums: against the vectors and eth-account, and each defect by the name the contracts give it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from codec_vectors import ROOT, entries, raw, refused
from eth_account import Account
from hypothesis import given, settings
from hypothesis import strategies as st

from keeper.attest.codec import keccak
from keeper.attest.signatures import (
    QuorumError,
    QuorumKind,
    SignatureError,
    check_quorum,
    join_signatures,
    recover,
    sign_digest,
)
from keeper.state.ids import Address, address

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
DIGEST = keccak(b"a batch")
KEYS = {address(Account.from_key(key).address): key for key in (keccak(b"attestor %d" % i) for i in range(4))}
MEMBERS = tuple(sorted(KEYS))
STRANGER = keccak(b"a stranger")


def signed(signer: Address, digest: bytes = DIGEST) -> bytes:
    return sign_digest(digest, KEYS[signer])


def twin(signature: bytes) -> bytes:
    """The malleable twin: the other s with the other v, by the same key."""
    s = ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes([55 - signature[64]])


def quorum(*signatures: bytes) -> list[Address]:
    return check_quorum(DIGEST, b"".join(signatures), MEMBERS, 3)


A, B, C, D = (signed(member) for member in MEMBERS)


@entries("signatures")
def test_signatures(entry: dict[str, Any]) -> None:
    digest, key = raw(entry["digest"]), raw(entry["key"])
    assert sign_digest(digest, key) == raw(entry["signature"])
    assert recover(digest, raw(entry["signature"])) == raw(entry["signer"])


@refused("signatures")
def test_sign_digest_RefusedWhen_malformed(section: str, entry: dict[str, Any]) -> None:
    assert section == "signatures"
    with pytest.raises(ValueError, match=r"\w"):
        sign_digest(raw(entry["digest"]), raw(entry["key"]))


def test_a_key_of_another_length_is_refused_and_not_shown() -> None:
    with pytest.raises(ValueError, match="has 32 bytes, got 31") as refusal:
        sign_digest(DIGEST, STRANGER[:31])
    assert STRANGER[:31].hex() not in str(refusal.value)


@given(st.integers(1, ORDER - 1), st.binary(min_size=32, max_size=32))
@settings(max_examples=40)
def test_signatures_are_eth_accounts(number: int, digest: bytes) -> None:
    key = number.to_bytes(32, "big")
    signature = sign_digest(digest, key)
    account = Account.from_key(key)
    assert signature == bytes(account.unsafe_sign_hash(digest).signature)
    assert recover(digest, signature) == address(account.address)
    assert int.from_bytes(signature[32:64], "big") <= ORDER // 2
    assert signature[64] in (27, 28)


@given(st.binary(min_size=64, max_size=64), st.sampled_from([27, 28]))
def test_recover_gives_an_address_or_says_why_not(body: bytes, v: int) -> None:
    kind = None
    try:
        assert len(recover(DIGEST, body + bytes([v]))) == 20
    except SignatureError as error:
        kind = error.kind
    assert (kind == "SignatureS") == (int.from_bytes(body[32:], "big") > ORDER // 2)
    assert kind in (None, "SignatureS", "SignatureInvalid")


@pytest.mark.parametrize(
    ("signature", "kind", "value"),
    [
        (b"", "SignatureLength", 0),
        (A[:64], "SignatureLength", 64),
        (A + b"\0", "SignatureLength", 66),
        (A[:64] + b"\0", "SignatureV", 0),
        (A[:64] + b"\1", "SignatureV", 1),
        (A[:64] + bytes([29]), "SignatureV", 29),
        (twin(A), "SignatureS", int.from_bytes(twin(A)[32:64], "big")),
        (A[:32] + b"\xff" * 32 + b"\x1b", "SignatureS", 2**256 - 1),
        (bytes(64) + b"\x1b", "SignatureInvalid", None),
        (A[:32] + bytes(32) + b"\x1b", "SignatureInvalid", None),
        (b"\xff" * 32 + A[32:], "SignatureInvalid", None),
        (ORDER.to_bytes(32, "big") + A[32:], "SignatureInvalid", None),
        ((5).to_bytes(32, "big") + A[32:], "SignatureInvalid", None),  # no point has this x
    ],
)
def test_recover_RefusedWhen_defective(signature: bytes, kind: str, value: int | None) -> None:
    with pytest.raises(SignatureError) as refusal:
        recover(DIGEST, signature)
    assert (refusal.value.kind, refusal.value.value) == (kind, value)


def test_a_digest_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="a digest has 32 bytes, got 31"):
        sign_digest(DIGEST[:31], STRANGER)
    with pytest.raises(ValueError, match="a digest has 32 bytes, got 33"):
        recover(DIGEST + b"\0", A)


# --- joining ----------------------------------------------------------------------------------------------------------


@given(st.permutations(MEMBERS))
def test_joined_signatures_ascend(order: list[Address]) -> None:
    assert join_signatures(DIGEST, [signed(signer) for signer in order]) == A + B + C + D
    assert join_signatures(DIGEST, {signer: signed(signer) for signer in order}) == A + B + C + D


def test_nothing_joined_is_nothing() -> None:
    assert join_signatures(DIGEST, []) == join_signatures(DIGEST, {}) == b""


def test_join_signatures_RefusedWhen_defective() -> None:
    with pytest.raises(QuorumError) as refusal:
        join_signatures(DIGEST, [B, A, B])
    assert (refusal.value.kind, refusal.value.arguments) == ("DuplicateSigner", {"signer": MEMBERS[1]})
    with pytest.raises(QuorumError) as refusal:
        join_signatures(DIGEST, {MEMBERS[0]: A, MEMBERS[2]: B})
    assert (refusal.value.kind, refusal.value.arguments) == ("UnknownSigner", {"index": 1, "recovered": MEMBERS[1]})
    with pytest.raises(QuorumError) as refusal:
        join_signatures(DIGEST, [A, B[:40]])
    assert (refusal.value.kind, refusal.value.arguments) == ("SignatureLength", {"length": 40})


# --- quorums ----------------------------------------------------------------------------------------------------------


@pytest.mark.cm("CM-01")
def test_three_of_four_and_four_of_four_are_a_quorum() -> None:
    assert quorum(A, B, C) == list(MEMBERS[:3])
    assert quorum(A, C, D) == [MEMBERS[0], *MEMBERS[2:]]
    assert quorum(A, B, C, D) == list(MEMBERS)


@given(st.sets(st.sampled_from(MEMBERS)), st.integers(1, 4))
@pytest.mark.cm("CM-01")
def test_a_quorum_is_a_threshold_of_members(signers: set[Address], threshold: int) -> None:
    joined = join_signatures(DIGEST, {signer: signed(signer) for signer in signers})
    if len(signers) >= threshold:
        assert check_quorum(DIGEST, joined, MEMBERS, threshold) == sorted(signers)
        return
    with pytest.raises(QuorumError) as refusal:
        check_quorum(DIGEST, joined, MEMBERS, threshold)
    assert refusal.value.kind == "BelowThreshold"
    assert refusal.value.arguments == {"signatures": len(signers), "threshold": threshold}


FOREIGN = [signed(member, keccak(b"another deployment's")) for member in MEMBERS]
OTHER_BYTES = FOREIGN[1]
BY_STRANGER = sign_digest(DIGEST, STRANGER)


@pytest.mark.parametrize(
    ("signatures", "kind", "arguments"),
    [
        ((A, B, C, b"\0"), "SignatureLength", {"length": 196}),
        ((A, B, C[:64]), "SignatureLength", {"length": 194}),
        ((), "BelowThreshold", {"signatures": 0, "threshold": 3}),
        ((A, B), "BelowThreshold", {"signatures": 2, "threshold": 3}),
        ((A, B[:64] + b"\0", C), "SignatureV", {"index": 1, "v": 0}),
        ((A, B, twin(C)), "SignatureS", {"index": 2, "s": twin(C)[32:64]}),
        ((bytes(64) + b"\x1c", B, C), "SignatureInvalid", {"index": 0}),
        ((A, B, C, bytes(64) + b"\x1c"), "SignatureInvalid", {"index": 3}),
        ((A, OTHER_BYTES, C), "UnknownSigner", {"index": 1, "recovered": recover(DIGEST, OTHER_BYTES)}),
        ((A, B, C, BY_STRANGER), "UnknownSigner", {"index": 3, "recovered": recover(DIGEST, BY_STRANGER)}),
        # Membership is judged before order: among unknown signers no order is at fault.
        ((C, BY_STRANGER, A), "UnknownSigner", {"index": 1, "recovered": recover(DIGEST, BY_STRANGER)}),
        (tuple(FOREIGN[:3]), "ForeignDigest", {"digest": DIGEST, "recovered": recover(DIGEST, FOREIGN[0])}),
        ((A, C, B), "SignersNotAscending", {"previous": MEMBERS[2], "next": MEMBERS[1]}),
        ((C, B, A), "SignersNotAscending", {"previous": MEMBERS[2], "next": MEMBERS[1]}),
        ((B, C, A, A), "SignersNotAscending", {"previous": MEMBERS[2], "next": MEMBERS[0]}),
        ((A, A, B), "DuplicateSigner", {"signer": MEMBERS[0]}),
        ((A, B, B), "DuplicateSigner", {"signer": MEMBERS[1]}),
        ((A, B, A), "SignersNotAscending", {"previous": MEMBERS[1], "next": MEMBERS[0]}),
    ],
)
@pytest.mark.cm("CM-01")
def test_check_quorum_RefusedWhen_defective(
    signatures: tuple[bytes, ...], kind: str, arguments: dict[str, int | bytes]
) -> None:
    with pytest.raises(QuorumError) as refusal:
        quorum(*signatures)
    assert (refusal.value.kind, refusal.value.arguments) == (kind, arguments)


def test_kinds_and_arguments_are_those_of_the_contracts() -> None:
    source = Path(ROOT / "contracts" / "libraries" / "Errors.sol").read_text()
    errors = dict(re.findall(r"error (\w+)\(([^)]*)\)", source))
    assert set(get_args(QuorumKind)) <= set(errors)
    named = {kind: [part.split(" ")[-1] for part in errors[kind].split(", ")] for kind in get_args(QuorumKind)}
    assert named == {
        "SignatureLength": ["length"],
        "BelowThreshold": ["signatures", "threshold"],
        "SignatureV": ["index", "v"],
        "SignatureS": ["index", "s"],
        "SignatureInvalid": ["index"],
        "ForeignDigest": ["digest", "recovered"],
        "UnknownSigner": ["index", "recovered"],
        "SignersNotAscending": ["previous", "next"],
        "DuplicateSigner": ["signer"],
    }
