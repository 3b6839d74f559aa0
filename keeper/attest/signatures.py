"""Signatures over digests, and quorums of them: judged as the contracts judge them, each defect by the same name.

A signature is 65 bytes, r ‖ s ‖ v, with s in the lower half of the order and v 27 or 28. A quorum's signatures are
concatenated in strictly ascending order of their signers (CM-01).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Literal

from coincurve import PrivateKey, PublicKey

from keeper.state.ids import Address

from .codec import keccak

LENGTH = 65
"""Bytes of one signature."""

_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_MAX_S = _ORDER // 2

SignatureKind = Literal["SignatureLength", "SignatureV", "SignatureS", "SignatureInvalid"]
QuorumKind = Literal[
    "SignatureLength",
    "BelowThreshold",
    "SignatureV",
    "SignatureS",
    "SignatureInvalid",
    "ForeignDigest",
    "UnknownSigner",
    "SignersNotAscending",
    "DuplicateSigner",
]


class SignatureError(ValueError):
    """One signature that no contract accepts. `kind` is the contracts' error, `value` the length, v or s at fault."""

    def __init__(self, kind: SignatureKind, reason: str, value: int | None = None) -> None:
        super().__init__(reason)
        self.kind: SignatureKind = kind
        self.reason = reason
        self.value = value


class QuorumError(ValueError):
    """Signatures that are no quorum's. `kind` is the contracts' error; `arguments` are that error's, by name."""

    def __init__(self, kind: QuorumKind, reason: str, **arguments: int | bytes) -> None:
        super().__init__(reason)
        self.kind: QuorumKind = kind
        self.reason = reason
        self.arguments = arguments


def sign_digest(digest: bytes, key: bytes) -> bytes:
    """Sign 32 bytes with a 32-byte private key: deterministic (RFC 6979), low s, v 27 or 28.

    Raises:
        ValueError: the digest or the key has another length, or the key is outside the order.
    """
    if len(digest) != 32:
        raise ValueError(f"a digest has 32 bytes, got {len(digest)}")
    if len(key) != 32:
        raise ValueError(f"a private key has 32 bytes, got {len(key)}")  # and is not shown
    signature = PrivateKey(key).sign_recoverable(digest, hasher=None)
    return signature[:64] + bytes([27 + signature[64]])


def recover(digest: bytes, signature: bytes) -> Address:
    """The address whose key signed `digest`.

    Raises:
        SignatureError: not 65 bytes, v neither 27 nor 28, s in the upper half, or no key recovers from it.
    """
    if len(digest) != 32:
        raise ValueError(f"a digest has 32 bytes, got {len(digest)}")
    if len(signature) != LENGTH:
        raise SignatureError("SignatureLength", f"a signature has 65 bytes, got {len(signature)}", len(signature))
    v = signature[64]
    if v not in (27, 28):
        raise SignatureError("SignatureV", f"v is 27 or 28, got {v}", v)
    s = int.from_bytes(signature[32:64], "big")
    if s > _MAX_S:
        raise SignatureError("SignatureS", f"s is in the upper half of the order: {s:#x}", s)
    try:
        key = PublicKey.from_signature_and_message(signature[:64] + bytes([v - 27]), digest, hasher=None)
    except ValueError:
        raise SignatureError("SignatureInvalid", f"no address recovers from 0x{signature.hex()}") from None
    return Address(keccak(key.format(compressed=False)[1:])[12:])


def join_signatures(digest: bytes, signatures: Mapping[Address, bytes] | Sequence[bytes]) -> bytes:
    """Concatenate signatures over `digest` in ascending order of their signers, as contracts want them.

    Raises:
        QuorumError: a defective signature, one that a mapping attributes to another signer, or two by one signer.
    """
    by_signer: dict[Address, bytes] = {}
    claims = list(signatures.items()) if isinstance(signatures, Mapping) else [(None, s) for s in signatures]
    for index, (claimed, signature) in enumerate(claims):
        signer = _recover_at(digest, signature, index)
        if claimed is not None and signer != claimed:
            raise QuorumError(
                "UnknownSigner",
                f"signature {index} is given as 0x{claimed.hex()}'s and recovers to 0x{signer.hex()}",
                index=index,
                recovered=signer,
            )
        if signer in by_signer:
            raise QuorumError("DuplicateSigner", f"0x{signer.hex()} signed twice", signer=signer)
        by_signer[signer] = signature
    return b"".join(by_signer[signer] for signer in sorted(by_signer))


def check_quorum(digest: bytes, signatures: bytes, members: Collection[Address], threshold: int) -> list[Address]:
    """The signers, ascending, where `signatures` are by at least `threshold` distinct members (CM-01).

    Judged in the contracts' order, so that a defect has the same name here and on chain: membership before order,
    because what a signature over other bytes recovers to is random and must not decide which error names it.

    Raises:
        QuorumError: see `kind`.
    """
    count, trailing = divmod(len(signatures), LENGTH)
    if trailing:
        raise QuorumError(
            "SignatureLength", f"signatures are 65 bytes each, got {len(signatures)}", length=len(signatures)
        )
    if count < threshold:
        raise QuorumError(
            "BelowThreshold", f"{count} signatures, {threshold} wanted", signatures=count, threshold=threshold
        )
    signers = [_recover_at(digest, signatures[i * LENGTH : (i + 1) * LENGTH], i) for i in range(count)]
    unknown = [(i, signer) for i, signer in enumerate(signers) if signer not in members]
    if unknown:
        index, signer = unknown[0]
        if len(unknown) == count:
            raise QuorumError(
                "ForeignDigest",
                f"nobody of the set signed 0x{digest.hex()}: for another deployment, chain or set",
                digest=digest,
                recovered=signer,
            )
        raise QuorumError(
            "UnknownSigner",
            f"signature {index} recovers to 0x{signer.hex()}, no member",
            index=index,
            recovered=signer,
        )
    for previous, signer in pairwise(signers):
        if signer == previous:
            raise QuorumError("DuplicateSigner", f"0x{signer.hex()} signed twice", signer=signer)
        if signer < previous:
            raise QuorumError(
                "SignersNotAscending",
                f"0x{signer.hex()} comes after 0x{previous.hex()}",
                previous=previous,
                next=signer,
            )
    return signers


def _recover_at(digest: bytes, signature: bytes, index: int) -> Address:
    try:
        return recover(digest, signature)
    except SignatureError as error:
        arguments: dict[str, int | bytes] = {"index": index}
        if error.kind == "SignatureLength":
            arguments = {"length": len(signature)}
        elif error.kind == "SignatureV":
            arguments["v"] = signature[64]
        elif error.kind == "SignatureS":
            arguments["s"] = signature[32:64]
        raise QuorumError(error.kind, f"signature {index}: {error}", **arguments) from None
