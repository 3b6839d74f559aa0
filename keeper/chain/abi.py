"""The contracts' ABIs: encoding calls, decoding results, naming errors.

The files are made from the compiled contracts when the project is set up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from eth_abi.abi import decode as abi_decode
from eth_abi.abi import encode as abi_encode
from eth_abi.exceptions import DecodingError
from eth_utils.crypto import keccak

_WITH_ERRORS = (
    *("DevnetLender", "DevnetToken", "DevnetMessageTransmitter", "DevnetTokenMessenger", "DevnetSwapper"),
    "Errors",
)
"""Whose errors are known; the later one's where two have the same."""
_PANICS = {
    0x01: "assertion failed",
    0x11: "arithmetic overflow",
    0x12: "division by zero",
    0x32: "index out of bounds",
}


class AbiError(LookupError):
    """An ABI, function or error that is not known; the message says which and how to make it."""


@dataclass(frozen=True, slots=True)
class Revert:
    """Why a call reverted: the error's name and its arguments by name. `data` is what the chain returned."""

    name: str
    arguments: dict[str, Any]
    data: bytes = b""

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={_shown(value)}" for name, value in self.arguments.items())
        return f"{self.name}({arguments})"


@cache
def abi_of(contract: str) -> list[dict[str, Any]]:
    """The ABI of a contract. Raises AbiError where it was not generated."""
    try:
        text = (resources.files("keeper") / "abi" / f"{contract}.json").read_text()
    except (FileNotFoundError, ModuleNotFoundError):
        raise AbiError(f"no ABI of {contract}: `make setup` makes them from the contracts") from None
    entries: list[dict[str, Any]] = json.loads(text)
    return entries


@cache
def function(contract: str, name: str) -> dict[str, Any]:
    """A function's ABI entry. Raises AbiError."""
    for entry in abi_of(contract):
        if entry["type"] == "function" and entry["name"] == name:
            return entry
    raise AbiError(f"{contract} has no function {name}")


def encode(contract: str, name: str, arguments: Sequence[Any]) -> bytes:
    """Calldata. Structs are tuples in field order; addresses are 20 bytes or hex."""
    entry = function(contract, name)
    types = [_type(item) for item in entry["inputs"]]
    return _selector(entry) + abi_encode(types, list(arguments))


def encode_creation(contract: str, arguments: Sequence[Any]) -> bytes:
    """What creates a contract: its code, then its constructor's arguments. Structs are mappings, or in field order.

    Raises:
        AbiError: the contract was not compiled.
    """
    try:
        code = (resources.files("keeper") / "abi" / f"{contract}.bin").read_text()
    except (FileNotFoundError, ModuleNotFoundError):
        raise AbiError(f"no code of {contract}: `make setup` makes it from the contracts") from None
    inputs: list[dict[str, Any]] = next(
        (entry["inputs"] for entry in abi_of(contract) if entry["type"] == "constructor"), []
    )
    values = [_in_field_order(item, value) for item, value in zip(inputs, arguments, strict=True)]
    return bytes.fromhex(code) + abi_encode([_type(item) for item in inputs], values)


def decode_result(contract: str, name: str, data: bytes) -> tuple[Any, ...]:
    """A call's results, structs as tuples."""
    return tuple(abi_decode([_type(item) for item in function(contract, name)["outputs"]], data))


@cache
def topic(event: str) -> bytes:
    """The first topic of one of our events."""
    for entry in abi_of("Events"):
        if entry["type"] == "event" and entry["name"] == event:
            return keccak(text=f"{event}({','.join(_type(item) for item in entry['inputs'])})")
    raise AbiError(f"no event {event}")


@cache
def _errors() -> dict[bytes, dict[str, Any]]:
    entries = [entry for contract in _WITH_ERRORS for entry in abi_of(contract) if entry["type"] == "error"]
    return {_selector(entry): entry for entry in entries}


def describe_revert(data: bytes) -> Revert:
    """Name what a revert carries: one of our errors, a reason, a panic; else `Unknown` with its selector."""
    if not data:
        return Revert("NoReason", {})
    selector, body = data[:4], data[4:]
    entry = _errors().get(selector)
    try:
        if entry is not None:
            values = abi_decode([_type(item) for item in entry["inputs"]], body)
            names = [item["name"] for item in entry["inputs"]]
            return Revert(entry["name"], dict(zip(names, values, strict=True)), data)
        if selector == keccak(text="Error(string)")[:4]:
            return Revert("Error", {"reason": abi_decode(["string"], body)[0]}, data)
        if selector == keccak(text="Panic(uint256)")[:4]:
            (code,) = abi_decode(["uint256"], body)
            return Revert("Panic", {"code": _PANICS.get(code, hex(code))}, data)
    except DecodingError:
        pass
    return Revert("Unknown", {"selector": selector}, data)


def _selector(entry: dict[str, Any]) -> bytes:
    return keccak(text=f"{entry['name']}({','.join(_type(item) for item in entry['inputs'])})")[:4]


def _type(item: dict[str, Any]) -> str:
    kind = str(item["type"])
    if kind.startswith("tuple"):
        return f"({','.join(_type(part) for part in item['components'])})" + kind[len("tuple") :]
    return kind


def _in_field_order(item: dict[str, Any], value: Any) -> Any:
    if isinstance(value, list):
        return [_in_field_order(item, each) for each in value]
    if isinstance(value, Mapping):
        return tuple(_in_field_order(part, value[part["name"]]) for part in item["components"])
    return value


def _shown(value: Any) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)
