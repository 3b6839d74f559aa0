"""Digests and leaf hashes: against the vectors, eth-account, eth-abi and ethers."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import eth_abi
import pytest
from codec_vectors import FILE, ROOT, entries, raw, refused
from eth_account.messages import encode_typed_data
from hypothesis import given, settings
from hypothesis import strategies as st

from keeper.attest.codec import (
    TYPES,
    BatchDomain,
    ChainDomain,
    CodecError,
    Domain,
    Value,
    cut_hash,
    deployment_id,
    digest,
    is_zero_leaf,
    keccak,
    leaf_hash,
    struct_hash,
    to_abi,
    to_tuple,
    typed_data,
)
from keeper.state.actions import (
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
from keeper.state.ids import Address, address
from keeper.state.wire import from_json

SIGNABLE = (MarginBatch, Permit, PermitRequest, Order, Withdraw, Trade, Reserve, Takeover, Move, Unlink)
LEAVES = (MarginLeaf, MarkLeaf, LiquidationLeaf, SettlementLeaf)
KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (*SIGNABLE, *LEAVES, ChainCut)}

WORDS: dict[str, st.SearchStrategy[Any]] = {
    "uint64": st.integers(0, 2**64 - 1),
    "uint256": st.integers(0, 2**256 - 1),
    "int256": st.integers(-(2**255), 2**255 - 1),
    "bytes32": st.binary(min_size=32, max_size=32),
    "address": st.binary(min_size=20, max_size=20),
    "bool": st.booleans(),
}
OUTSIDE: dict[str, tuple[Any, ...]] = {
    "uint64": (-1, 2**64, 1.0, "1", None, b"\0" * 8),
    "uint256": (-1, 2**256, 1.0, "1", None, b"\0" * 32),
    "int256": (-(2**255) - 1, 2**255, 1.0, "1", None),
    "bytes32": (b"", b"\0" * 31, b"\0" * 33, "0" * 32, 0, None, [0] * 32),
    "address": (b"", b"\0" * 19, b"\0" * 21, b"\0" * 32, "0" * 20, 0, None),
    "bool": (0, 1, "", None),
}
SALT = BatchDomain("Cross Margin", "1", bytes(range(32)))
CHAIN = ChainDomain("Cross Margin", "1", 31337001, Address(b"\x11" * 20))


def abi_types(kind: type) -> list[str]:
    return [member.split(" ")[0] for member in TYPES[kind.__name__].partition("(")[2].removesuffix(")").split(",")]


def values_of(*kinds: type[Any]) -> st.SearchStrategy[Any]:
    """Any value of one of the types."""
    return st.one_of(*(st.builds(kind, *(WORDS[word] for word in abi_types(kind))) for kind in kinds))


def domain_of(entry: dict[str, Any]) -> Domain:
    given_ = entry["domain"]
    if "salt" in given_:
        return BatchDomain(given_["name"], given_["version"], raw(given_["salt"]))
    contract = address(given_["verifyingContract"])
    return ChainDomain(given_["name"], given_["version"], int(given_["chainId"]), contract)


def wallet_digest(domain: Domain, value: Any) -> bytes:
    """What eth-account signs when it is given the JSON that a wallet gets."""
    message = encode_typed_data(full_message=json.loads(json.dumps(typed_data(domain, value))))
    return keccak(b"\x19" + message.version + message.header + message.body)


# --- against the vectors ----------------------------------------------------------------------------------------------


@entries("structs")
@pytest.mark.cm("CM-06")
def test_structs_and_digests(entry: dict[str, Any]) -> None:
    value = from_json(KINDS[entry["type"]], entry["value"])
    assert struct_hash(value).hex() == raw(entry["hash"]).hex()
    assert eth_abi.encode(abi_types(type(value)), to_abi(value)) == raw(entry["encoded"])
    if "domain" in entry:
        domain = domain_of(entry)
        assert domain.separator == raw(entry["separator"])
        assert digest(domain, value) == raw(entry["digest"]) == wallet_digest(domain, value)


@entries("cuts")
def test_cuts(entry: dict[str, Any]) -> None:
    cut = [from_json(ChainCut, item) for item in entry["cut"]]
    assert cut_hash(cut) == raw(entry["hash"])


@entries("deployments")
def test_deployment_ids(entry: dict[str, Any]) -> None:
    deployer = address(entry["deployer"])
    assert deployment_id(entry["deployment"], deployer, int(entry["salt"])) == raw(entry["id"])


@refused("structs", "cuts", "trees", "deployments")
def test_hash_RefusedWhen_malformed(section: str, entry: dict[str, Any]) -> None:
    with pytest.raises(CodecError, match="wanted, got"):
        _hash(section, entry)


def _hash(section: str, entry: dict[str, Any]) -> bytes:
    if section == "cuts":
        return cut_hash([from_json(ChainCut, item) for item in entry["cut"]])
    if section == "deployments":
        return deployment_id(entry["deployment"], Address(raw(entry["deployer"])), int(entry["salt"]))
    if section == "trees":
        return leaf_hash(from_json(KINDS[entry["type"]], entry["leaves"][0]))
    value = from_json(KINDS[entry["type"]], entry["value"])
    return digest(domain_of(entry), value) if "domain" in entry else struct_hash(value)


def _vectors(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["node", str(folder / "scripts" / "vectors.mjs"), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The script and its file in a folder of their own."""
    for path in ("scripts/vectors.mjs", str(FILE.relative_to(ROOT))):
        (tmp_path / path).parent.mkdir(parents=True)
        shutil.copy(ROOT / path, tmp_path / path)
    (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")
    return tmp_path


def test_ethers_and_openzeppelin_agree_with_the_vectors() -> None:
    done = _vectors(ROOT)
    assert (done.returncode, done.stderr) == (0, "")


def test_vectors_that_differ_are_named(copy: Path) -> None:
    file = copy / FILE.relative_to(ROOT)
    changed = json.loads(file.read_text())
    changed["structs"][0]["digest"] = "0x" + "00" * 32
    changed["trees"][3]["leaves"][0]["equity"] = 5
    changed["refused"][0]["input"]["subAccount"] = "7"
    file.write_text(json.dumps(changed))
    done = _vectors(copy)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"structs: {changed['structs'][0]['name']}: digest",
        f"trees: {changed['trees'][3]['name']}: encoded, hashes, zeroProof, root, proofs",
        f"refused: {changed['refused'][0]['name']}: is accepted here",
    ]


