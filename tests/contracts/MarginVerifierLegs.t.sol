// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Errors} from "../../contracts/libraries/Errors.sol";
import {HashLib} from "../../contracts/libraries/HashLib.sol";
import {LiquidationLeaf} from "../../contracts/libraries/Types.sol";
import {Trees} from "./base/Trees.sol";
import {VerifierFixture} from "./base/VerifierFixture.sol";

/// @notice Which legs still count (CM-40): those of the latest batch, and since when their auction runs.
contract MarginVerifierLegsTest is VerifierFixture {
    address private constant OTHER = address(0xB0B);
    uint256 private constant ANY_AGE = type(uint256).max;

    LiquidationLeaf private leg;

    function setUp() public override {
        super.setUp();
        leg = LiquidationLeaf({
            accountId: accountOf(OTHER, 0),
            chainId: CHAIN_A,
            asset: perpetual("ETH"),
            closeLimit: 2e18,
            markPrice: 3000e18,
            maxConcession: 60e18,
            auctionStart: START - 4,
            depositTarget: type(uint256).max,
            counterparty: 0
        });
        legLeaves = [HashLib.leaf(leg)];
        accountLeaves = [HashLib.leaf(healthy(OTHER, CHAIN_A))];
    }

    function test_CM40_checkLeg_TellsWhenItsClockBegan() public {
        post();
        assertEq(verifier.checkLeg(leg, _legProof(), 0), START, "the first posting, after the leg's own start");
        pass(EPOCH_SECONDS);
        leg.auctionStart = START + 1;
        legLeaves[0] = HashLib.leaf(leg);
        post();
        assertEq(verifier.checkLeg(leg, _legProof(), 0), START + 1, "the leg's own start");
    }

    function test_CM40_checkLeg_RevertWhen_OnlyTheBatchBeforeListsIt() public {
        bytes32[] memory proof = _legProof();
        post();
        pass(EPOCH_SECONDS);
        legLeaves[0] = keccak256("another leg");
        post();
        expectError(abi.encodeWithSelector(Errors.LegNotInLatestBatch.selector, HashLib.leaf(leg)));
        verifier.checkLeg(leg, proof, ANY_AGE);
        delete legLeaves;
        pass(EPOCH_SECONDS);
        post();
        expectError(abi.encodeWithSelector(Errors.LegNotInLatestBatch.selector, HashLib.leaf(leg)));
        verifier.checkLeg(leg, proof, ANY_AGE);
    }

    function test_CM40_checkLeg_RevertWhen_OldElsewhereOrOfZeros() public {
        post();
        pass(3);
        bytes32[] memory proof = _legProof();
        expectError(abi.encodeWithSelector(Errors.MarksTooOld.selector, 3, 2));
        verifier.checkLeg(leg, proof, 2);
        leg.chainId = CHAIN_C;
        expectError(abi.encodeWithSelector(Errors.WrongChain.selector, CHAIN_C, CHAIN_A));
        verifier.checkLeg(leg, proof, ANY_AGE);
        LiquidationLeaf memory zero;
        expectError(abi.encodeWithSelector(Errors.ZeroLeaf.selector));
        verifier.checkLeg(zero, proof, ANY_AGE);
    }

    function _legProof() private view returns (bytes32[] memory) {
        return Trees.proof(legsTree(), HashLib.leaf(leg));
    }
}
