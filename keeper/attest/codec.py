"""EIP-712 digests and leaf hashes of everything that is signed or proven, byte for byte as the contracts make them.

Every member of every type is one ABI word, so the encoding of a struct is the concatenation of its words: packed here
directly, without a general ABI encoder, because a batch hashes a leaf per account and chain. Ranges are checked while
packing: a value that does not fit its type is refused, never truncated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from eth_utils.address import to_checksum_address

from keeper.state.actions import (
    Action,
    Move,
    Order,
    Permit,
    PermitRequest,
    Reserve,
    Takeover,
    Trade,
    Unlink,
    Withdraw,
)
from keeper.state.batch import ChainCut, LiquidationLeaf, MarginBatch, MarginLeaf, MarkLeaf, SettlementLeaf
from keeper.state.ids import Address
from keeper.state.wire import to_json

keccak: Callable[[bytes], bytes]
"""Keccak-256 of bytes: 32 bytes."""

try:
    from sha3 import keccak_256  # type: ignore[import-not-found, import-untyped, unused-ignore]
except ImportError:  # a platform without its wheel; eth-account's own back end gives the same bytes, slower
    from eth_hash.auto import keccak as _eth_hash_keccak

    keccak = _eth_hash_keccak
else:

    def _sha3_keccak(data: bytes) -> bytes:
        digested: bytes = keccak_256(data).digest()
        return digested

    keccak = _sha3_keccak

Signable = MarginBatch | Permit | PermitRequest | Order | Action
"""What has an EIP-712 struct hash."""

Leaf = MarginLeaf | MarkLeaf | LiquidationLeaf | SettlementLeaf
"""What a tree of a batch holds."""

Value = Signable | Leaf | ChainCut


class CodecError(ValueError):
    """A field's value that does not fit its type: `type_name`, `field`, `abi_type` and `value` say which."""

    def __init__(self, type_name: str, field: str, abi_type: str, value: object) -> None:
        shown = f"0x{value.hex()}" if isinstance(value, bytes) else repr(value)
        super().__init__(f"{type_name}.{field}: {abi_type} wanted, got {shown}")
        self.type_name = type_name
        self.field = field
        self.abi_type = abi_type
        self.value = value


# --- packing ---------------------------------------------------------------------------------------------------------
# One word each. They raise whatever the operation raises; the one place that calls them names the field.

_ZEROS = bytes(32)


def _uint64(value: int) -> bytes:
    return b"\0" * 24 + value.to_bytes(8, "big")


def _uint256(value: int) -> bytes:
    return value.to_bytes(32, "big")


def _int256(value: int) -> bytes:
    return value.to_bytes(32, "big", signed=True)


def _bytes32(value: bytes) -> bytes:
    if len(value) != 32:
        raise ValueError
    return value


def _address(value: bytes) -> bytes:
    if len(value) != 20:
        raise ValueError
    return b"\0" * 12 + value


def _bool(value: bool) -> bytes:
    if value is True:
        return b"\0" * 31 + b"\1"
    if value is False:
        return _ZEROS
    raise TypeError


_PACKERS: Mapping[str, Callable[[Any], bytes]] = {
    "uint64": _uint64,
    "uint256": _uint256,
    "int256": _int256,
    "bytes32": _bytes32,
    "address": _address,
    "bool": _bool,
}


class _Layout:
    """How one type is packed: its members in order, their ABI types, and the type hash."""

    __slots__ = ("abi_types", "attributes", "members", "name", "packers", "signature", "typehash", "values")

    def __init__(self, kind: type, signature: str) -> None:
        self.name, _, members = signature.removesuffix(")").partition("(")
        pairs = [member.split(" ") for member in members.split(",")]
        self.signature = signature
        self.typehash = keccak(signature.encode("ascii"))
        self.attributes = tuple(f.name for f in dataclasses.fields(kind))
        self.abi_types = tuple(abi_type for abi_type, _ in pairs)
        self.members = tuple(name for _, name in pairs)
        self.packers = tuple(_PACKERS[abi_type] for abi_type in self.abi_types)
        self.values: Callable[[Any], tuple[Any, ...]] = attrgetter(*self.attributes)
        if len(self.attributes) != len(self.members):
            raise TypeError(f"{self.name} has {len(self.attributes)} fields and {len(self.members)} members")

    def encode(self, value: Any) -> bytes:
        """The words of a value, one after the other. Raises CodecError."""
        try:
            return b"".join([pack(item) for pack, item in zip(self.packers, self.values(value), strict=True)])
        except (ValueError, TypeError, OverflowError, AttributeError):
            raise self._fault(value) from None

    def _fault(self, value: Any) -> CodecError:
        faults = (
            CodecError(self.name, member, abi_type, item)
            for member, abi_type, item in zip(self.members, self.abi_types, self.values(value), strict=True)
            if not _fits(abi_type, item)
        )
        return next(faults)


