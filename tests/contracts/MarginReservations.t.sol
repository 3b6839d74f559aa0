// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {MarginReservations} from "../../contracts/MarginReservations.sol";
import {IClearingHouse} from "../../contracts/interfaces/IClearingHouse.sol";
import {ICollateralVault} from "../../contracts/interfaces/ICollateralVault.sol";
import {IMarginVerifier} from "../../contracts/interfaces/IMarginVerifier.sol";
import {AccountLib} from "../../contracts/libraries/AccountLib.sol";
import {Errors} from "../../contracts/libraries/Errors.sol";
import {Events} from "../../contracts/libraries/Events.sol";
import {HashLib} from "../../contracts/libraries/HashLib.sol";
import {Permit, Reservation, Reserve} from "../../contracts/libraries/Types.sol";
import {HouseFixture} from "./base/HouseFixture.sol";
import {vm} from "./base/Vm.sol";

/// @notice Margin set aside for an integrator by permit, given back by the integrator, or lapsed.
contract MarginReservationsTest is HouseFixture {
    uint256 private constant ALICE = 0;
    uint256 private constant BOB = 1;
    address private constant LENDER = address(0x1E4D);
    uint64 private constant UNTIL = START + 600;

    function test_reserve_HoldsWhatWasPermittedAndTells() public {
        Reserve memory action = _action(100e18, 40e18, UNTIL);
        (Permit memory permit, bytes memory signatures) = _permitted(action);
        vm.expectEmit(true, true, false, true, address(reservations));
        emit Events.ReservationSet(idOf(ALICE), LENDER, Reservation(100e18, 40e18, UNTIL));
        vm.prank(ownerOf(ALICE));
        reservations.reserve(action, permit, signatures);
        _holds(100e18, 40e18, UNTIL);
        assertEq(reservations.reservationOf(idOf(BOB), LENDER).amount, 0, "another account's");
        assertEq(reservations.reservationOf(idOf(ALICE), address(this)).amount, 0, "another integrator's");
    }

    function test_reserve_AddsToWhatIsOpen() public {
        _reserve(_action(100e18, 40e18, UNTIL), "");
        _reserve(_action(50e18, 0, UNTIL - 100), "");
        _holds(150e18, 40e18, UNTIL);
        _reserve(_action(1e18, 1e18, UNTIL + 1), "");
        _holds(151e18, 41e18, UNTIL + 1);
    }

    /// @notice Until its last second it holds; what is reserved afterwards begins anew.
    function test_reserve_LapsesAfterUntil() public {
        _reserve(_action(100e18, 40e18, UNTIL), "");
        vm.warp(UNTIL);
        _holds(100e18, 40e18, UNTIL);
        vm.warp(UNTIL + 1);
        _holds(0, 0, 0);
        _reserve(_action(7e18, 0, UNTIL + 100), "");
        _holds(7e18, 0, UNTIL + 100);
    }

    function test_reserve_RevertWhen_NotTheOwner() public {
        Reserve memory action = _action(100e18, 0, UNTIL);
        (Permit memory permit, bytes memory signatures) = _permitted(action);
        vm.prank(ownerOf(BOB));
        _expectNotOwnerOrSubmitter(idOf(ALICE), address(0), ownerOf(BOB));
        reservations.reserve(action, permit, signatures);
    }

    /// @notice The one whom the owner named makes exactly what he signed, once; nobody else does.
    function test_reserve_BySubmitter() public {
        Reserve memory action = _action(100e18, 40e18, UNTIL);
        action.submitter = LENDER;
        (Permit memory permit, bytes memory signatures) = _permitted(action);
        vm.prank(ownerOf(BOB));
        _expectNotOwnerOrSubmitter(idOf(ALICE), LENDER, ownerOf(BOB));
        reservations.reserve(action, permit, signatures);

        action.submitter = ownerOf(BOB);
        vm.prank(ownerOf(BOB));
        expectError(abi.encodeWithSelector(Errors.ActionMismatch.selector, HashLib.hash(action), permit.actionHash));
        reservations.reserve(action, permit, signatures);

        action.submitter = LENDER;
        vm.startPrank(LENDER);
        reservations.reserve(action, permit, signatures);
        _holds(100e18, 40e18, UNTIL);
        expectError(abi.encodeWithSelector(Errors.NonceAlreadyUsed.selector, idOf(ALICE), permit.nonce));
        reservations.reserve(action, permit, signatures);
    }

    /// @notice Naming a submitter takes nothing from the owner.
    function test_reserve_ByTheOwnerBesideASubmitter() public {
        Reserve memory action = _action(100e18, 40e18, UNTIL);
        action.submitter = LENDER;
        _reserve(action, "");
        _holds(100e18, 40e18, UNTIL);
    }

    /// @notice The fund, the fees and the clearing account name nobody: they have no owner who could have signed.
    function test_reserve_RevertWhen_ASubmitterComesForAnAccountWithoutOwner() public {
        Reserve memory action = _action(100e18, 0, UNTIL);
        action.accountId = AccountLib.FUND;
        action.submitter = LENDER;
        (Permit memory permit, bytes memory signatures) = _permitted(action);
        vm.prank(LENDER);
        _expectNotOwnerOrSubmitter(AccountLib.FUND, LENDER, LENDER);
        reservations.reserve(action, permit, signatures);
    }

    function test_reserve_RevertWhen_TheActionMakesNoSense() public {
        Reserve memory action = _action(100e18, 0, UNTIL);
        action.integrator = address(0);
        _reserve(action, abi.encodeWithSelector(Errors.BadAddress.selector, address(0)));
        _reserve(_action(0, 0, UNTIL), abi.encodeWithSelector(Errors.ZeroAmount.selector));
        _reserve(
            _action(100e18, 100e18 + 1, UNTIL),
            abi.encodeWithSelector(Errors.CashPartExceedsAmount.selector, 100e18 + 1, 100e18)
        );
        _reserve(
            _action(100e18, 0, uint64(block.timestamp) - 1),
            abi.encodeWithSelector(Errors.ReservationInPast.selector, block.timestamp - 1, block.timestamp)
        );
    }

    function test_reserve_RevertWhen_ThePermitIsForSomethingElse() public {
        Reserve memory action = _action(100e18, 0, UNTIL);
        (Permit memory permit, bytes memory signatures) = _permitted(action);
        vm.startPrank(ownerOf(ALICE));
        action.amount += 1;
        expectError(abi.encodeWithSelector(Errors.ActionMismatch.selector, HashLib.hash(action), permit.actionHash));
        reservations.reserve(action, permit, signatures);
        permit.counterpartyId = idOf(BOB);
        expectError(abi.encodeWithSelector(Errors.PermitAccountMismatch.selector, idOf(ALICE), idOf(BOB)));
        reservations.reserve(action, permit, signatures);
        (permit.accountId, permit.counterpartyId) = (idOf(BOB), 0);
        expectError(abi.encodeWithSelector(Errors.PermitAccountMismatch.selector, idOf(BOB), bytes32(0)));
        reservations.reserve(action, permit, signatures);
    }

    function test_reserve_RevertWhen_Replayed() public {
        Reserve memory action = _action(100e18, 0, UNTIL);
        (Permit memory permit, bytes memory signatures) = _permitted(action);
        vm.startPrank(ownerOf(ALICE));
        reservations.reserve(action, permit, signatures);
        expectError(abi.encodeWithSelector(Errors.NonceAlreadyUsed.selector, idOf(ALICE), permit.nonce));
        reservations.reserve(action, permit, signatures);
    }

    // --- giving back -----------------------------------------------------------------------------------------------

    /// @notice The cash part shrinks last: it is at most what stays.
    function testFuzz_release_GivesBackToTheLastUnit(uint256 amount, uint256 cashPart, uint256 released) public {
        amount = bound(amount, 1, type(uint128).max);
        cashPart = bound(cashPart, 0, amount);
        released = bound(released, 1, amount);
        _reserve(_action(amount, cashPart, UNTIL), "");
        vm.prank(LENDER);
        reservations.release(idOf(ALICE), released);
        uint256 left = amount - released;
        _holds(left, cashPart < left ? cashPart : left, UNTIL);
    }

    function test_release_RevertWhen_MoreThanIsReservedHere() public {
        _reserve(_action(100e18, 0, UNTIL), "");
        bytes32 account = idOf(ALICE);
        vm.startPrank(LENDER);
        expectError(abi.encodeWithSelector(Errors.ZeroAmount.selector));
        reservations.release(account, 0);
        expectError(abi.encodeWithSelector(Errors.ReleaseExceeds.selector, 100e18 + 1, 100e18));
        reservations.release(account, 100e18 + 1);
        vm.stopPrank();
        expectError(abi.encodeWithSelector(Errors.ReleaseExceeds.selector, 1, 0));
        reservations.release(account, 1);
        vm.warp(UNTIL + 1);
        vm.prank(LENDER);
        expectError(abi.encodeWithSelector(Errors.ReleaseExceeds.selector, 1, 0));
        reservations.release(account, 1);
    }

    function test_constructor_RevertWhen_Misconfigured() public {
        expectError(abi.encodeWithSelector(Errors.BadConfiguration.selector, "verifier"));
        new MarginReservations(IMarginVerifier(address(0)), house, vault);
        expectError(abi.encodeWithSelector(Errors.BadConfiguration.selector, "clearingHouse"));
        new MarginReservations(verifier, IClearingHouse(address(0)), vault);
        expectError(abi.encodeWithSelector(Errors.BadConfiguration.selector, "vault"));
        new MarginReservations(verifier, house, ICollateralVault(address(0)));
    }

    // --- helpers ---------------------------------------------------------------------------------------------------

    function _action(uint256 amount, uint256 cashPart, uint64 until) private view returns (Reserve memory) {
        return Reserve(idOf(ALICE), LENDER, amount, cashPart, until, address(0));
    }

    function _permitted(Reserve memory action) private returns (Permit memory permit, bytes memory signatures) {
        permit = permitted(action.accountId, 0, HashLib.hash(action));
        signatures = signed(permit);
    }

    function _reserve(Reserve memory action, bytes memory refusal) private {
        (Permit memory permit, bytes memory signatures) = _permitted(action);
        vm.prank(ownerOf(ALICE));
        if (refusal.length != 0) expectError(refusal);
        reservations.reserve(action, permit, signatures);
    }

    function _expectNotOwnerOrSubmitter(bytes32 accountId, address submitter, address sender) private {
        expectError(abi.encodeWithSelector(Errors.NotOwnerOrSubmitter.selector, accountId, submitter, sender));
    }

    function _holds(uint256 amount, uint256 cashPart, uint64 until) private view {
        Reservation memory open = reservations.reservationOf(idOf(ALICE), LENDER);
        assertEq(open.amount, amount, "amount");
        assertEq(open.cashPart, cashPart, "cash part");
        assertEq(open.until, until, "until");
    }
}
