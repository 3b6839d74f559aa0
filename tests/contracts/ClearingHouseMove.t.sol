// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {AccountLib} from "../../contracts/libraries/AccountLib.sol";
import {Errors} from "../../contracts/libraries/Errors.sol";
import {Events} from "../../contracts/libraries/Events.sol";
import {HashLib} from "../../contracts/libraries/HashLib.sol";
import {MarkLeaf, Move, Permit} from "../../contracts/libraries/Types.sol";
import {HouseFixture} from "./base/HouseFixture.sol";
import {Trees} from "./base/Trees.sol";
import {vm} from "./base/Vm.sol";

/// @notice Cash and positions between two accounts of one owner, keeping cash (CM-30) and sizes (CM-31).
contract ClearingHouseMoveTest is HouseFixture {
    uint256 private constant OWNER = 0;
    uint256 private constant OTHER = 1;

    bytes32 private cross;
    bytes32 private isolated;

    function setUp() public override {
        super.setUp();
        fund(OWNER, 10_000);
        fund(OTHER, 10_000);
        cross = idOf(OWNER);
        isolated = accountOf(ownerOf(OWNER), 1);
    }

    // --- what is booked --------------------------------------------------------------------------------------------

    function test_CM30_move_Cash() public {
        vm.expectEmit(true, true, true, true, address(house));
        emit Events.Moved(cross, isolated, 0, 2500e18, 0);
        _move(Move(cross, isolated, 0, 2500e18), "");
        assertEq(house.cashOf(cross), 7500e18, "from");
        assertEq(house.cashOf(isolated), 2500e18, "to");
        assertSums("after cash moved");
        _move(Move(isolated, cross, 0, 2500e18), "");
        assertEq(house.cashOf(cross), 10_000e18, "and back");
    }

    function test_CM30_CM31_move_APositionAtItsMark() public {
        trade(OWNER, OTHER, 2e18, 2990e18);
        int256 before = house.cashOf(cross);
        vm.expectEmit(true, true, true, true, address(house));
        emit Events.Moved(cross, isolated, ETH, 1.5e18, MARK);
        _move(Move(cross, isolated, ETH, 1.5e18), "");
        assertEq(house.positionOf(cross, ETH), 0.5e18, "what is left");
        assertEq(house.positionOf(isolated, ETH), 1.5e18, "what arrived");
        assertEq(house.cashOf(cross) - before, 4500e18, "paid at the mark, not at the price of the trade");
        assertEq(house.cashOf(isolated), -4500e18, "by the other account");
        assertSums("after a position moved");
        // Negative: the other way round, which is a short to the account named second.
        _move(Move(cross, isolated, ETH, -2e18), "");
        assertEq(house.positionOf(isolated, ETH), -0.5e18, "sold");
        assertEq(house.positionOf(cross, ETH), 2.5e18, "bought");
        assertSums("after a short moved");
    }

    /// @notice Whatever is moved, value is conserved at the mark, and rounding is the fund's.
    function testFuzz_CM30_CM31_move_Conserves(uint256[3] calldata amounts, uint256 price) public {
        price = bound(price, 1, 1e24);
        markLeaves = [HashLib.leaf(markOf("ETH", price)), HashLib.leaf(markOf("BTC", 60_000e18))];
        pass(EPOCH_SECONDS);
        post();
        for (uint256 i; i < amounts.length; ++i) {
            int256 amount = int256(bound(amounts[i], 0, 2e24)) - 1e24;
            if (amount != 0) _move(Move(cross, isolated, ETH, amount), markOf("ETH", price), "");
        }
        int256 kept = house.cashOf(AccountLib.FUND);
        assertTrue(kept >= 0 && kept <= 3, "rounding");
        assertEq(house.cashOf(cross) + house.cashOf(isolated) + kept, 10_000e18, "cash");
        assertEq(house.positionOf(cross, ETH) + house.positionOf(isolated, ETH), 0, "sizes");
    }

    // --- what is refused -------------------------------------------------------------------------------------------

    function test_move_RevertWhen_NotBothAreTheSendersOwn() public {
        bytes32 others = idOf(OTHER);
        address sender = ownerOf(OWNER);
        _move(Move(others, cross, 0, 1e18), abi.encodeWithSelector(Errors.NotOwner.selector, sender, others));
        _move(Move(cross, others, 0, 1e18), abi.encodeWithSelector(Errors.NotOwner.selector, sender, others));
    }

    function test_move_RevertWhen_ThereIsNothingToMove() public {
        _move(Move(cross, cross, 0, 1e18), abi.encodeWithSelector(Errors.SameAccount.selector, cross));
        _move(Move(cross, isolated, 0, 0), abi.encodeWithSelector(Errors.ZeroAmount.selector));
        _move(Move(cross, isolated, 0, -1e18), abi.encodeWithSelector(Errors.NegativeAmount.selector, int256(-1e18)));
    }

    function test_move_RevertWhen_NotAPerpetual() public {
        bytes32 token = bytes32(uint256(uint160(address(weth))));
        _move(Move(cross, isolated, token, 1e18), abi.encodeWithSelector(Errors.NotTradable.selector, token));
    }

    function test_move_RevertWhen_TheMarkIsNotTheBatchs() public {
        MarkLeaf memory other = markOf("BTC", 60_000e18);
        bytes memory refusal = abi.encodeWithSelector(Errors.MarkAssetMismatch.selector, ETH, other.asset);
        _move(Move(cross, isolated, ETH, 1e18), other, refusal);

        MarkLeaf memory cheaper = markOf("ETH", MARK - 1);
        Move memory action = Move(cross, isolated, ETH, 1e18);
        Permit memory permit = permitted(cross, isolated, HashLib.hash(action));
        bytes memory signatures = signed(permit);
        bytes32[] memory proof = Trees.proof(marksTree(), HashLib.leaf(markOf("ETH", MARK)));
        bytes32 leaf = HashLib.leaf(cheaper);
        vm.prank(ownerOf(OWNER));
        expectError(abi.encodeWithSelector(Errors.InvalidProof.selector, leaf));
        house.move(action, cheaper, proof, permit, signatures);
    }

    function test_move_RevertWhen_TheMarkIsTooOld() public {
        pass(MAX_AGE + 1);
        bytes memory refusal = abi.encodeWithSelector(Errors.MarksTooOld.selector, MAX_AGE + 1, MAX_AGE);
        _move(Move(cross, isolated, ETH, 1e18), refusal);
        _move(Move(cross, isolated, 0, 1e18), "");
    }

    function test_move_RevertWhen_Altered() public {
        Move memory action = Move(cross, isolated, 0, 1000e18);
        Permit memory permit = permitted(cross, isolated, HashLib.hash(action));
        bytes memory signatures = signed(permit);
        action.amount = 1001e18;
        bytes32 altered = HashLib.hash(action);
        MarkLeaf memory none;
        vm.prank(ownerOf(OWNER));
        expectError(abi.encodeWithSelector(Errors.ActionMismatch.selector, altered, permit.actionHash));
        house.move(action, none, new bytes32[](0), permit, signatures);
    }

    function test_move_RevertWhen_Replayed() public {
        Move memory action = Move(cross, isolated, 0, 1000e18);
        Permit memory permit = permitted(cross, isolated, HashLib.hash(action));
        bytes memory signatures = signed(permit);
        MarkLeaf memory none;
        vm.startPrank(ownerOf(OWNER));
        house.move(action, none, new bytes32[](0), permit, signatures);
        expectError(abi.encodeWithSelector(Errors.NonceAlreadyUsed.selector, cross, permit.nonce));
        house.move(action, none, new bytes32[](0), permit, signatures);
        vm.stopPrank();
    }

    /// @notice A permit for the other direction, or that names one account only, is none for this.
    function test_move_RevertWhen_ThePermitNamesOtherAccounts() public {
        Move memory action = Move(cross, isolated, 0, 1000e18);
        Permit memory permit = permitted(cross, 0, HashLib.hash(action));
        bytes memory signatures = signed(permit);
        MarkLeaf memory none;
        vm.prank(ownerOf(OWNER));
        expectError(abi.encodeWithSelector(Errors.PermitAccountMismatch.selector, cross, bytes32(0)));
        house.move(action, none, new bytes32[](0), permit, signatures);
    }

    // --- helpers ---------------------------------------------------------------------------------------------------

    function _move(Move memory action, bytes memory refusal) private {
        _move(action, markOf("ETH", MARK), refusal);
    }

    function _move(Move memory action, MarkLeaf memory mark, bytes memory refusal) private {
        Permit memory permit = permitted(action.from, action.to, HashLib.hash(action));
        bytes memory signatures = signed(permit);
        bytes32[] memory proof = Trees.proof(marksTree(), HashLib.leaf(mark));
        vm.prank(ownerOf(OWNER));
        if (refusal.length != 0) expectError(refusal);
        house.move(action, mark, proof, permit, signatures);
    }
}
