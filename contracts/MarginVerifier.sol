// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC5267} from "@openzeppelin/contracts/interfaces/IERC5267.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IBlockHistory} from "./interfaces/IBlockHistory.sol";
import {IMarginVerifier} from "./interfaces/IMarginVerifier.sol";
import {AccountLib} from "./libraries/AccountLib.sol";
import {CutLib} from "./libraries/CutLib.sol";
import {Errors} from "./libraries/Errors.sol";
import {Events} from "./libraries/Events.sol";
import {HashLib} from "./libraries/HashLib.sol";
import {QuorumLib} from "./libraries/QuorumLib.sol";
import {RingLib} from "./libraries/RingLib.sol";
import {
    ChainCut,
    HeldBatch,
    LiquidationLeaf,
    MarginBatch,
    MarginLeaf,
    MarginStatus,
    MarkLeaf,
    Permit,
    SettlementLeaf
} from "./libraries/Types.sol";

/// @title MarginVerifier
/// @notice One signature set for every chain: verifies the attestors' batches and permits on one of them.
/// @dev Immutable and without an owner. Carries CM-01, CM-03 to CM-07.
contract MarginVerifier is IMarginVerifier, IERC5267 {
    using SafeCast for uint256;
    using SafeCast for int256;
    using RingLib for RingLib.Ring;

    /// @notice Constructor arguments. Times in seconds.
    struct Config {
        string name;
        string version;
        bytes32 deploymentId;
        uint64 epochSeconds;
        uint64 heartbeat;
        uint64 maxSkew;
        uint64 grace;
        uint64 maxPermitSeconds;
        bytes32 parametersHash;
        uint64 attestorSetId;
        address[] attestors;
        uint256 threshold;
        IBlockHistory history;
        address clearingHouse;
        address vault;
        address reservations;
    }

    /// @dev A batch's trees whose leaves count during the grace too: legs do not.
    enum Tree {
        Accounts,
        Marks,
        Settlements
    }

    /// @dev The margin last proven of an account, in two slots.
    struct Proof {
        int128 equity;
        uint128 initialMargin;
        uint128 maintenanceMargin;
        uint56 timestamp;
        uint56 stateTime;
        bool late;
    }

    bytes32 public immutable DEPLOYMENT_ID;
    uint64 public immutable EPOCH_SECONDS;
    uint64 public immutable HEARTBEAT;
    uint64 public immutable MAX_SKEW;
    uint64 public immutable GRACE;
    uint64 public immutable MAX_PERMIT_SECONDS;
    bytes32 public immutable PARAMETERS_HASH;
    uint64 public immutable ATTESTOR_SET_ID;
    uint256 public immutable THRESHOLD;
    IBlockHistory public immutable HISTORY;
    address public immutable CLEARING_HOUSE;
    address public immutable VAULT;
    address public immutable RESERVATIONS;

    bytes32 private immutable BATCH_SEPARATOR;
    bytes32 private immutable NAME_HASH;
    bytes32 private immutable VERSION_HASH;

    string private _name;
    string private _version;

    mapping(uint256 place => HeldBatch) private _batches;
    RingLib.Ring private _ring;

    mapping(address => bool) private _members;
    mapping(bytes32 accountId => Proof) private _proofs;
    mapping(bytes32 accountId => mapping(uint256 word => uint256 bits)) private _nonces;

    /// @notice Refuses configurations that no honest deployment has.
    constructor(Config memory config) {
        if (config.epochSeconds == 0) revert Errors.BadConfiguration("epochSeconds");
        if (config.deploymentId == 0) revert Errors.BadConfiguration("deploymentId");
        if (address(config.history) == address(0)) revert Errors.BadConfiguration("history");
        if (config.clearingHouse == address(0)) revert Errors.BadConfiguration("clearingHouse");
        if (config.vault == address(0)) revert Errors.BadConfiguration("vault");
        if (config.reservations == address(0)) revert Errors.BadConfiguration("reservations");
        QuorumLib.setMembers(_members, config.attestors, config.threshold);
        DEPLOYMENT_ID = config.deploymentId;
        EPOCH_SECONDS = config.epochSeconds;
        HEARTBEAT = config.heartbeat;
        MAX_SKEW = config.maxSkew;
        GRACE = config.grace;
        MAX_PERMIT_SECONDS = config.maxPermitSeconds;
        PARAMETERS_HASH = config.parametersHash;
        ATTESTOR_SET_ID = config.attestorSetId;
        THRESHOLD = config.threshold;
        HISTORY = config.history;
        CLEARING_HOUSE = config.clearingHouse;
        VAULT = config.vault;
        RESERVATIONS = config.reservations;
        BATCH_SEPARATOR = HashLib.batchDomain(config.name, config.version, config.deploymentId);
        NAME_HASH = keccak256(bytes(config.name));
        VERSION_HASH = keccak256(bytes(config.version));
        _name = config.name;
        _version = config.version;
    }

    // --- batches ---------------------------------------------------------------------------------------------------

    /// @inheritdoc IMarginVerifier
    function postBatch(MarginBatch calldata batch, ChainCut[] calldata cut, bytes calldata signatures) external {
        bytes32 digest = HashLib.digest(BATCH_SEPARATOR, HashLib.hash(batch));
        HeldBatch storage last = _batches[_ring.newest];
        if (last.digest == digest) return;
        _checkHeader(batch, last.epoch);
        bytes32 cutHash = HashLib.hash(cut);
        if (cutHash != batch.cutHash) revert Errors.CutHashMismatch(cutHash, batch.cutHash);
        CutLib.Reading memory reading = CutLib.read(cut, last.cutNumber, HISTORY);
        QuorumLib.requireQuorum(_members, THRESHOLD, digest, signatures);

        // After a silence the auctions' clocks start again: nobody could bid against a batch that was not there.
        bool silent = block.timestamp - last.postedAt > 2 * uint256(HEARTBEAT);
        _batches[_ring.advance(GRACE)] = HeldBatch({
            epoch: batch.epoch,
            timestamp: batch.timestamp,
            validUntil: batch.validUntil,
            stateTime: reading.stateTime,
            cutNumber: reading.number,
            postedAt: uint64(block.timestamp),
            resumedAt: silent ? uint64(block.timestamp) : last.resumedAt,
            late: reading.late,
            digest: digest,
            accountsRoot: batch.accountsRoot,
            marksRoot: batch.marksRoot,
            liquidationsRoot: batch.liquidationsRoot,
            settlementsRoot: batch.settlementsRoot
        });
        emit Events.BatchPosted(batch.epoch, digest, batch.timestamp, msg.sender);
    }

    /// @dev CM-03. An epoch is a span of timestamps, so where epochs rise timestamps do. A stamp at most MAX_SKEW ahead
    /// cannot freeze the feed for longer than that.
    function _checkHeader(MarginBatch calldata batch, uint64 heldEpoch) private view {
        if (batch.attestorSetId != ATTESTOR_SET_ID) {
            revert Errors.UnknownAttestorSet(batch.attestorSetId, ATTESTOR_SET_ID);
        }
        if (batch.parametersHash != PARAMETERS_HASH) {
            revert Errors.ParametersMismatch(batch.parametersHash, PARAMETERS_HASH);
        }
        if (batch.epoch != batch.timestamp / EPOCH_SECONDS) revert Errors.EpochMismatch(batch.epoch, batch.timestamp);
        if (batch.epoch <= heldEpoch) revert Errors.EpochNotRising(heldEpoch, batch.epoch);
        if (batch.timestamp > block.timestamp + MAX_SKEW) {
            revert Errors.TimestampInFuture(batch.timestamp, block.timestamp, MAX_SKEW);
        }
        if (batch.validUntil < block.timestamp) revert Errors.BatchExpired(batch.validUntil, block.timestamp);
    }

    /// @inheritdoc IMarginVerifier
    function held() external view returns (HeldBatch memory current, HeldBatch memory previous) {
        RingLib.Ring memory ring = _ring;
        return (_batches[ring.newest], _batches[ring.placeBefore(ring.newest)]);
    }

    // --- margin ----------------------------------------------------------------------------------------------------

    /// @inheritdoc IMarginVerifier
    function check(
        MarginLeaf calldata leaf,
        bytes32[] calldata proof,
        uint256 maxMarkAge,
        uint256 maxStateAge
    ) external view returns (MarginStatus memory status) {
        HeldBatch storage batch = _batchOf(leaf, proof);
        status = _status(
            leaf.equity, leaf.initialMargin, leaf.maintenanceMargin, batch.timestamp, batch.stateTime, batch.late
        );
        if (status.markAge > maxMarkAge) revert Errors.MarksTooOld(status.markAge, maxMarkAge);
        if (status.stateAge > maxStateAge) revert Errors.StateTooOld(status.stateAge, maxStateAge);
    }

    /// @inheritdoc IMarginVerifier
    function prove(MarginLeaf calldata leaf, bytes32[] calldata proof) external returns (MarginStatus memory) {
        HeldBatch storage batch = _batchOf(leaf, proof);
        Proof storage stored = _proofs[leaf.accountId];
        uint64 timestamp = batch.timestamp;
        if (timestamp > stored.timestamp) {
            stored.equity = leaf.equity.toInt128();
            stored.initialMargin = leaf.initialMargin.toUint128();
            stored.maintenanceMargin = leaf.maintenanceMargin.toUint128();
            stored.timestamp = uint256(timestamp).toUint56();
            stored.stateTime = uint256(batch.stateTime).toUint56();
            stored.late = batch.late;
            emit Events.Proven(leaf.accountId, batch.epoch, leaf.equity, leaf.initialMargin, leaf.maintenanceMargin);
        }
        return statusOf(leaf.accountId);
    }

    /// @inheritdoc IMarginVerifier
    function statusOf(bytes32 accountId) public view returns (MarginStatus memory status) {
        Proof storage stored = _proofs[accountId];
        if (stored.timestamp == 0) return status;
        return _status(
            stored.equity,
            stored.initialMargin,
            stored.maintenanceMargin,
            stored.timestamp,
            stored.stateTime,
            stored.late
        );
    }

    /// @inheritdoc IMarginVerifier
    function isHealthy(bytes32 accountId, uint256 maxMarkAge, uint256 maxStateAge) external view returns (bool) {
        MarginStatus memory status = statusOf(accountId);
        return status.proven && status.markAge <= maxMarkAge && status.stateAge <= maxStateAge
            && status.equity >= int256(status.initialMargin);
    }

    function _batchOf(MarginLeaf calldata leaf, bytes32[] calldata proof) private view returns (HeldBatch storage) {
        _requireHere(leaf.accountId, leaf.chainId);
        return _batchOf(Tree.Accounts, HashLib.leaf(leaf), proof);
    }

    function _status(
        int256 equity,
        uint256 initialMargin,
        uint256 maintenanceMargin,
        uint64 timestamp,
        uint64 stateTime,
        bool late
    ) private view returns (MarginStatus memory) {
        uint64 epoch = timestamp / EPOCH_SECONDS;
        return
            MarginStatus(true, equity, initialMargin, maintenanceMargin, epoch, _age(timestamp), _age(stateTime), late);
    }

    // --- marks, legs, settlements ----------------------------------------------------------------------------------

    /// @inheritdoc IMarginVerifier
    function checkMark(
        MarkLeaf calldata leaf,
        bytes32[] calldata proof,
        uint256 maxAge
    ) external view returns (uint64 timestamp) {
        if (leaf.asset == 0) revert Errors.ZeroLeaf();
        HeldBatch storage batch = _batchOf(Tree.Marks, HashLib.leaf(leaf), proof);
        _requireMarkAge(batch, maxAge);
        return batch.timestamp;
    }

    /// @inheritdoc IMarginVerifier
    function checkSettlement(SettlementLeaf calldata leaf, bytes32[] calldata proof) external view {
        _requireHere(leaf.accountId, leaf.chainId);
        _batchOf(Tree.Settlements, HashLib.leaf(leaf), proof);
    }

    /// @inheritdoc IMarginVerifier
    function checkLeg(
        LiquidationLeaf calldata leaf,
        bytes32[] calldata proof,
        uint256 maxAge
    ) external view returns (uint64 clockStart) {
        _requireHere(leaf.accountId, leaf.chainId);
        bytes32 hash = HashLib.leaf(leaf);
        HeldBatch storage batch = _batches[_ring.newest];
        if (_rootOf(hash, proof) != batch.liquidationsRoot) revert Errors.LegNotInLatestBatch(hash);
        _requireMarkAge(batch, maxAge);
        uint64 resumedAt = batch.resumedAt;
        return leaf.auctionStart > resumedAt ? leaf.auctionStart : resumedAt;
    }

    function _requireHere(bytes32 accountId, uint64 chainId) private view {
        if (accountId == 0) revert Errors.ZeroLeaf();
        if (chainId != block.chainid) revert Errors.WrongChain(chainId, block.chainid);
    }

    function _requireMarkAge(HeldBatch storage batch, uint256 maxAge) private view {
        uint256 age = _age(batch.timestamp);
        if (age > maxAge) revert Errors.MarksTooOld(age, maxAge);
    }

    /// @dev The batch whose tree has the leaf: the newest, or one that was superseded no longer than the grace ago, so
    /// that nobody breaks a transaction by posting, however often (CM-07). The walk passes what was posted within the
    /// grace and no more: it ends at the latest where the other row begins, which is older, or at the empty place 0.
    /// The root is computed once; what a batch more costs is reading its time and its root.
    function _batchOf(
        Tree tree,
        bytes32 hash,
        bytes32[] calldata proof
    ) private view returns (HeldBatch storage batch) {
        bytes32 root = _rootOf(hash, proof);
        RingLib.Ring memory ring = _ring;
        uint256 place = ring.newest;
        batch = _batches[place];
        while (_rootOf(batch, tree) != root) {
            if (block.timestamp > uint256(batch.postedAt) + GRACE) revert Errors.InvalidProof(hash);
            place = ring.placeBefore(place);
            batch = _batches[place];
        }
    }

    function _rootOf(HeldBatch storage batch, Tree tree) private view returns (bytes32) {
        if (tree == Tree.Accounts) return batch.accountsRoot;
        return tree == Tree.Marks ? batch.marksRoot : batch.settlementsRoot;
    }

    /// @dev The root that the proof leads to: a hash, so never the 0 that an absent tree has.
    function _rootOf(bytes32 leaf, bytes32[] calldata proof) private view returns (bytes32) {
        if (_ring.since == 0) revert Errors.NoBatch();
        if (proof.length == 0) revert Errors.EmptyProof();
        return MerkleProof.processProofCalldata(proof, leaf);
    }

    function _age(uint256 time) private view returns (uint256) {
        return block.timestamp > time ? block.timestamp - time : 0;
    }

    // --- permits ---------------------------------------------------------------------------------------------------

    /// @inheritdoc IMarginVerifier
    function checkPermit(Permit calldata permit, bytes calldata signatures) public view {
        if (permit.attestorSetId != ATTESTOR_SET_ID) {
            revert Errors.UnknownAttestorSet(permit.attestorSetId, ATTESTOR_SET_ID);
        }
        if (permit.deadline < block.timestamp) revert Errors.PermitExpired(permit.deadline, block.timestamp);
        uint256 validity = permit.deadline - block.timestamp;
        if (validity > MAX_PERMIT_SECONDS) revert Errors.PermitTooLong(validity, MAX_PERMIT_SECONDS);
        // Built at each use: after a fork the chain id is another, and what was signed for the old one is void.
        bytes32 separator = HashLib.chainDomain(NAME_HASH, VERSION_HASH, block.chainid, address(this));
        QuorumLib.requireQuorum(_members, THRESHOLD, HashLib.digest(separator, HashLib.hash(permit)), signatures);
    }

    /// @inheritdoc IMarginVerifier
    function consumePermit(Permit calldata permit, bytes calldata signatures) external {
        if (msg.sender != CLEARING_HOUSE && msg.sender != VAULT && msg.sender != RESERVATIONS) {
            revert Errors.NotConsumer(msg.sender);
        }
        if (AccountLib.isClaims(permit.accountId)) revert Errors.ClaimsAccount(permit.accountId);
        if (AccountLib.isClaims(permit.counterpartyId)) revert Errors.ClaimsAccount(permit.counterpartyId);
        if (nonceUsed(permit.accountId, permit.nonce)) {
            revert Errors.NonceAlreadyUsed(permit.accountId, permit.nonce);
        }
        checkPermit(permit, signatures);
        _nonces[permit.accountId][permit.nonce >> 8] |= 1 << (permit.nonce & 0xff);
        emit Events.NonceUsed(permit.accountId, permit.nonce, permit.actionHash);
    }

    /// @inheritdoc IMarginVerifier
    function nonceUsed(bytes32 accountId, uint256 nonce) public view returns (bool) {
        return _nonces[accountId][nonce >> 8] & (1 << (nonce & 0xff)) != 0;
    }

    // --- identity --------------------------------------------------------------------------------------------------

    /// @inheritdoc IMarginVerifier
    function isAttestor(address account) external view returns (bool) {
        return _members[account];
    }

    /// @notice The batch domain: name, version and salt, on purpose neither chain nor contract.
    function eip712Domain()
        external
        view
        returns (
            bytes1 fields,
            string memory name,
            string memory version,
            uint256 chainId,
            address verifyingContract,
            bytes32 salt,
            uint256[] memory extensions
        )
    {
        return (hex"13", _name, _version, 0, address(0), DEPLOYMENT_ID, new uint256[](0));
    }
}