def _fits(abi_type: str, item: Any) -> bool:
    try:
        b"".join([_PACKERS[abi_type](item)])
    except (ValueError, TypeError, OverflowError, AttributeError):
        return False
    return True


_LAYOUTS: Mapping[type, _Layout] = {
    kind: _Layout(kind, signature)
    for kind, signature in {
        MarginBatch: (
            "MarginBatch(uint64 epoch,uint64 timestamp,uint64 validUntil,bytes32 accountsRoot,bytes32 marksRoot,"
            "bytes32 liquidationsRoot,bytes32 settlementsRoot,bytes32 cutHash,bytes32 parametersHash,"
            "uint64 attestorSetId)"
        ),
        Permit: (
            "Permit(bytes32 accountId,bytes32 counterpartyId,bytes32 actionHash,uint256 nonce,uint64 deadline,"
            "uint64 attestorSetId)"
        ),
        PermitRequest: "PermitRequest(bytes32 accountId,bytes32 actionHash,uint256 nonce,uint64 deadline)",
        Order: (
            "Order(bytes32 accountId,bytes32 asset,int256 size,uint256 limitPrice,uint256 maxFee,uint256 nonce,"
            "uint64 deadline,address submitter)"
        ),
        Withdraw: "Withdraw(bytes32 accountId,address token,uint256 amount,address receiver)",
        Trade: "Trade(bytes32 makerOrder,bytes32 takerOrder,int256 size,uint256 price)",
        Reserve: (
            "Reserve(bytes32 accountId,address integrator,uint256 amount,uint256 cashPart,uint64 until,"
            "address submitter)"
        ),
        Takeover: "Takeover(bytes32 accountId,bytes32 liquidated,bytes32 asset,uint256 size)",
        Move: "Move(bytes32 from,bytes32 to,bytes32 asset,int256 amount)",
        Unlink: "Unlink(bytes32 accountId,uint64 chainId)",
        ChainCut: (
            "ChainCut(uint64 chainId,uint64 number,bytes32 blockHash,uint64 time,uint64 headNumber,uint64 headTime,"
            "bool late)"
        ),
        MarginLeaf: (
            "MarginLeaf(bytes32 accountId,uint64 chainId,int256 equity,uint256 initialMargin,"
            "uint256 maintenanceMargin,uint256 escapeLimit)"
        ),
        MarkLeaf: (
            "MarkLeaf(bytes32 asset,uint256 price,int256 fundingIndex,uint256 longRequirement,"
            "uint256 shortRequirement,uint64 settledAt)"
        ),
        LiquidationLeaf: (
            "LiquidationLeaf(bytes32 accountId,uint64 chainId,bytes32 asset,int256 closeLimit,uint256 markPrice,"
            "uint256 maxConcession,uint64 auctionStart,uint256 depositTarget,bytes32 counterparty)"
        ),
        SettlementLeaf: "SettlementLeaf(uint64 cycle,bytes32 accountId,uint64 chainId,int256 cashDelta)",
    }.items()
}
_SIGNABLE = frozenset(Signable.__args__)
_LEAVES = frozenset(Leaf.__args__)

TYPES: Mapping[str, str] = MappingProxyType({layout.name: layout.signature for layout in _LAYOUTS.values()})
"""EIP-712 type strings by name; those of leaves and cuts name their members but are never hashed."""


# --- hashes ----------------------------------------------------------------------------------------------------------


def deployment_id(name: str, deployer: Address, salt: int) -> bytes:
    """keccak256(abi.encode(name, deployer, salt)): the salt of the batch domain.

    Raises:
        CodecError: a name that is not ASCII (a look-alike would read the same in a wallet), an address that has not 20
            bytes, a salt outside uint256.
    """
    text = _ascii("DeploymentId", "name", name)
    if len(deployer) != 20:
        raise CodecError("DeploymentId", "deployer", "address", deployer)
    if not 0 <= salt < 2**256:
        raise CodecError("DeploymentId", "salt", "uint256", salt)
    padded = text + bytes(-len(text) % 32)
    return keccak(_uint256(96) + _address(deployer) + _uint256(salt) + _uint256(len(text)) + padded)


def struct_hash(value: Signable) -> bytes:
    """The EIP-712 struct hash: of an action its `actionHash`, of an order the order hash. Raises CodecError."""
    if type(value) not in _SIGNABLE:
        raise TypeError(f"{type(value).__name__} has no struct hash")
    layout = _LAYOUTS[type(value)]
    return keccak(layout.typehash + layout.encode(value))


def leaf_hash(leaf: Leaf) -> bytes:
    """keccak256(keccak256(abi.encode(leaf))): hashed twice, so that a leaf never passes for a node (CM-05)."""
    if type(leaf) not in _LEAVES:
        raise TypeError(f"{type(leaf).__name__} is no leaf")
    return keccak(keccak(_LAYOUTS[type(leaf)].encode(leaf)))


