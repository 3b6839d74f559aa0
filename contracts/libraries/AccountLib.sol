// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Errors} from "./Errors.sol";

/// @title AccountLib
/// @notice An account id is its owner (20 bytes) followed by the sub-account (12 bytes), the same on every chain.
library AccountLib {
    /// @notice The insurance fund.
    bytes32 internal constant FUND = bytes32(uint256(1));
    /// @notice Fees.
    bytes32 internal constant FEES = bytes32(uint256(2));

    /// @return The owner; zero for the fund and the fees, so nobody acts for them.
    function ownerOf(bytes32 accountId) internal pure returns (address) {
        return address(bytes20(accountId));
    }

    /// @notice Refuses every caller but the owner.
    function requireOwner(bytes32 accountId) internal view {
        if (msg.sender != ownerOf(accountId)) revert Errors.NotOwner(msg.sender, accountId);
    }
}
