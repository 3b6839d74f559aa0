// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {HashLib} from "../../../contracts/libraries/HashLib.sol";
import {MarkLeaf, Permit, Reserve, SettlementLeaf} from "../../../contracts/libraries/Types.sol";
import {HouseFixture} from "./HouseFixture.sol";
import {Trees} from "./Trees.sol";
import {vm} from "./Vm.sol";

/// @title SettlementFixture
/// @notice Entries of settlement cycles, expiries and claims, over a fixture with every contract of one chain.
abstract contract SettlementFixture is HouseFixture {
    // --- entries of cycles -----------------------------------------------------------------------------------------

    /// @return An entry of a cycle for this chain.
    function entryOf(uint64 cycle, bytes32 accountId, int256 cashDelta) internal view returns (SettlementLeaf memory) {
        return SettlementLeaf(cycle, accountId, uint64(block.chainid), cashDelta);
    }

    /// @return The id of a shipment's entry.
    function shipmentTo(uint64 chainId) internal pure returns (bytes32) {
        return bytes32((uint256(1) << 64) | chainId);
    }

    /// @dev Lists entries in a new batch of now.
    function postEntries(SettlementLeaf[] memory entries) internal {
        delete settlementLeaves;
        for (uint256 i; i < entries.length; ++i) {
            settlementLeaves.push(HashLib.leaf(entries[i]));
        }
        pass(EPOCH_SECONDS);
        post();
    }

    function postEntry(SettlementLeaf memory entry) internal {
        SettlementLeaf[] memory entries = new SettlementLeaf[](1);
        entries[0] = entry;
        postEntries(entries);
    }

    /// @dev Applies one posted entry; must fail with `refusal` where one is given.
    function applyEntry(SettlementLeaf memory entry, bytes memory refusal) internal {
        applyEntry(entry, Trees.proof(settlementsTree(), HashLib.leaf(entry)), refusal);
    }

    function applyEntry(SettlementLeaf memory entry, bytes32[] memory proof, bytes memory refusal) internal {
        SettlementLeaf[] memory entries = new SettlementLeaf[](1);
        bytes32[][] memory proofs = new bytes32[][](1);
        (entries[0], proofs[0]) = (entry, proof);
        if (refusal.length != 0) expectError(refusal);
        house.applySettlement(entries, proofs);
    }

    /// @dev Signs, posts and applies one entry.
    function settle(uint64 cycle, bytes32 accountId, int256 cashDelta) internal {
        SettlementLeaf memory entry = entryOf(cycle, accountId, cashDelta);
        postEntry(entry);
        applyEntry(entry, "");
    }

    // --- expiry ----------------------------------------------------------------------------------------------------

    /// @dev Posts and fixes the settlement price of an expired instrument.
    function fixPrice(bytes32 asset, uint64 expiry, uint256 price) internal {
        MarkLeaf memory mark = markOf(asset, price, 0, expiry);
        postMark(mark);
        house.fixSettlement(mark, markProof(mark));
    }

    // --- reservations ----------------------------------------------------------------------------------------------

    /// @dev The owner reserves for an integrator, until the end of time.
    function reserve(uint256 index, address integrator, uint256 amount, uint256 cashPart) internal {
        Reserve memory action = Reserve(idOf(index), integrator, amount, cashPart, type(uint64).max, address(0));
        Permit memory permit = permitted(action.accountId, 0, HashLib.hash(action));
        bytes memory signatures = signed(permit);
        vm.prank(ownerOf(index));
        reservations.reserve(action, permit, signatures);
    }

    /// @notice What a quorum finds net cash for of an integrator's claims.
    function clear(uint256 index, address integrator, uint256 amount) internal {
        Reserve memory action = Reserve(idOf(index), integrator, amount, amount, 0, address(0));
        Permit memory permit = permitted(action.accountId, 0, HashLib.hash(action));
        reservations.clearRest(action, permit, signed(permit));
    }

    function claim(uint256 index, address integrator, uint256 amount) internal {
        vm.prank(integrator);
        reservations.claim(idOf(index), amount);
    }
}
