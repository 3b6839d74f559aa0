// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Errors} from "../../contracts/libraries/Errors.sol";
import {ChainCut, HeldBatch, MarginBatch} from "../../contracts/libraries/Types.sol";
import {VerifierFixture} from "./base/VerifierFixture.sol";
import {vm} from "./base/Vm.sol";

/// @notice A batch counts with signatures of a threshold of distinct members, and with nothing less (CM-01). Permits
/// pass the same check.
contract MarginVerifierSignaturesTest is VerifierFixture {
    /// @dev The largest s that is not refused as malleable.
    uint256 private constant HALF_ORDER = ORDER / 2;

    MarginBatch private batch;
    ChainCut[] private cut;
    bytes32 private digest;

    function setUp() public override {
        super.setUp();
        (MarginBatch memory drafted, ChainCut[] memory entries) = draft();
        batch = drafted;
        for (uint256 i; i < entries.length; ++i) {
            cut.push(entries[i]);
        }
        digest = digestOf(drafted);
    }

    // --- enough ----------------------------------------------------------------------------------------------------

    function test_CM01_postBatch_EveryThreeOfFour() public {
        for (uint256 absent; absent < 4; ++absent) {
            uint256 before = vm.snapshotState();
            uint256[] memory keys = pick(attestors, absent == 0 ? 1 : 0, absent <= 1 ? 2 : 1, absent <= 2 ? 3 : 2);
            verifier.postBatch(batch, cut, sign(digest, keys));
            _posted();
            vm.revertToState(before);
        }
    }

    function test_CM01_postBatch_MoreThanTheThreshold() public {
        verifier.postBatch(batch, cut, sign(digest, attestors));
        _posted();
    }

    function test_CM01_postBatch_AnyoneMayPost() public {
        vm.prank(address(0xBEEF));
        verifier.postBatch(batch, cut, quorum(digest));
        _posted();
    }

    // --- too few ---------------------------------------------------------------------------------------------------

    function test_CM01_postBatch_RevertWhen_OneSignatureShort() public {
        _refused(
            sign(digest, pick(attestors, 0, 1)), abi.encodeWithSelector(Errors.BelowThreshold.selector, 2, THRESHOLD)
        );
    }

    function test_CM01_postBatch_RevertWhen_NoSignature() public {
        _refused("", abi.encodeWithSelector(Errors.BelowThreshold.selector, 0, THRESHOLD));
    }

    // --- each signature --------------------------------------------------------------------------------------------

    function test_CM01_postBatch_RevertWhen_SignerTwice() public {
        _refused(
            sign(digest, pick(attestors, 0, 1, 1)),
            abi.encodeWithSelector(Errors.DuplicateSigner.selector, vm.addr(attestors[1]))
        );
    }

    /// @notice The same signer by the malleable twin of the signature is no second signer.
    function test_CM01_postBatch_RevertWhen_SignerTwiceByMalleatedS() public {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(attestors[1], digest);
        bytes32 twin = bytes32(ORDER - uint256(s));
        assertEq(ecrecover(digest, v ^ 7, r, twin), vm.addr(attestors[1]), "the twin recovers the same signer");
        _refused(
            bytes.concat(sign(digest, pick(attestors, 0, 1)), abi.encodePacked(r, twin, v ^ 7)),
            abi.encodeWithSelector(Errors.SignatureS.selector, 2, twin)
        );
    }

    function test_CM01_postBatch_RevertWhen_SIsHigh() public {
        _lastRefused(
            bytes32(uint256(1)),
            bytes32(HALF_ORDER + 1),
            27,
            abi.encodeWithSelector(Errors.SignatureS.selector, 2, bytes32(HALF_ORDER + 1))
        );
    }

    function test_CM01_postBatch_RevertWhen_SIsTheOrder() public {
        _lastRefused(
            bytes32(uint256(1)),
            bytes32(ORDER),
            28,
            abi.encodeWithSelector(Errors.SignatureS.selector, 2, bytes32(ORDER))
        );
    }

    function test_CM01_postBatch_RevertWhen_VIsNeither27Nor28() public {
        (, bytes32 r, bytes32 s) = vm.sign(attestors[2], digest);
        uint8[6] memory values = [0, 1, 26, 29, 35, 255];
        for (uint256 i; i < values.length; ++i) {
            _lastRefused(r, s, values[i], abi.encodeWithSelector(Errors.SignatureV.selector, 2, values[i]));
        }
    }

    function test_CM01_postBatch_RevertWhen_VIsTheOtherOne() public {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(attestors[2], digest);
        address other = ecrecover(digest, v ^ 7, r, s);
        _lastRefused(r, s, v ^ 7, abi.encodeWithSelector(Errors.UnknownSigner.selector, 2, other));
    }

    /// @notice Nothing recovers from zeros, or from an r beyond the order: the zero address is nobody's.
    function test_CM01_postBatch_RevertWhen_NothingRecovers() public {
        bytes memory invalid = abi.encodeWithSelector(Errors.SignatureInvalid.selector, 2);
        (, bytes32 r, bytes32 s) = vm.sign(attestors[2], digest);
        _lastRefused(0, s, 27, invalid);
        _lastRefused(r, 0, 27, invalid);
        _lastRefused(0, 0, 28, invalid);
        _lastRefused(bytes32(ORDER), s, 27, invalid);
    }

    // --- who -------------------------------------------------------------------------------------------------------

    function test_CM01_postBatch_RevertWhen_Unordered() public {
        _refused(
            sign(digest, pick(attestors, 0, 2, 1)),
            abi.encodeWithSelector(Errors.SignersNotAscending.selector, vm.addr(attestors[2]), vm.addr(attestors[1]))
        );
    }

    function test_CM01_postBatch_RevertWhen_OneSignerIsAStranger() public {
        uint256 stranger = keysOf("stranger", 1)[0];
        _refused(
            bytes.concat(sign(digest, pick(attestors, 0, 1)), sign(digest, stranger)),
            abi.encodeWithSelector(Errors.UnknownSigner.selector, 2, vm.addr(stranger))
        );
    }

    /// @notice Extra signatures must be good too: garbage behind a quorum is refused.
    function test_CM01_postBatch_RevertWhen_GarbageFollowsAQuorum() public {
        uint256 stranger = keysOf("stranger", 1)[0];
        _refused(
            bytes.concat(quorum(digest), sign(digest, stranger)),
            abi.encodeWithSelector(Errors.UnknownSigner.selector, 3, vm.addr(stranger))
        );
    }

    function test_CM01_postBatch_RevertWhen_AllSignersAreOfAnotherSet() public {
        uint256[] memory others = keysOf("other set", 4);
        _refused(
            sign(digest, pick(others, 0, 1, 2)),
            abi.encodeWithSelector(Errors.ForeignDigest.selector, digest, vm.addr(others[0]))
        );
    }

    /// @notice A member that signed something else recovers as a stranger, wherever that address sorts.
    function test_CM01_postBatch_RevertWhen_OneSignedOtherBytes() public {
        for (uint256 i; i < 3; ++i) {
            bytes memory other = sign(keccak256(abi.encode("other", i)), attestors[i]);
            address recovered = ecrecover(digest, uint8(other[64]), _word(other, 0), _word(other, 32));
            bytes memory signatures;
            for (uint256 j; j < 3; ++j) {
                signatures = bytes.concat(signatures, i == j ? other : sign(digest, attestors[j]));
            }
            _refused(signatures, abi.encodeWithSelector(Errors.UnknownSigner.selector, i, recovered));
        }
    }

    // --- length ----------------------------------------------------------------------------------------------------

    function test_CM01_postBatch_RevertWhen_BytesTrail() public {
        _refused(bytes.concat(quorum(digest), hex"00"), abi.encodeWithSelector(Errors.SignatureLength.selector, 196));
    }

    function test_CM01_postBatch_RevertWhen_OneByteIsMissing() public {
        bytes memory signatures = quorum(digest);
        assembly ("memory-safe") {
            mstore(signatures, 194)
        }
        _refused(signatures, abi.encodeWithSelector(Errors.SignatureLength.selector, 194));
    }

    /// @notice The compact form of EIP-2098 has 64 bytes: there is one form of a signature.
    function test_CM01_postBatch_RevertWhen_SignaturesAreCompact() public {
        bytes memory signatures;
        for (uint256 i; i < 3; ++i) {
            (uint8 v, bytes32 r, bytes32 s) = vm.sign(attestors[i], digest);
            signatures = abi.encodePacked(signatures, r, bytes32(uint256(s) | (uint256(v - 27) << 255)));
        }
        _refused(signatures, abi.encodeWithSelector(Errors.SignatureLength.selector, 192));
    }

    // --- fuzzed ----------------------------------------------------------------------------------------------------

    /// @notice One wrong bit anywhere in the signatures, and the batch is refused.
    function testFuzz_CM01_postBatch_RevertWhen_ABitOfASignatureDiffers(uint256 position) public {
        bytes memory signatures = quorum(digest);
        position = bound(position, 0, signatures.length * 8 - 1);
        signatures[position / 8] ^= bytes1(uint8(1 << (position % 8)));
        (bool posted,) = address(verifier).call(abi.encodeCall(verifier.postBatch, (batch, cut, signatures)));
        assertFalse(posted, "posted with a wrong bit");
    }

    /// @notice One wrong bit anywhere in the batch, and it is refused; where no rule of the header speaks first, because
    /// nobody signed it.
    function testFuzz_CM01_postBatch_RevertWhen_ABitOfTheBatchDiffers(uint256 position) public {
        bytes memory signatures = quorum(digest);
        bytes memory encoded = abi.encodeCall(verifier.postBatch, (batch, cut, signatures));
        position = bound(position, 0, 10 * 256 - 1);
        encoded[4 + position / 8] ^= bytes1(uint8(1 << (position % 8)));
        (bool posted,) = address(verifier).call(encoded);
        assertFalse(posted, "posted with a wrong bit");
    }

    /// @notice Any three signers, in any order, repeated or not: posted exactly where they ascend.
    function testFuzz_CM01_postBatch_OnlyAscendingMembers(uint256 a, uint256 b, uint256 c) public {
        (a, b, c) = (bound(a, 0, 3), bound(b, 0, 3), bound(c, 0, 3));
        bytes memory signatures = sign(digest, pick(attestors, a, b, c));
        (bool posted,) = address(verifier).call(abi.encodeCall(verifier.postBatch, (batch, cut, signatures)));
        assertTrue(posted == (a < b && b < c), "posted where signers ascend");
    }

    // ---------------------------------------------------------------------------------------------------------------

    function _posted() private view {
        (HeldBatch memory current,) = verifier.held();
        assertEq(current.digest, digest, "held");
    }

    function _lastRefused(bytes32 r, bytes32 s, uint8 v, bytes memory refusal) private {
        _refused(bytes.concat(sign(digest, pick(attestors, 0, 1)), abi.encodePacked(r, s, v)), refusal);
    }

    function _refused(bytes memory signatures, bytes memory refusal) private {
        postRefused(batch, cut, signatures, refusal);
    }

    function _word(bytes memory data, uint256 offset) private pure returns (bytes32 word) {
        assembly ("memory-safe") {
            word := mload(add(add(data, 32), offset))
        }
    }
}
