// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {IClearingHouse} from "./interfaces/IClearingHouse.sol";
import {ICollateralVault} from "./interfaces/ICollateralVault.sol";
import {IMarginReservations} from "./interfaces/IMarginReservations.sol";
import {IMarginVerifier} from "./interfaces/IMarginVerifier.sol";
import {AccountLib} from "./libraries/AccountLib.sol";
import {Errors} from "./libraries/Errors.sol";
import {Events} from "./libraries/Events.sol";
import {HashLib} from "./libraries/HashLib.sol";
import {Permit, Reservation, Reserve} from "./libraries/Types.sol";

/// @title MarginReservations
/// @notice Margin set aside for integrators on one chain, wherever the collateral is, and their claims on it. Holds no
/// tokens.
/// @dev Immutable and without an owner. Carries CM-15.
contract MarginReservations is IMarginReservations, ReentrancyGuardTransient {
    /// @dev Unpaid claims, USD 1e18: of cash parts and what was cleared, and of the rest.
    struct Owed {
        uint256 cash;
        uint256 rest;
    }

    IMarginVerifier public immutable VERIFIER;
    IClearingHouse public immutable CLEARING_HOUSE;
    ICollateralVault public immutable VAULT;

    /// @inheritdoc IMarginReservations
    mapping(bytes32 accountId => mapping(address integrator => Owed)) public owedOf;

    mapping(bytes32 accountId => mapping(address integrator => Reservation)) private _reservations;
    mapping(bytes32 accountId => Owed) private _unpaid;

    constructor(IMarginVerifier verifier, IClearingHouse clearingHouse, ICollateralVault vault) {
        if (address(verifier) == address(0)) revert Errors.BadConfiguration("verifier");
        if (address(clearingHouse) == address(0)) revert Errors.BadConfiguration("clearingHouse");
        if (address(vault) == address(0)) revert Errors.BadConfiguration("vault");
        VERIFIER = verifier;
        CLEARING_HOUSE = clearingHouse;
        VAULT = vault;
    }

    /// @inheritdoc IMarginReservations
    function reserve(Reserve calldata action, Permit calldata permit, bytes calldata signatures) external {
        // An account without an owner has nobody who could have named a submitter.
        address owner = AccountLib.ownerOf(action.accountId);
        if (msg.sender != owner && (owner == address(0) || msg.sender != action.submitter)) {
            revert Errors.NotOwnerOrSubmitter(action.accountId, action.submitter, msg.sender);
        }
        if (action.integrator == address(0)) revert Errors.BadAddress(action.integrator);
        if (action.amount == 0) revert Errors.ZeroAmount();
        if (action.cashPart > action.amount) revert Errors.CashPartExceedsAmount(action.cashPart, action.amount);
        if (action.until < block.timestamp) revert Errors.ReservationInPast(action.until, block.timestamp);
        _consume(action, permit, signatures);

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
    function claim(bytes32 accountId, uint256 amount) external nonReentrant {
        if (amount == 0) revert Errors.ZeroAmount();
        Reservation memory open = reservationOf(accountId, msg.sender);
        if (amount > open.amount) revert Errors.ClaimExceeds(amount, open.amount);
        uint256 cash = Math.min(amount, open.cashPart);
        open.amount -= amount;
        open.cashPart -= cash;
        _set(accountId, msg.sender, open);

        Owed storage unpaid = _unpaid[accountId];
        unpaid.cash += cash;
        unpaid.rest += amount - cash;
        Owed memory owed = owedOf[accountId][msg.sender];
        _setOwed(accountId, msg.sender, Owed(owed.cash + cash, owed.rest + amount - cash));
        emit Events.Claimed(accountId, msg.sender, amount);
        CLEARING_HOUSE.claim(accountId, AccountLib.claims(msg.sender), amount);
        _pay(accountId, msg.sender);
    }

    /// @inheritdoc IMarginReservations
    function payout(bytes32 accountId, address integrator) external nonReentrant {
        _pay(accountId, integrator);
    }

    /// @inheritdoc IMarginReservations
    function clearRest(
        Reserve calldata action,
        Permit calldata permit,
        bytes calldata signatures
    ) external nonReentrant {
        if (action.until != 0) revert Errors.NotAClearance(action.until);
        if (action.submitter != address(0)) revert Errors.ClearanceNamesSubmitter(action.submitter);
        if (action.cashPart != action.amount) revert Errors.CashPartExceedsAmount(action.cashPart, action.amount);
        _consume(action, permit, signatures);

        Owed memory owed = owedOf[action.accountId][action.integrator];
        uint256 amount = Math.min(action.amount, owed.rest);
        Owed storage unpaid = _unpaid[action.accountId];
        unpaid.cash += amount;
        unpaid.rest -= amount;
        _setOwed(action.accountId, action.integrator, Owed(owed.cash + amount, owed.rest - amount));
        _pay(action.accountId, action.integrator);
    }

    /// @inheritdoc IMarginReservations
    function unpaidOf(bytes32 accountId) external view returns (uint256) {
        Owed storage unpaid = _unpaid[accountId];
        return unpaid.cash + unpaid.rest;
    }

    /// @inheritdoc IMarginReservations
    function reservationOf(bytes32 accountId, address integrator) public view returns (Reservation memory open) {
        open = _reservations[accountId][integrator];
        if (block.timestamp > open.until) return Reservation(0, 0, 0);
    }

    function _consume(Reserve calldata action, Permit calldata permit, bytes calldata signatures) private {
        if (permit.accountId != action.accountId || permit.counterpartyId != 0) {
            revert Errors.PermitAccountMismatch(permit.accountId, permit.counterpartyId);
        }
        bytes32 actionHash = HashLib.hash(action);
        if (permit.actionHash != actionHash) revert Errors.ActionMismatch(actionHash, permit.actionHash);
        VERIFIER.consumePermit(permit, signatures);
    }

    function _pay(bytes32 accountId, address integrator) private {
        Owed memory owed = owedOf[accountId][integrator];
        uint256 scale = VAULT.scaleOf(VAULT.SETTLEMENT_TOKEN());
        uint256 amount = Math.min(owed.cash / scale, VAULT.available());
        if (amount == 0) return;

        _unpaid[accountId].cash -= amount * scale;
        _setOwed(accountId, integrator, Owed(owed.cash - amount * scale, owed.rest));
        emit Events.PaidOut(accountId, integrator, amount);
        VAULT.payClaim(integrator, amount);
    }

    function _setOwed(bytes32 accountId, address integrator, Owed memory owed) private {
        owedOf[accountId][integrator] = owed;
        emit Events.OwedSet(accountId, integrator, owed.cash, owed.rest);
    }

    function _set(bytes32 accountId, address integrator, Reservation memory reservation) private {
        _reservations[accountId][integrator] = reservation;
        emit Events.ReservationSet(accountId, integrator, reservation);
    }
}
