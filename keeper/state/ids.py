"""Identity: accounts, sub-accounts and assets as 32-byte identifiers.

An account id is the owner's address (20 bytes) followed by the sub-account (12 bytes, big endian), the same on every
chain. Sub-account 0 is the cross-margin account; every other is isolated, an account of its own.

An asset id names itself: an instrument is kind (1 byte) ‖ underlying (8 bytes ASCII, zero-padded) ‖ expiry (5 bytes,
unix seconds) ‖ strike (16 bytes, USD 1e8) ‖ 2 zero bytes; a token is 4 zero bytes ‖ chain id (8) ‖ address (20).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import NewType

from eth_hash.backends.pysha3 import keccak256

from .exact import InexactError, shown, whole_number

AccountId = NewType("AccountId", bytes)
"""32 bytes: owner ‖ sub-account."""

AssetId = NewType("AssetId", bytes)
"""32 bytes: a self-describing instrument, or a token on one chain."""

Address = NewType("Address", bytes)
"""20 bytes."""

ZERO32 = bytes(32)
ZERO_ADDRESS = Address(bytes(20))
FUND = AccountId((1).to_bytes(32, "big"))
"""The insurance fund, on each chain."""
FEES = AccountId((2).to_bytes(32, "big"))
"""Fees, on each chain."""
_SHIPMENT = 1 << 64
"""Sub-accounts of the zero address from here to twice this name the chain that a settlement ships tokens to."""
CLEARING = AccountId((3).to_bytes(32, "big"))
"""What is booked on one side only so far, on each chain: funding between touches, expired instruments half settled."""
_CLAIMS_SUB_ACCOUNT = 2**96 - 1
_HEX = re.compile(r"(0x)?([0-9a-f]*)", re.IGNORECASE | re.ASCII)


class IdError(ValueError):
    """An identifier that cannot be built or read; the message carries the offending value."""


class Kind(IntEnum):
    """First byte of an asset id. `TOKEN` ids begin with four zero bytes."""

    TOKEN = 0
    PERPETUAL = 1
    FUTURE = 2
    CALL = 3
    PUT = 4


def address(value: str | bytes) -> Address:
    """Read an address from 20 bytes or 40 hex digits, with or without 0x; digits in both cases are a checksum.

    Raises:
        IdError: for anything else, and for a checksum (EIP-55) that does not hold.
    """
    raw = _from_hex(value) if isinstance(value, str) else bytes(value)
    if len(raw) != 20:
        raise IdError(f"an address has 20 bytes, got {len(raw)}: {shown(value)}")
    if isinstance(value, str):
        _check_sum(value, raw)
    return Address(raw)


def account_id(owner: str | bytes, sub_account: int = 0) -> AccountId:
    """The account of `owner` with number `sub_account` (0 … 2**96 − 1; 0 is cross margin)."""
    if not 0 <= sub_account < 2**96:
        raise IdError(f"a sub-account is 0 … 2**96 - 1, got {shown(sub_account)}")
    return AccountId(address(owner) + sub_account.to_bytes(12, "big"))


def parse_account_id(value: str | bytes) -> AccountId:
    """Read an account id: 32 bytes, 64 hex digits, an owner's address (sub-account 0), or `ADDRESS/SUB`."""
    if isinstance(value, bytes):
        if len(value) != 32:
            raise IdError(f"an account id has 32 bytes, got {len(value)}: {shown(value)}")
        return AccountId(value)
    owner, slash, sub = value.partition("/")
    if slash:
        try:
            return account_id(owner, whole_number(sub, 29))
        except InexactError:
            raise IdError(f"a sub-account is 0 … 2**96 - 1 in digits, got {shown(sub)} in {shown(value)}") from None
    raw = _from_hex(value)
    if len(raw) == 20:
        return account_id(value)
    if len(raw) != 32:
        raise IdError(f"an account id has 32 bytes or an owner's 20, got {len(raw)}: {shown(value)}")
    return AccountId(raw)


def owner_of(account: AccountId) -> Address:
    return Address(account[:20])


def sub_account_of(account: AccountId) -> int:
    return int.from_bytes(account[20:], "big")


def transfer_id(to_chain: int) -> AccountId:
    """The reserved id under which a settlement cycle ships tokens to a chain: 20 zero bytes, then 2**64 + chain id.

    Raises:
        IdError: no chain id.
    """
    return AccountId(ZERO_ADDRESS + (_SHIPMENT | _chain_id(to_chain)).to_bytes(12, "big"))


def transfer_target(account: AccountId) -> int | None:
    """The chain that tokens are shipped to under this id; None where it is an account's."""
    number = sub_account_of(account)
    is_shipment = owner_of(account) == ZERO_ADDRESS and number >> 64 == 1 and number != _SHIPMENT
    return number ^ _SHIPMENT if is_shipment else None


