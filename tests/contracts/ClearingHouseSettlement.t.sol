// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ClearingHouse} from "../../contracts/ClearingHouse.sol";
import {CollateralVault} from "../../contracts/CollateralVault.sol";
import {MarginReservations} from "../../contracts/MarginReservations.sol";
import {MarginVerifier} from "../../contracts/MarginVerifier.sol";
import {AccountLib} from "../../contracts/libraries/AccountLib.sol";
import {Errors} from "../../contracts/libraries/Errors.sol";
import {Events} from "../../contracts/libraries/Events.sol";
import {HashLib} from "../../contracts/libraries/HashLib.sol";
import {SettlementLeaf} from "../../contracts/libraries/Types.sol";
import {LocalBridge} from "./base/LocalBridge.sol";
import {SettlementFixture} from "./base/SettlementFixture.sol";
import {Trees} from "./base/Trees.sol";
import {vm} from "./base/Vm.sol";

/// @notice Entries of settlement cycles: each applied once, in any order, at any age (CM-50), and the books stay exact
/// on each chain and over all of them (CM-30).
contract ClearingHouseSettlementTest is SettlementFixture {
    uint256 private constant ALICE = 0;
    uint256 private constant BOB = 1;

    /// @dev One chain's contracts.
    struct Site {
        MarginVerifier verifier;
        ClearingHouse house;
        CollateralVault vault;
        MarginReservations reservations;
        LocalBridge bridge;
    }

    function setUp() public override {
        super.setUp();
        fund(ALICE, 1000);
        fund(BOB, 1000);
    }

    // --- accounts --------------------------------------------------------------------------------------------------

    function test_CM30_CM50_applySettlement_AnAccountsDelta() public {
        SettlementLeaf memory entry = entryOf(7, idOf(ALICE), -250e18);
        postEntry(entry);
        bytes32[] memory proof = Trees.proof(settlementsTree(), HashLib.leaf(entry));
        vm.expectEmit(true, true, true, true, address(house));
        emit Events.SettlementApplied(7, idOf(ALICE), -250e18);
        vm.expectEmit(true, true, true, true, address(house));
        emit Events.ClaimsSet(-250e18);
        applyEntry(entry, proof, "");
        assertEq(house.cashOf(idOf(ALICE)), 750e18, "cash");
        assertEq(house.totalCash(), 1750e18, "total cash");
        assertEq(house.claims(), -250e18, "owed to other chains");
        assertEq(vault.settlementHeld(), 2000e6, "no token moved");
        assertTrue(house.isApplied(7, idOf(ALICE)), "applied");
        assertFalse(house.isApplied(7, idOf(BOB)), "another account's");
        assertFalse(house.isApplied(6, idOf(ALICE)), "another cycle's");
        assertFalse(house.isApplied(7 + 256, idOf(ALICE)), "a cycle of the next word");
        assertSums("after a debit");
        settle(7, idOf(BOB), 250e18);
        assertEq(house.claims(), 0, "offset");
        assertSums("after the credit");
    }

    function test_CM50_applySettlement_RevertWhen_AppliedAlready() public {
        settle(300, idOf(ALICE), 1);
        SettlementLeaf memory entry = entryOf(300, idOf(ALICE), 1);
        applyEntry(entry, abi.encodeWithSelector(Errors.SettlementAlreadyApplied.selector, 300, idOf(ALICE)));
        entry.cashDelta = 2;
        postEntry(entry);
        applyEntry(entry, abi.encodeWithSelector(Errors.SettlementAlreadyApplied.selector, 300, idOf(ALICE)));
        settle(301, idOf(ALICE), 1);
        settle(44, idOf(ALICE), 1);
        assertEq(house.cashOf(idOf(ALICE)), 1000e18 + 3, "three cycles, each once");
    }

    /// @notice Twice in one call is twice.
    function test_CM50_applySettlement_RevertWhen_TwiceInOneCall() public {
        SettlementLeaf[] memory entries = new SettlementLeaf[](2);
        entries[0] = entryOf(1, idOf(ALICE), 5e18);
        entries[1] = entries[0];
        postEntry(entries[0]);
        bytes32[][] memory proofs = new bytes32[][](2);
        proofs[0] = Trees.proof(settlementsTree(), HashLib.leaf(entries[0]));
        proofs[1] = proofs[0];
        expectError(abi.encodeWithSelector(Errors.SettlementAlreadyApplied.selector, 1, idOf(ALICE)));
        house.applySettlement(entries, proofs);
        expectError(abi.encodeWithSelector(Errors.LengthMismatch.selector, 2, 1));
        house.applySettlement(entries, new bytes32[][](1));
    }

    /// @notice Whatever the order and the parts, the end is the same, and the books are exact after every one.
    /// forge-config: default.fuzz.runs = 64
    function testFuzz_CM30_CM50_applySettlement_InAnyOrder(int256[5] memory deltas, uint256 seed) public {
        SettlementLeaf[] memory entries = new SettlementLeaf[](5);
        bytes32[5] memory ids = [idOf(0), idOf(1), accountOf(ownerOf(2), 1), AccountLib.FUND, AccountLib.FEES];
        int256 sum;
        for (uint256 i; i < 5; ++i) {
            entries[i] = entryOf(uint64(seed >> 64), ids[i], deltas[i] % 1e24);
            sum += entries[i].cashDelta;
        }
        postEntries(entries);
        int256[5] memory before;
        for (uint256 i; i < 5; ++i) {
            before[i] = house.cashOf(ids[i]);
        }
        for (uint256 i; i < 5; ++i) {
            applyEntry(entries[(seed % 5 + i * (1 + seed % 4)) % 5], "");
            assertSums("in the course of a cycle");
        }
        for (uint256 i; i < 5; ++i) {
            assertEq(house.cashOf(ids[i]) - before[i], entries[i].cashDelta, "each its own");
        }
        assertEq(house.claims(), sum, "claims are the sum of the deltas");
    }

    /// @notice Only owners' accounts and the reserved ones have cash that a cycle may change; an integrator's claims are
    /// of this chain.
    function test_applySettlement_RevertWhen_NobodysOrAnIntegratorsAccount() public {
        bytes32[3] memory nobodys =
            [bytes32(uint256(4)), bytes32(uint256(1) << 64), bytes32((uint256(3) << 64) | CHAIN_B)];
        for (uint256 i; i < nobodys.length; ++i) {
            SettlementLeaf memory entry = entryOf(1, nobodys[i], -1e12);
            postEntry(entry);
            applyEntry(entry, abi.encodeWithSelector(Errors.NoOwner.selector, nobodys[i]));
        }
        SettlementLeaf memory claims = entryOf(1, AccountLib.claims(address(this)), 1e18);
        postEntry(claims);
        applyEntry(claims, abi.encodeWithSelector(Errors.ClaimsAccount.selector, claims.accountId));
    }

    // --- proofs ----------------------------------------------------------------------------------------------------

    function test_CM05_applySettlement_RevertWhen_ForAnotherChainOrUnsigned() public {
        SettlementLeaf memory entry = entryOf(1, idOf(ALICE), 5e18);
        entry.chainId = CHAIN_B;
        postEntry(entry);
        applyEntry(entry, abi.encodeWithSelector(Errors.WrongChain.selector, CHAIN_B, CHAIN_A));
        bytes32[] memory proof = Trees.proof(settlementsTree(), HashLib.leaf(entry));
        entry.chainId = CHAIN_A;
        applyEntry(entry, proof, abi.encodeWithSelector(Errors.InvalidProof.selector, HashLib.leaf(entry)));
        applyEntry(entry, new bytes32[](0), abi.encodeWithSelector(Errors.EmptyProof.selector));
        SettlementLeaf memory zero;
        applyEntry(zero, abi.encodeWithSelector(Errors.ZeroLeaf.selector));
    }

    /// @notice Of any age, from the current batch, and from one superseded within the grace.
    function test_CM50_applySettlement_NeverExpires() public {
        SettlementLeaf memory entry = entryOf(1, idOf(ALICE), 5e18);
        postEntry(entry);
        bytes32[] memory proof = Trees.proof(settlementsTree(), HashLib.leaf(entry));
        uint256 state = vm.snapshotState();
        pass(1_000_000);
        applyEntry(entry, proof, "");
        vm.revertToState(state);

        postEntry(entryOf(1, idOf(BOB), 5e18));
        state = vm.snapshotState();
        pass(GRACE);
        applyEntry(entry, proof, "");
        vm.revertToState(state);
        pass(GRACE + 1);
        applyEntry(entry, proof, abi.encodeWithSelector(Errors.InvalidProof.selector, HashLib.leaf(entry)));
    }

    /// @notice CM-07: nor is what is pending broken by two or five postings, though none of them lists it.
    function test_CM07_CM50_applySettlement_AfterTwoAndFivePostings() public {
        SettlementLeaf memory entry = entryOf(1, idOf(ALICE), 5e18);
        postEntry(entry);
        bytes32[] memory proof = Trees.proof(settlementsTree(), HashLib.leaf(entry));
        for (uint64 postings = 1; postings <= 5; ++postings) {
            postEntry(entryOf(1 + postings, idOf(BOB), 5e18));
            if (postings != 2 && postings != 5) continue;
            uint256 state = vm.snapshotState();
            applyEntry(entry, proof, "");
            vm.revertToState(state);
        }
        pass(GRACE + 1);
        applyEntry(entry, proof, abi.encodeWithSelector(Errors.InvalidProof.selector, HashLib.leaf(entry)));
    }

    // --- shipments -------------------------------------------------------------------------------------------------

    /// @notice Tokens held become a claim on the chain they go to; nobody's cash changes.
    function test_CM30_CM50_applySettlement_AShipment() public {
        settle(1, idOf(ALICE), -400e18);
        SettlementLeaf memory entry = entryOf(1, shipmentTo(CHAIN_B), -400e18);
        postEntry(entry);
        vm.expectEmit(true, true, true, true, address(vault));
        emit Events.Shipped(CHAIN_B, 400e6);
        applyEntry(entry, "");
        assertEq(bridge.sentTo(CHAIN_B), 400e6, "sent");
        assertEq(vault.settlementHeld(), 1600e6, "held");
        assertEq(usdc.balanceOf(address(vault)), 1600e6, "tokens");
        assertEq(house.claims(), 0, "nothing is owed any more");
        assertEq(house.totalCash(), 1600e18, "no cash changed");
        assertEq(usdc.allowance(address(vault), address(bridge)), 0, "no allowance is left");
        assertTrue(house.isApplied(1, entry.accountId), "applied");
        applyEntry(entry, abi.encodeWithSelector(Errors.SettlementAlreadyApplied.selector, 1, entry.accountId));
        assertSums("after a shipment");
    }

    /// @notice A shipment waits until its tokens are here: debits and deposits bring them, the same entry then goes.
    function test_CM50_applySettlement_AShipmentWaitsForTokens() public {
        withdraw(ALICE, address(usdc), 1500e6);
        SettlementLeaf[] memory entries = new SettlementLeaf[](2);
        entries[0] = entryOf(1, shipmentTo(CHAIN_C), -500e18 - 1e12);
        entries[1] = entryOf(1, idOf(BOB), -1000e18);
        postEntries(entries);
        bytes memory refusal = abi.encodeWithSelector(Errors.InsufficientHeld.selector, 500e6, 500e6 + 1);
        applyEntry(entries[0], refusal);
        assertFalse(house.isApplied(1, entries[0].accountId), "not applied");
        applyEntry(entries[1], "");
        applyEntry(entries[0], refusal);
        deposit(BOB, usdc, 1);
        applyEntry(entries[0], "");
        assertEq(vault.settlementHeld(), 0, "all of it");
        assertSums("after a shipment that waited");
    }

    function test_applySettlement_RevertWhen_TheShipmentMakesNoSense() public {
        int256[3] memory deltas = [int256(400e18), 0, -400e18 - 1];
        for (uint256 i; i < deltas.length; ++i) {
            SettlementLeaf memory entry = entryOf(1, shipmentTo(CHAIN_B), deltas[i]);
            postEntry(entry);
            applyEntry(entry, abi.encodeWithSelector(Errors.BadShipment.selector, deltas[i]));
        }
        SettlementLeaf memory here = entryOf(1, shipmentTo(CHAIN_A), -400e18);
        postEntry(here);
        applyEntry(here, abi.encodeWithSelector(Errors.BadShipment.selector, int256(-400e18)));
        assertEq(house.claims(), 0, "nothing changed");
    }

    function test_applySettlement_RevertWhen_ThereIsNoBridge() public {
        bridge = LocalBridge(address(0));
        redeploy();
        fund(ALICE, 1000);
        SettlementLeaf memory entry = entryOf(1, shipmentTo(CHAIN_B), -400e18);
        postEntry(entry);
        applyEntry(entry, abi.encodeWithSelector(Errors.NoBridge.selector));
    }

    // --- over two chains -------------------------------------------------------------------------------------------

    /// @notice A whole cycle: at every step, in whatever order both chains apply it, each chain's books are exact and
    /// claims plus what is signed and not applied are the tokens in flight.
    /// forge-config: default.fuzz.runs = 64
    function testFuzz_CM30_CM50_ACycleOverTwoChains(uint256 seed, uint256 moved, uint256 fee) public {
        Site memory a = _here();
        redeploy();
        fund(ALICE, 1000);
        fund(BOB, 1000);
        Site memory b = _here();
        moved = bound(moved, 1, 1000e6);
        fee = bound(fee, 0, moved);
        int256 delta = int256(moved * 1e12);
        // Alice's cash goes to the second chain, part of Bob's comes back: one transfer of the difference.
        int256 back = delta / 3 / 1e12 * 1e12;
        SettlementLeaf[] memory entries = new SettlementLeaf[](5);
        entries[0] = SettlementLeaf(1, idOf(ALICE), CHAIN_A, -delta);
        entries[1] = SettlementLeaf(1, idOf(BOB), CHAIN_A, back);
        entries[2] = SettlementLeaf(1, shipmentTo(CHAIN_B), CHAIN_A, back - delta);
        entries[3] = SettlementLeaf(1, idOf(ALICE), CHAIN_B, delta);
        entries[4] = SettlementLeaf(1, idOf(BOB), CHAIN_B, -back);
        _on(a, CHAIN_A);
        postEntries(entries);
        _on(b, CHAIN_B);
        post();

        int256 unapplied;
        uint256 inFlight;
        for (uint256 i; i < 6; ++i) {
            uint256 next = (seed % 5 + i * (1 + seed % 4)) % 5;
            if (i == 5) next = 5;
            _on(next < 3 ? a : b, next < 3 ? CHAIN_A : CHAIN_B);
            if (next < 5) {
                applyEntry(entries[next], "");
                if (next != 2) unapplied -= entries[next].cashDelta;
                else inFlight = uint256(delta - back) / 1e12;
            } else {
                uint256 kept = fee < inFlight ? fee : inFlight;
                bridge.arrive(vault, inFlight, inFlight - kept);
                assertEq(house.cashOf(AccountLib.FUND), -int256(kept * 1e12), "the fund pays the bridge");
                inFlight = 0;
            }
            assertSums("in the course of a cycle");
            assertEq(
                a.house.claims() + b.house.claims() + unapplied,
                int256(inFlight * 1e12),
                "CM-30: claims and unapplied deltas are in flight"
            );
        }
        assertEq(a.house.claims(), 0, "the first chain is even");
        assertEq(b.house.claims(), 0, "and the second");
        assertEq(a.house.cashOf(idOf(ALICE)) + b.house.cashOf(idOf(ALICE)), 2000e18, "Alice has what she had");
    }

    /// @dev Sequence 12 of the protocol's attacks: a settlement counted leg by leg, the credit first. Here the credit is
    /// applied and withdrawn before the debit: the debit needs no tokens, applies all the same, and both chains together
    /// have what they had less what was paid out.
    function test_sequence12_TheCreditFirst() public {
        Site memory a = _here();
        redeploy();
        fund(BOB, 1000);
        Site memory b = _here();
        SettlementLeaf[] memory entries = new SettlementLeaf[](2);
        entries[0] = SettlementLeaf(1, idOf(ALICE), CHAIN_A, -600e18);
        entries[1] = SettlementLeaf(1, idOf(ALICE), CHAIN_B, 600e18);
        _on(b, CHAIN_B);
        postEntries(entries);
        applyEntry(entries[1], "");
        withdraw(ALICE, address(usdc), 600e6);
        assertSums("with the credit spent");
        _on(a, CHAIN_A);
        post();
        withdraw(ALICE, address(usdc), 1000e6);
        withdraw(BOB, address(usdc), 1000e6);
        applyEntry(entries[0], "");
        assertEq(house.cashOf(idOf(ALICE)), -600e18, "what was spent twice is owed");
        assertEq(a.house.cashOf(idOf(ALICE)) + b.house.cashOf(idOf(ALICE)), 1000e18 - 1600e18, "nothing was made");
        assertSums("with the debit applied");
    }

    /// @dev Sequence 15 of the protocol's attacks: the batch with the settlement was never posted on one chain, and its
    /// debit could not be proven any more. An entry stays in every later batch, and any of them will do.
    function test_sequence15_ABatchWasSkipped() public {
        SettlementLeaf memory entry = entryOf(1, idOf(ALICE), -600e18);
        settlementLeaves = [HashLib.leaf(entry)];
        pass(EPOCH_SECONDS);
        settlementLeaves = [HashLib.leaf(entryOf(2, idOf(BOB), 5e18)), HashLib.leaf(entry)];
        pass(EPOCH_SECONDS);
        post();
        applyEntry(entry, "");
        assertEq(house.cashOf(idOf(ALICE)), 400e18, "debited");
    }

    // --- helpers ---------------------------------------------------------------------------------------------------

    function _here() private view returns (Site memory) {
        return Site(verifier, house, vault, reservations, bridge);
    }

    function _on(Site memory site, uint64 chainId) private {
        (verifier, house, vault) = (site.verifier, site.house, site.vault);
        (reservations, bridge) = (site.reservations, site.bridge);
        onChain(chainId);
    }
}