def test_vectors_are_written_from_their_inputs(copy: Path) -> None:
    file = copy / FILE.relative_to(ROOT)
    stripped = json.loads(file.read_text())
    for section in ("structs", "cuts", "deployments"):
        for entry in stripped[section]:
            for output in ("encoded", "hash", "separator", "digest"):
                entry.pop(output, None)
    file.write_text(json.dumps(stripped))
    assert _vectors(copy).returncode == 1
    assert _vectors(copy, "--write").returncode == 0
    assert json.loads(file.read_text()) == json.loads(FILE.read_text())
    assert _vectors(copy, "--wrote").returncode == 2


# --- types ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_members_are_the_fields_in_camel_case(kind: type) -> None:
    renamed = {"source": "from", "target": "to"}
    names = [renamed.get(field.name, field.name) for field in dataclasses.fields(kind)]
    members = [member.split(" ")[1] for member in TYPES[kind.__name__].partition("(")[2].removesuffix(")").split(",")]
    assert members == [first + "".join(map(str.title, rest)) for first, *rest in (name.split("_") for name in names)]


@pytest.mark.parametrize("kind", SIGNABLE, ids=lambda kind: kind.__name__)
def test_type_strings_are_those_of_the_contracts(kind: type) -> None:
    assert f'"{TYPES[kind.__name__]}"' in (ROOT / "contracts" / "libraries" / "HashLib.sol").read_text()


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_field_is_checked_against_its_type(kind: type[Any]) -> None:
    words = abi_types(kind)
    inside = {"bytes32": bytes(32), "address": bytes(20), "bool": False}
    fields = dataclasses.fields(kind)
    good = kind(*(inside.get(word, 0) for word in words))
    to_abi(good)
    for field, word in zip(fields, words, strict=True):
        for wrong in OUTSIDE[word]:
            with pytest.raises(CodecError, match=rf"^{kind.__name__}\.\w+: {word} wanted, got") as refusal:
                to_abi(dataclasses.replace(good, **{field.name: wrong}))
            assert refusal.value.abi_type == word
            assert refusal.value.value is wrong or refusal.value.value == wrong


