// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Permit, Reservation, Reserve} from "../libraries/Types.sol";

/// @title IMarginReservations
/// @notice Margin set aside for an integrator, wherever the collateral is.
interface IMarginReservations {
    /// @notice A second reservation for the same integrator adds to the first while that is open.
    function reserve(Reserve calldata action, Permit calldata permit, bytes calldata signatures) external;

    /// @notice Only the integrator: gives back `amount` before the end.
    function release(bytes32 accountId, uint256 amount) external;

    /// @notice Only the integrator: turns `amount` (USD 1e18) of the open reservation into a claim, its cash part first.
    /// The account's cash falls by it at once; what can be paid now is paid, the rest by `payout` (CM-15).
    function claim(bytes32 accountId, uint256 amount) external;

    /// @notice Pays what can be paid now of an integrator's claims on an account, in whole token amounts. Anyone may.
    /// @dev Cash parts as far as the vault's tokens reach. The rest only out of what cash the account has here beyond
    /// its unpaid cash parts: until a settlement cycle or the sale of its collateral filled it, that would be other
    /// people's money.
    function payout(bytes32 accountId, address integrator) external;

    /// @return cash Of the claims on cash parts, what is not paid yet, USD 1e18.
    /// @return rest Of the other claims, what is not paid yet, USD 1e18.
    function owedOf(bytes32 accountId, address integrator) external view returns (uint256 cash, uint256 rest);

    /// @return All unpaid claims on an account on this chain, of every integrator, USD 1e18.
    function unpaidOf(bytes32 accountId) external view returns (uint256);

    /// @return The open reservation; zeros once lapsed.
    function reservationOf(bytes32 accountId, address integrator) external view returns (Reservation memory);
}
