// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IClearingHouse} from "../../contracts/interfaces/IClearingHouse.sol";
import {AccountLib} from "../../contracts/libraries/AccountLib.sol";
import {Errors} from "../../contracts/libraries/Errors.sol";
import {HashLib} from "../../contracts/libraries/HashLib.sol";
import {LiquidationLeaf, MarkLeaf} from "../../contracts/libraries/Types.sol";
import {HouseFixture} from "./base/HouseFixture.sol";
import {vm} from "./base/Vm.sol";

/// @notice Sequences that broke earlier drafts of the protocol, as far as one chain's contracts are what stops them. The
/// others of the list are tests of settlement (12, 15), of expiry (21), of claims (32), and of the attestors.
contract ProtocolAttacksTest is HouseFixture {
    uint256 private constant LONG = 0;
    uint256 private constant SHORT = 1;
    uint256 private constant THIRD = 2;
    uint256 private constant CONCESSION = 60e18;

    function setUp() public override {
        super.setUp();
        fund(LONG, 10_000);
        fund(SHORT, 10_000);
        fund(THIRD, 10_000);
    }

    /// @dev Realised profit booked while the counterparty's loss was unrealised, by entry prices: cash did not add up.
    function test_sequence17_CM30_ProfitIsBookedWithTheLossItIsFrom() public {
        trade(LONG, SHORT, 1e18, MARK);
        trade(THIRD, LONG, 1e18, MARK * 109 / 100);
        assertEq(house.positionOf(idOf(LONG), ETH), 0, "the profit is taken");
        assertTrue(house.cashOf(idOf(LONG)) > 10_000e18 + 200e18, "and booked");
        assertSums("with the loss unrealised");
        assertEq(
            house.cashOf(idOf(SHORT)) + house.positionOf(idOf(SHORT), ETH) * int256(MARK * 109 / 100) / 1e18,
            10_000e18 - 270e18 - 0.6e18,
            "the short's loss is in its position"
        );
    }

    /// @dev Two accounts of one person trade at ten times the mark: the loser's deficit is the fund's, the winner
    /// withdraws.
    function test_sequence18_NoTradeFarFromTheMark() public {
        IClearingHouse.Match memory m = matchOf(LONG, SHORT, 1e18, 10 * MARK);
        expectError(abi.encodeWithSelector(Errors.PriceOutsideBand.selector, 10 * MARK, MARK, PRICE_BAND));
        house.matchOrders(m);
        m = matchOf(LONG, SHORT, 1e18, MARK / 10);
        expectError(abi.encodeWithSelector(Errors.PriceOutsideBand.selector, MARK / 10, MARK, PRICE_BAND));
        house.matchOrders(m);
    }

    /// @dev Funding from "rate × time since the last post": an owner flat across two chains that were posted at different
    /// times paid or earned. By one index, a long touched at every batch and a short touched once are even.
    function test_sequence20_CM30_FlatAcrossChainsPaysNothing() public {
        trade(LONG, THIRD, 2e18, MARK);
        trade(SHORT, THIRD, -2e18, MARK);
        int256 before = house.cashOf(idOf(LONG)) + house.cashOf(idOf(SHORT));
        int256[5] memory indices = [int256(1e15), 4e15, -1e15 - 1, -2e15 - 7, 3e15 + 3];
        bytes32[] memory one = new bytes32[](1);
        one[0] = idOf(LONG);
        for (uint256 i; i < indices.length; ++i) {
            accrue(indices[i], one);
        }
        one[0] = idOf(SHORT);
        accrue(indices[4], one);
        int256 cost = before - house.cashOf(idOf(LONG)) - house.cashOf(idOf(SHORT));
        assertTrue(cost >= 0 && cost <= 6, "even but for dust");
    }

    /// @dev The same leg in two overlapping batches, executed twice; and the owner had closed already, so that the leg
    /// opened the opposite.
    function test_sequence22_CM40_ALegIsExecutedOnce() public {
        trade(LONG, SHORT, 3e18, MARK);
        LiquidationLeaf memory leg = legOf(LONG, 2e18, 0);
        postLeg(leg);
        take(THIRD, leg, 2e18);
        pass(EPOCH_SECONDS);
        post();
        take(THIRD, leg, 1e18, abi.encodeWithSelector(Errors.LegExhausted.selector, 2e18, 1e18, 2e18));
        leg.counterparty = AccountLib.FUND;
        postLeg(leg);
        deleverage(leg, 1e18, abi.encodeWithSelector(Errors.LegExhausted.selector, 2e18, 1e18, 2e18));

        leg = legOf(LONG, 3e18, 0);
        postLeg(leg);
        trade(LONG, SHORT, -1e18, MARK);
        take(THIRD, leg, 1e18, abi.encodeWithSelector(Errors.LegSideMismatch.selector, 0, int256(3e18)));
        trade(LONG, SHORT, -1e18, MARK);
        take(THIRD, leg, 1e18, abi.encodeWithSelector(Errors.LegSideMismatch.selector, -1e18, int256(3e18)));
    }

    /// @dev A discount as a share of the price: an option worth nothing found no taker.
    function test_sequence25_AWorthlessOptionPaysItsTaker() public {
        MarkLeaf memory mark = markOf(dated(4, "ETH", START + 10_000, 1000e8), 1, 0, 0);
        postMark(mark);
        trade(LONG, SHORT, 1e18, mark);
        LiquidationLeaf memory leg = legOf(SHORT, -1e18, CONCESSION);
        (leg.asset, leg.markPrice) = (mark.asset, 0);
        postLeg(leg);
        pass(RAMP_SECONDS);
        int256 before = house.cashOf(idOf(THIRD));
        take(THIRD, leg, 1e18);
        assertEq(house.cashOf(idOf(THIRD)) - before, 48e18 + 5e18, "the concession less the fund's share, the flat fee");
    }

    /// @dev The auction's clock was reset by every batch, or ran out during an outage.
    function test_sequence25_TheClockGoesOnOverBatchesAndWaitsForOutages() public {
        trade(LONG, SHORT, 4e18, MARK);
        LiquidationLeaf memory leg = legOf(LONG, 4e18, CONCESSION);
        postLeg(leg);
        for (uint256 i; i < 3; ++i) {
            pass(HEARTBEAT - EPOCH_SECONDS);
            postLeg(leg);
        }
        assertEq(_taken(leg), 1e18 * int256(MARK - CONCESSION) / 1e18, "ripe, though posted three times since");
        pass(10 * HEARTBEAT);
        post();
        assertEq(_taken(leg), int256(MARK), "after an outage it begins again");
        pass(RAMP_SECONDS / 2);
        assertEq(_taken(leg), int256(MARK - CONCESSION / 2), "and ripens");
    }

    /// @dev Somebody posts the newest batch just before a user's transaction: the proof is for the older root.
    function test_sequence30_CM07_APostingBreaksNoTransaction() public {
        IClearingHouse.Match memory m = matchOf(LONG, SHORT, 1e18, MARK);
        markLeaves = [HashLib.leaf(markOf("ETH", MARK + 1)), HashLib.leaf(markOf("BTC", 60_000e18))];
        pass(EPOCH_SECONDS);
        post();
        house.matchOrders(m);
        assertEq(house.positionOf(idOf(LONG), ETH), 1e18, "matched");
    }

    /// @dev What the account received for a whole unit, without its part of the flat fee.
    function _taken(LiquidationLeaf memory leg) private returns (int256) {
        int256 before = house.cashOf(idOf(LONG));
        take(THIRD, leg, 1e18);
        return house.cashOf(idOf(LONG)) - before + int256(FLAT_FEE) / 4;
    }
}
