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
    /// @notice What is booked on one side only so far: funding between two touches, and positions and cash of expired
    /// instruments whose other side is not settled yet. With it, cash and sizes sum exactly at all times.
    bytes32 internal constant CLEARING = bytes32(uint256(3));

    /// @return The owner; zero for the reserved accounts, so nobody acts for them.
    function ownerOf(bytes32 accountId) internal pure returns (address) {
        return address(bytes20(accountId));
    }

    /// @notice Refuses every caller but the owner.
    function requireOwner(bytes32 accountId) internal view {
        if (msg.sender != ownerOf(accountId)) revert Errors.NotOwner(msg.sender, accountId);
    }

    /// @return Whether an account is the fund, the fees or the clearing account.
    function isReserved(bytes32 accountId) internal pure returns (bool) {
        return accountId == FUND || accountId == FEES || accountId == CLEARING;
    }

    /// @return The account that holds what an integrator claimed and was not paid yet: its last sub-account.
    function claims(address integrator) internal pure returns (bytes32) {
        return bytes32((uint256(uint160(integrator)) << 96) | type(uint96).max);
    }

    /// @return Whether an account is an integrator's claims account: only claims and payouts change it.
    function isClaims(bytes32 accountId) internal pure returns (bool) {
        return uint96(uint256(accountId)) == type(uint96).max;
    }

    /// @return The chain that a settlement leaf with this id ships to; zero where the id is an account's. Such an id
    /// has no owner, and bit 64 of its sub-account is the only one set above the chain id.
    function transferTarget(bytes32 accountId) internal pure returns (uint64) {
        return uint256(accountId) >> 64 == 1 ? uint64(uint256(accountId)) : 0;
    }
}
