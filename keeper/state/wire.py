"""State values as JSON and back: what the journal keeps, what nodes and clients exchange.

Field names are the EIP-712 names (`accountId`), bytes are 0x-hex, uint64 fields (times, epochs, blocks, chains) are
numbers and every wider integer is a decimal string, and a member of a union carries its class name as `type`. Reading
takes either form of an integer, and of its texts only the one that writing gives: no blanks, signs, leading zeros.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from functools import cache
from typing import Any, TypeVar, get_args, get_origin

from .exact import LARGEST, InexactError, shown, whole_number

T = TypeVar("T")

_HEX = re.compile(r"0x([0-9a-fA-F]{2})*", re.ASCII)
_SAFE_INTEGER = 2**53
_TIMES = ("time", "headTime", "timestamp", "validUntil", "settledAt", "auctionStart", "until", "deadline")
_COUNTS = ("chainId", "number", "headNumber", "epoch", "attestorSetId", "cycle", "gasUsed")
_NUMBERS = frozenset(_TIMES + _COUNTS)
"""Integer fields that are uint64 in the contracts, so that no reader loses a digit."""
_RENAMED = {"source": "from", "target": "to"}


class WireError(ValueError):
    """JSON that does not describe the wanted value: at `path`, which begins with the value's name, `got` is not what is
    `wanted`."""

    def __init__(self, path: str, message: str, got: Any = None, wanted: str | None = None) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.got = got
        self.wanted = wanted

    @classmethod
    def of(cls, path: str, wanted: str, got: Any) -> WireError:
        """For a value of another form than is wanted."""
        return cls(path, f"wanted {wanted}, got {shown(got)}", got, wanted)


def to_json(value: Any, *, tagged: bool = False) -> Any:
    """Encode a state value, or a sequence or mapping of them. Integers outside a field are strings beyond 2**53."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        encoded = {
            wire: str(member) if hint is int and wire not in _NUMBERS else to_json(member, tagged=union)
            for name, wire, hint, union in _fields_of(type(value))
            for member in (getattr(value, name),)
        }
        return {"type": type(value).__name__, **encoded} if tagged else encoded
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, bool) or value is None or isinstance(value, str | float):
        return value
    if isinstance(value, int):
        return value if -_SAFE_INTEGER < value < _SAFE_INTEGER else str(value)
    if isinstance(value, list | tuple):
        return [to_json(item, tagged=tagged) for item in value]
    if isinstance(value, dict):
        return {k if isinstance(k, str) else str(k): to_json(v, tagged=tagged) for k, v in value.items()}
    raise TypeError(f"no wire form for {type(value).__name__}")


def from_json(kind: type[T], data: Any, where: str = "") -> T:
    """Decode a value of type `kind`.

    Raises:
        WireError: a field is missing, unknown, or has the wrong form; the message starts with its path.
    """
    return typing.cast(T, _decode(kind, data, where or getattr(kind, "__name__", str(kind))))


def _decode(kind: Any, data: Any, where: str) -> Any:
    kind = _plain(kind)
    if _is_union(kind):
        return _decode_union(kind, data, where)
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(typing.cast(type, kind), data, where)
    if get_origin(kind) is tuple:
        return _decode_tuple(kind, data, where)
    if kind is bytes:
        return _decode_bytes(data, where)
    if kind is int:
        return _decode_int(data, where)
    if kind in (bool, str) and isinstance(data, kind):
        return data
    if kind is float and isinstance(data, int | float) and not isinstance(data, bool) and abs(data) <= LARGEST:
        return float(data)
    raise WireError.of(where, getattr(kind, "__name__", str(kind)), data)


def _decode_dataclass(kind: type, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise WireError.of(where, "an object", data)
    fields = _fields_of(kind)
    unknown = set(data) - {wire for _, wire, _, _ in fields} - {"type"}
    if unknown:
        raise WireError(
            where, f"unknown field {shown(min(unknown, key=str))}", min(unknown, key=str), "no other fields"
        )
    values: dict[str, Any] = {}
    for name, wire, hint, _ in fields:
        if wire in data:
            values[name] = _decode(hint, data[wire], f"{where}.{wire}")
        elif name not in _defaulted(kind):
            raise WireError(f"{where}.{wire}", "missing", wanted="a value")
    return kind(**values)


def _decode_union(kind: Any, data: Any, where: str) -> Any:
    members = {m.__name__: m for m in map(_plain, get_args(kind)) if m is not type(None)}
    if data is None and type(None) in get_args(kind):
        return None
    if len(members) == 1:
        return _decode(next(iter(members.values())), data, where)
    tag = data.get("type") if isinstance(data, dict) else None
    if not isinstance(tag, str) or tag not in members:
        raise WireError.of(f"{where}.type", f"one of {', '.join(sorted(members))}", tag)
    return _decode(members[tag], data, where)


def _decode_tuple(kind: Any, data: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(data, list):
        raise WireError.of(where, "a list", data)
    item = get_args(kind)[0]
    return tuple(_decode(item, entry, f"{where}[{index}]") for index, entry in enumerate(data))


def _decode_bytes(data: Any, where: str) -> bytes:
    if not isinstance(data, str) or not _HEX.fullmatch(data):
        raise WireError.of(where, "0x-hex", data)
    return bytes.fromhex(data[2:])


def _decode_int(data: Any, where: str) -> int:
    if isinstance(data, int) and not isinstance(data, bool) and data.bit_length() <= 256:
        return data
    if isinstance(data, str):
        try:
            return whole_number(data)
        except InexactError:
            pass
    raise WireError.of(where, "an integer", data)


@cache
def _fields_of(kind: type) -> tuple[tuple[str, str, Any, bool], ...]:
    hints = typing.get_type_hints(kind)
    return tuple(
        (f.name, _wire_name(f.name), hints[f.name], _is_union(_item(hints[f.name]))) for f in dataclasses.fields(kind)
    )


@cache
def _defaulted(kind: type) -> frozenset[str]:
    missing = dataclasses.MISSING
    return frozenset(
        f.name for f in dataclasses.fields(kind) if f.default is not missing or f.default_factory is not missing
    )


def _wire_name(name: str) -> str:
    first, *rest = _RENAMED.get(name, name).split("_")
    return first + "".join(part.title() for part in rest)


def _item(kind: Any) -> Any:
    kind = _plain(kind)
    return _plain(get_args(kind)[0]) if get_origin(kind) is tuple else kind


def _is_union(kind: Any) -> bool:
    return isinstance(kind, types.UnionType) or get_origin(kind) is typing.Union


def _plain(kind: Any) -> Any:
    while hasattr(kind, "__supertype__"):
        kind = kind.__supertype__
    return kind


def wire_fields(kind: type) -> tuple[tuple[str, Any, bool, bool], ...]:
    """Every field of a state value as JSON has it: its name, its type, whether an integer is a number there (else
    decimal text), and whether it may be left out."""
    defaulted = _defaulted(kind)
    return tuple((wire, hint, wire in _NUMBERS, name in defaulted) for name, wire, hint, _ in _fields_of(kind))
