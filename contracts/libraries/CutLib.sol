// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IBlockHistory} from "../interfaces/IBlockHistory.sol";
import {Errors} from "./Errors.sol";
import {ChainCut} from "./Types.sol";

/// @title CutLib
/// @notice What a batch's cut says to this chain, checked against this chain's own history (CM-04).
library CutLib {
    /// @param number Block number of this chain.
    /// @param stateTime Oldest time among the chains that are not late, unix seconds.
    /// @param late Whether any chain is late.
    struct Reading {
        uint64 number;
        uint64 stateTime;
        bool late;
    }

    /// @notice Reverts unless chains ascend, one is not late, and this chain's block is its own and not before
    /// `heldNumber`.
    function read(
        ChainCut[] calldata cut,
        uint64 heldNumber,
        IBlockHistory history
    ) internal view returns (Reading memory reading) {
        bool found;
        uint64 previous;
        reading.stateTime = type(uint64).max;
        for (uint256 i; i < cut.length; ++i) {
            ChainCut calldata entry = cut[i];
            if (i != 0 && entry.chainId <= previous) revert Errors.CutNotAscending(previous, entry.chainId);
            previous = entry.chainId;
            if (entry.late) reading.late = true;
            else if (entry.time < reading.stateTime) reading.stateTime = entry.time;
            if (entry.chainId == block.chainid) {
                found = true;
                reading.number = entry.number;
                _requireOwnBlock(entry, heldNumber, history);
            }
        }
        if (!found) revert Errors.ChainNotInCut(block.chainid);
        if (reading.stateTime == type(uint64).max) revert Errors.AllChainsLate();
    }

    function _requireOwnBlock(ChainCut calldata entry, uint64 heldNumber, IBlockHistory history) private view {
        if (entry.number < heldNumber) revert Errors.CutWentBack(heldNumber, entry.number);
        bytes32 known = history.blockHash(entry.number);
        if (known == 0) revert Errors.BlockUnknown(entry.number);
        if (known != entry.blockHash) revert Errors.BlockHashMismatch(entry.number, entry.blockHash, known);
    }
}
