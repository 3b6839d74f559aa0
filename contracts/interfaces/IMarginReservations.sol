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

    /// @return The open reservation; zeros once lapsed.
    function reservationOf(bytes32 accountId, address integrator) external view returns (Reservation memory);
}
