// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {AccountLib} from "../../contracts/libraries/AccountLib.sol";
import {Errors} from "../../contracts/libraries/Errors.sol";
import {HashLib} from "../../contracts/libraries/HashLib.sol";
import {MarkLeaf, Permit, SettlementLeaf} from "../../contracts/libraries/Types.sol";
import {Trees} from "./base/Trees.sol";
import {VerifierFixture} from "./base/VerifierFixture.sol";
import {vm} from "./base/Vm.sol";

/// @notice Settlement leaves against the batches held, the batch that a mark was proven in, and whom no permit names.
contract MarginVerifierSettlementsTest is VerifierFixture {
    SettlementLeaf private entry;

    function setUp() public override {
        super.setUp();
        entry = SettlementLeaf(3, accountOf(address(0xA11CE), 0), CHAIN_A, -5e18);
        settlementLeaves = [HashLib.leaf(entry), keccak256("another")];
    }

    function test_checkSettlement_OfTheCurrentBatchAtAnyAge() public {
        bytes32[] memory proof = _proof();
        expectError(abi.encodeWithSelector(Errors.NoBatch.selector));
        verifier.checkSettlement(entry, proof);
        post();
        verifier.checkSettlement(entry, proof);
        pass(10_000_000);
        verifier.checkSettlement(entry, proof);
    }

    /// @notice CM-07: of a superseded batch until the last second of the grace, whatever is posted meanwhile.
    function test_CM07_checkSettlement_OfABatchInItsGrace() public {
        bytes32[] memory proof = _proof();
        post();
        delete settlementLeaves;
        pass(EPOCH_SECONDS);
        post();
        bytes memory refusal = abi.encodeWithSelector(Errors.InvalidProof.selector, HashLib.leaf(entry));
        uint256 state = vm.snapshotState();
        pass(GRACE);
        verifier.checkSettlement(entry, proof);
        vm.revertToState(state);
        state = vm.snapshotState();
        pass(GRACE + 1);
        expectError(refusal);
        verifier.checkSettlement(entry, proof);
        vm.revertToState(state);
        pass(EPOCH_SECONDS);
        post();
        pass(GRACE - EPOCH_SECONDS);
        verifier.checkSettlement(entry, proof);
        pass(1);
        expectError(refusal);
        verifier.checkSettlement(entry, proof);
    }

    function test_CM05_checkSettlement_RevertWhen_AnyWordIsAnother() public {
        post();
        bytes32[] memory proof = _proof();
        SettlementLeaf memory wrong = entry;
        wrong.cycle = 4;
        _refused(wrong, proof);
        wrong = entry;
        wrong.accountId = accountOf(address(0xA11CE), 1);
        _refused(wrong, proof);
        wrong = entry;
        wrong.cashDelta = 5e18;
        _refused(wrong, proof);
        wrong = entry;
        wrong.chainId = CHAIN_B;
        expectError(abi.encodeWithSelector(Errors.WrongChain.selector, CHAIN_B, CHAIN_A));
        verifier.checkSettlement(wrong, proof);
        wrong.accountId = 0;
        expectError(abi.encodeWithSelector(Errors.ZeroLeaf.selector));
        verifier.checkSettlement(wrong, proof);
        expectError(abi.encodeWithSelector(Errors.EmptyProof.selector));
        verifier.checkSettlement(entry, new bytes32[](0));
        onChain(CHAIN_B);
        expectError(abi.encodeWithSelector(Errors.WrongChain.selector, CHAIN_A, CHAIN_B));
        verifier.checkSettlement(entry, proof);
    }

    /// @notice A leaf of another tree proves nothing here, though its root is in the same batch.
    function test_CM05_checkSettlement_RevertWhen_FromAnotherTree() public {
        legLeaves = settlementLeaves;
        accountLeaves = settlementLeaves;
        markLeaves = settlementLeaves;
        settlementLeaves = [keccak256("another")];
        post();
        _refused(entry, Trees.proof(legsTree(), HashLib.leaf(entry)));
        _refused(entry, Trees.proof(accountsTree(), HashLib.leaf(entry)));
        _refused(entry, Trees.proof(marksTree(), HashLib.leaf(entry)));
    }

    function test_checkMark_TellsTheBatchItWasProvenIn() public {
        MarkLeaf memory older = markOf("ETH", 3000e18);
        MarkLeaf memory newer = markOf("ETH", 3001e18);
        markLeaves = [HashLib.leaf(older)];
        uint64 first = uint64(block.timestamp);
        post();
        bytes32[] memory proof = Trees.proof(marksTree(), HashLib.leaf(older));
        markLeaves = [HashLib.leaf(newer)];
        pass(10);
        post();
        pass(5);
        assertEq(verifier.checkMark(newer, Trees.proof(marksTree(), HashLib.leaf(newer)), 60), first + 10, "current");
        assertEq(verifier.checkMark(older, proof, 60), first, "the one before");
    }

    /// @notice CM-15: an integrator's claims are changed by claims and payouts alone.
    function test_CM15_consumePermit_RevertWhen_ItNamesAClaimsAccount() public {
        bytes32 claims = AccountLib.claims(address(0xA11CE));
        bytes32 account = accountOf(address(0xA11CE), 0);
        Permit memory permit = permitOf(claims, keccak256("action"), 0);
        bytes memory signatures = quorum(digestOf(permit));
        vm.prank(VAULT);
        expectError(abi.encodeWithSelector(Errors.ClaimsAccount.selector, claims));
        verifier.consumePermit(permit, signatures);
        (permit.accountId, permit.counterpartyId) = (account, claims);
        signatures = quorum(digestOf(permit));
        vm.prank(VAULT);
        expectError(abi.encodeWithSelector(Errors.ClaimsAccount.selector, claims));
        verifier.consumePermit(permit, signatures);
        permit.counterpartyId = accountOf(address(0xA11CE), type(uint96).max - 1);
        signatures = quorum(digestOf(permit));
        vm.prank(VAULT);
        verifier.consumePermit(permit, signatures);
        assertTrue(verifier.nonceUsed(account, 0), "the sub-account before is like any");
    }

    function _proof() private view returns (bytes32[] memory) {
        return Trees.proof(settlementsTree(), HashLib.leaf(entry));
    }

    function _refused(SettlementLeaf memory leaf, bytes32[] memory proof) private {
        expectError(abi.encodeWithSelector(Errors.InvalidProof.selector, HashLib.leaf(leaf)));
        verifier.checkSettlement(leaf, proof);
    }
}
