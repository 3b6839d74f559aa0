// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title IBlockHistory
/// @notice A chain's own account of its recent blocks.
interface IBlockHistory {
    /// @return The hash of block `number` of this chain, or zero where it is unknown (too old, or not yet mined).
    function blockHash(uint256 number) external view returns (bytes32);
}
