"""The one thing that holds a key."""

from __future__ import annotations

from typing import Protocol

from coincurve import PrivateKey
from eth_utils.crypto import keccak

from keeper.attest.signatures import sign_digest
from keeper.state.ids import Address


class Signer(Protocol):
    """Signs 32-byte digests; a KMS or a hardware wallet fits behind it."""

    @property
    def address(self) -> Address: ...

    def sign(self, digest: bytes) -> bytes:
        """65 bytes, r ‖ s ‖ v, low s, v 27 or 28."""
        ...


class LocalSigner:
    """Signs with a key in memory."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.address = Address(keccak(PrivateKey(key).public_key.format(compressed=False)[1:])[12:])

    def sign(self, digest: bytes) -> bytes:
        return sign_digest(digest, self._key)
