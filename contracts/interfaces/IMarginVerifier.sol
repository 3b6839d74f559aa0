// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

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
} from "../libraries/Types.sol";

/// @title IMarginVerifier
/// @notice Holds the attestors' batches on one chain, answers margin questions against them, and spends permits.
/// @dev A batch counts while it is the current one and during the grace after another superseded it; legs count in the
/// current one only. A view is advice: what it shows can be spent elsewhere a block later. Release nothing on it;
/// reserve instead.
interface IMarginVerifier {
    /// @notice Takes a batch that a quorum signed. Anyone may post; posting what is held already does nothing.
    /// @param batch The signed batch.
    /// @param cut Where each chain was read, chain ids ascending; its hash is in the batch.
    /// @param signatures 65 bytes each (r ‖ s ‖ v), signers strictly ascending, at least the set's threshold.
    function postBatch(MarginBatch calldata batch, ChainCut[] calldata cut, bytes calldata signatures) external;

    /// @notice Checks an account's leaf against the newest batch that counts and has it.
    /// @param leaf The account's margin on this chain.
    /// @param proof Merkle proof, StandardMerkleTree.
    /// @param maxMarkAge Oldest marks accepted, seconds.
    /// @param maxStateAge Oldest state accepted, seconds.
    /// @return The margin with both ages. Reverts where the proof fails or an age is exceeded.
    function check(
        MarginLeaf calldata leaf,
        bytes32[] calldata proof,
        uint256 maxMarkAge,
        uint256 maxStateAge
    ) external view returns (MarginStatus memory);

    /// @notice As `check` without limits of age, and stores the margin for `statusOf` and `isHealthy`.
    /// @dev What is stored only moves forward: proving an older leaf changes nothing and does not revert.
    /// @return What is stored afterwards.
    function prove(MarginLeaf calldata leaf, bytes32[] calldata proof) external returns (MarginStatus memory);

    /// @return The margin last proven, with its ages now; `proven` is false where there is none.
    function statusOf(bytes32 accountId) external view returns (MarginStatus memory);

    /// @return Whether equity covers initial margin in the margin last proven, within both ages. Never reverts.
    function isHealthy(bytes32 accountId, uint256 maxMarkAge, uint256 maxStateAge) external view returns (bool);

    /// @notice Reverts unless `leaf` is a mark of a batch that counts, whose timestamp is at most `maxAge` seconds old.
    /// @return timestamp Of the batch it was proven in.
    function checkMark(
        MarkLeaf calldata leaf,
        bytes32[] calldata proof,
        uint256 maxAge
    ) external view returns (uint64 timestamp);

    /// @notice Reverts unless `leaf` is a leg of the current batch for this chain, at most `maxAge` seconds old.
    /// @return clockStart When the auction's clock began here, unix seconds: the leg's start, or the first posting
    /// after a silence where that is later.
    function checkLeg(
        LiquidationLeaf calldata leaf,
        bytes32[] calldata proof,
        uint256 maxAge
    ) external view returns (uint64 clockStart);

    /// @notice Reverts unless `leaf` is for this chain and in the settlements of a batch that counts. Of any age: a signed
    /// settlement never expires.
    function checkSettlement(SettlementLeaf calldata leaf, bytes32[] calldata proof) external view;

    /// @notice Reverts unless a quorum signed the permit for this contract and its deadline is in reach.
    function checkPermit(Permit calldata permit, bytes calldata signatures) external view;

    /// @notice Checks a permit and spends its nonce. Only the clearing house, the vault and the reservations.
    function consumePermit(Permit calldata permit, bytes calldata signatures) external;

    /// @return Whether the permit nonce of an account is spent.
    function nonceUsed(bytes32 accountId, uint256 nonce) external view returns (bool);

    /// @return current The batch held.
    /// @return previous The one before; zeros where there is none.
    function held() external view returns (HeldBatch memory current, HeldBatch memory previous);

    /// @return Whether an address is a member of the attestor set.
    function isAttestor(address account) external view returns (bool);
}
