// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {AccountLib} from "../../contracts/libraries/AccountLib.sol";
import {Errors} from "../../contracts/libraries/Errors.sol";
import {Events} from "../../contracts/libraries/Events.sol";
import {HashLib} from "../../contracts/libraries/HashLib.sol";
import {LiquidationLeaf, Permit} from "../../contracts/libraries/Types.sol";
import {HouseFixture} from "./base/HouseFixture.sol";
import {vm} from "./base/Vm.sol";

/// @notice What a leg lets anybody close: cumulative, within the position, on its side, while it is listed (CM-40), and
/// what that moves between the account, the taker and the fund (CM-42).
contract ClearingHouseLiquidationTest is HouseFixture {
    uint256 private constant LONG = 0;
    uint256 private constant SHORT = 1;
    uint256 private constant TAKER = 2;
    uint256 private constant CONCESSION = 60e18;

    function setUp() public override {
        super.setUp();
        fund(LONG, 10_000);
        fund(SHORT, 10_000);
        fund(TAKER, 50_000);
        trade(LONG, SHORT, 4e18, MARK);
    }

    // --- what is booked (CM-42) ------------------------------------------------------------------------------------

    function test_CM42_liquidate_ALongIsBoughtBelowTheMark() public {
        LiquidationLeaf memory leg = _posted(LONG, 2e18);
        pass(RAMP_SECONDS);
        (int256 account, int256 taker) = (house.cashOf(idOf(LONG)), house.cashOf(idOf(TAKER)));
        take(TAKER, leg, 2e18);
        assertEq(house.cashOf(AccountLib.FUND), 24e18, "a fifth of the concession is the fund's");
        assertEq(house.positionOf(idOf(LONG), ETH), 2e18, "what stays with the account");
        assertEq(house.positionOf(idOf(TAKER), ETH), 2e18, "what the taker has");
        assertEq(house.cashOf(idOf(LONG)) - account, 2 * 2940e18 - 5e18, "mark less concession, less the flat fee");
        assertEq(house.cashOf(idOf(TAKER)) - taker, -2 * 2940e18 + 5e18 - 24e18, "paid by the taker, who has the fee");
        assertSums("after a long's liquidation");
    }

    function test_CM42_liquidate_AShortIsBoughtBackAboveTheMark() public {
        LiquidationLeaf memory leg = _posted(SHORT, -4e18);
        pass(RAMP_SECONDS);
        (int256 account, int256 taker) = (house.cashOf(idOf(SHORT)), house.cashOf(idOf(TAKER)));
        take(TAKER, leg, 4e18);
        assertEq(house.positionOf(idOf(SHORT), ETH), 0, "the account is flat");
        assertEq(house.positionOf(idOf(TAKER), ETH), -4e18, "what the taker has");
        assertEq(house.cashOf(idOf(SHORT)) - account, -4 * 3060e18 - 5e18, "mark and concession, and the flat fee");
        assertEq(house.cashOf(idOf(TAKER)) - taker, 4 * 3060e18 + 5e18 - 48e18, "received by the taker, with the fee");
        assertEq(house.cashOf(AccountLib.FUND), 48e18, "a fifth of the concession is the fund's");
        assertSums("after a short's liquidation");
    }

    function test_CM42_liquidate_TellsWhatItDid() public {
        LiquidationLeaf memory leg = _posted(LONG, 2e18);
        pass(RAMP_SECONDS);
        Permit memory permit = takeover(TAKER, leg, 1e18);
        (bytes memory signatures, bytes32[] memory proof) = (signed(permit), legProof(leg));
        vm.expectEmit(true, true, true, true, address(house));
        emit Events.Liquidated(idOf(LONG), ETH, idOf(TAKER), -1e18, 2940e18, CONCESSION, 2.5e18, 12e18);
        vm.prank(ownerOf(TAKER));
        house.liquidate(leg, proof, idOf(TAKER), 1e18, permit, signatures);
    }

    /// @notice Whatever is taken in whatever parts, what the account loses the taker and the fund gain.
    function testFuzz_CM42_liquidate_Conserves(uint256 limit, uint256 size, uint256 wait, uint256 side) public {
        uint256 liquidated = side % 2 == 0 ? LONG : SHORT;
        limit = bound(limit, 1, 4e18);
        size = bound(size, 1, limit);
        LiquidationLeaf memory leg = _posted(liquidated, liquidated == LONG ? int256(limit) : -int256(limit));
        pass(bound(wait, 0, MAX_AGE));
        int256[3] memory before = [_worth(liquidated), _worth(TAKER), house.cashOf(AccountLib.FUND)];
        take(TAKER, leg, size);
        int256 lost = before[0] - _worth(liquidated);
        int256 gained = _worth(TAKER) - before[1] + house.cashOf(AccountLib.FUND) - before[2];
        // Each worth rounds its size × mark by less than one unit.
        assertTrue(lost >= gained - 2 && lost <= gained + 2, "lost is gained");
        assertTrue(house.cashOf(AccountLib.FUND) >= before[2], "the fund does not pay");
        assertSums("after a liquidation");
    }

    /// @notice Of a price that does not divide the buyer pays the part above, the fund has it.
    function test_CM42_liquidate_RoundsToTheFund() public {
        LiquidationLeaf memory leg = legOf(LONG, 4e18, 0);
        leg.markPrice = 2999.5e18;
        postLeg(leg);
        (int256 account, int256 taker) = (house.cashOf(idOf(LONG)), house.cashOf(idOf(TAKER)));
        take(TAKER, leg, 1);
        assertEq(house.cashOf(idOf(TAKER)) - taker, -3000 + 1, "rounded up, and a flat fee of 1.25");
        assertEq(house.cashOf(idOf(LONG)) - account, 2999 - 1, "rounded down, less the flat fee");
        assertEq(house.cashOf(AccountLib.FUND), 1, "the fund");
        assertSums("after dust");
    }

    // --- the concession --------------------------------------------------------------------------------------------

    /// @notice From nothing to the whole in RAMP_SECONDS, and no further.
    function testFuzz_liquidate_ConcessionRipens(uint256 wait) public {
        LiquidationLeaf memory leg = _posted(LONG, 4e18);
        wait = bound(wait, 0, MAX_AGE);
        uint256 begun = wait + EPOCH_SECONDS;
        uint256 ripe = begun > RAMP_SECONDS ? CONCESSION : CONCESSION * begun / RAMP_SECONDS;
        pass(wait);
        int256 before = house.cashOf(idOf(TAKER));
        take(TAKER, leg, 4e18);
        assertEq(
            before - house.cashOf(idOf(TAKER)),
            4 * int256(MARK - ripe) - 5e18 + int256(4 * ripe / 5),
            "what the taker paid"
        );
    }

    /// @notice A concession beyond the mark makes the price nothing, not negative; the fund's share is of what was
    /// conceded, not of what the leg would allow.
    function test_liquidate_PriceIsNeverNegative() public {
        LiquidationLeaf memory leg = legOf(LONG, 4e18, 2 * MARK);
        postLeg(leg);
        pass(RAMP_SECONDS);
        int256 before = house.cashOf(idOf(TAKER));
        take(TAKER, leg, 4e18);
        assertEq(
            house.cashOf(idOf(TAKER)) - before, 5e18 - 2400e18, "the flat fee, and a fifth of the mark to the fund"
        );
    }

    /// @notice After a silence the clock starts again: nobody could bid meanwhile.
    function test_liquidate_ConcessionStartsAgainAfterASilence() public {
        LiquidationLeaf memory leg = legOf(LONG, 4e18, CONCESSION);
        pass(10 * HEARTBEAT);
        post();
        int256 before = house.cashOf(idOf(TAKER));
        take(TAKER, leg, 4e18);
        assertEq(before - house.cashOf(idOf(TAKER)), 4 * int256(MARK) - 5e18, "at the mark");
    }

    // --- what a leg leaves to close (CM-40) ------------------------------------------------------------------------

    /// @notice Any split of a leg closes what the leg says in all, and pays one flat fee in all.
    function testFuzz_CM40_liquidate_IsCumulative(uint256[3] calldata parts) public {
        LiquidationLeaf memory leg = _posted(LONG, 3e18);
        pass(RAMP_SECONDS);
        uint256 left = 3e18;
        for (uint256 i; i < parts.length; ++i) {
            uint256 part = bound(parts[i], 1, 2e18);
            uint256 closed = 3e18 - left;
            if (part > left) {
                take(TAKER, leg, part, abi.encodeWithSelector(Errors.LegExhausted.selector, closed, part, 3e18));
            } else {
                take(TAKER, leg, part);
                left -= part;
            }
            assertEq(house.closedOf(idOf(LONG), ETH), 3e18 - left, "closed so far");
            assertEq(house.positionOf(idOf(LONG), ETH), int256(1e18 + left), "position");
        }
    }

    /// @notice What was closed before counts in later batches: the limit is of all time, not of the batch.
    function test_CM40_liquidate_CountsAcrossBatches() public {
        LiquidationLeaf memory leg = _posted(LONG, 2e18);
        take(TAKER, leg, 2e18);
        pass(EPOCH_SECONDS);
        post();
        take(TAKER, leg, 1, abi.encodeWithSelector(Errors.LegExhausted.selector, 2e18, 1, 2e18));
        leg.closeLimit = 3e18;
        postLeg(leg);
        take(TAKER, leg, 1e18);
        assertEq(house.positionOf(idOf(LONG), ETH), 1e18, "position");
    }

    function test_CM40_liquidate_RevertWhen_MoreThanThePosition() public {
        LiquidationLeaf memory leg = _posted(LONG, 5e18);
        take(TAKER, leg, 4e18 + 1, abi.encodeWithSelector(Errors.ExceedsPosition.selector, 4e18 + 1, 4e18));
    }

    function test_CM40_liquidate_RevertWhen_OnTheOtherSideOrFlat() public {
        LiquidationLeaf memory leg = _posted(LONG, -2e18);
        take(TAKER, leg, 1e18, abi.encodeWithSelector(Errors.LegSideMismatch.selector, 4e18, -2e18));
        trade(LONG, SHORT, -4e18, MARK);
        take(TAKER, leg, 1e18, abi.encodeWithSelector(Errors.LegSideMismatch.selector, 0, -2e18));
    }

    function test_CM40_liquidate_RevertWhen_NotListedAnyMore() public {
        LiquidationLeaf memory leg = _posted(LONG, 2e18);
        bytes32[] memory proof = legProof(leg);
        Permit memory permit = takeover(TAKER, leg, 1e18);
        bytes memory signatures = signed(permit);
        delete legLeaves;
        pass(EPOCH_SECONDS);
        post();
        vm.prank(ownerOf(TAKER));
        expectError(abi.encodeWithSelector(Errors.LegNotInLatestBatch.selector, HashLib.leaf(leg)));
        house.liquidate(leg, proof, idOf(TAKER), 1e18, permit, signatures);
    }

    function test_CM40_liquidate_RevertWhen_ToppedUpToItsTarget() public {
        LiquidationLeaf memory leg = legOf(LONG, 2e18, CONCESSION);
        leg.depositTarget = 12_000e6;
        postLeg(leg);
        take(TAKER, leg, 1e18);
        fund(LONG, 2_000);
        take(TAKER, leg, 1e18, abi.encodeWithSelector(Errors.LegVoid.selector, 12_000e6, 12_000e6));
    }

    // --- who may, and with which permit ----------------------------------------------------------------------------

    function test_liquidate_RevertWhen_NotSentByTheTakersOwner() public {
        LiquidationLeaf memory leg = _posted(LONG, 2e18);
        Permit memory permit = takeover(TAKER, leg, 1e18);
        (bytes memory signatures, bytes32[] memory proof) = (signed(permit), legProof(leg));
        bytes32 taker = idOf(TAKER);
        expectError(abi.encodeWithSelector(Errors.NotOwner.selector, address(this), taker));
        house.liquidate(leg, proof, taker, 1e18, permit, signatures);
    }

    function test_liquidate_RevertWhen_OfItself() public {
        LiquidationLeaf memory leg = _posted(LONG, 2e18);
        take(LONG, leg, 1e18, abi.encodeWithSelector(Errors.SelfLiquidation.selector, idOf(LONG)));
    }

    function test_liquidate_RevertWhen_LegNamesItsCounterparty() public {
        LiquidationLeaf memory leg = legOf(LONG, 2e18, CONCESSION);
        leg.counterparty = idOf(TAKER);
        postLeg(leg);
        take(TAKER, leg, 1e18, abi.encodeWithSelector(Errors.LegNamesCounterparty.selector, idOf(TAKER)));
    }

    function test_liquidate_RevertWhen_NoInstrumentOrNothing() public {
        LiquidationLeaf memory leg = _posted(LONG, 2e18);
        take(TAKER, leg, 0, abi.encodeWithSelector(Errors.ZeroAmount.selector));
        leg.asset = bytes32(uint256(2) << 248);
        postLeg(leg);
        take(TAKER, leg, 1e18, abi.encodeWithSelector(Errors.NotTradable.selector, leg.asset));
    }

    function test_liquidate_RevertWhen_ThePermitIsForAnotherSizeOrTaker() public {
        LiquidationLeaf memory leg = _posted(LONG, 2e18);
        Permit memory permit = takeover(TAKER, leg, 1e18);
        bytes32 action = takeover(TAKER, leg, 2e18).actionHash;
        (bytes memory signatures, bytes32[] memory proof) = (signed(permit), legProof(leg));
        bytes32 taker = idOf(TAKER);
        vm.startPrank(ownerOf(TAKER));
        expectError(abi.encodeWithSelector(Errors.ActionMismatch.selector, action, permit.actionHash));
        house.liquidate(leg, proof, taker, 2e18, permit, signatures);
        vm.stopPrank();
        taker = idOf(3);
        vm.prank(ownerOf(3));
        expectError(abi.encodeWithSelector(Errors.PermitAccountMismatch.selector, idOf(TAKER), bytes32(0)));
        house.liquidate(leg, proof, taker, 1e18, permit, signatures);
    }

    function test_liquidate_RevertWhen_MarksAreTooOld() public {
        LiquidationLeaf memory leg = _posted(LONG, 2e18);
        pass(MAX_AGE + 1);
        take(TAKER, leg, 1e18, abi.encodeWithSelector(Errors.MarksTooOld.selector, MAX_AGE + 1, MAX_AGE));
    }

    // --- helpers ---------------------------------------------------------------------------------------------------

    function _posted(uint256 index, int256 closeLimit) private returns (LiquidationLeaf memory leg) {
        leg = legOf(index, closeLimit, CONCESSION);
        postLeg(leg);
    }

    /// @dev Cash and position at the mark, rounded down.
    function _worth(uint256 index) private view returns (int256) {
        return house.cashOf(idOf(index)) + house.positionOf(idOf(index), ETH) * int256(MARK) / 1e18;
    }
}
