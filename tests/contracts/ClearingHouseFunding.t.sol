// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IClearingHouse} from "../../contracts/interfaces/IClearingHouse.sol";
import {AccountLib} from "../../contracts/libraries/AccountLib.sol";
import {Errors} from "../../contracts/libraries/Errors.sol";
import {Events} from "../../contracts/libraries/Events.sol";
import {HashLib} from "../../contracts/libraries/HashLib.sol";
import {LiquidationLeaf, MarkLeaf, Move, Permit} from "../../contracts/libraries/Types.sol";
import {HouseFixture} from "./base/HouseFixture.sol";
import {vm} from "./base/Vm.sol";

/// @notice Funding by a cumulative index: what longs pay shorts receive, whenever they are touched, and the clearing
/// account is between them (CM-30).
contract ClearingHouseFundingTest is HouseFixture {
    uint256 private constant LONG = 0;
    uint256 private constant SHORT = 1;
    uint256 private constant THIRD = 2;
    /// @dev The most an index moves from one batch of these tests to the next: a millionth of 3,000 in each of 2 s.
    int256 private constant MOST = 6e15;

    function setUp() public override {
        super.setUp();
        fund(LONG, 10_000);
        fund(SHORT, 10_000);
        fund(THIRD, 50_000);
        trade(LONG, SHORT, 4e18, MARK);
    }

    // --- both sides ------------------------------------------------------------------------------------------------

    function test_CM30_funding_WhatLongsPayShortsReceive() public {
        (int256 long, int256 short) = (house.cashOf(idOf(LONG)), house.cashOf(idOf(SHORT)));
        accrue(1e15, _both());
        assertEq(house.cashOf(idOf(LONG)), long - 4e15, "the long paid");
        assertEq(house.cashOf(idOf(SHORT)), short + 4e15, "the short received");
        accrue(-2e15, _both());
        assertEq(house.cashOf(idOf(LONG)), long + 8e15, "a falling index pays the long");
        assertEq(house.cashOf(idOf(SHORT)), short - 8e15, "and costs the short");
        assertEq(house.cashOf(AccountLib.CLEARING), 0, "nothing is between them");
        assertSums("after funding");
    }

    function test_CM30_funding_IsBetweenThemUntilBothAreTouched() public {
        accrue(1e15, _one(LONG));
        assertEq(house.cashOf(AccountLib.CLEARING), 4e15, "what the long paid waits");
        assertSums("with one side touched");
        (int256 index, uint64 time) = house.fundingIndexOf(ETH);
        assertEq(index, 1e15, "index");
        assertEq(time, block.timestamp, "time");
        assertEq(house.fundingPaidOf(idOf(LONG), ETH), 1e15, "paid");
        assertEq(house.fundingPaidOf(idOf(SHORT), ETH), 0, "not touched");
        accrue(1e15, _one(SHORT));
        assertEq(house.cashOf(AccountLib.CLEARING), 0, "and is received");
    }

    /// @notice A payer pays rounded up, a receiver gets rounded down, either way round.
    function test_CM30_funding_RoundsAgainstBoth() public {
        IClearingHouse.Match memory m = matchOf(THIRD, 3, 3, MARK);
        house.matchOrders(m);
        (int256 long, int256 short) = (house.cashOf(idOf(THIRD)), house.cashOf(idOf(3)));
        bytes32[] memory ids = _pair(idOf(THIRD), idOf(3));
        accrue(0.5e15, ids);
        assertEq(house.cashOf(idOf(THIRD)), long - 1, "0.0015 rounded up");
        assertEq(house.cashOf(idOf(3)), short, "0.0015 rounded down");
        assertEq(house.cashOf(AccountLib.CLEARING), 1, "dust");
        accrue(0, ids);
        assertEq(house.cashOf(idOf(THIRD)), long - 1, "receives rounded down");
        assertEq(house.cashOf(idOf(3)), short - 1, "pays rounded up");
        assertEq(house.cashOf(AccountLib.CLEARING), 2, "more dust");
        assertSums("after dust");
    }

    /// @notice Touched at each index or at the last alone: the same but for less than a unit a touch, in the clearing
    /// account's favour.
    /// forge-config: default.fuzz.runs = 64
    function testFuzz_CM30_funding_LazyIsEagerUpToDust(int256[6] memory steps, uint256 size, bool long) public {
        trade(THIRD, LONG, long ? int256(bound(size, 1, 5e18)) : -int256(bound(size, 1, 5e18)), MARK);
        int256 before = house.cashOf(idOf(THIRD));
        int256 index = 0;
        uint256 state = vm.snapshotState();
        for (uint256 i; i < steps.length; ++i) {
            index += steps[i] % (MOST + 1);
            accrue(index, _one(THIRD));
        }
        int256 eager = house.cashOf(idOf(THIRD)) - before;
        vm.revertToState(state);

        index = 0;
        for (uint256 i; i < steps.length; ++i) {
            index += steps[i] % (MOST + 1);
            accrue(index, i + 1 == steps.length ? _one(THIRD) : new bytes32[](0));
        }
        int256 lazy = house.cashOf(idOf(THIRD)) - before;
        assertTrue(lazy >= eager && lazy - eager <= 6, "less than a unit a touch, against the account");
    }

    /// @notice Whoever is touched when: what the clearing account has and is owed is never less than nothing.
    /// forge-config: default.fuzz.runs = 64
    function testFuzz_CM30_funding_ClearingOwesNoMoreThanItIsOwed(
        int256[8] memory steps,
        uint256[8] memory sizes
    ) public {
        int256 index = 0;
        for (uint256 i; i < steps.length; ++i) {
            index += steps[i] % (MOST + 1);
            bytes32[] memory touched = i % 3 == 0 ? new bytes32[](0) : _one(uint256(sizes[i] >> 128) % 4);
            accrue(index, touched);
            MarkLeaf memory mark = markOf(ETH, MARK, index, 0);
            trade(i % 4, (i + 1 + sizes[i] % 3) % 4, int256(bound(sizes[i], 1, 1e18)), mark);
            _clearingIsCovered(index);
            assertSums("in the course of funding");
        }
        bytes32[] memory all = new bytes32[](4);
        for (uint256 i; i < 4; ++i) {
            all[i] = idOf(i);
        }
        accrue(index, all);
        int256 dust = house.cashOf(AccountLib.CLEARING);
        assertTrue(dust >= 0 && dust <= 100, "only dust is left when all are touched");
    }

    // --- the index -------------------------------------------------------------------------------------------------

    /// @notice Nobody has a position before the first index: it may be any, and nobody pays for the time before.
    function test_funding_TheFirstIndexMayBeAny() public {
        MarkLeaf memory mark = markOf(perpetual("BTC"), 60_000e18, 123_456e18, 0);
        markLeaves = [HashLib.leaf(mark)];
        pass(EPOCH_SECONDS);
        post();
        int256 before = house.cashOf(idOf(THIRD));
        vm.expectEmit(true, true, true, true, address(house));
        emit Events.FundingIndexSet(mark.asset, 123_456e18, uint64(block.timestamp));
        house.accrue(mark, markProof(mark), new bytes32[](0));
        vm.expectEmit(true, true, true, true, address(house));
        emit Events.FundingPaidSet(idOf(THIRD), mark.asset, 123_456e18);
        trade(THIRD, LONG, 1e18, mark);
        assertEq(house.cashOf(idOf(THIRD)), before - 60_000e18 - 12e18, "price and fee");
        assertEq(house.fundingPaidOf(idOf(THIRD), mark.asset), 123_456e18, "paid from here on");
    }

    function test_funding_RevertWhen_ItJumps() public {
        _jump(MOST + 1, 0, uint256(MOST));
        _jump(-MOST - 1, 0, uint256(MOST));
        accrue(MOST, _both());
        _jump(-1, MOST, uint256(MOST));
        accrue(0, _both());
        pass(8);
        _jump(5 * MOST + 1, 0, uint256(5 * MOST));
        accrue(5 * MOST, _both());
    }

    /// @notice The clamp is of the mark that the new index comes with.
    function test_funding_TheClampIsOfTheMark() public {
        MarkLeaf memory mark = markOf(ETH, MARK / 2, MOST / 2 + 1, 0);
        postMark(mark);
        bytes32[] memory proof = markProof(mark);
        expectError(
            abi.encodeWithSelector(Errors.FundingJump.selector, ETH, int256(0), MOST / 2 + 1, uint256(MOST) / 2)
        );
        house.accrue(mark, proof, new bytes32[](0));
    }

    /// @notice A batch of the grace that is older than the index: both sides still touch the stored one.
    function test_funding_AnOlderBatchChangesNothing() public {
        MarkLeaf memory older = markOf(ETH, MARK, 1e15, 0);
        postMark(older);
        IClearingHouse.Match memory m = matchOf(THIRD, LONG, 1e18, MARK, older);
        accrue(3e15, _one(SHORT));
        (, uint64 time) = house.fundingIndexOf(ETH);
        int256 long = house.cashOf(idOf(LONG));
        house.matchOrders(m);
        (int256 index, uint64 after_) = house.fundingIndexOf(ETH);
        assertEq(index, 3e15, "the newer index stays");
        assertEq(after_, time, "of its time");
        assertEq(house.fundingPaidOf(idOf(THIRD), ETH), 3e15, "the buyer touches it");
        assertEq(house.fundingPaidOf(idOf(LONG), ETH), 3e15, "and the seller");
        assertEq(house.cashOf(idOf(LONG)), long - 12e15 + 3000e18 - 0.6e18, "who pays for the time before");
    }

    function test_funding_TheSameBatchAgainChangesNothing() public {
        accrue(1e15, _both());
        MarkLeaf memory mark = markOf(ETH, MARK, 1e15, 0);
        bytes32[] memory proof = markProof(mark);
        vm.recordLogs();
        house.accrue(mark, proof, _both());
        assertEq(vm.getRecordedLogs().length, 0, "no event");
    }

    // --- who syncs and who touches ---------------------------------------------------------------------------------

    function test_funding_AMatchSyncsAndSettlesBothBefore() public {
        MarkLeaf memory mark = markOf(ETH, MARK, 2e15, 0);
        postMark(mark);
        int256 long = house.cashOf(idOf(LONG));
        trade(THIRD, LONG, 4e18, mark);
        (int256 index,) = house.fundingIndexOf(ETH);
        assertEq(index, 2e15, "index");
        assertEq(house.cashOf(idOf(LONG)), long - 8e15 + 12_000e18 - 2.4e18, "funding of what was held before");
        assertEq(house.fundingPaidOf(idOf(THIRD), ETH), 2e15, "a new position begins here");
        assertEq(house.cashOf(AccountLib.CLEARING), 8e15, "the short was not touched");
    }

    function test_funding_AMoveSyncsAndSettlesBefore() public {
        MarkLeaf memory mark = markOf(ETH, MARK, 2e15, 0);
        postMark(mark);
        bytes32 isolated = accountOf(ownerOf(LONG), 1);
        Move memory action = Move(idOf(LONG), isolated, ETH, 4e18);
        Permit memory permit = permitted(action.from, action.to, HashLib.hash(action));
        bytes memory signatures = signed(permit);
        bytes32[] memory proof = markProof(mark);
        int256 before = house.cashOf(idOf(LONG));
        vm.prank(ownerOf(LONG));
        house.move(action, mark, proof, permit, signatures);
        assertEq(house.cashOf(idOf(LONG)), before - 8e15 + 12_000e18, "funding up to now, and the mark");
        assertEq(house.fundingPaidOf(isolated, ETH), 2e15, "the other begins here");
        assertSums("after a move");
    }

    /// @notice A leg has no index: a takeover settles both up to the stored one.
    function test_funding_ATakeoverTouchesTheStoredIndex() public {
        accrue(2e15, new bytes32[](0));
        int256 before = house.cashOf(idOf(LONG));
        LiquidationLeaf memory leg = legOf(LONG, 4e18, 0);
        postLeg(leg);
        take(THIRD, leg, 4e18);
        assertEq(house.cashOf(idOf(LONG)), before - 8e15 + 12_000e18 - FLAT_FEE_INT, "funding, the mark, the flat fee");
        assertEq(house.fundingPaidOf(idOf(THIRD), ETH), 2e15, "the taker begins here");
    }

    function test_accrue_RevertWhen_NotAPerpetualOrTooOldOrUnproven() public {
        MarkLeaf memory mark = markOf(dated(2, "ETH", START + 1000, 0), MARK, 0, 0);
        postMark(mark);
        bytes32[] memory proof = markProof(mark);
        expectError(abi.encodeWithSelector(Errors.NotPerpetual.selector, mark.asset));
        house.accrue(mark, proof, new bytes32[](0));
        mark = markOf(ETH, MARK, 1, 0);
        expectError(abi.encodeWithSelector(Errors.InvalidProof.selector, HashLib.leaf(mark)));
        house.accrue(mark, proof, new bytes32[](0));
        postMark(mark);
        proof = markProof(mark);
        pass(MAX_AGE + 1);
        expectError(abi.encodeWithSelector(Errors.MarksTooOld.selector, MAX_AGE + 1, MAX_AGE));
        house.accrue(mark, proof, new bytes32[](0));
    }

    // --- helpers ---------------------------------------------------------------------------------------------------

    int256 private constant FLAT_FEE_INT = int256(FLAT_FEE);

    function _jump(int256 to, int256 from, uint256 most) private {
        MarkLeaf memory mark = markOf(ETH, MARK, to, 0);
        uint256 state = vm.snapshotState();
        postMark(mark);
        bytes32[] memory proof = markProof(mark);
        expectError(abi.encodeWithSelector(Errors.FundingJump.selector, ETH, from, to, most));
        house.accrue(mark, proof, new bytes32[](0));
        vm.revertToState(state);
    }

    /// @dev Cash of the clearing account and what positions owe it by now, times 1e18, is not negative.
    function _clearingIsCovered(int256 index) private view {
        int256 covered = house.cashOf(AccountLib.CLEARING) * 1e18;
        bytes32[] memory ids = everyone();
        for (uint256 i; i < ids.length; ++i) {
            covered += house.positionOf(ids[i], ETH) * (index - house.fundingPaidOf(ids[i], ETH));
        }
        assertTrue(covered >= 0, "CM-30: the clearing account is owed what it owes");
    }

    function _one(uint256 index) private view returns (bytes32[] memory ids) {
        ids = new bytes32[](1);
        ids[0] = idOf(index);
    }

    function _both() private view returns (bytes32[] memory) {
        return _pair(idOf(LONG), idOf(SHORT));
    }

    function _pair(bytes32 a, bytes32 b) private pure returns (bytes32[] memory ids) {
        ids = new bytes32[](2);
        (ids[0], ids[1]) = (a, b);
    }
}
