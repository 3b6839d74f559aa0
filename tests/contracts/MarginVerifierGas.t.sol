// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {HashLib} from "../../contracts/libraries/HashLib.sol";
import {ChainCut, MarginBatch, MarginLeaf, Permit} from "../../contracts/libraries/Types.sol";
import {Trees} from "./base/Trees.sol";
import {VerifierFixture} from "./base/VerifierFixture.sol";
import {vm} from "./base/Vm.sol";

/// @notice What the calls that users pay for cost, on cold storage and without the transaction's own 21,000 and
/// calldata: limits that a change must not cross unseen.
contract MarginVerifierGasTest is VerifierFixture {
    event Measured(string call, uint256 gas, int256 refund);

    bytes32 private account;

    function setUp() public override {
        super.setUp();
        account = accountOf(address(this), 0);
        for (uint256 i; i < 600; ++i) {
            accountLeaves.push(HashLib.leaf(healthy(address(uint160(i + 1)), CHAIN_A)));
        }
        for (uint256 i; i < 12; ++i) {
            post();
            pass(HEARTBEAT);
        }
    }

    /// @notice With three of four signers and three chains in the cut, at a steady pace: a round of both rows, and every
    /// batch is written over one that no longer counts.
    function test_gas_postBatch() public {
        for (uint256 i; i < 12; ++i) {
            (MarginBatch memory batch, ChainCut[] memory cut) = draft();
            bytes memory signatures = quorum(digestOf(batch));
            vm.cool(address(verifier));
            verifier.postBatch(batch, cut, signatures);
            _measured("postBatch", 95_000);
            pass(HEARTBEAT);
        }
    }

    /// @notice Where batches come faster than ever before, and a row grows: words that were zero, here four
    /// because three of the four trees are absent.
    function test_gas_postBatch_AtANewPlace() public {
        for (uint256 i; i < 12; ++i) {
            post();
            pass(EPOCH_SECONDS);
        }
        (MarginBatch memory batch, ChainCut[] memory cut) = draft();
        bytes memory signatures = quorum(digestOf(batch));
        vm.cool(address(verifier));
        verifier.postBatch(batch, cut, signatures);
        _measured("postBatch, at a new place", 165_000);
    }

    /// @notice Depth ten, the whole call: a batch's words read cold, the leaf hashed, ten nodes.
    function test_gas_check() public {
        MarginLeaf memory leaf = healthy(address(1), CHAIN_A);
        bytes32[] memory proof = Trees.proof(accountsTree(), HashLib.leaf(leaf));
        assertEq(proof.length, 10, "depth");
        vm.cool(address(verifier));
        verifier.check(leaf, proof, 60, 60);
        _measured("check, cold", 20_000);
        verifier.check(leaf, proof, 60, 60);
        _measured("check, warm", 10_000);
    }

    /// @notice What whoever posts adds to another's transaction: reading a time and a root for each batch, nothing that
    /// grows with the depth.
    function test_gas_check_AfterFivePostings() public {
        MarginLeaf memory leaf = healthy(address(1), CHAIN_A);
        bytes32[] memory proof = Trees.proof(accountsTree(), HashLib.leaf(leaf));
        for (uint256 i; i < 5; ++i) {
            accountLeaves[1] = bytes32(i + 1);
            post();
            pass(EPOCH_SECONDS);
        }
        vm.cool(address(verifier));
        verifier.check(leaf, proof, 60, 60);
        _measured("check, five batches back, cold", 45_000);
    }

    function test_gas_consumePermit() public {
        Permit memory permit = permitOf(account, keccak256("action"), 0);
        bytes memory signatures = quorum(digestOf(permit));
        vm.cool(address(verifier));
        vm.prank(VAULT);
        verifier.consumePermit(permit, signatures);
        _measured("consumePermit, a new word of nonces", 60_000);
    }

    function _measured(string memory call, uint256 limit) private {
        uint256 used = vm.lastCallGas().gasTotalUsed;
        emit Measured(call, used, vm.lastCallGas().gasRefunded);
        assertAtMost(used, limit, call);
    }
}
