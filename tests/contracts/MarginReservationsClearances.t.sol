// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Errors} from "../../contracts/libraries/Errors.sol";
import {HashLib} from "../../contracts/libraries/HashLib.sol";
import {Permit, Reserve} from "../../contracts/libraries/Types.sol";
import {SettlementFixture} from "./base/SettlementFixture.sol";
import {vm} from "./base/Vm.sol";

/// @notice Clearances of claims' rests (CM-15): what a quorum found net cash for is paid, whatever cash this chain shows.
contract MarginReservationsClearancesTest is SettlementFixture {
    uint256 private constant ALICE = 0;
    uint256 private constant BOB = 1;
    address private constant LENDER = address(0x1E4D);

    function setUp() public override {
        super.setUp();
        integrators = [LENDER, ownerOf(ALICE)];
    }

    /// @notice A short's cash is what others paid for it: found by review, where the rest was paid out of the
    /// owner's cash here. She took 14,997 that she never had, and Bob could not withdraw.
    function test_CM15_claim_AShortOwnersCashIsNotHerOwn() public {
        deposit(ALICE, weth, 10e18);
        fund(BOB, 20_000);
        trade(BOB, ALICE, 5e18, MARK);
        reserve(ALICE, ownerOf(ALICE), 14_997e18, 0);
        claim(ALICE, ownerOf(ALICE), 14_997e18);
        reservations.payout(idOf(ALICE), ownerOf(ALICE));
        assertEq(usdc.balanceOf(ownerOf(ALICE)), 0, "she brought no USDC and takes none");
        trade(ALICE, BOB, 5e18, MARK);
        withdraw(BOB, address(usdc), 19_994e6);
        assertSums("after a claim on a short");
    }

    /// @notice And a long, whose cash is what he paid for it, does not lock what he has net cash for.
    function test_CM15_clearRest_ALongOwnersNetCashPays() public {
        fund(ALICE, 10_000);
        fund(BOB, 10_000);
        trade(ALICE, BOB, 4e18, MARK);
        reserve(ALICE, LENDER, 1000e18, 0);
        claim(ALICE, LENDER, 1000e18);
        assertTrue(house.cashOf(idOf(ALICE)) < 0, "cash here");
        clear(ALICE, LENDER, 1000e18);
        assertEq(usdc.balanceOf(LENDER), 1000e6, "paid");
        assertSums("after a claim on a long");
    }

    /// @notice Only what a quorum signed, once, and no reservation's permit.
    function test_CM15_clearRest_RevertWhen_ItIsNotPermitted() public {
        fund(ALICE, 1000);
        reserve(ALICE, LENDER, 100e18, 0);
        claim(ALICE, LENDER, 100e18);
        Reserve memory action = Reserve(idOf(ALICE), LENDER, 60e18, 60e18, 0, address(0));
        Permit memory permit = permitted(action.accountId, 0, HashLib.hash(action));
        bytes memory signatures = signed(permit);

        action.amount = action.cashPart = 61e18;
        expectError(abi.encodeWithSelector(Errors.ActionMismatch.selector, HashLib.hash(action), permit.actionHash));
        reservations.clearRest(action, permit, signatures);
        action.cashPart = 60e18;
        expectError(abi.encodeWithSelector(Errors.CashPartExceedsAmount.selector, 60e18, 61e18));
        reservations.clearRest(action, permit, signatures);
        action.amount = 60e18;
        action.until = 1;
        expectError(abi.encodeWithSelector(Errors.NotAClearance.selector, 1));
        reservations.clearRest(action, permit, signatures);
        action.until = 0;
        action.submitter = LENDER;
        expectError(abi.encodeWithSelector(Errors.ClearanceNamesSubmitter.selector, LENDER));
        reservations.clearRest(action, permit, signatures);
        action.submitter = address(0);
        bytes32 bob = action.accountId = idOf(BOB);
        expectError(abi.encodeWithSelector(Errors.PermitAccountMismatch.selector, idOf(ALICE), bytes32(0)));
        reservations.clearRest(action, permit, signatures);
        action.accountId = idOf(ALICE);
        vm.prank(ownerOf(ALICE));
        expectError(abi.encodeWithSelector(Errors.ReservationInPast.selector, 0, block.timestamp));
        reservations.reserve(action, permit, signatures);

        vm.prank(address(0xA11));
        reservations.clearRest(action, permit, signatures);
        assertEq(usdc.balanceOf(LENDER), 60e6, "what was permitted");
        expectError(abi.encodeWithSelector(Errors.NonceAlreadyUsed.selector, idOf(ALICE), permit.nonce));
        reservations.clearRest(action, permit, signatures);
        _owes(LENDER, 0, 40e18);
        assertEq(reservations.unpaidOf(idOf(ALICE)), 40e18, "unpaid");
        assertEq(reservations.unpaidOf(bob), 0, "nothing of Bob");
    }

    function _owes(address integrator, uint256 cash, uint256 rest) private view {
        (uint256 foundCash, uint256 foundRest) = reservations.owedOf(idOf(ALICE), integrator);
        assertEq(foundCash, cash, "owed of cash parts");
        assertEq(foundRest, rest, "owed of the rest");
    }
}
