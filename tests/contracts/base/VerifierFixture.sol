// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {MarginVerifier} from "../../../contracts/MarginVerifier.sol";
import {NativeBlockHistory} from "../../../contracts/NativeBlockHistory.sol";
import {HashLib} from "../../../contracts/libraries/HashLib.sol";
import {
    ChainCut,
    LiquidationLeaf,
    MarginBatch,
    MarginLeaf,
    MarkLeaf,
    Permit,
    SettlementLeaf
} from "../../../contracts/libraries/Types.sol";
import {Signers} from "./Signers.sol";
import {Trees} from "./Trees.sol";
import {vm} from "./Vm.sol";

/// @title VerifierFixture
/// @notice A verifier of a deployment over three chains with four attestors of which three sign, and batches for it.
/// @dev Tests stand on one chain at a time: `onChain` changes the chain id and, because each chain has blocks of its
/// own, the hashes of the blocks before this one.
abstract contract VerifierFixture is Signers {
    string internal constant NAME = "Cross Margin";
    string internal constant VERSION = "1";
    uint64 internal constant CHAIN_A = 31337001;
    uint64 internal constant CHAIN_B = 31337002;
    uint64 internal constant CHAIN_C = 31337003;
    uint64 internal constant START = 1_800_000_000;
    uint64 internal constant EPOCH_SECONDS = 2;
    uint64 internal constant HEARTBEAT = 15;
    uint64 internal constant MAX_SKEW = 60;
    uint64 internal constant GRACE = 60;
    uint64 internal constant MAX_PERMIT_SECONDS = 900;
    uint64 internal constant SET_ID = 1;
    uint256 internal constant THRESHOLD = 3;
    bytes32 internal constant PARAMETERS_HASH = keccak256("parameters");
    address internal constant CLEARING_HOUSE = address(0xC1EA);
    address internal constant VAULT = address(0x7A017);
    address internal constant RESERVATIONS = address(0x4E5E);
    /// @dev How far back blocks have hashes that differ by chain.
    uint256 internal constant HISTORY = 24;

    MarginVerifier internal verifier;
    uint256[] internal attestors;

    /// @dev Leaf hashes of the next batch; its trees also have the leaf of zeros, a list without entries no tree.
    bytes32[] internal accountLeaves;
    bytes32[] internal markLeaves;
    bytes32[] internal legLeaves;
    bytes32[] internal settlementLeaves;

    function setUp() public virtual {
        vm.roll(1000);
        vm.warp(START);
        onChain(CHAIN_A);
        attestors = keysOf("attestor", 4);
        verifier = new MarginVerifier(config());
    }

    function config() internal virtual returns (MarginVerifier.Config memory) {
        return MarginVerifier.Config({
            name: NAME,
            version: VERSION,
            deploymentId: HashLib.deploymentId(NAME, address(this), 0),
            epochSeconds: EPOCH_SECONDS,
            heartbeat: HEARTBEAT,
            maxSkew: MAX_SKEW,
            grace: GRACE,
            maxPermitSeconds: MAX_PERMIT_SECONDS,
            parametersHash: PARAMETERS_HASH,
            attestorSetId: SET_ID,
            attestors: addressesOf(attestors),
            threshold: THRESHOLD,
            history: new NativeBlockHistory(),
            clearingHouse: CLEARING_HOUSE,
            vault: VAULT,
            reservations: RESERVATIONS
        });
    }

    // --- chains ----------------------------------------------------------------------------------------------------

    function onChain(uint64 chainId) internal {
        vm.chainId(chainId);
        for (uint256 i = 1; i <= HISTORY; ++i) {
            vm.setBlockhash(block.number - i, hashOf(chainId, block.number - i));
        }
    }

    function hashOf(uint64 chainId, uint256 number) internal pure returns (bytes32) {
        return keccak256(abi.encode("block", chainId, number));
    }

    /// @dev Lets `time` seconds and as many blocks pass on the chain we are on.
    function pass(uint256 time) internal {
        vm.warp(block.timestamp + time);
        vm.roll(block.number + time);
        onChain(uint64(block.chainid));
    }

    // --- batches ---------------------------------------------------------------------------------------------------

    /// @return batch One of now, over the leaves of this fixture.
    /// @return cut Every chain at the block before the last, none late.
    function draft() internal view returns (MarginBatch memory batch, ChainCut[] memory cut) {
        cut = new ChainCut[](3);
        cut[0] = cutOf(CHAIN_A);
        cut[1] = cutOf(CHAIN_B);
        cut[2] = cutOf(CHAIN_C);
        batch.timestamp = uint64(block.timestamp);
        batch.epoch = batch.timestamp / EPOCH_SECONDS;
        batch.validUntil = batch.timestamp + 30;
        batch.accountsRoot = rootOf(accountsTree());
        batch.marksRoot = rootOf(marksTree());
        batch.liquidationsRoot = rootOf(legsTree());
        batch.settlementsRoot = rootOf(settlementsTree());
        batch.cutHash = HashLib.hash(cut);
        batch.parametersHash = PARAMETERS_HASH;
        batch.attestorSetId = SET_ID;
    }

    function cutOf(uint64 chainId) internal view returns (ChainCut memory) {
        uint64 number = uint64(block.number) - 2;
        return ChainCut({
            chainId: chainId,
            number: number,
            blockHash: hashOf(chainId, number),
            time: uint64(block.timestamp) - 2,
            headNumber: number + 2,
            headTime: uint64(block.timestamp),
            late: false
        });
    }

    function digestOf(MarginBatch memory batch) internal view returns (bytes32) {
        return HashLib.digest(HashLib.batchDomain(NAME, VERSION, verifier.DEPLOYMENT_ID()), HashLib.hash(batch));
    }

    /// @dev By the first three of the four.
    function quorum(bytes32 digest) internal view returns (bytes memory) {
        return sign(digest, pick(attestors, 0, 1, 2));
    }

    /// @return batch What was posted.
    function post() internal returns (MarginBatch memory batch) {
        ChainCut[] memory cut;
        (batch, cut) = draft();
        post(batch, cut);
    }

    function post(MarginBatch memory batch, ChainCut[] memory cut) internal {
        verifier.postBatch(batch, cut, quorum(digestOf(batch)));
    }

    /// @dev Posts with the signatures of a quorum, whatever was changed, and must fail with this error.
    function postRefused(MarginBatch memory batch, ChainCut[] memory cut, bytes memory refusal) internal {
        postRefused(batch, cut, quorum(digestOf(batch)), refusal);
    }

    function postRefused(
        MarginBatch memory batch,
        ChainCut[] memory cut,
        bytes memory signatures,
        bytes memory refusal
    ) internal {
        expectError(refusal);
        verifier.postBatch(batch, cut, signatures);
    }

    // --- trees -----------------------------------------------------------------------------------------------------

    function accountsTree() internal view returns (bytes32[] memory) {
        MarginLeaf memory zero;
        return _tree(accountLeaves, HashLib.leaf(zero));
    }

    function marksTree() internal view returns (bytes32[] memory) {
        MarkLeaf memory zero;
        return _tree(markLeaves, HashLib.leaf(zero));
    }

    function legsTree() internal view returns (bytes32[] memory) {
        LiquidationLeaf memory zero;
        return _tree(legLeaves, HashLib.leaf(zero));
    }

    function settlementsTree() internal view returns (bytes32[] memory) {
        SettlementLeaf memory zero;
        return _tree(settlementLeaves, HashLib.leaf(zero));
    }

    function rootOf(bytes32[] memory hashes) internal pure returns (bytes32) {
        return hashes.length == 0 ? bytes32(0) : Trees.root(hashes);
    }

    function _tree(bytes32[] storage leaves, bytes32 zero) private view returns (bytes32[] memory hashes) {
        if (leaves.length == 0) return hashes;
        hashes = new bytes32[](leaves.length + 1);
        for (uint256 i; i < leaves.length; ++i) {
            hashes[i] = leaves[i];
        }
        hashes[leaves.length] = zero;
    }

    // --- accounts, assets, permits ---------------------------------------------------------------------------------

    function accountOf(address owner, uint96 subAccount) internal pure returns (bytes32) {
        return bytes32((uint256(uint160(owner)) << 96) | subAccount);
    }

    /// @return An account with a third more equity than initial margin, on `chainId`.
    function healthy(address owner, uint64 chainId) internal pure returns (MarginLeaf memory) {
        return MarginLeaf({
            accountId: accountOf(owner, 0),
            chainId: chainId,
            equity: 4000e18,
            initialMargin: 3000e18,
            maintenanceMargin: 2400e18,
            escapeLimit: 1000e18
        });
    }

    function perpetual(bytes8 underlying) internal pure returns (bytes32) {
        return bytes32((uint256(1) << 248) | (uint256(uint64(underlying)) << 184));
    }

    /// @param kind 2 future, 3 call, 4 put; a future's strike is 0.
    /// @param strike 1e8 USD.
    function dated(uint8 kind, bytes8 underlying, uint64 expiry, uint128 strike) internal pure returns (bytes32) {
        return bytes32(
            (uint256(kind) << 248) | (uint256(uint64(underlying)) << 184) | (uint256(expiry) << 144)
                | (uint256(strike) << 16)
        );
    }

    function markOf(bytes8 underlying, uint256 price) internal pure returns (MarkLeaf memory) {
        return MarkLeaf({
            asset: perpetual(underlying),
            price: price,
            fundingIndex: 0,
            longRequirement: price / 10,
            shortRequirement: price / 10,
            settledAt: 0
        });
    }

    function permitOf(bytes32 accountId, bytes32 actionHash, uint256 nonce) internal view returns (Permit memory) {
        return Permit({
            accountId: accountId,
            counterpartyId: 0,
            actionHash: actionHash,
            nonce: nonce,
            deadline: uint64(block.timestamp) + 300,
            attestorSetId: SET_ID
        });
    }

    function digestOf(Permit memory permit) internal view returns (bytes32) {
        bytes32 separator =
            HashLib.chainDomain(keccak256(bytes(NAME)), keccak256(bytes(VERSION)), block.chainid, address(verifier));
        return HashLib.digest(separator, HashLib.hash(permit));
    }
}