def zero_leaf_hash(kind: type[Leaf]) -> bytes:
    """The hash of the leaf of zeros that every tree of `kind` holds."""
    return keccak(keccak(_ZEROS * len(_LAYOUTS[kind].members)))


def is_zero_leaf(leaf: Leaf) -> bool:
    """Whether every field is zero; no contract accepts a proof of it."""
    return not any(_LAYOUTS[type(leaf)].encode(leaf))


def cut_hash(cut: Sequence[ChainCut]) -> bytes:
    """keccak256(abi.encode(ChainCut[])), in the order given (the contracts want chain ids ascending)."""
    layout = _LAYOUTS[ChainCut]
    return keccak(b"".join([_uint256(32), _uint256(len(cut)), *(layout.encode(entry) for entry in cut)]))


# --- domains and digests ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BatchDomain:
    """EIP712Domain(string name,string version,bytes32 salt): signed once for every chain of a deployment (CM-06)."""

    name: str
    version: str
    salt: bytes
    separator: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.salt) != 32:
            raise CodecError("EIP712Domain", "salt", "bytes32", self.salt)
        packed = _domain_start(_BATCH_DOMAIN, self.name, self.version) + self.salt
        object.__setattr__(self, "separator", keccak(packed))


@dataclass(frozen=True, slots=True)
class ChainDomain:
    """EIP712Domain(string name,string version,uint256 chainId,address verifyingContract): one contract on one chain."""

    name: str
    version: str
    chain_id: int
    verifying_contract: Address
    separator: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.chain_id < 2**256:
            raise CodecError("EIP712Domain", "chainId", "uint256", self.chain_id)
        if len(self.verifying_contract) != 20:
            raise CodecError("EIP712Domain", "verifyingContract", "address", self.verifying_contract)
        start = _domain_start(_CHAIN_DOMAIN, self.name, self.version)
        object.__setattr__(
            self, "separator", keccak(start + _uint256(self.chain_id) + _address(self.verifying_contract))
        )


Domain = BatchDomain | ChainDomain

_BATCH_DOMAIN = "EIP712Domain(string name,string version,bytes32 salt)"
_CHAIN_DOMAIN = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"


def _domain_start(signature: str, name: str, version: str) -> bytes:
    texts = (_ascii("EIP712Domain", "name", name), _ascii("EIP712Domain", "version", version))
    return keccak(signature.encode("ascii")) + b"".join(keccak(text) for text in texts)


def _ascii(type_name: str, field_name: str, text: str) -> bytes:
    if not text.isascii():
        raise CodecError(type_name, field_name, "ASCII string", text)
    return text.encode("ascii")


def digest(domain: Domain, value: Signable) -> bytes:
    """The 32 bytes that are signed: keccak256(0x1901 ‖ separator ‖ struct hash)."""
    return keccak(b"\x19\x01" + domain.separator + struct_hash(value))


def typed_data(domain: Domain, value: Signable) -> dict[str, Any]:
    """The full EIP-712 JSON, as `eth_signTypedData_v4` takes it.

    Bytes are 0x-hex, integers beyond 2**53 decimal strings, because wallets read JSON numbers as doubles.
    """
    struct_hash(value)  # refuses what does not fit, before a wallet shows it
    layout = _LAYOUTS[type(value)]
    if isinstance(domain, BatchDomain):
        domain_type = _BATCH_DOMAIN
        parts: dict[str, Any] = {"salt": domain.salt}
    else:
        domain_type = _CHAIN_DOMAIN
        parts = {"chainId": domain.chain_id, "verifyingContract": domain.verifying_contract}
    return {
        "types": {"EIP712Domain": type_members(domain_type), layout.name: type_members(layout.signature)},
        "primaryType": layout.name,
        "domain": {"name": domain.name, "version": domain.version, **to_json(parts)},
        "message": to_json(value),
    }


def type_members(signature: str) -> list[dict[str, str]]:
    """The members of a type of `TYPES`, as `eth_signTypedData` takes them."""
    pairs = (member.split(" ") for member in signature.removesuffix(")").partition("(")[2].split(","))
    return [{"name": name, "type": abi_type} for abi_type, name in pairs]


# --- contract calls --------------------------------------------------------------------------------------------------


def to_tuple(value: Value) -> tuple[Any, ...]:
    """The fields in the order of the type, as they are."""
    return _LAYOUTS[type(value)].values(value)


def to_abi(value: Value) -> tuple[Any, ...]:
    """The fields in the order of the type as an argument of a contract call: addresses as checksummed strings.

    Raises CodecError where a field does not fit its type.
    """
    layout = _LAYOUTS[type(value)]
    layout.encode(value)
    return tuple(
        to_checksum_address(item) if abi_type == "address" else item
        for abi_type, item in zip(layout.abi_types, layout.values(value), strict=True)
    )
