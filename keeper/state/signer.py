"""What holds a key: nothing else in the project sees one."""

from __future__ import annotations

from typing import Protocol

from .ids import Address


class Signer(Protocol):
    """Signs 32-byte digests; a KMS or a hardware wallet fits behind it."""

    @property
    def address(self) -> Address: ...

    def sign(self, digest: bytes) -> bytes:
        """65 bytes, r ‖ s ‖ v, low s, v 27 or 28."""
        ...
