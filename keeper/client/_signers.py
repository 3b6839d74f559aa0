"""A signer from whatever an owner has: a key, an eth_account account, a key store, or a device of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from keeper.attest.signatures import SignatureError, recover
from keeper.attest.signing import LocalSigner
from keeper.state.ids import Address, IdError, address
from keeper.state.signer import Signer

from ._errors import BadArgument, ClientError

SignerLike = str | bytes | LocalAccount | Signer
"""A private key (32 bytes, or 64 hex digits), a LocalAccount, or an object with `address` and `sign(digest)`."""


class _Device:
    """Somebody else's signer: its answers are checked, since a wrong one would only fail on chain."""

    def __init__(self, device: Any, where: Address) -> None:
        self._device = device
        self.address = where

    def sign(self, digest: bytes) -> bytes:
        signature = bytes(self._device.sign(digest))
        try:
            signed_by = recover(digest, signature)
        except SignatureError as error:
            raise ClientError(f"the signer of 0x{self.address.hex()} gave no signature: {error}") from None
        if signed_by != self.address:
            raise ClientError(f"the signer of 0x{self.address.hex()} signed as 0x{signed_by.hex()}")
        return signature


def signer_of(value: SignerLike) -> Signer:
    """The signer that a value stands for.

    Raises:
        BadArgument: nothing that signs; a key is never repeated in the message.
    """
    if isinstance(value, LocalSigner):
        return value
    if isinstance(value, LocalAccount):
        return LocalSigner(bytes(value.key))
    if isinstance(value, str | bytes):
        return _from_key(value)
    if callable(getattr(value, "sign", None)):
        try:
            where: Any = value.address
            return _Device(value, address(where if isinstance(where, str) else bytes(where)))
        except (AttributeError, TypeError, IdError):
            raise BadArgument("signer", type(value).__name__, "an `address` of 20 bytes beside `sign`") from None
    raise BadArgument("signer", type(value).__name__, "a key, a LocalAccount, or an object with `address` and `sign`")


def _from_key(value: str | bytes) -> LocalSigner:
    wanted = "a private key of 32 bytes, or 0x and 64 hex digits"
    try:
        key = value if isinstance(value, bytes) else bytes.fromhex(value.strip().removeprefix("0x"))
        if len(key) != 32:
            raise BadArgument("signer", f"{len(key)} bytes", wanted)
        return LocalSigner(key)
    except BadArgument:
        raise
    except ValueError:
        raise BadArgument("signer", "something else", wanted) from None


def read_keystore(path: str | Path, password: str) -> Signer:
    """The signer of an encrypted key store (version 3 JSON, as `cast wallet`, geth and eth_account write it).

    Raises:
        BadArgument: no such file, no key store, or the wrong password.

    Example:
        client = Client("http://127.0.0.1:8600", signer=read_keystore("owner.json", password))
    """
    try:
        store = json.loads(Path(path).read_text())
        return LocalSigner(bytes(Account.decrypt(store, password)))
    except OSError as error:
        raise BadArgument("keystore", str(path), f"a readable file ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError, NotImplementedError):
        raise BadArgument("keystore", str(path), "a key store of version 3 and its password") from None
