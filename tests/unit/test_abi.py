"""Naming what a revert carries."""

from __future__ import annotations

import pytest
from eth_abi.abi import encode as abi_encode
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from keeper.chain.abi import (
    AbiError,
    abi_of,
    decode_result,
    describe_revert,
    encode,
    encode_creation,
    function,
    topic,
)


def _revert(signature: str, types: list[str], values: list[object]) -> bytes:
    return keccak(text=signature)[:4] + abi_encode(types, values)


def test_our_errors_have_names_and_values() -> None:
    data = _revert("BelowThreshold(uint256,uint256)", ["uint256", "uint256"], [2, 3])
    revert = describe_revert(data)
    assert (revert.name, revert.arguments, revert.data) == ("BelowThreshold", {"signatures": 2, "threshold": 3}, data)
    assert str(revert) == "BelowThreshold(signatures=2, threshold=3)"
    assert str(describe_revert(_revert("InvalidProof(bytes32)", ["bytes32"], [b"\7" * 32]))) == (
        f"InvalidProof(leaf=0x{'07' * 32})"
    )


def test_every_error_of_the_contracts_is_known() -> None:
    for entry in abi_of("Errors"):
        types = [item["type"] for item in entry["inputs"]]
        empty = {"string": "", "bytes32": b"\0" * 32, "address": "0x" + "00" * 20}
        values = [empty.get(kind, 0) for kind in types]
        signature = f"{entry['name']}({','.join(types)})"
        assert describe_revert(_revert(signature, types, values)).name == entry["name"]


def test_tokens_errors_reasons_and_panics() -> None:
    short = _revert(
        "ERC20InsufficientBalance(address,uint256,uint256)", ["address", "uint256", "uint256"], ["0x" + "01" * 20, 1, 2]
    )
    assert describe_revert(short).name == "ERC20InsufficientBalance"
    assert describe_revert(_revert("Error(string)", ["string"], ["why"])).arguments == {"reason": "why"}
    assert describe_revert(_revert("Panic(uint256)", ["uint256"], [0x11])).arguments == {"code": "arithmetic overflow"}
    assert describe_revert(_revert("Panic(uint256)", ["uint256"], [0x99])).arguments == {"code": "0x99"}
    assert describe_revert(b"").name == "NoReason"


@given(st.binary(min_size=1, max_size=200))
def test_whatever_a_chain_returns_is_described(data: bytes) -> None:
    assert describe_revert(data).data == data


@pytest.mark.parametrize(
    "selector", [keccak(text="BelowThreshold(uint256,uint256)")[:4], keccak(text="Error(string)")[:4]]
)
def test_cut_off_data_keeps_its_selector(selector: bytes) -> None:
    revert = describe_revert(selector + b"\1")
    assert (revert.name, revert.arguments) == ("Unknown", {"selector": selector})


def test_structs_are_tuples_both_ways() -> None:
    account = b"\1" * 32
    data = encode("MarginLens", "accounts", [[(account, [b"\2" * 32], [b"\3" * 20])]])
    assert data[:4] == keccak(text="accounts((bytes32,bytes32[],address[])[])")[:4]
    answer = abi_encode(["(int256,int256[],uint256[])[]"], [[(-1, (2,), (3,))]])
    assert decode_result("MarginLens", "accounts", answer) == (((-1, (2,), (3,)),),)


def test_what_is_not_known_is_named() -> None:
    with pytest.raises(AbiError, match="no ABI of Nothing: `make setup` makes them"):
        abi_of("Nothing")
    with pytest.raises(AbiError, match="MarginLens has no function nothing"):
        function("MarginLens", "nothing")
    with pytest.raises(AbiError, match="no event Nothing"):
        topic("Nothing")


def test_a_constructors_structs_are_read_by_field() -> None:
    """Whatever their order in the mapping; nested in a list as well."""
    remote = {"token": b"\2" * 32, "messenger": b"\1" * 32}
    before = ["0x" + "01" * 20, "0x" + "02" * 20, "0x" + "03" * 20, [7]]
    creation = encode_creation("DevnetTokenMessenger", [*before, [remote]])
    assert creation == encode_creation("DevnetTokenMessenger", [*before, [(b"\1" * 32, b"\2" * 32)]])
    assert creation.endswith(b"\1" * 32 + b"\2" * 32)
    assert not encode_creation("NativeBlockHistory", []).endswith(bytes(32))
    with pytest.raises(AbiError, match=r"no code of Nothing: `make setup` makes it"):
        encode_creation("Nothing", [])
    with pytest.raises(ValueError, match="argument 2 is longer"):
        encode_creation("NativeBlockHistory", [1])