def test_a_hash_is_refused_to_what_has_none() -> None:
    cut = ChainCut(1, 1, bytes(32), 1, 1, 1)
    with pytest.raises(TypeError, match="ChainCut has no struct hash"):
        struct_hash(cut)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="ChainCut is no leaf"):
        leaf_hash(cut)  # type: ignore[arg-type]


def test_domains_are_refused_when_malformed() -> None:
    for chain_id in (0, -1, 2**256):
        with pytest.raises(CodecError, match=r"EIP712Domain\.chainId"):
            ChainDomain("Cross Margin", "1", chain_id, CHAIN.verifying_contract)
    with pytest.raises(CodecError, match=r"EIP712Domain\.verifyingContract: address wanted, got 0x1111"):
        ChainDomain("Cross Margin", "1", 1, Address(b"\x11" * 19))
    with pytest.raises(CodecError, match=r"EIP712Domain\.version"):
        ChainDomain("Cross Margin", "¹", 1, CHAIN.verifying_contract)
    with pytest.raises(CodecError, match=r"EIP712Domain\.salt"):
        BatchDomain("Cross Margin", "1", bytes(31))


# --- properties -------------------------------------------------------------------------------------------------------


@given(values_of(*SIGNABLE))
@settings(max_examples=60)
def test_digests_are_those_that_wallets_sign(value: Any) -> None:
    assert digest(SALT, value) == wallet_digest(SALT, value)
    assert digest(CHAIN, value) == wallet_digest(CHAIN, value)


@given(values_of(*LEAVES))
def test_leaf_hashes_are_those_of_the_abi_encoding(leaf: Any) -> None:
    encoded = eth_abi.encode(abi_types(type(leaf)), to_abi(leaf))
    assert leaf_hash(leaf) == keccak(keccak(encoded))
    assert is_zero_leaf(leaf) == (not any(encoded))


@given(st.lists(values_of(ChainCut), max_size=4))
def test_cut_hashes_are_those_of_the_abi_encoding(cut: list[ChainCut]) -> None:
    kind = f"({','.join(abi_types(ChainCut))})[]"
    assert cut_hash(cut) == keccak(eth_abi.encode([kind], [[to_abi(entry) for entry in cut]]))


@given(st.text(st.characters(max_codepoint=127), max_size=70), st.binary(min_size=20, max_size=20), WORDS["uint256"])
def test_deployment_ids_are_those_of_the_abi_encoding(name: str, deployer: bytes, salt: int) -> None:
    encoded = eth_abi.encode(["string", "address", "uint256"], [name, deployer, salt])
    assert deployment_id(name, Address(deployer), salt) == keccak(encoded)


@given(values_of(*SIGNABLE), values_of(*SIGNABLE))
def test_different_values_have_different_hashes(one: Value, other: Value) -> None:
    assert (struct_hash(one) == struct_hash(other)) == (one == other)  # type: ignore[arg-type]


@given(values_of(*SIGNABLE), WORDS["bytes32"], st.integers(1, 2**64 - 1), WORDS["address"])
@pytest.mark.cm("CM-06")
def test_a_digest_is_of_one_domain(value: Any, salt: bytes, chain_id: int, contract: bytes) -> None:
    domains = {SALT, CHAIN, BatchDomain("Cross Margin", "1", salt), BatchDomain("Cross Margin", "2", SALT.salt)}
    domains |= {ChainDomain("Cross Margin", "1", chain_id, Address(contract))}
    assert len({digest(domain, value) for domain in domains}) == len(domains)


@given(values_of(*SIGNABLE, *LEAVES, ChainCut))
def test_tuples_have_the_fields_in_order(value: Any) -> None:
    assert type(value)(*to_tuple(value)) == value
    for word, item, given_ in zip(abi_types(type(value)), to_abi(value), to_tuple(value), strict=True):
        assert (address(item) if word == "address" else item) == given_


@given(st.binary(max_size=300))
def test_keccak_is_that_of_the_fallback(data: bytes) -> None:
    from eth_hash.backends.pycryptodome import keccak256

    assert keccak(data) == keccak256(data)
