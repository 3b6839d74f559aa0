// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {MarginVerifier} from "../../contracts/MarginVerifier.sol";
import {Errors} from "../../contracts/libraries/Errors.sol";
import {Events} from "../../contracts/libraries/Events.sol";
import {HashLib} from "../../contracts/libraries/HashLib.sol";
import {ChainCut, HeldBatch, MarginBatch} from "../../contracts/libraries/Types.sol";
import {VerifierFixture} from "./base/VerifierFixture.sol";
import {vm} from "./base/Vm.sol";

/// @notice What a batch of a quorum must say beside its signatures: when it is from (CM-03), where it was read (CM-04),
/// and for which deployment it is (CM-06).
contract MarginVerifierBatchesTest is VerifierFixture {
    // --- time (CM-03) ----------------------------------------------------------------------------------------------

    function test_CM03_postBatch_RevertWhen_EpochIsHeld() public {
        MarginBatch memory held = post();
        (MarginBatch memory batch, ChainCut[] memory cut) = draft();
        batch.accountsRoot = keccak256("another root");
        postRefused(batch, cut, abi.encodeWithSelector(Errors.EpochNotRising.selector, held.epoch, held.epoch));
    }

    function test_CM03_postBatch_RevertWhen_EpochIsOlder() public {
        MarginBatch memory held = post();
        (MarginBatch memory batch, ChainCut[] memory cut) = draft();
        batch.timestamp -= EPOCH_SECONDS;
        batch.epoch -= 1;
        postRefused(batch, cut, abi.encodeWithSelector(Errors.EpochNotRising.selector, held.epoch, held.epoch - 1));
    }

    function test_CM03_postBatch_RevertWhen_EpochIsNotItsTimestamps() public {
        (MarginBatch memory batch, ChainCut[] memory cut) = draft();
        batch.epoch += 1;
        postRefused(batch, cut, abi.encodeWithSelector(Errors.EpochMismatch.selector, batch.epoch, batch.timestamp));
    }

    function test_CM03_postBatch_AStampAsFarAheadAsAllowed() public {
        (MarginBatch memory batch, ChainCut[] memory cut) = draft();
        _stamp(batch, block.timestamp + MAX_SKEW);
        post(batch, cut);
        assertEq(_held().timestamp, block.timestamp + MAX_SKEW, "held");
    }

    function test_CM03_postBatch_RevertWhen_StampIsFurtherAhead() public {
        (MarginBatch memory batch, ChainCut[] memory cut) = draft();
        _stamp(batch, block.timestamp + MAX_SKEW + 1);
        postRefused(
            batch,
            cut,
            abi.encodeWithSelector(Errors.TimestampInFuture.selector, batch.timestamp, block.timestamp, MAX_SKEW)
        );
    }

    /// @notice A stamp in the future holds off honest batches for no longer than the skew.
    function test_CM03_postBatch_AStampAheadFreezesNoLongerThanTheSkew() public {
        (MarginBatch memory ahead, ChainCut[] memory cut) = draft();
        _stamp(ahead, block.timestamp + MAX_SKEW);
        post(ahead, cut);
        pass(MAX_SKEW);
        (MarginBatch memory honest, ChainCut[] memory read) = draft();
        postRefused(honest, read, abi.encodeWithSelector(Errors.EpochNotRising.selector, ahead.epoch, ahead.epoch));
        pass(EPOCH_SECONDS);
        post();
        assertEq(_held().epoch, ahead.epoch + 1, "the honest batch");
    }

    function test_CM03_postBatch_RevertWhen_ItMayNotBePostedAnyMore() public {
        (MarginBatch memory batch, ChainCut[] memory cut) = draft();
        batch.validUntil = uint64(block.timestamp) - 1;
        postRefused(batch, cut, abi.encodeWithSelector(Errors.BatchExpired.selector, batch.validUntil, block.timestamp));
        batch.validUntil = uint64(block.timestamp);
        post(batch, cut);
    }

    /// @notice Whatever order batches arrive in, epochs and timestamps held only rise.
    function testFuzz_CM03_postBatch_OnlyRises(uint256[6] calldata stamps) public {
        for (uint256 i; i < stamps.length; ++i) {
            HeldBatch memory before = _held();
            (MarginBatch memory batch, ChainCut[] memory cut) = draft();
            _stamp(batch, bound(stamps[i], block.timestamp - 100, block.timestamp + MAX_SKEW));
            batch.validUntil = uint64(block.timestamp);
            batch.accountsRoot = bytes32(i + 1);
            if (batch.epoch > before.epoch) {
                post(batch, cut);
                assertTrue(_held().timestamp > before.timestamp, "timestamps rise where epochs do");
            } else {
                postRefused(
                    batch, cut, abi.encodeWithSelector(Errors.EpochNotRising.selector, before.epoch, batch.epoch)
                );
            }
        }
    }

    // --- place (CM-04) ---------------------------------------------------------------------------------------------

    function test_CM04_postBatch_RevertWhen_BlockIsOfAnotherChain() public {
        (MarginBatch memory batch, ChainCut[] memory cut) = draft();
        uint64 number = cut[0].number;
        cut[0].blockHash = hashOf(CHAIN_B, number);
        _cutRefused(
            batch,
            cut,
            abi.encodeWithSelector(
                Errors.BlockHashMismatch.selector, number, hashOf(CHAIN_B, number), hashOf(CHAIN_A, number)
            )
        );
    }

    function test_CM04_postBatch_RevertWhen_BlockIsTooOld() public {
        _numberRefused(uint64(block.number) - 257);
    }

    function test_CM04_postBatch_RevertWhen_BlockIsNotMined() public {
        _numberRefused(uint64(block.number));
    }

    function test_CM04_postBatch_RevertWhen_CutGoesBack() public {
        post();
        uint64 held = _held().cutNumber;
        pass(EPOCH_SECONDS);
        (MarginBatch memory batch, ChainCut[] memory cut) = draft();
        cut[0].number = held - 1;
        cut[0].blockHash = hashOf(CHAIN_A, held - 1);
        _cutRefused(batch, cut, abi.encodeWithSelector(Errors.CutWentBack.selector, held, held - 1));
    }

    function test_CM04_postBatch_TheSameBlockAgain() public {
        post();
        ChainCut[] memory read;
        (, read) = draft();
        pass(EPOCH_SECONDS);
        (MarginBatch memory batch, ChainCut[] memory cut) = draft();
        cut[0] = read[0];
        batch.cutHash = HashLib.hash(cut);
        post(batch, cut);
        assertEq(_held().cutNumber, read[0].number, "no block was final meanwhile");
    }

    function test_CM04_postBatch_RevertWhen_ThisChainIsNotInTheCut() public {
        (MarginBatch memory batch, ChainCut[] memory whole) = draft();
        ChainCut[] memory cut = new ChainCut[](2);
        (cut[0], cut[1]) = (whole[1], whole[2]);
        _cutRefused(batch, cut, abi.encodeWithSelector(Errors.ChainNotInCut.selector, CHAIN_A));
    }

    function test_CM04_postBatch_RevertWhen_ChainsDoNotAscend() public {
        (MarginBatch memory batch, ChainCut[] memory cut) = draft();
        (cut[1], cut[2]) = (cut[2], cut[1]);
        _cutRefused(batch, cut, abi.encodeWithSelector(Errors.CutNotAscending.selector, CHAIN_C, CHAIN_B));
    }

    function test_CM04_postBatch_RevertWhen_AChainIsNamedTwice() public {
        (MarginBatch memory batch, ChainCut[] memory cut) = draft();
        cut[1] = cut[0];
        _cutRefused(batch, cut, abi.encodeWithSelector(Errors.CutNotAscending.selector, CHAIN_A, CHAIN_A));
    }

    function test_CM04_postBatch_RevertWhen_EveryChainIsLate() public {
        (MarginBatch memory batch, ChainCut[] memory cut) = draft();
        for (uint256 i; i < cut.length; ++i) {
            cut[i].late = true;
        }
        _cutRefused(batch, cut, abi.encodeWithSelector(Errors.AllChainsLate.selector));
    }

    function test_CM04_postBatch_RevertWhen_TheCutIsAnotherThanSigned() public {
        (MarginBatch memory batch, ChainCut[] memory cut) = draft();
        cut[2].time -= 1;
        postRefused(
            batch, cut, abi.encodeWithSelector(Errors.CutHashMismatch.selector, HashLib.hash(cut), batch.cutHash)
        );
    }

    /// @notice The state is as old as the oldest chain that is not late; a late one raises the flag instead.
    function test_CM04_postBatch_ReadsTheStateTimeFromChainsThatAreNotLate() public {
        (MarginBatch memory batch, ChainCut[] memory cut) = draft();
        cut[1].time = uint64(block.timestamp) - 9;
        cut[2].time = uint64(block.timestamp) - 500;
        cut[2].late = true;
        batch.cutHash = HashLib.hash(cut);
        post(batch, cut);
        assertEq(_held().stateTime, block.timestamp - 9, "chain B's");
        assertTrue(_held().late, "chain C is late");
    }

    // --- deployment (CM-06) ----------------------------------------------------------------------------------------

    function test_CM06_postBatch_TheSameBytesOnEveryChain() public {
        (MarginBatch memory batch, ChainCut[] memory cut) = draft();
        bytes memory signatures = quorum(digestOf(batch));
        uint64[3] memory chains = [CHAIN_A, CHAIN_B, CHAIN_C];
        for (uint256 i; i < chains.length; ++i) {
            uint256 before = vm.snapshotState();
            onChain(chains[i]);
            verifier.postBatch(batch, cut, signatures);
            assertEq(_held().digest, digestOf(batch), "posted");
            vm.revertToState(before);
        }
    }

    function test_CM06_postBatch_RevertWhen_ForAnotherDeployment() public {
        (MarginBatch memory batch, ChainCut[] memory cut) = draft();
        bytes memory signatures = quorum(digestOf(batch));
        MarginVerifier.Config memory other = config();
        other.deploymentId = HashLib.deploymentId(NAME, address(this), 1);
        _foreign(other, batch, cut, signatures);
        other = config();
        other.name = "Cross Margin 2";
        _foreign(other, batch, cut, signatures);
        other = config();
        other.version = "2";
        _foreign(other, batch, cut, signatures);
    }

    function test_postBatch_RevertWhen_AttestorSetIsAnother() public {
        (MarginBatch memory batch, ChainCut[] memory cut) = draft();
        batch.attestorSetId = SET_ID + 1;
        postRefused(batch, cut, abi.encodeWithSelector(Errors.UnknownAttestorSet.selector, SET_ID + 1, SET_ID));
    }

    function test_postBatch_RevertWhen_ParametersAreOthers() public {
        (MarginBatch memory batch, ChainCut[] memory cut) = draft();
        batch.parametersHash = keccak256("kinder parameters");
        postRefused(
            batch,
            cut,
            abi.encodeWithSelector(Errors.ParametersMismatch.selector, batch.parametersHash, PARAMETERS_HASH)
        );
    }

    // --- what is held ----------------------------------------------------------------------------------------------

    function test_postBatch_TellsAndHoldsWhatWasPosted() public {
        (MarginBatch memory batch, ChainCut[] memory cut) = draft();
        bytes32 digest = digestOf(batch);
        bytes memory signatures = quorum(digest);
        vm.expectEmit(true, true, false, true, address(verifier));
        emit Events.BatchPosted(batch.epoch, digest, batch.timestamp, address(this));
        verifier.postBatch(batch, cut, signatures);

        HeldBatch memory held = _held();
        assertEq(held.epoch, batch.epoch, "epoch");
        assertEq(held.timestamp, batch.timestamp, "timestamp");
        assertEq(held.validUntil, batch.validUntil, "validUntil");
        assertEq(held.cutNumber, cut[0].number, "cutNumber");
        assertEq(held.postedAt, block.timestamp, "postedAt");
        assertEq(held.digest, digest, "digest");
        assertEq(held.accountsRoot, batch.accountsRoot, "accountsRoot");
        assertFalse(held.late, "late");

        pass(EPOCH_SECONDS);
        post();
        (HeldBatch memory current, HeldBatch memory previous) = verifier.held();
        assertEq(current.epoch, batch.epoch + 1, "current");
        assertEq(previous.digest, digest, "previous");
    }

    function test_postBatch_TheHeldBatchAgainChangesNothing() public {
        (MarginBatch memory batch, ChainCut[] memory cut) = draft();
        post(batch, cut);
        pass(5);
        vm.recordLogs();
        verifier.postBatch(batch, cut, "");
        assertEq(vm.getRecordedLogs().length, 0, "nothing told");
        assertEq(_held().postedAt, block.timestamp - 5, "posted when it was");
    }

    function test_postBatch_ClocksStartAgainAfterASilence() public {
        post();
        uint256 first = block.timestamp;
        pass(2 * HEARTBEAT);
        post();
        assertEq(_held().resumedAt, first, "two heartbeats are no silence");
        pass(2 * HEARTBEAT + 1);
        post();
        assertEq(_held().resumedAt, block.timestamp, "one second more is");
    }

    // --- helpers ---------------------------------------------------------------------------------------------------

    function _held() private view returns (HeldBatch memory current) {
        (current,) = verifier.held();
    }

    function _stamp(MarginBatch memory batch, uint256 timestamp) private pure {
        batch.timestamp = uint64(timestamp);
        batch.epoch = uint64(timestamp) / EPOCH_SECONDS;
    }

    /// @dev Signs the changed cut, so that nothing but the named defect is wrong.
    function _cutRefused(MarginBatch memory batch, ChainCut[] memory cut, bytes memory refusal) private {
        batch.cutHash = HashLib.hash(cut);
        postRefused(batch, cut, refusal);
    }

    function _numberRefused(uint64 number) private {
        (MarginBatch memory batch, ChainCut[] memory cut) = draft();
        cut[0].number = number;
        _cutRefused(batch, cut, abi.encodeWithSelector(Errors.BlockUnknown.selector, number));
    }

    /// @dev A verifier of this configuration sees another digest, and none of its attestors in the signatures.
    function _foreign(
        MarginVerifier.Config memory other,
        MarginBatch memory batch,
        ChainCut[] memory cut,
        bytes memory signatures
    ) private {
        MarginVerifier stranger = new MarginVerifier(other);
        bytes32 digest =
            HashLib.digest(HashLib.batchDomain(other.name, other.version, other.deploymentId), HashLib.hash(batch));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(attestors[0], digestOf(batch));
        expectError(abi.encodeWithSelector(Errors.ForeignDigest.selector, digest, ecrecover(digest, v, r, s)));
        stranger.postBatch(batch, cut, signatures);
    }
}
