// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {DevnetToken} from "../../contracts/devnet/DevnetToken.sol";
import {AccountLib} from "../../contracts/libraries/AccountLib.sol";
import {AssetLib} from "../../contracts/libraries/AssetLib.sol";
import {Errors} from "../../contracts/libraries/Errors.sol";
import {Events} from "../../contracts/libraries/Events.sol";
import {HashLib} from "../../contracts/libraries/HashLib.sol";
import {LiquidationLeaf, MarkLeaf} from "../../contracts/libraries/Types.sol";
import {HouseFixture} from "./base/HouseFixture.sol";
import {vm} from "./base/Vm.sol";

/// @notice The waterfall's last rungs on chain (CM-43): the fund takes what nobody bid for, or the leg's counterparty is
/// closed against the account; at the leg's price exactly, within the leg (CM-40), conserving value (CM-42).
contract ClearingHouseDeleverageTest is HouseFixture {
    uint256 private constant LONG = 0;
    uint256 private constant SHORT = 1;
    uint256 private constant THIRD = 2;
    uint256 private constant BANKRUPTCY = 2810.3e18;

    function setUp() public override {
        super.setUp();
        fund(LONG, 10_000);
        fund(SHORT, 10_000);
        fund(THIRD, 10_000);
        trade(LONG, SHORT, 4e18, MARK);
    }

    // --- against the fund ------------------------------------------------------------------------------------------

    function test_CM42_CM43_deleverage_TheFundTakesALong() public {
        LiquidationLeaf memory leg = _posted(LONG, 3e18, AccountLib.FUND);
        pass(RAMP_SECONDS);
        (int256 account, int256 before) = (house.cashOf(idOf(LONG)), house.cashOf(AccountLib.FUND));
        bytes32[] memory proof = legProof(leg);
        vm.expectEmit(true, true, true, true, address(house));
        emit Events.Deleveraged(idOf(LONG), ETH, AccountLib.FUND, -3e18, BANKRUPTCY);
        vm.prank(address(0xA11));
        house.deleverage(leg, proof, 3e18);
        assertEq(house.positionOf(idOf(LONG), ETH), 1e18, "what stays");
        assertEq(house.positionOf(AccountLib.FUND, ETH), 3e18, "the fund has it");
        assertEq(house.cashOf(idOf(LONG)) - account, 3 * int256(BANKRUPTCY), "the price, no concession, no fee");
        assertEq(before - house.cashOf(AccountLib.FUND), 3 * int256(BANKRUPTCY), "paid by the fund");
        assertEq(house.closedOf(idOf(LONG), ETH), 3e18, "closed");
        assertSums("after the fund took a long");
    }

    function test_CM42_CM43_deleverage_TheFundTakesAShort() public {
        LiquidationLeaf memory leg = _posted(SHORT, -4e18, AccountLib.FUND);
        int256 account = house.cashOf(idOf(SHORT));
        bytes32[] memory proof = legProof(leg);
        vm.expectEmit(true, true, true, true, address(house));
        emit Events.Deleveraged(idOf(SHORT), ETH, AccountLib.FUND, 4e18, BANKRUPTCY);
        house.deleverage(leg, proof, 4e18);
        assertEq(house.positionOf(idOf(SHORT), ETH), 0, "flat");
        assertEq(house.positionOf(AccountLib.FUND, ETH), -4e18, "the fund is short");
        assertEq(account - house.cashOf(idOf(SHORT)), 4 * int256(BANKRUPTCY), "paid the price");
        assertSums("after the fund took a short");
    }

    /// @notice Whatever the fund holds: it adds to a position on the same side too, and has no limit of instruments.
    function test_CM43_deleverage_TheFundTakesWhateverItHolds() public {
        uint256 most = house.MAX_INSTRUMENTS();
        fund(LONG, 1_000_000);
        for (uint256 i; i <= most; ++i) {
            MarkLeaf memory mark = markOf(dated(2, "ETH", START + 100_000 + uint64(i), 0), 100e18, 0, 0);
            instruments.push(mark.asset);
            postMark(mark);
            // Two accounts each, or their own limit would stop this.
            (uint256 long, uint256 short) = i % 2 == 0 ? (LONG, SHORT) : (THIRD, uint256(3));
            trade(long, short, 2e18, mark);
            LiquidationLeaf memory leg = legOf(long, 1e18, 0);
            (leg.asset, leg.counterparty) = (mark.asset, AccountLib.FUND);
            legLeaves = [HashLib.leaf(leg)];
            postMark(mark);
            deleverage(leg, 1e18, "");
            leg.closeLimit = 2e18;
            postLeg(leg);
            deleverage(leg, 1e18, "");
            assertEq(house.positionOf(AccountLib.FUND, mark.asset), 2e18, "the fund");
        }
        assertSums("after 49 instruments");
    }

    // --- against a counterparty ------------------------------------------------------------------------------------

    function test_CM42_CM43_deleverage_BothShrink() public {
        trade(THIRD, LONG, -1e18, MARK);
        LiquidationLeaf memory leg = _posted(LONG, 5e18, idOf(SHORT));
        (int256 account, int256 other) = (house.cashOf(idOf(LONG)), house.cashOf(idOf(SHORT)));
        bytes32[] memory proof = legProof(leg);
        vm.expectEmit(true, true, true, true, address(house));
        emit Events.Deleveraged(idOf(LONG), ETH, idOf(SHORT), -2.5e18, BANKRUPTCY);
        house.deleverage(leg, proof, 2.5e18);
        assertEq(house.positionOf(idOf(LONG), ETH), 2.5e18, "the account shrank");
        assertEq(house.positionOf(idOf(SHORT), ETH), -1.5e18, "the counterparty shrank");
        assertEq(house.cashOf(idOf(LONG)) - account, int256(BANKRUPTCY * 5 / 2), "received");
        assertEq(other - house.cashOf(idOf(SHORT)), int256(BANKRUPTCY * 5 / 2), "paid");
        assertEq(house.closedOf(idOf(LONG), ETH), 2.5e18, "closed of the account");
        assertEq(house.closedOf(idOf(SHORT), ETH), 0, "not of the counterparty");
        assertSums("after a deleveraging");
    }

    function test_CM43_deleverage_RevertWhen_TheCounterpartyIsNotOppositeOrTooSmall() public {
        LiquidationLeaf memory leg = _posted(LONG, 4e18, idOf(THIRD));
        _refusedBy(leg, 1e18, 0);
        trade(THIRD, 3, 1e18, MARK);
        _refusedBy(leg, 1e18, 1e18);
        trade(THIRD, 3, -2e18, MARK);
        _refusedBy(leg, 1e18 + 1, -1e18);
        deleverage(leg, 1e18, "");
        leg = _posted(SHORT, -4e18, idOf(3));
        _refusedBy(leg, 1e18 + 1, 1e18);
        deleverage(leg, 1e18, "");
        leg.closeLimit = -6e18;
        postLeg(leg);
        _refusedBy(leg, 1, 0);
        assertSums("after what was refused");
    }

    /// @notice Of a price that does not divide, the buyer pays the part above, the fund has it.
    function test_CM42_deleverage_RoundsToTheFund() public {
        LiquidationLeaf memory leg = _posted(LONG, 4e18, idOf(SHORT));
        leg.markPrice = 2999.5e18;
        postLeg(leg);
        (int256 account, int256 other) = (house.cashOf(idOf(LONG)), house.cashOf(idOf(SHORT)));
        deleverage(leg, 1, "");
        assertEq(house.cashOf(idOf(LONG)) - account, 2999, "rounded down");
        assertEq(other - house.cashOf(idOf(SHORT)), 3000, "rounded up");
        assertEq(house.cashOf(AccountLib.FUND), 1, "the fund");
    }

    /// @notice Funding of both is settled first, at the stored index.
    function test_CM30_deleverage_SettlesFundingFirst() public {
        accrue(2e15, new bytes32[](0));
        LiquidationLeaf memory leg = _posted(LONG, 4e18, idOf(SHORT));
        (int256 account, int256 other) = (house.cashOf(idOf(LONG)), house.cashOf(idOf(SHORT)));
        deleverage(leg, 4e18, "");
        assertEq(house.cashOf(idOf(LONG)) - account, 4 * int256(BANKRUPTCY) - 8e15, "the long");
        assertEq(other - house.cashOf(idOf(SHORT)), 4 * int256(BANKRUPTCY) - 8e15, "the short");
        assertEq(house.cashOf(AccountLib.CLEARING), 0, "nothing between them");
    }

    // --- tokens ----------------------------------------------------------------------------------------------------

    /// @notice Whoever sends it chooses the size: the fund pays for whole units of the token alone, and the rest stays
    /// open.
    function test_CM42_deleverage_OfATokenInWholeUnits() public {
        weth = new DevnetToken("Wrapped", "W", 8);
        redeploy();
        post();
        deposit(LONG, weth, 5e8);
        LiquidationLeaf memory leg = _token(5e18, AccountLib.FUND);
        deleverage(leg, 1e10 - 1, abi.encodeWithSelector(Errors.ZeroAmount.selector));
        deleverage(leg, 2.99e10, "");
        assertEq(vault.balanceOf(AccountLib.FUND, address(weth)), 2, "two units");
        assertEq(house.cashOf(idOf(LONG)), int256(2 * BANKRUPTCY / 1e8), "paid for two");
        assertEq(house.closedOf(idOf(LONG), leg.asset), 2e10, "closed by two");
        assertSums("after the fund took a token");
    }

    function test_CM43_deleverage_RevertWhen_ATokenNamesAnotherThanTheFund() public {
        deposit(LONG, weth, 5e18);
        deposit(SHORT, weth, 5e18);
        _refusedBy(_token(5e18, idOf(SHORT)), 1e18, 0);
    }

    // --- what is refused -------------------------------------------------------------------------------------------

    function test_deleverage_RevertWhen_TheLegNamesNobodyOrItself() public {
        LiquidationLeaf memory leg = _posted(LONG, 4e18, 0);
        deleverage(leg, 1e18, abi.encodeWithSelector(Errors.LegWithoutCounterparty.selector));
        leg = _posted(LONG, 4e18, idOf(LONG));
        deleverage(leg, 1e18, abi.encodeWithSelector(Errors.SelfLiquidation.selector, idOf(LONG)));
        leg.accountId = AccountLib.FUND;
        leg.counterparty = AccountLib.FUND;
        postLeg(leg);
        deleverage(leg, 1e18, abi.encodeWithSelector(Errors.SelfLiquidation.selector, AccountLib.FUND));
    }

    /// @notice CM-40 as in an auction: what is closed by either way counts.
    function test_CM40_deleverage_RevertWhen_BeyondTheLeg() public {
        LiquidationLeaf memory open = legOf(LONG, 2e18, 0);
        postLeg(open);
        take(THIRD, open, 1.5e18);
        LiquidationLeaf memory leg = _posted(LONG, 2e18, AccountLib.FUND);
        deleverage(leg, 0, abi.encodeWithSelector(Errors.ZeroAmount.selector));
        deleverage(leg, 0.5e18 + 1, abi.encodeWithSelector(Errors.LegExhausted.selector, 1.5e18, 0.5e18 + 1, 2e18));
        deleverage(leg, 0.5e18, "");
        leg = _posted(LONG, 10e18, AccountLib.FUND);
        deleverage(leg, 2e18 + 1, abi.encodeWithSelector(Errors.ExceedsPosition.selector, 2e18 + 1, 2e18));
        leg = _posted(LONG, -10e18, AccountLib.FUND);
        deleverage(leg, 1e18, abi.encodeWithSelector(Errors.LegSideMismatch.selector, 2e18, int256(-10e18)));
        leg = _posted(LONG, 10e18, AccountLib.FUND);
        leg.depositTarget = 10_000e6;
        postLeg(leg);
        deleverage(leg, 1e18, abi.encodeWithSelector(Errors.LegVoid.selector, 10_000e6, 10_000e6));
    }

    function test_CM40_deleverage_RevertWhen_NotInTheLatestBatchOrTooOld() public {
        LiquidationLeaf memory leg = _posted(LONG, 2e18, AccountLib.FUND);
        bytes32[] memory proof = legProof(leg);
        uint256 state = vm.snapshotState();
        pass(MAX_AGE + 1);
        expectError(abi.encodeWithSelector(Errors.MarksTooOld.selector, MAX_AGE + 1, MAX_AGE));
        house.deleverage(leg, proof, 1e18);
        vm.revertToState(state);
        delete legLeaves;
        pass(EPOCH_SECONDS);
        post();
        expectError(abi.encodeWithSelector(Errors.LegNotInLatestBatch.selector, HashLib.leaf(leg)));
        house.deleverage(leg, proof, 1e18);
    }

    // --- helpers ---------------------------------------------------------------------------------------------------

    function _posted(
        uint256 index,
        int256 closeLimit,
        bytes32 counterparty
    ) private returns (LiquidationLeaf memory leg) {
        leg = legOf(index, closeLimit, 100e18);
        (leg.markPrice, leg.counterparty) = (BANKRUPTCY, counterparty);
        postLeg(leg);
    }

    function _token(int256 closeLimit, bytes32 counterparty) private returns (LiquidationLeaf memory leg) {
        leg = legOf(LONG, closeLimit, 100e18);
        (leg.markPrice, leg.counterparty) = (BANKRUPTCY, counterparty);
        leg.asset = AssetLib.tokenId(uint64(block.chainid), address(weth));
        postLeg(leg);
    }

    function _refusedBy(LiquidationLeaf memory leg, uint256 size, int256 position) private {
        deleverage(
            leg, size, abi.encodeWithSelector(Errors.CounterpartyPosition.selector, leg.counterparty, position, size)
        );
    }
}
