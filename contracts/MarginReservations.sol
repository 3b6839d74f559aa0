// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IMarginReservations} from "./interfaces/IMarginReservations.sol";
import {IMarginVerifier} from "./interfaces/IMarginVerifier.sol";
import {AccountLib} from "./libraries/AccountLib.sol";
import {Errors} from "./libraries/Errors.sol";
import {Events} from "./libraries/Events.sol";
import {HashLib} from "./libraries/HashLib.sol";
import {Permit, Reservation, Reserve} from "./libraries/Types.sol";

/// @title MarginReservations
/// @notice Margin set aside for integrators on one chain, wherever the collateral is. Holds no tokens.
/// @dev Immutable and without an owner.
contract MarginReservations is IMarginReservations {
    IMarginVerifier public immutable VERIFIER;

    mapping(bytes32 accountId => mapping(address integrator => Reservation)) private _reservations;

    constructor(IMarginVerifier verifier) {
        if (address(verifier) == address(0)) revert Errors.BadConfiguration("verifier");
        VERIFIER = verifier;
    }

    /// @inheritdoc IMarginReservations
    function reserve(Reserve calldata action, Permit calldata permit, bytes calldata signatures) external {
        AccountLib.requireOwner(action.accountId);
        if (action.integrator == address(0)) revert Errors.BadAddress(action.integrator);
        if (action.amount == 0) revert Errors.ZeroAmount();
        if (action.cashPart > action.amount) revert Errors.CashPartExceedsAmount(action.cashPart, action.amount);
        if (action.until < block.timestamp) revert Errors.ReservationInPast(action.until, block.timestamp);
        if (permit.accountId != action.accountId || permit.counterpartyId != 0) {
            revert Errors.PermitAccountMismatch(permit.accountId, permit.counterpartyId);
        }
        bytes32 actionHash = HashLib.hash(action);
        if (permit.actionHash != actionHash) revert Errors.ActionMismatch(actionHash, permit.actionHash);
        VERIFIER.consumePermit(permit, signatures);

        Reservation memory open = reservationOf(action.accountId, action.integrator);
        open.amount += action.amount;
        open.cashPart += action.cashPart;
        if (action.until > open.until) open.until = action.until;
        _set(action.accountId, action.integrator, open);
        emit Events.Reserved(action.accountId, action.integrator, action.amount, action.cashPart, action.until);
    }

    /// @inheritdoc IMarginReservations
    function release(bytes32 accountId, uint256 amount) external {
        if (amount == 0) revert Errors.ZeroAmount();
        Reservation memory open = reservationOf(accountId, msg.sender);
        if (amount > open.amount) revert Errors.ReleaseExceeds(amount, open.amount);
        open.amount -= amount;
        if (open.cashPart > open.amount) open.cashPart = open.amount;
        _set(accountId, msg.sender, open);
        emit Events.Released(accountId, msg.sender, amount);
    }

    /// @inheritdoc IMarginReservations
    function reservationOf(bytes32 accountId, address integrator) public view returns (Reservation memory open) {
        open = _reservations[accountId][integrator];
        if (block.timestamp > open.until) return Reservation(0, 0, 0);
    }

    function _set(bytes32 accountId, address integrator, Reservation memory reservation) private {
        _reservations[accountId][integrator] = reservation;
        emit Events.ReservationSet(accountId, integrator, reservation);
    }
}
