// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ClearingHandler} from "../base/ClearingHandler.sol";
import {Test} from "../base/Test.sol";

/// @notice What holds on a chain whatever anybody did to its contracts, in any order.
contract HouseInvariantsTest is Test {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    ClearingHandler private handler;
    bytes4[] private actions;

    function setUp() public {
        handler = new ClearingHandler();
        handler.setUp();
        actions = [
            handler.depositCash.selector,
            handler.depositCollateral.selector,
            handler.donate.selector,
            handler.withdrawCash.selector,
            handler.withdrawCollateral.selector,
            handler.matchOrders.selector,
            handler.liquidate.selector,
            handler.reserve.selector,
            handler.release.selector,
            handler.accrueFunding.selector,
            handler.tradeDated.selector,
            handler.expire.selector,
            handler.deleverage.selector,
            handler.sellCollateral.selector,
            handler.applyEntries.selector,
            handler.ship.selector,
            handler.arrive.selector,
            handler.claimReserved.selector,
            handler.payout.selector
        ];
    }

    /// @dev Asked by forge: what it calls, and nothing else.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    /// @dev Asked by forge: with which functions.
    function targetSelectors() external view returns (FuzzSelector[] memory targets) {
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(handler), actions);
    }

    /// @dev One function, so that forge walks every sequence once; what fails says its own name.
    function invariant_CM15_CM20_CM30_CM31_CM40_CM42_CM50() public view {
        handler.checkSums();
        handler.checkClosed();
        handler.checkClearing();
        handler.checkReservations();
    }

    /// forge-config: default.fuzz.runs = 48
    /// @notice Every action acts from the first state on, whatever numbers it is given.
    function testFuzz_EveryActionActs(uint256 a, uint256 b, uint256[4] calldata numbers) external {
        handler.depositCash(a, b);
        handler.depositCollateral(a, b);
        handler.donate(a);
        handler.withdrawCash(b, a);
        handler.withdrawCollateral(b, a);
        handler.matchOrders(a, b, numbers[0], numbers[1], a % 2 == 0);
        handler.liquidate(a, b, numbers);
        handler.reserve(a, b, numbers[0]);
        handler.release(b, a);
        handler.accrueFunding(int256(numbers[0]), a, b);
        handler.tradeDated(a, b, int256(numbers[1]), numbers[2]);
        handler.expire(numbers[3], a);
        handler.deleverage(b, a, [numbers[0], numbers[1], numbers[2]]);
        handler.sellCollateral(b, a, numbers);
        handler.applyEntries(a, [int256(numbers[0]), int256(numbers[1])]);
        handler.ship(b);
        handler.arrive(a, b);
        handler.claimReserved(a, b, b % 2 == 0);
        handler.payout(a, b);
        for (uint256 i; i < actions.length; ++i) {
            assertTrue(handler.acted(actions[i]) != 0, "an action acted");
        }
        invariant_CM15_CM20_CM30_CM31_CM40_CM42_CM50();
    }
}
