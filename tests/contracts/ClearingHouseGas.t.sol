// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IClearingHouse} from "../../contracts/interfaces/IClearingHouse.sol";
import {AccountLib} from "../../contracts/libraries/AccountLib.sol";
import {HashLib} from "../../contracts/libraries/HashLib.sol";
import {LiquidationLeaf, MarkLeaf, Permit, SettlementLeaf, Withdraw} from "../../contracts/libraries/Types.sol";
import {SettlementFixture} from "./base/SettlementFixture.sol";
import {Trees} from "./base/Trees.sol";
import {vm} from "./base/Vm.sol";

/// @notice What trading, closing and settling cost, on cold storage and without the transaction's own 21,000 and
/// calldata: limits that a change must not cross unseen.
contract ClearingHouseGasTest is SettlementFixture {
    event Measured(string call, uint256 gas, int256 refund);

    uint64 private constant EXPIRY = START + 1000;

    function setUp() public override {
        super.setUp();
        for (uint256 i; i < 4; ++i) {
            fund(i, 10_000);
        }
        trade(0, 1, 4e18, MARK);
        trade(2, 3, 1e18, MARK);
    }

    /// @notice Between accounts that have a position, by orders never filled before.
    function test_gas_matchOrders() public {
        IClearingHouse.Match memory m = matchOf(0, 1, 1e18, MARK);
        _cool();
        house.matchOrders(m);
        _measured("matchOrders", 180_000);
        MarkLeaf memory mark = markOf(ETH, MARK, 1e15, 0);
        postMark(mark);
        m = matchOf(0, 1, 1e18, MARK, mark);
        _cool();
        house.matchOrders(m);
        _measured("matchOrders, with a new funding index", 260_000);
    }

    function test_gas_accrue() public {
        MarkLeaf memory mark = markOf(ETH, MARK, 1e15, 0);
        postMark(mark);
        bytes32[] memory proof = markProof(mark);
        bytes32[] memory ids = new bytes32[](4);
        for (uint256 i; i < 4; ++i) {
            ids[i] = idOf(i);
        }
        _cool();
        house.accrue(mark, proof, ids);
        _measured("accrue, four accounts", 215_000);
    }

    function test_gas_liquidate() public {
        LiquidationLeaf memory leg = legOf(0, 2e18, 60e18);
        postLeg(leg);
        pass(RAMP_SECONDS);
        Permit memory permit = takeover(2, leg, 1e18);
        (bytes memory signatures, bytes32[] memory proof) = (signed(permit), legProof(leg));
        _cool();
        vm.prank(ownerOf(2));
        house.liquidate(leg, proof, idOf(2), 1e18, permit, signatures);
        _measured("liquidate", 160_000);
        leg.counterparty = idOf(1);
        postLeg(leg);
        proof = legProof(leg);
        _cool();
        house.deleverage(leg, proof, 1e18);
        _measured("deleverage", 72_000);
    }

    function test_gas_settle() public {
        MarkLeaf memory mark = markOf(dated(2, "ETH", EXPIRY, 0), MARK, 0, 0);
        postMark(mark);
        trade(0, 1, 1e18, mark);
        trade(2, 3, 1e18, mark);
        vm.warp(EXPIRY);
        fixPrice(mark.asset, EXPIRY, MARK);
        bytes32[] memory ids = new bytes32[](4);
        for (uint256 i; i < 4; ++i) {
            ids[i] = idOf(i);
        }
        _cool();
        house.settleExpired(mark.asset, ids);
        _measured("settleExpired, four accounts", 205_000);
        SettlementLeaf memory entry = entryOf(1, idOf(0), -100e18);
        postEntry(entry);
        (SettlementLeaf[] memory entries, bytes32[][] memory proofs) = (new SettlementLeaf[](1), new bytes32[][](1));
        (entries[0], proofs[0]) = (entry, Trees.proof(settlementsTree(), HashLib.leaf(entry)));
        _cool();
        house.applySettlement(entries, proofs);
        _measured("applySettlement, one account", 85_000);
    }

    function test_gas_withdraw() public {
        Withdraw memory action = Withdraw(idOf(0), address(usdc), 1e6, ownerOf(0));
        Permit memory permit = permitted(idOf(0), 0, HashLib.hash(action));
        bytes memory signatures = signed(permit);
        _cool();
        vm.prank(ownerOf(0));
        vault.withdraw(action, permit, signatures);
        _measured("withdraw", 103_000);
    }

    function test_gas_claim() public {
        reserve(1, address(0x1E4D), 100e18, 60e18);
        _cool();
        claim(1, address(0x1E4D), 60e18);
        _measured("claim, paid at once", 220_000);
        assertEq(house.cashOf(AccountLib.claims(address(0x1E4D))), 0, "paid");
    }

    function _cool() private {
        vm.cool(address(verifier));
        vm.cool(address(house));
        vm.cool(address(vault));
        vm.cool(address(reservations));
        vm.cool(address(usdc));
    }

    function _measured(string memory call, uint256 limit) private {
        uint256 used = vm.lastCallGas().gasTotalUsed;
        emit Measured(call, used, vm.lastCallGas().gasRefunded);
        assertAtMost(used, limit, call);
    }
}
