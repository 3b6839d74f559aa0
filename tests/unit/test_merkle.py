"""Merkle trees: against the vectors that OpenZeppelin's StandardMerkleTree made, and as properties."""

from __future__ import annotations

from typing import Any

import pytest
from codec_vectors import entries, raw
from hypothesis import given
from hypothesis import strategies as st

from keeper.attest.codec import CodecError, Leaf, is_zero_leaf, keccak, leaf_hash, zero_leaf_hash
from keeper.attest.merkle import ABSENT, MerkleError, MerkleTree, process_proof, verify
from keeper.state.batch import LiquidationLeaf, MarginLeaf, MarkLeaf, SettlementLeaf
from keeper.state.ids import AccountId, AssetId, account_id
from keeper.state.wire import from_json

KINDS = {kind.__name__: kind for kind in (MarginLeaf, MarkLeaf, LiquidationLeaf, SettlementLeaf)}
ZEROS = (
    MarginLeaf(AccountId(bytes(32)), 0, 0, 0, 0, 0),
    MarkLeaf(AssetId(bytes(32)), 0, 0, 0, 0, 0),
    LiquidationLeaf(AccountId(bytes(32)), 0, AssetId(bytes(32)), 0, 0, 0, 0, 0, bytes(32)),
    SettlementLeaf(0, AccountId(bytes(32)), 0, 0),
)


def leaves(count: int) -> list[MarginLeaf]:
    return [MarginLeaf(account_id(i.to_bytes(20, "big")), 1, -i, i, i) for i in range(1, count + 1)]


TREES = st.lists(st.integers(1, 40), min_size=1, max_size=40).map(lambda owners: [leaves(40)[i - 1] for i in owners])


@entries("trees")
@pytest.mark.cm("CM-05")
def test_trees(entry: dict[str, Any]) -> None:
    kind = KINDS[entry["type"]]
    given_ = [from_json(kind, leaf) for leaf in entry["leaves"]]
    tree = MerkleTree.of(given_)
    assert tree.root == raw(entry["root"])
    assert [leaf_hash(leaf) for leaf in given_] == [raw(hashed) for hashed in entry["hashes"]]
    assert [tree.proof(leaf) for leaf in given_] == [[raw(node) for node in proof] for proof in entry["proofs"]]
    assert all(verify(tree.root, leaf, tree.proof(leaf)) for leaf in given_)
    assert zero_leaf_hash(kind) == raw(entry["zeroLeaf"])
    if given_:
        assert process_proof(raw(entry["zeroLeaf"]), [raw(node) for node in entry["zeroProof"]]) == tree.root


@pytest.mark.parametrize("zero", ZEROS, ids=lambda leaf: type(leaf).__name__)
@pytest.mark.cm("CM-05")
def test_the_leaf_of_zeros_is_in_every_tree_and_proves_nothing(zero: Leaf) -> None:
    assert is_zero_leaf(zero)
    assert leaf_hash(zero) == zero_leaf_hash(type(zero))
    with pytest.raises(MerkleError, match="of zeros is part of every tree"):
        MerkleTree.of([zero])
    if isinstance(zero, MarginLeaf):
        tree = MerkleTree.of(leaves(3))
        assert zero in tree
        assert len(tree) == 4
        assert process_proof(leaf_hash(zero), tree.proof(zero)) == tree.root
        assert not verify(tree.root, zero, tree.proof(zero))


def test_an_absent_tree_proves_nothing() -> None:
    tree = MerkleTree.of([])
    (leaf,) = leaves(1)
    assert (tree.root, len(tree)) == (ABSENT, 0)
    assert leaf not in tree
    assert not verify(tree.root, leaf, [bytes(32)])
    with pytest.raises(MerkleError, match="not in the tree"):
        tree.proof(leaf)


@given(TREES)
@pytest.mark.cm("CM-05")
def test_every_leaf_is_proven_and_no_proof_is_empty(chosen: list[MarginLeaf]) -> None:
    tree = MerkleTree.of(chosen)
    assert len(tree) == len(chosen) + 1
    for leaf in chosen:
        proof = tree.proof(leaf)
        assert proof
        assert leaf in tree
        assert verify(tree.root, leaf, proof)


@given(TREES, st.randoms(use_true_random=False))
def test_the_order_of_leaves_does_not_matter(chosen: list[MarginLeaf], random: Any) -> None:
    shuffled = list(chosen)
    random.shuffle(shuffled)
    assert MerkleTree.of(shuffled).root == MerkleTree.of(chosen).root


@given(TREES, st.integers(0, 39), st.integers(1, 100))
@pytest.mark.cm("CM-05")
def test_a_proof_is_of_one_leaf_in_one_tree(chosen: list[MarginLeaf], at: int, more: int) -> None:
    tree = MerkleTree.of(chosen)
    leaf = chosen[at % len(chosen)]
    proof = tree.proof(leaf)
    altered = MarginLeaf(leaf.account_id, leaf.chain_id, leaf.equity + more, leaf.initial_margin, 0)
    other = MerkleTree.of([*chosen, altered])
    assert altered not in tree
    assert not verify(tree.root, altered, proof)
    assert not verify(other.root, leaf, proof)
    assert not verify(tree.root, leaf, proof[:-1])
    assert not verify(tree.root, leaf, [*proof, bytes(32)])
    assert not verify(tree.root, leaf, [proof[0][:31], *proof[1:]])
    assert not verify(tree.root, leaf, [bytes([proof[0][0] ^ 1]) + proof[0][1:], *proof[1:]])


@given(TREES)
@pytest.mark.cm("CM-05")
def test_a_node_is_no_leaf(chosen: list[MarginLeaf]) -> None:
    """The parent of a leaf, taken for a leaf's preimage, leads elsewhere: leaves are hashed twice."""
    tree = MerkleTree.of(chosen)
    proof = tree.proof(chosen[0])
    pair = b"".join(sorted((leaf_hash(chosen[0]), proof[0])))
    assert process_proof(keccak(pair), proof[1:]) == tree.root
    assert process_proof(keccak(keccak(pair)), proof[1:]) != tree.root


def test_leaves_of_two_types_make_no_tree() -> None:
    with pytest.raises(MerkleError, match="a MarkLeaf among leaves of type MarginLeaf"):
        MerkleTree.of([*leaves(1), MarkLeaf(AssetId(b"\1" * 32), 1, 0, 0, 0)])


def test_a_leaf_that_does_not_fit_makes_no_tree() -> None:
    with pytest.raises(CodecError, match=r"MarginLeaf\.equity: int256 wanted"):
        MerkleTree.of([*leaves(2), MarginLeaf(account_id(b"\1" * 20), 1, 2**255, 0, 0)])


def test_a_tree_of_a_hundred_thousand_leaves() -> None:
    many = leaves(100_000)
    tree = MerkleTree.of(many)
    for leaf in (many[0], many[77_777], many[-1]):
        assert verify(tree.root, leaf, tree.proof(leaf))
