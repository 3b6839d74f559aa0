// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Errors} from "./Errors.sol";

/// @title QuorumLib
/// @notice A set of members, and whether a threshold of distinct ones signed a digest (CM-01).
library QuorumLib {
    uint256 private constant SIGNATURE_LENGTH = 65;
    /// @dev Half the order of secp256k1: a larger s is the malleable twin of a valid signature.
    uint256 private constant MAX_S = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    /// @notice Fills an empty set; reverts unless members ascend and the threshold is more than half of them (CM-01).
    function setMembers(
        mapping(address => bool) storage members,
        address[] memory attestors,
        uint256 threshold
    ) internal {
        if (2 * threshold <= attestors.length || threshold > attestors.length) {
            revert Errors.BadThreshold(threshold, attestors.length);
        }
        address previous;
        for (uint256 i; i < attestors.length; ++i) {
            address next = attestors[i];
            if (next <= previous) revert Errors.AttestorsNotAscending(previous, next);
            members[next] = true;
            previous = next;
        }
    }

    /// @notice Reverts unless `signatures` (r ‖ s ‖ v, 65 bytes each) are by strictly ascending members of `members`
    /// and at least `threshold` of them.
    /// @dev Membership is judged before order: what a wrong signature recovers to is random, and must not decide which
    /// error names it.
    function requireQuorum(
        mapping(address => bool) storage members,
        uint256 threshold,
        bytes32 digest,
        bytes calldata signatures
    ) internal view {
        uint256 count = signatures.length / SIGNATURE_LENGTH;
        if (count * SIGNATURE_LENGTH != signatures.length) revert Errors.SignatureLength(signatures.length);
        if (count < threshold) revert Errors.BelowThreshold(count, threshold);

        uint256 unknown;
        uint256 unknownIndex;
        address unknownSigner;
        address previous;
        address unorderedAfter;
        address unordered;
        for (uint256 i; i < count; ++i) {
            address signer = _recover(digest, signatures[i * SIGNATURE_LENGTH:(i + 1) * SIGNATURE_LENGTH], i);
            if (!members[signer]) {
                if (unknown++ == 0) (unknownIndex, unknownSigner) = (i, signer);
            } else {
                if (signer <= previous && unordered == address(0)) (unorderedAfter, unordered) = (previous, signer);
                previous = signer;
            }
        }
        if (unknown != 0) {
            if (unknown == count) revert Errors.ForeignDigest(digest, unknownSigner);
            revert Errors.UnknownSigner(unknownIndex, unknownSigner);
        }
        if (unordered != address(0)) {
            if (unordered == unorderedAfter) revert Errors.DuplicateSigner(unordered);
            revert Errors.SignersNotAscending(unorderedAfter, unordered);
        }
    }

    function _recover(bytes32 digest, bytes calldata signature, uint256 index) private pure returns (address signer) {
        bytes32 r = bytes32(signature[:32]);
        bytes32 s = bytes32(signature[32:64]);
        uint8 v = uint8(signature[64]);
        if (v != 27 && v != 28) revert Errors.SignatureV(index, v);
        if (uint256(s) > MAX_S) revert Errors.SignatureS(index, s);
        signer = ecrecover(digest, v, r, s);
        if (signer == address(0)) revert Errors.SignatureInvalid(index);
    }
}
