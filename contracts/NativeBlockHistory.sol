// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBlockHistory} from "./interfaces/IBlockHistory.sol";

/// @title NativeBlockHistory
/// @notice The last 256 blocks, by the EVM's own opcode. For chains where it means their own blocks: not Arbitrum.
contract NativeBlockHistory is IBlockHistory {
    /// @inheritdoc IBlockHistory
    function blockHash(uint256 number) external view returns (bytes32) {
        return blockhash(number);
    }
}
