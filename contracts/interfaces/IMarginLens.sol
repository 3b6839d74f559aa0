// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title IMarginLens
/// @notice Reads for keepers, many in one call. No state.
interface IMarginLens {
    struct AccountQuery {
        bytes32 accountId;
        bytes32[] instruments;
        address[] tokens;
    }

    struct AccountView {
        int256 cash;
        int256[] sizes;
        uint256[] balances;
    }

    struct FeedView {
        bool ok;
        int256 answer;
        uint256 updatedAt;
        uint8 decimals;
    }

    struct ChainView {
        uint256 number;
        uint256 time;
        uint256 settlementHeld;
        uint256 settlementBalance;
        int256 totalCash;
    }

    function accounts(AccountQuery[] calldata queries) external view returns (AccountView[] memory);
    /// @notice Latest answers; `ok` is false where a feed reverts or has no answer.
    function feeds(address[] calldata addresses) external view returns (FeedView[] memory);
    function chain() external view returns (ChainView memory);
}
