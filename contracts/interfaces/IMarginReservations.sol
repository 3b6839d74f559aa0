// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Permit, Reservation, Reserve} from "../libraries/Types.sol";

/// @title IMarginReservations
/// @notice Margin set aside for an integrator, wherever the collateral is.
interface IMarginReservations {
    /// @notice Sets `action.amount` (USD 1e18) aside for an integrator by a permit. A second reservation for the same
    /// integrator adds to the first while that is open.
    /// @dev Only the owner, or `action.submitter` where it is not zero: by his signature on the request the owner lets
    /// one contract use the permit, and make this reservation and no other.
    function reserve(Reserve calldata action, Permit calldata permit, bytes calldata signatures) external;

    /// @notice Only the integrator: gives back `amount` before the end.
    function release(bytes32 accountId, uint256 amount) external;

    /// @notice Only the integrator: turns `amount` (USD 1e18) of the open reservation into a claim, its cash part first.
    /// The account's cash falls by it at once; of the cash part what tokens there are is paid now (CM-15).
    function claim(bytes32 accountId, uint256 amount) external;

    /// @notice Pays what can be paid now of an integrator's claims on an account: cash parts, and what was cleared of the
    /// rest, in whole token amounts as far as the vault's tokens reach. Anyone may.
    function payout(bytes32 accountId, address integrator) external;

    /// @notice Clears up to `action.amount` of the rest of an integrator's claims, and pays it as a cash part. A quorum
    /// permits it once the account has that much net cash over all its chains, unpaid rests not counted (CM-21): until a
    /// settlement cycle or the sale of its collateral brought it, it would be other people's money. Anyone may.
    /// @dev This chain's cash says nothing of that: there are no entry prices, so whoever is short has much of it and
    /// whoever is long little.
    /// @param action With `cashPart` equal to `amount`, `submitter` 0, and `until` 0, by which it is no reservation.
    function clearRest(Reserve calldata action, Permit calldata permit, bytes calldata signatures) external;

    /// @return cash Of the claims on cash parts and of what was cleared, what is not paid yet, USD 1e18.
    /// @return rest Of the other claims, what is not cleared yet, USD 1e18.
    function owedOf(bytes32 accountId, address integrator) external view returns (uint256 cash, uint256 rest);

    /// @return All unpaid claims on an account on this chain, of every integrator, USD 1e18.
    function unpaidOf(bytes32 accountId) external view returns (uint256);

    /// @return The open reservation; zeros once lapsed.
    function reservationOf(bytes32 accountId, address integrator) external view returns (Reservation memory);
}
