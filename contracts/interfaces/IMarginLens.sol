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

    struct Round {
        int256 answer;
        uint256 updatedAt;
    }

    struct ChainView {
        uint256 number;
        uint256 time;
        uint256 settlementHeld;
        uint256 settlementBalance;
        int256 totalCash;
        int256 claims;
        uint256 available;
    }

    function accounts(AccountQuery[] calldata queries) external view returns (AccountView[] memory);
    /// @notice Latest answers; `ok` is false where a feed reverts or has no answer.
    function feeds(address[] calldata addresses) external view returns (FeedView[] memory);
    /// @notice A feed's rounds, newest first: back from the latest by id until one is at or before `from`, which is the
    /// last of them, `most` were read, or one is missing.
    function rounds(address feed, uint256 from, uint256 most) external view returns (Round[] memory);
    function chain() external view returns (ChainView memory);
}
