// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {HouseHandler} from "../base/HouseHandler.sol";
import {Test} from "../base/Test.sol";

/// @notice What holds on a chain whatever anybody did to its contracts, in any order.
contract HouseInvariantsTest is Test {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    HouseHandler private handler;
    bytes4[] private actions;

    function setUp() public {
        handler = new HouseHandler();
        handler.setUp();
        actions = [
            HouseHandler.depositCash.selector,
            HouseHandler.depositCollateral.selector,
            HouseHandler.donate.selector,
            HouseHandler.withdrawCash.selector,
            HouseHandler.withdrawCollateral.selector,
            HouseHandler.matchOrders.selector,
            HouseHandler.liquidate.selector,
            HouseHandler.reserve.selector,
            HouseHandler.release.selector
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
    function invariant_CM20_CM30_CM31_CM40_CM42() public view {
        handler.checkSums();
        handler.checkClosed();
        handler.checkFund();
        handler.checkReservations();
    }

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
        for (uint256 i; i < actions.length; ++i) {
            assertTrue(handler.acted(actions[i]) != 0, "an action acted");
        }
        invariant_CM20_CM30_CM31_CM40_CM42();
    }
}
