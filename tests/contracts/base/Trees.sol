// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title Trees
/// @notice Merkle trees laid out as OpenZeppelin's StandardMerkleTree lays them out: leaf hashes ascending, filled into
/// a complete binary tree from its end, pairs hashed in ascending order. Its own clients hold ours to theirs by the
/// vectors.
library Trees {
    /// @param hashes Leaf hashes in any order, the leaf of zeros among them.
    /// @return tree All nodes: the root first, the children of node i at 2i + 1 and 2i + 2.
    function build(bytes32[] memory hashes) internal pure returns (bytes32[] memory tree) {
        bytes32[] memory sorted = _sorted(hashes);
        uint256 nodes = 2 * sorted.length - 1;
        tree = new bytes32[](nodes);
        for (uint256 i; i < sorted.length; ++i) {
            tree[nodes - 1 - i] = sorted[i];
        }
        for (uint256 i = nodes - sorted.length; i > 0; --i) {
            tree[i - 1] = pair(tree[2 * i - 1], tree[2 * i]);
        }
    }

    function root(bytes32[] memory hashes) internal pure returns (bytes32) {
        return build(hashes)[0];
    }

    /// @return path The siblings from the leaf up to the root.
    function proof(bytes32[] memory hashes, bytes32 leaf) internal pure returns (bytes32[] memory path) {
        bytes32[] memory tree = build(hashes);
        uint256 index = tree.length - hashes.length;
        while (tree[index] != leaf) ++index;
        path = new bytes32[](_depth(index));
        for (uint256 i; index != 0; ++i) {
            path[i] = tree[index % 2 == 1 ? index + 1 : index - 1];
            index = (index - 1) / 2;
        }
    }

    function pair(bytes32 a, bytes32 b) internal pure returns (bytes32) {
        return a < b ? keccak256(abi.encode(a, b)) : keccak256(abi.encode(b, a));
    }

    function _depth(uint256 index) private pure returns (uint256 depth) {
        for (; index != 0; index = (index - 1) / 2) {
            ++depth;
        }
    }

    function _sorted(bytes32[] memory hashes) private pure returns (bytes32[] memory sorted) {
        sorted = new bytes32[](hashes.length);
        for (uint256 i; i < hashes.length; ++i) {
            uint256 j = i;
            for (; j != 0 && sorted[j - 1] > hashes[i]; --j) {
                sorted[j] = sorted[j - 1];
            }
            sorted[j] = hashes[i];
        }
    }
}
