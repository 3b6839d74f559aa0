// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IClearingHouse} from "../../contracts/interfaces/IClearingHouse.sol";
import {AccountLib} from "../../contracts/libraries/AccountLib.sol";
import {Errors} from "../../contracts/libraries/Errors.sol";
import {Events} from "../../contracts/libraries/Events.sol";
import {HashLib} from "../../contracts/libraries/HashLib.sol";
import {LiquidationLeaf, MarkLeaf, Move, Permit} from "../../contracts/libraries/Types.sol";
import {SettlementFixture} from "./base/SettlementFixture.sol";
import {Trees} from "./base/Trees.sol";
import {vm} from "./base/Vm.sol";

/// @notice Futures and options: they trade until they expire, and then settle at one price, in any parts and order.
contract ClearingHouseExpiryTest is SettlementFixture {
    uint256 private constant LONG = 0;
    uint256 private constant SHORT = 1;
    uint256 private constant THIRD = 2;
    uint64 private constant EXPIRY = START + 1000;
    uint256 private constant PRICE = 3100.5e18;
    bytes32 private future;
    bytes32 private call_;
    bytes32 private put;

    function setUp() public override {
        super.setUp();
        future = dated(2, "ETH", EXPIRY, 0);
        call_ = dated(3, "ETH", EXPIRY, 3000e8);
        put = dated(4, "ETH", EXPIRY, 3000e8);
        instruments.push(future);
        instruments.push(call_);
        instruments.push(put);
        fund(LONG, 10_000);
        fund(SHORT, 10_000);
        fund(THIRD, 10_000);
        _trade(future, 2e18);
    }

    // --- trading until expiry --------------------------------------------------------------------------------------

    function test_CM31_matchOrders_FuturesAndOptionsTrade() public {
        _trade(call_, 1e18);
        _trade(put, -3e18);
        assertEq(house.positionOf(idOf(LONG), future), 2e18, "the future");
        assertEq(house.positionOf(idOf(LONG), call_), 1e18, "the call");
        assertEq(house.positionOf(idOf(SHORT), put), 3e18, "the put");
        assertEq(house.fundingPaidOf(idOf(LONG), future), 0, "no funding");
        (, uint64 time) = house.fundingIndexOf(future);
        assertEq(time, 0, "no index");
        assertSums("after trades of dated instruments");
    }

    /// @notice An option's mark may say a funding index: it has none.
    function test_matchOrders_ADatedMarksIndexIsNotRead() public {
        MarkLeaf memory mark = markOf(call_, 120e18, 55e18, 0);
        postMark(mark);
        trade(LONG, SHORT, 1e18, mark);
        (int256 index,) = house.fundingIndexOf(call_);
        assertEq(index, 0, "no index");
    }

    function test_matchOrders_RevertWhen_NotAWellFormedInstrument() public {
        bytes32[6] memory wrong = [
            dated(2, "ETH", EXPIRY, 1),
            dated(2, "ETH", 0, 0),
            dated(3, "ETH", EXPIRY, 0),
            dated(4, "ETH", 0, 3000e8),
            dated(5, "ETH", EXPIRY, 3000e8),
            bytes32(uint256(future) | 1)
        ];
        for (uint256 i; i < wrong.length; ++i) {
            MarkLeaf memory mark = markOf(wrong[i], MARK, 0, 0);
            postMark(mark);
            IClearingHouse.Match memory m = matchOf(LONG, SHORT, 1e18, MARK, mark);
            expectError(abi.encodeWithSelector(Errors.NotTradable.selector, wrong[i]));
            house.matchOrders(m);
        }
    }

    /// @notice In the last second before it expires it trades, in the second of its expiry no more: not by a match, not
    /// by a move, not by a takeover, and not against the fund.
    function test_RevertWhen_Expired() public {
        vm.warp(EXPIRY - 1 - EPOCH_SECONDS);
        MarkLeaf memory mark = markOf(future, MARK, 0, 0);
        LiquidationLeaf memory leg = legOf(LONG, 1e18, 0);
        leg.asset = future;
        legLeaves = [HashLib.leaf(leg)];
        postMark(mark);
        assertEq(block.timestamp, EXPIRY - 1, "a second before");
        trade(LONG, SHORT, 1e18, mark);
        IClearingHouse.Match memory m = matchOf(LONG, SHORT, 1e18, MARK, mark);
        Move memory action = Move(idOf(LONG), accountOf(ownerOf(LONG), 1), future, 1e18);
        Permit memory permit = permitted(action.from, action.to, HashLib.hash(action));
        bytes memory signatures = signed(permit);
        bytes32[] memory proof = markProof(mark);

        vm.warp(EXPIRY);
        bytes memory refusal = abi.encodeWithSelector(Errors.InstrumentExpired.selector, future, EXPIRY, EXPIRY);
        expectError(refusal);
        house.matchOrders(m);
        vm.prank(ownerOf(LONG));
        expectError(refusal);
        house.move(action, mark, proof, permit, signatures);
        take(THIRD, leg, 1e18, refusal);
        leg.counterparty = AccountLib.FUND;
        legLeaves = [HashLib.leaf(leg)];
        pass(EPOCH_SECONDS);
        post();
        deleverage(
            leg, 1e18, abi.encodeWithSelector(Errors.InstrumentExpired.selector, future, EXPIRY, EXPIRY + EPOCH_SECONDS)
        );
    }

    /// @notice A mark that says it settled is none to trade at, whatever the clock says.
    function test_RevertWhen_TheMarkIsASettlementPrice() public {
        MarkLeaf memory mark = markOf(future, MARK, 0, EXPIRY);
        postMark(mark);
        IClearingHouse.Match memory m = matchOf(LONG, SHORT, 1e18, MARK, mark);
        bytes memory refusal = abi.encodeWithSelector(Errors.InstrumentSettled.selector, future);
        expectError(refusal);
        house.matchOrders(m);
        Move memory action = Move(idOf(LONG), accountOf(ownerOf(LONG), 1), future, 1e18);
        Permit memory permit = permitted(action.from, action.to, HashLib.hash(action));
        bytes memory signatures = signed(permit);
        bytes32[] memory proof = markProof(mark);
        vm.prank(ownerOf(LONG));
        expectError(refusal);
        house.move(action, mark, proof, permit, signatures);
    }

    /// @notice A leg of an option, at the premium; a worthless long goes for nothing, a worthless short pays its taker.
    function test_CM42_liquidate_OptionsEvenIfWorthNothing() public {
        _trade(call_, 1e18);
        LiquidationLeaf memory leg = legOf(SHORT, -1e18, 25e18);
        (leg.asset, leg.markPrice) = (call_, 0);
        postLeg(leg);
        pass(RAMP_SECONDS);
        int256 taker = house.cashOf(idOf(THIRD));
        take(THIRD, leg, 1e18);
        assertEq(house.cashOf(idOf(THIRD)) - taker, 25e18 + 5e18 - 5e18, "concession, flat fee, less the fund's share");
        leg = legOf(LONG, 1e18, 25e18);
        (leg.asset, leg.markPrice) = (call_, 0);
        postLeg(leg);
        pass(RAMP_SECONDS);
        (int256 account, int256 kept) = (house.cashOf(idOf(LONG)), house.cashOf(AccountLib.FUND));
        take(THIRD, leg, 1e18);
        assertEq(account - house.cashOf(idOf(LONG)), 5e18, "nothing is worth less than nothing");
        assertEq(house.cashOf(AccountLib.FUND), kept, "and the fund has no share of it");
        assertSums("after takeovers of options");
    }

    // --- the price -------------------------------------------------------------------------------------------------

    function test_fixSettlement_OnceAndTells() public {
        _expire();
        MarkLeaf memory mark = markOf(future, PRICE, 0, EXPIRY);
        postMark(mark);
        (bool known, uint256 price) = house.settlementPriceOf(future);
        assertFalse(known, "not fixed yet");
        bytes32[] memory proof = markProof(mark);
        vm.expectEmit(true, true, true, true, address(house));
        emit Events.SettlementPriceSet(future, PRICE);
        house.fixSettlement(mark, proof);
        (known, price) = house.settlementPriceOf(future);
        assertTrue(known, "fixed");
        assertEq(price, PRICE, "price");
        vm.recordLogs();
        house.fixSettlement(mark, proof);
        assertEq(vm.getRecordedLogs().length, 0, "the same again does nothing");
    }

    /// @notice An option that expires worthless has a price too: nothing.
    function test_fixSettlement_ZeroIsAPrice() public {
        _expire();
        fixPrice(put, EXPIRY, 0);
        (bool known, uint256 price) = house.settlementPriceOf(put);
        assertTrue(known && price == 0, "fixed at nothing");
        MarkLeaf memory mark = markOf(put, 1, 0, EXPIRY);
        _fixRefused(mark, abi.encodeWithSelector(Errors.SettlementPriceConflict.selector, put, 0, 1));
    }

    /// @dev Sequence 21 of the protocol's attacks: settled with two batches at two prices, the owner long at one and
    /// short at the other. The first price stands, whatever is posted later.
    function test_sequence21_OnePriceForEver() public {
        _expire();
        fixPrice(future, EXPIRY, PRICE);
        MarkLeaf memory mark = markOf(future, PRICE + 1, 0, EXPIRY);
        _fixRefused(mark, abi.encodeWithSelector(Errors.SettlementPriceConflict.selector, future, PRICE, PRICE + 1));
        int256 before = house.cashOf(idOf(SHORT));
        _settle(future, LONG);
        expectError(abi.encodeWithSelector(Errors.SettlementPriceConflict.selector, future, PRICE, PRICE + 1));
        house.fixSettlement(mark, _proofOf(mark));
        _settle(future, SHORT);
        assertEq(before - house.cashOf(idOf(SHORT)), 2 * int256(PRICE), "the other side at the same price");
        assertSums("after both");
    }

    function test_fixSettlement_RevertWhen_NotItsSettlementMark() public {
        vm.warp(EXPIRY - 1 - EPOCH_SECONDS);
        _fixRefused(
            markOf(future, PRICE, 0, EXPIRY),
            abi.encodeWithSelector(Errors.NotExpired.selector, future, EXPIRY, EXPIRY - 1)
        );
        _expire();
        _fixRefused(
            markOf(future, PRICE, 0, 0), abi.encodeWithSelector(Errors.NotSettlementMark.selector, future, 0, EXPIRY)
        );
        _fixRefused(
            markOf(future, PRICE, 0, EXPIRY - 1),
            abi.encodeWithSelector(Errors.NotSettlementMark.selector, future, EXPIRY - 1, EXPIRY)
        );
        _fixRefused(markOf(ETH, PRICE, 0, 0), abi.encodeWithSelector(Errors.NotDated.selector, ETH));
        bytes32 malformed = bytes32(uint256(future) | 1);
        _fixRefused(markOf(malformed, PRICE, 0, EXPIRY), abi.encodeWithSelector(Errors.NotDated.selector, malformed));
        MarkLeaf memory unsigned = markOf(future, PRICE + 1, 0, EXPIRY);
        bytes32[] memory proof = _proofOf(markOf(malformed, PRICE, 0, EXPIRY));
        expectError(abi.encodeWithSelector(Errors.InvalidProof.selector, HashLib.leaf(unsigned)));
        house.fixSettlement(unsigned, proof);
    }

    /// @notice In the second of the expiry already, and from a batch of any age, also one superseded within the grace.
    function test_fixSettlement_AtExpiryAndFromAnOldBatch() public {
        vm.warp(EXPIRY - EPOCH_SECONDS);
        fixPrice(future, EXPIRY, PRICE);
        MarkLeaf memory mark = markOf(call_, 100e18, 0, EXPIRY);
        postMark(mark);
        bytes32[] memory proof = markProof(mark);
        pass(100_000);
        house.fixSettlement(mark, proof);
        mark = markOf(put, 0, 0, EXPIRY);
        postMark(mark);
        proof = markProof(mark);
        postMark(markOf(ETH, MARK, 0, 0));
        uint256 state = vm.snapshotState();
        pass(GRACE);
        house.fixSettlement(mark, proof);
        vm.revertToState(state);
        pass(GRACE + 1);
        expectError(abi.encodeWithSelector(Errors.InvalidProof.selector, HashLib.leaf(mark)));
        house.fixSettlement(mark, proof);
    }

    // --- settling --------------------------------------------------------------------------------------------------

    function test_CM30_CM31_settleExpired_PaysTheWholePositionAtThePrice() public {
        _expire();
        fixPrice(future, EXPIRY, PRICE);
        (int256 long, int256 short) = (house.cashOf(idOf(LONG)), house.cashOf(idOf(SHORT)));
        bytes32[] memory ids = new bytes32[](1);
        ids[0] = idOf(LONG);
        vm.expectEmit(true, true, true, true, address(house));
        emit Events.Settled(idOf(LONG), future, 2e18, PRICE);
        house.settleExpired(future, ids);
        assertEq(house.cashOf(idOf(LONG)) - long, 2 * int256(PRICE), "the long received");
        assertEq(house.positionOf(idOf(LONG), future), 0, "the long is flat");
        assertEq(house.positionOf(AccountLib.CLEARING, future), 2e18, "the clearing account has the position");
        assertEq(house.cashOf(AccountLib.CLEARING), -2 * int256(PRICE), "and paid for it");
        assertSums("with one side settled");
        ids[0] = idOf(SHORT);
        vm.expectEmit(true, true, true, true, address(house));
        emit Events.Settled(idOf(SHORT), future, -2e18, PRICE);
        house.settleExpired(future, ids);
        assertEq(short - house.cashOf(idOf(SHORT)), 2 * int256(PRICE), "the short paid");
        assertEq(house.positionOf(AccountLib.CLEARING, future), 0, "nothing is left");
        assertEq(house.cashOf(AccountLib.CLEARING), 0, "no cash either");
        assertSums("with both sides settled");
    }

    /// @notice A long receives rounded down, a short pays rounded up.
    function test_CM30_settleExpired_RoundsAgainstBoth() public {
        MarkLeaf memory mark = markOf(call_, 1e18, 0, 0);
        postMark(mark);
        trade(LONG, SHORT, 3, mark);
        _expire();
        fixPrice(call_, EXPIRY, 0.5e18);
        (int256 long, int256 short) = (house.cashOf(idOf(LONG)), house.cashOf(idOf(SHORT)));
        _settle(call_, SHORT);
        _settle(call_, LONG);
        assertEq(house.cashOf(idOf(LONG)) - long, 1, "1.5 rounded down");
        assertEq(short - house.cashOf(idOf(SHORT)), 2, "1.5 rounded up");
        assertEq(house.cashOf(AccountLib.CLEARING), 1, "dust");
        assertSums("after dust");
    }

    /// @notice Accounts without a position, named twice, or the clearing account itself, are passed over.
    function test_settleExpired_PassesOver() public {
        _expire();
        fixPrice(future, EXPIRY, PRICE);
        bytes32[] memory ids = new bytes32[](5);
        (ids[0], ids[1], ids[2]) = (idOf(THIRD), idOf(LONG), idOf(LONG));
        (ids[3], ids[4]) = (AccountLib.CLEARING, AccountLib.CLEARING);
        int256 before = house.cashOf(idOf(LONG));
        house.settleExpired(future, ids);
        assertEq(house.cashOf(idOf(LONG)) - before, 2 * int256(PRICE), "once");
        assertEq(house.positionOf(AccountLib.CLEARING, future), 2e18, "what it holds, it keeps");
        vm.recordLogs();
        house.settleExpired(future, ids);
        assertEq(vm.getRecordedLogs().length, 0, "nothing is left to do");
    }

    function test_settleExpired_RevertWhen_NoPriceIsFixed() public {
        _expire();
        fixPrice(call_, EXPIRY, PRICE);
        bytes32[] memory ids = new bytes32[](1);
        ids[0] = idOf(LONG);
        expectError(abi.encodeWithSelector(Errors.SettlementPriceUnknown.selector, future));
        house.settleExpired(future, ids);
    }

    /// @notice The fund's positions settle like anyone's.
    function test_settleExpired_OfTheFund() public {
        LiquidationLeaf memory leg = legOf(LONG, 2e18, 0);
        (leg.asset, leg.counterparty) = (future, AccountLib.FUND);
        postLeg(leg);
        deleverage(leg, 2e18, "");
        int256 before = house.cashOf(AccountLib.FUND);
        _expire();
        fixPrice(future, EXPIRY, PRICE);
        bytes32[] memory ids = new bytes32[](1);
        ids[0] = AccountLib.FUND;
        house.settleExpired(future, ids);
        assertEq(house.cashOf(AccountLib.FUND) - before, 2 * int256(PRICE), "received");
        assertSums("after the fund's");
    }

    /// @notice Whatever positions, whoever is settled first: sums hold after every call, and when all are settled the
    /// clearing account is left with dust.
    /// forge-config: default.fuzz.runs = 64
    function testFuzz_CM30_CM31_settleExpired_InAnyOrder(int256[4] memory sizes, uint256 price, uint256 seed) public {
        MarkLeaf memory mark = markOf(put, 100e18, 0, 0);
        postMark(mark);
        for (uint256 i; i < 4; ++i) {
            int256 size = sizes[i] % 5e18;
            if (size != 0) trade(i, (i + 1) % 4, size, mark);
        }
        price = bound(price, 0, 5000e18);
        _expire();
        fixPrice(put, EXPIRY, price);
        for (uint256 i; i < 4; ++i) {
            uint256 index = (i + seed % 4) % 4;
            _settle(put, index);
            assertEq(house.positionOf(idOf(index), put), 0, "flat");
            int256 owed =
                house.cashOf(AccountLib.CLEARING) * 1e18 + house.positionOf(AccountLib.CLEARING, put) * int256(price);
            assertTrue(owed >= 0, "CM-30: the clearing account is owed what it owes");
            assertSums("in the course of settling");
        }
        assertEq(house.positionOf(AccountLib.CLEARING, put), 0, "all settled");
        int256 dust = house.cashOf(AccountLib.CLEARING);
        assertTrue(dust >= 0 && dust <= 4, "dust");
    }

    // --- helpers ---------------------------------------------------------------------------------------------------

    function _trade(bytes32 asset, int256 size) private {
        MarkLeaf memory mark = markOf(asset, asset == future ? MARK : 100e18, 0, 0);
        postMark(mark);
        trade(LONG, SHORT, size, mark);
    }

    function _expire() private {
        vm.warp(EXPIRY);
        pass(1);
    }

    function _settle(bytes32 asset, uint256 index) private {
        bytes32[] memory ids = new bytes32[](1);
        ids[0] = idOf(index);
        house.settleExpired(asset, ids);
    }

    function _fixRefused(MarkLeaf memory mark, bytes memory refusal) private {
        postMark(mark);
        bytes32[] memory proof = _proofOf(mark);
        expectError(refusal);
        house.fixSettlement(mark, proof);
    }

    function _proofOf(MarkLeaf memory mark) private view returns (bytes32[] memory) {
        return Trees.proof(marksTree(), HashLib.leaf(mark));
    }
}
