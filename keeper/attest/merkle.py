"""Merkle trees in the layout of OpenZeppelin's StandardMerkleTree, so that its own clients check them.

Leaf hashes are sorted and laid from the end of an array of 2n − 1 nodes; node i is the hash of its children 2i + 1 and
2i + 2, the smaller first. Every tree begins with the leaf of zeros of its type, so no proof is empty; without leaves of
its own a tree is absent: its root is zero, and nothing proves against it.
"""

from __future__ import annotations

from collections.abc import Sequence

from .codec import Leaf, is_zero_leaf, keccak, leaf_hash, zero_leaf_hash

ABSENT = bytes(32)
"""The root of a tree without leaves."""


class MerkleError(ValueError):
    """Leaves that make no tree, or a leaf that is not in it."""


class MerkleTree:
    """An immutable tree over leaves of one type. The order of the leaves given does not matter to its root."""

    __slots__ = ("_indices", "_nodes", "root")

    def __init__(self, nodes: Sequence[bytes]) -> None:
        self._nodes = tuple(nodes)
        self._indices: dict[bytes, int] | None = None
        self.root: bytes = self._nodes[0] if self._nodes else ABSENT

    @classmethod
    def of(cls, leaves: Sequence[Leaf]) -> MerkleTree:
        """The tree over `leaves` and the leaf of zeros; absent where there are none.

        n leaves cost 4n + 1 hashes. Equal leaves are kept, each at its place, as StandardMerkleTree does.

        Raises:
            MerkleError: leaves of two types, or the leaf of zeros among them.
            CodecError: a leaf with a field that does not fit its type.
        """
        if not leaves:
            return cls(())
        kind = type(leaves[0])
        zero = zero_leaf_hash(kind)
        hashes = [zero]
        for leaf in leaves:
            if type(leaf) is not kind:
                raise MerkleError(f"a {type(leaf).__name__} among leaves of type {kind.__name__}")
            hashes.append(leaf_hash(leaf))
        if zero in hashes[1:]:
            raise MerkleError(f"the {kind.__name__} of zeros is part of every tree and cannot be given")
        return cls(_nodes(hashes))

    def __len__(self) -> int:
        """Leaves, the one of zeros included; 0 for an absent tree."""
        return (len(self._nodes) + 1) // 2

    def __contains__(self, leaf: Leaf) -> bool:
        return leaf_hash(leaf) in self._by_hash()

    def proof(self, leaf: Leaf) -> list[bytes]:
        """The siblings from the leaf to the root, 32 bytes each, never empty. Raises MerkleError for another leaf."""
        index = self._by_hash().get(leaf_hash(leaf))
        if index is None:
            raise MerkleError(f"not in the tree: {leaf}")
        siblings = []
        while index > 0:
            siblings.append(self._nodes[index + 1 if index % 2 else index - 1])
            index = (index - 1) // 2
        return siblings

    def _by_hash(self) -> dict[bytes, int]:
        # Made at the first proof: who only compares roots does not pay for it. Backwards, so that of equal leaves the
        # one is proven that StandardMerkleTree proves.
        if self._indices is None:
            self._indices = {self._nodes[i]: i for i in reversed(range(len(self._nodes) // 2, len(self._nodes)))}
        return self._indices


def process_proof(hashed: bytes, proof: Sequence[bytes]) -> bytes:
    """The root that a leaf's hash and a proof lead to."""
    for sibling in proof:
        hashed = _node(hashed, sibling)
    return hashed


def verify(root: bytes, leaf: Leaf, proof: Sequence[bytes]) -> bool:
    """Whether the contracts accept the proof: never against an absent tree, an empty one, or of the leaf of zeros."""
    if root == ABSENT or not proof or any(len(sibling) != 32 for sibling in proof) or is_zero_leaf(leaf):
        return False
    return process_proof(leaf_hash(leaf), proof) == root


def _nodes(hashes: list[bytes]) -> list[bytes]:
    count = len(hashes)
    nodes = [ABSENT] * (count - 1) + sorted(hashes, reverse=True)
    for i in range(count - 2, -1, -1):
        nodes[i] = _node(nodes[2 * i + 1], nodes[2 * i + 2])
    return nodes


def _node(a: bytes, b: bytes) -> bytes:
    return keccak(a + b if a < b else b + a)
