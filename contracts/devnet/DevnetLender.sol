// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IMarginReservations} from "../interfaces/IMarginReservations.sol";
import {IMarginVerifier} from "../interfaces/IMarginVerifier.sol";
import {Reservation} from "../libraries/Types.sol";

/// @title DevnetLender
/// @notice An integrator in miniature: asks whether an account is healthy, lends against margin reserved for it, and
/// gives the reservation back when it is repaid, or claims it when it is not.
/// @dev It lends against reservations only. Health is a view, and a view can be spent elsewhere a block later.
contract DevnetLender {
    /// @notice More than what is reserved here for the account's owner covers.
    error NotCovered(uint256 asked, uint256 covered);
    /// @notice More than the account owes.
    error OwesLess(uint256 repaid, uint256 owed);
    /// @notice Nothing is owed, or not yet due: unix seconds.
    error NotDue(uint64 due, uint256 blockTime);

    /// @notice What an account owes here changed.
    event DebtSet(bytes32 indexed accountId, uint256 owed);

    IMarginVerifier public immutable VERIFIER;
    IMarginReservations public immutable RESERVATIONS;
    uint256 public immutable MAX_MARK_AGE;
    uint256 public immutable MAX_STATE_AGE;
    /// @notice Seconds from the newest loan after which all that is owed may be claimed.
    uint64 public immutable TERM;

    /// @notice What accounts owe, USD 1e18. A ledger only: no tokens move in this example.
    mapping(bytes32 accountId => uint256) public owedBy;
    /// @notice When what an account owes falls due, unix seconds.
    mapping(bytes32 accountId => uint64) public dueOf;

    constructor(
        IMarginVerifier verifier,
        IMarginReservations reservations,
        uint256 maxMarkAge,
        uint256 maxStateAge,
        uint64 term
    ) {
        VERIFIER = verifier;
        RESERVATIONS = reservations;
        MAX_MARK_AGE = maxMarkAge;
        MAX_STATE_AGE = maxStateAge;
        TERM = term;
    }

    /// @return Whether the account's margin, as last proven here, is healthy and fresh enough for this lender.
    function isHealthy(bytes32 accountId) external view returns (bool) {
        return VERIFIER.isHealthy(accountId, MAX_MARK_AGE, MAX_STATE_AGE);
    }

    /// @return USD 1e18 that is reserved for this lender and not lent yet.
    function available(bytes32 accountId) public view returns (uint256) {
        Reservation memory open = RESERVATIONS.reservationOf(accountId, address(this));
        uint256 owed = owedBy[accountId];
        return open.amount > owed ? open.amount - owed : 0;
    }

    /// @notice Lends `amount` (USD 1e18) against what the account reserved here.
    function borrow(bytes32 accountId, uint256 amount) external {
        uint256 covered = available(accountId);
        if (msg.sender != address(bytes20(accountId)) || amount > covered) revert NotCovered(amount, covered);
        owedBy[accountId] += amount;
        dueOf[accountId] = uint64(block.timestamp) + TERM;
        emit DebtSet(accountId, owedBy[accountId]);
    }

    /// @notice Repays `amount` and gives that much of the reservation back.
    function repay(bytes32 accountId, uint256 amount) external {
        uint256 owed = owedBy[accountId];
        if (msg.sender != address(bytes20(accountId)) || amount > owed) revert OwesLess(amount, owed);
        owedBy[accountId] = owed - amount;
        emit DebtSet(accountId, owed - amount);
        RESERVATIONS.release(accountId, amount);
    }

    /// @notice Claims what is owed and due from the reservation. The settlement token comes here as far as the
    /// reservation's cash part and the vault reach, the rest once a quorum cleared it.
    function collect(bytes32 accountId) external {
        uint256 owed = owedBy[accountId];
        if (owed == 0 || block.timestamp <= dueOf[accountId]) revert NotDue(dueOf[accountId], block.timestamp);
        owedBy[accountId] = 0;
        emit DebtSet(accountId, 0);
        RESERVATIONS.claim(accountId, owed);
    }

    /// @notice Gives back what is reserved here and not lent.
    function release(bytes32 accountId) external {
        if (msg.sender != address(bytes20(accountId))) revert NotCovered(0, 0);
        RESERVATIONS.release(accountId, available(accountId));
    }
}
