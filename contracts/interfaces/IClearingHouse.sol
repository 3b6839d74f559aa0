// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {LiquidationLeaf, MarkLeaf, Move, Order, Permit} from "../libraries/Types.sol";

/// @title IClearingHouse
/// @notice The central counterparty of one chain: all cash and all positions.
interface IClearingHouse {
    /// @notice Everything a match carries.
    /// @param size The maker's side: positive where the maker buys, 1e18.
    /// @param price USD 1e18 per whole unit.
    struct Match {
        Order maker;
        bytes makerSignature;
        Order taker;
        bytes takerSignature;
        int256 size;
        uint256 price;
        MarkLeaf mark;
        bytes32[] markProof;
        Permit permit;
        bytes permitSignatures;
    }

    /// @notice Books one match of two signed orders, permitted for both accounts. Anyone may submit it, or the
    /// submitter an order names.
    function matchOrders(Match calldata m) external;

    /// @notice Moves cash, or a position at its mark, between two accounts of the sender, permitted for both. An
    /// isolated sub-account gets and returns its margin this way.
    /// @param action `asset` zero is cash, USD 1e18, and its amount positive; else `to` gets `amount` of a position,
    /// 1e18, signed, and pays the mark for it: rounded up, `from` receives it rounded down, the fund has the rest.
    /// @param mark Of the position's instrument, no older than MAX_AGE; not read for cash.
    function move(
        Move calldata action,
        MarkLeaf calldata mark,
        bytes32[] calldata markProof,
        Permit calldata permit,
        bytes calldata permitSignatures
    ) external;

    /// @notice Cancels every order of the account with this nonce. Only the owner.
    function cancelOrder(bytes32 accountId, uint256 nonce) external;

    /// @notice Takes over `size` of what a leg of the latest batch names, at its price now, for the account `taker`,
    /// whose owner sends this and whose takeover was permitted.
    /// @param size Unsigned, 1e18; any part of what the leg leaves.
    function liquidate(
        LiquidationLeaf calldata leg,
        bytes32[] calldata proof,
        bytes32 taker,
        uint256 size,
        Permit calldata permit,
        bytes calldata permitSignatures
    ) external;

    /// @notice Only the vault: settlement token worth `amount` (USD 1e18) arrived for an account.
    function credit(bytes32 accountId, uint256 amount) external;

    /// @notice Only the vault: settlement token worth `amount` (USD 1e18) leaves for an account.
    function debit(bytes32 accountId, uint256 amount) external;

    /// @return Cash of an account on this chain, USD 1e18, signed.
    function cashOf(bytes32 accountId) external view returns (int256);

    /// @return Size of an instrument that an account holds on this chain, 1e18, signed.
    function positionOf(bytes32 accountId, bytes32 asset) external view returns (int256);

    /// @return Size of an instrument ever liquidated of an account, 1e18. Only grows.
    function closedOf(bytes32 accountId, bytes32 asset) external view returns (uint256);

    /// @return How far an order is filled, 1e18.
    function filledOf(bytes32 orderHash) external view returns (uint256);

    /// @return Sum of all accounts' cash, fund and fees included, USD 1e18: the settlement token held.
    function totalCash() external view returns (int256);
}
