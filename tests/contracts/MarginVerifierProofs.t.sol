// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {MarginVerifier} from "../../contracts/MarginVerifier.sol";
import {Errors} from "../../contracts/libraries/Errors.sol";
import {HashLib} from "../../contracts/libraries/HashLib.sol";
import {ChainCut, MarginBatch, MarginLeaf, MarginStatus, MarkLeaf} from "../../contracts/libraries/Types.sol";
import {Trees} from "./base/Trees.sol";
import {VerifierFixture} from "./base/VerifierFixture.sol";
import {vm} from "./base/Vm.sol";

/// @notice What is answered against a posted batch: to whom a proof belongs (CM-05), and how old an answer is (CM-07).
contract MarginVerifierProofsTest is VerifierFixture {
    address private constant OWNER = address(0xA11CE);
    address private constant OTHER = address(0xB0B);
    uint256 private constant ANY_AGE = type(uint256).max;

    MarginLeaf private leaf;
    MarkLeaf private mark;

    function setUp() public override {
        super.setUp();
        leaf = healthy(OWNER, CHAIN_A);
        mark = markOf("ETH", 3000e18);
        accountLeaves =
            [HashLib.leaf(leaf), HashLib.leaf(healthy(OWNER, CHAIN_B)), HashLib.leaf(healthy(OTHER, CHAIN_A))];
        markLeaves = [HashLib.leaf(mark), HashLib.leaf(markOf("BTC", 60_000e18))];
    }

    // --- margin ----------------------------------------------------------------------------------------------------

    function test_CM07_check_TellsTheMarginAndBothAges() public {
        post();
        pass(5);
        MarginStatus memory status = verifier.check(leaf, _proof(leaf), 5, 7);
        assertTrue(status.proven && !status.late, "proven, no chain late");
        assertEq(status.equity, leaf.equity, "equity");
        assertEq(status.initialMargin, leaf.initialMargin, "initial margin");
        assertEq(status.maintenanceMargin, leaf.maintenanceMargin, "maintenance margin");
        assertEq(status.epoch, START / EPOCH_SECONDS, "epoch");
        assertEq(status.markAge, 5, "age of the marks: since the batch's timestamp");
        assertEq(status.stateAge, 7, "age of the state: since the oldest block of the cut");
    }

    function test_CM07_check_RevertWhen_OlderThanTheCallerAccepts() public {
        post();
        pass(5);
        expectError(abi.encodeWithSelector(Errors.MarksTooOld.selector, 5, 4));
        verifier.check(leaf, _proof(leaf), 4, ANY_AGE);
        expectError(abi.encodeWithSelector(Errors.StateTooOld.selector, 7, 6));
        verifier.check(leaf, _proof(leaf), ANY_AGE, 6);
    }

    /// @notice A late chain does not make the state look old; it is told by its own flag.
    function test_CM07_check_TellsThatAChainWasLate() public {
        (MarginBatch memory batch, ChainCut[] memory cut) = draft();
        (cut[1].late, cut[1].time) = (true, START - 500);
        batch.cutHash = HashLib.hash(cut);
        post(batch, cut);
        MarginStatus memory status = verifier.check(leaf, _proof(leaf), ANY_AGE, ANY_AGE);
        assertTrue(status.late, "late");
        assertEq(status.stateAge, 2, "the chains that were read");
    }

    function test_CM07_check_AStampAheadHasAgeZero() public {
        (MarginBatch memory batch, ChainCut[] memory cut) = draft();
        batch.timestamp += MAX_SKEW;
        batch.epoch = batch.timestamp / EPOCH_SECONDS;
        post(batch, cut);
        assertEq(verifier.check(leaf, _proof(leaf), 0, ANY_AGE).markAge, 0, "age");
    }

    function test_CM05_check_RevertWhen_NothingIsPosted() public {
        bytes32[] memory proof = _proof(leaf);
        expectError(abi.encodeWithSelector(Errors.NoBatch.selector));
        verifier.check(leaf, proof, ANY_AGE, ANY_AGE);
    }

    function test_CM05_check_RevertWhen_TheLeafIsOfZeros() public {
        post();
        MarginLeaf memory zero;
        bytes32[] memory proof = Trees.proof(accountsTree(), HashLib.leaf(zero));
        expectError(abi.encodeWithSelector(Errors.ZeroLeaf.selector));
        verifier.check(zero, proof, ANY_AGE, ANY_AGE);
    }

    function test_CM05_check_RevertWhen_TheProofIsEmpty() public {
        post();
        expectError(abi.encodeWithSelector(Errors.EmptyProof.selector));
        verifier.check(leaf, new bytes32[](0), ANY_AGE, ANY_AGE);
    }

    function test_CM05_check_RevertWhen_ForAnotherChain() public {
        post();
        MarginLeaf memory elsewhere = healthy(OWNER, CHAIN_B);
        expectError(abi.encodeWithSelector(Errors.WrongChain.selector, CHAIN_B, CHAIN_A));
        verifier.check(elsewhere, _proof(elsewhere), ANY_AGE, ANY_AGE);
    }

    function test_CM05_check_RevertWhen_TheProofIsAnothersOwn() public {
        post();
        _refused(leaf, _proof(healthy(OTHER, CHAIN_A)));
    }

    function test_CM05_check_RevertWhen_TheLeafIsOfAnotherTree() public {
        post();
        bytes32[] memory proof = Trees.proof(marksTree(), HashLib.leaf(mark));
        _refused(leaf, proof);
    }

    /// @notice A batch without accounts has root zero, which a made-up proof must not meet.
    function test_CM05_check_RevertWhen_TheTreeIsAbsent() public {
        bytes32[] memory proof = _proof(leaf);
        delete accountLeaves;
        post();
        _refused(leaf, proof);
    }

    /// @notice Leaves are hashed twice, so that a node is none; what was hashed once, as nodes are, proves nothing.
    function test_CM05_check_RevertWhen_TheLeafWasHashedOnceAsNodesAre() public {
        accountLeaves[0] = keccak256(abi.encode(leaf));
        bytes32[] memory proof = Trees.proof(accountsTree(), accountLeaves[0]);
        post();
        _refused(leaf, proof);
    }

    /// @notice No changed field and no changed node of a proof passes.
    function testFuzz_CM05_check_NothingAlteredPasses(uint256 field, uint256 change, uint256 node) public {
        post();
        MarginLeaf memory altered = leaf;
        bytes32[] memory proof = _proof(leaf);
        change = bound(change, 1, type(uint64).max);
        field = bound(field, 0, 5);
        if (field == 0) altered.accountId = bytes32(uint256(altered.accountId) ^ change);
        if (field == 1) altered.equity += int256(change);
        if (field == 2) altered.initialMargin += change;
        if (field == 3) altered.maintenanceMargin += change;
        if (field == 4) altered.escapeLimit += change;
        if (field == 5) {
            node = bound(node, 0, proof.length - 1);
            proof[node] = bytes32(uint256(proof[node]) ^ change);
        }
        _refused(altered, proof);
    }

    function test_CM06_check_RevertWhen_InAnotherDeployment() public {
        post();
        MarginVerifier.Config memory foreign = config();
        foreign.deploymentId = keccak256("another");
        verifier = new MarginVerifier(foreign);
        accountLeaves = [HashLib.leaf(healthy(OTHER, CHAIN_A))];
        bytes32[] memory proof = _proof(healthy(OTHER, CHAIN_A));
        post();
        _refused(leaf, proof);
    }

    // --- grace (CM-07) ---------------------------------------------------------------------------------------------

    function test_CM07_check_ABatchCountsForTheGraceAfterItWasSuperseded() public {
        bytes32[] memory proof = _proof(leaf);
        _replaceBatch();
        pass(GRACE);
        assertEq(verifier.check(leaf, proof, ANY_AGE, ANY_AGE).markAge, GRACE + 2, "the age of the batch before");
        pass(1);
        _refused(leaf, proof);
    }

    /// @notice Anyone may post: neither two postings nor five within the grace break a proof, and none prolongs it.
    function test_CM07_prove_PostingsDoNotBreakIt() public {
        bytes32[] memory proof = _proof(leaf);
        _replaceBatch();
        uint256 last = block.timestamp + GRACE;
        for (uint256 postings = 1; postings <= 5; ++postings) {
            uint256 state = vm.snapshotState();
            assertTrue(verifier.prove(leaf, proof).proven, "after a posting more");
            pass(last - block.timestamp);
            verifier.prove(leaf, proof);
            pass(1);
            _refused(leaf, proof);
            vm.revertToState(state);
            accountLeaves[1] = keccak256(abi.encode("another", postings));
            pass(EPOCH_SECONDS);
            post();
        }
    }

    /// @notice A posting in the last second of a grace writes over nothing that still counts in it.
    function test_CM07_check_APostingInTheLastSecondOfTheGrace() public {
        bytes32[] memory proof = _proof(leaf);
        post();
        accountLeaves[0] = keccak256("another");
        pass(GRACE + 1);
        post();
        pass(GRACE);
        post();
        verifier.check(leaf, proof, ANY_AGE, ANY_AGE);
        pass(1);
        post();
        _refused(leaf, proof);
    }

    /// @notice What was signed and never posted may be posted all at once: many more batches than epochs that fit into
    /// the grace, and the first still counts.
    function test_CM07_check_ABacklogPostedAtOnceDoesNotBreakIt() public {
        uint256 epoch = START / EPOCH_SECONDS - 200;
        bytes32[] memory proof = _proof(leaf);
        _postOf(epoch);
        for (uint256 i = 1; i < 200; ++i) {
            accountLeaves[0] = bytes32(i);
            _postOf(epoch + i);
        }
        verifier.check(leaf, proof, ANY_AGE, ANY_AGE);
        pass(GRACE + 1);
        _refused(leaf, proof);
        verifier.checkMark(mark, Trees.proof(marksTree(), HashLib.leaf(mark)), ANY_AGE);
    }

    /// @notice At whatever pace and of whatever epochs batches are posted: exactly those count that were superseded no
    /// longer than the grace ago, whatever places they are at.
    /// @param gaps Seconds before each posting: at once, in quick succession, about a heartbeat, or a silence.
    function testFuzz_CM07_check_ExactlyWhatWasSupersededWithinTheGraceCounts(uint8[16] calldata gaps) public {
        MarginLeaf[] memory leaves = new MarginLeaf[](gaps.length);
        bytes32[][] memory proofs = new bytes32[][](gaps.length);
        uint256[] memory supersededAt = new uint256[](gaps.length);
        for (uint256 i; i < gaps.length; ++i) {
            uint256 most = [uint256(1), 4, 16, 64][gaps[i] % 4];
            pass(gaps[i] / 4 % most);
            if (i != 0) supersededAt[i - 1] = block.timestamp;
            supersededAt[i] = block.timestamp + 1;
            leaves[i] = healthy(address(uint160(i + 1)), CHAIN_A);
            accountLeaves[0] = HashLib.leaf(leaves[i]);
            proofs[i] = _proof(leaves[i]);
            _postOf(START / EPOCH_SECONDS - 100 + i);
            for (uint256 j; j <= i; ++j) {
                if (block.timestamp <= supersededAt[j] + GRACE) verifier.check(leaves[j], proofs[j], ANY_AGE, ANY_AGE);
                else _refused(leaves[j], proofs[j]);
            }
        }
    }

    // --- what is stored --------------------------------------------------------------------------------------------

    function test_CM07_prove_StoresForStatusAndHealth() public {
        bytes32 account = leaf.accountId;
        assertFalse(verifier.statusOf(account).proven, "proven before");
        assertFalse(verifier.isHealthy(account, ANY_AGE, ANY_AGE), "healthy before");
        post();
        MarginStatus memory told = verifier.prove(leaf, _proof(leaf));
        pass(10);
        MarginStatus memory status = verifier.statusOf(account);
        assertEq(status.equity, leaf.equity, "equity");
        assertEq(told.equity, leaf.equity, "equity told");
        assertEq(status.markAge, 10, "mark age");
        assertEq(status.stateAge, 12, "state age");
        assertTrue(verifier.isHealthy(account, 10, 12), "healthy within its ages");
        assertFalse(verifier.isHealthy(account, 9, 12), "marks older than asked");
        assertFalse(verifier.isHealthy(account, 10, 11), "state older than asked");
    }

    /// @notice An older proof neither reverts nor takes a newer margin back.
    function test_CM07_prove_OnlyMovesForward() public {
        MarginLeaf memory old = leaf;
        bytes32[] memory oldProof = _proof(leaf);
        post();
        pass(EPOCH_SECONDS);
        leaf.equity = 2500e18;
        accountLeaves[0] = HashLib.leaf(leaf);
        post();
        verifier.prove(leaf, _proof(leaf));
        assertEq(verifier.prove(old, oldProof).equity, 2500e18, "the newer stays");
        assertFalse(verifier.isHealthy(leaf.accountId, ANY_AGE, ANY_AGE), "below initial margin");
    }

    /// @notice Health is equity against initial margin, to the last unit; asking never reverts.
    function testFuzz_CM07_isHealthy_NeverReverts(
        int128 equity,
        uint128 margin,
        uint256 markAge,
        uint256 stateAge
    ) public {
        leaf.equity = equity;
        leaf.initialMargin = margin;
        accountLeaves[0] = HashLib.leaf(leaf);
        post();
        verifier.prove(leaf, _proof(leaf));
        bool fresh = stateAge >= 2;
        assertTrue(
            verifier.isHealthy(leaf.accountId, markAge, stateAge) == (fresh && equity >= int256(uint256(margin))),
            "healthy exactly where equity covers initial margin"
        );
        assertFalse(verifier.isHealthy(bytes32(markAge | 1), markAge, stateAge), "an account never proven");
    }

    // --- marks -----------------------------------------------------------------------------------------------------

    function test_CM05_checkMark_OfBatchesThatCount() public {
        bytes32[] memory proof = Trees.proof(marksTree(), HashLib.leaf(mark));
        post();
        pass(EPOCH_SECONDS);
        markLeaves[1] = HashLib.leaf(markOf("BTC", 61_000e18));
        post();
        verifier.checkMark(mark, proof, EPOCH_SECONDS);
        expectError(abi.encodeWithSelector(Errors.MarksTooOld.selector, EPOCH_SECONDS, 1));
        verifier.checkMark(mark, proof, 1);
        pass(EPOCH_SECONDS);
        delete markLeaves;
        post();
        verifier.checkMark(mark, proof, 2 * EPOCH_SECONDS);
        pass(GRACE - EPOCH_SECONDS + 1);
        expectError(abi.encodeWithSelector(Errors.InvalidProof.selector, HashLib.leaf(mark)));
        verifier.checkMark(mark, proof, ANY_AGE);
    }

    function test_CM05_checkMark_RevertWhen_ThePriceIsAnother() public {
        bytes32[] memory proof = Trees.proof(marksTree(), HashLib.leaf(mark));
        post();
        mark.price += 1;
        expectError(abi.encodeWithSelector(Errors.InvalidProof.selector, HashLib.leaf(mark)));
        verifier.checkMark(mark, proof, ANY_AGE);
        MarkLeaf memory zero;
        expectError(abi.encodeWithSelector(Errors.ZeroLeaf.selector));
        verifier.checkMark(zero, proof, ANY_AGE);
    }

    // --- helpers ---------------------------------------------------------------------------------------------------

    function _replaceBatch() private {
        post();
        pass(EPOCH_SECONDS);
        accountLeaves[0] = HashLib.leaf(healthy(address(0xCA401), CHAIN_A));
        post();
    }

    /// @dev Posts one with the stamp of this epoch, which may be long past.
    function _postOf(uint256 epoch) private {
        (MarginBatch memory batch, ChainCut[] memory cut) = draft();
        batch.epoch = uint64(epoch);
        batch.timestamp = uint64(epoch) * EPOCH_SECONDS;
        batch.validUntil = uint64(block.timestamp);
        post(batch, cut);
    }

    function _proof(MarginLeaf memory of_) private view returns (bytes32[] memory) {
        return Trees.proof(accountsTree(), HashLib.leaf(of_));
    }

    function _refused(MarginLeaf memory of_, bytes32[] memory proof) private {
        expectError(abi.encodeWithSelector(Errors.InvalidProof.selector, HashLib.leaf(of_)));
        verifier.check(of_, proof, ANY_AGE, ANY_AGE);
    }
}