def claims_account(integrator: Address) -> AccountId:
    """Where an integrator's claimed and unpaid reservations are booked: cash that no permit touches."""
    return account_id(integrator, _CLAIMS_SUB_ACCOUNT)


def has_margin(account: AccountId) -> bool:
    """Whether an account is an owner's that margin is required of: no reserved id, no integrator's claims."""
    return owner_of(account) != ZERO_ADDRESS and sub_account_of(account) != _CLAIMS_SUB_ACCOUNT


@dataclass(frozen=True, slots=True)
class Instrument:
    """What an instrument's id says. `expiry` in unix seconds (0: perpetual), `strike` in USD 1e8 (0: no option)."""

    kind: Kind
    underlying: str
    expiry: int = 0
    strike: int = 0


def instrument_id(instrument: Instrument) -> AssetId:
    """Encode; raises IdError where the fields do not fit the kind."""
    kind, name = instrument.kind, instrument.underlying
    if kind is Kind.TOKEN:
        raise IdError("a token is no instrument: use token_id")
    if not (1 <= len(name) <= 8) or not name.isascii() or not name.isalnum():
        raise IdError(f"an underlying is 1 to 8 ASCII letters or digits, got {shown(name)}")
    if (instrument.expiry == 0) != (kind is Kind.PERPETUAL) or not 0 <= instrument.expiry < 2**40:
        raise IdError(f"{kind.name.lower()} with expiry {shown(instrument.expiry)}")
    if (instrument.strike == 0) != (kind in (Kind.PERPETUAL, Kind.FUTURE)) or not 0 <= instrument.strike < 2**128:
        raise IdError(f"{kind.name.lower()} with strike {shown(instrument.strike)}")
    return AssetId(
        bytes([kind])
        + name.encode("ascii").ljust(8, b"\0")
        + instrument.expiry.to_bytes(5, "big")
        + instrument.strike.to_bytes(16, "big")
        + b"\0\0"
    )


def perpetual(underlying: str) -> AssetId:
    return instrument_id(Instrument(Kind.PERPETUAL, underlying))


def parse_instrument(asset: AssetId) -> Instrument:
    """Decode; raises IdError where the bytes are no well-formed instrument (encoding it again gives the same bytes)."""
    if len(asset) != 32 or asset[0] not in (1, 2, 3, 4) or asset[30:] != b"\0\0":
        raise IdError(f"no instrument: {shown(bytes(asset))}")
    try:
        name = asset[1:9].rstrip(b"\0").decode("ascii")
    except UnicodeDecodeError:
        raise IdError(f"no instrument, its underlying is not ASCII: {shown(bytes(asset))}") from None
    instrument = Instrument(
        Kind(asset[0]), name, int.from_bytes(asset[9:14], "big"), int.from_bytes(asset[14:30], "big")
    )
    if instrument_id(instrument) != asset:
        raise IdError(f"no instrument: {shown(bytes(asset))}")
    return instrument


def token_id(chain_id: int, token: str | bytes) -> AssetId:
    """A token's asset id: the same address on two chains is two assets."""
    return AssetId(bytes(4) + _chain_id(chain_id).to_bytes(8, "big") + address(token))


def is_token(asset: AssetId) -> bool:
    return asset[:4] == bytes(4) and asset != ZERO32


def parse_token(asset: AssetId) -> tuple[int, Address]:
    """Chain id and address of a token's asset id."""
    if len(asset) != 32 or not is_token(asset):
        raise IdError(f"no token: {shown(bytes(asset))}")
    return int.from_bytes(asset[4:12], "big"), Address(asset[12:])


def _chain_id(value: int) -> int:
    if not 0 < value < 2**64:
        raise IdError(f"a chain id is 1 … 2**64 - 1, got {shown(value)}")
    return value


def _from_hex(value: str) -> bytes:
    found = _HEX.fullmatch(value)
    if found is None or len(found[2]) % 2:
        raise IdError(f"not hexadecimal: {shown(value)}, wanted pairs of digits without blanks")
    return bytes.fromhex(found[2])


def _check_sum(text: str, raw: bytes) -> None:
    """Digits all in one case say nothing; in both, the case of each is a bit of the hash (EIP-55)."""
    digits = text[-40:]
    if digits in (digits.lower(), digits.upper()):
        return
    hashed = keccak256(raw.hex().encode()).hex()
    right = "".join(d.upper() if int(h, 16) >= 8 else d for d, h in zip(raw.hex(), hashed, strict=False))
    if digits != right:
        raise IdError(f"{shown(text)}: a digit is wrong, or upper and lower case are (EIP-55, it would be 0x{right})")
