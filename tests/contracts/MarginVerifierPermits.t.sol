// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {MarginVerifier} from "../../contracts/MarginVerifier.sol";
import {Errors} from "../../contracts/libraries/Errors.sol";
import {Events} from "../../contracts/libraries/Events.sol";
import {Permit} from "../../contracts/libraries/Types.sol";
import {VerifierFixture} from "./base/VerifierFixture.sol";
import {vm} from "./base/Vm.sol";

/// @notice A permit is a quorum's (CM-01), for one act on one contract of one chain, once, and not for long.
contract MarginVerifierPermitsTest is VerifierFixture {
    bytes32 private constant ACTION = keccak256("action");

    Permit private permit;

    function setUp() public override {
        super.setUp();
        permit = permitOf(accountOf(address(0xA11CE), 0), ACTION, 7);
    }

    // --- spending --------------------------------------------------------------------------------------------------

    function test_consumePermit_SpendsTheNonceAndTells() public {
        bytes memory signatures = _signed();
        assertFalse(verifier.nonceUsed(permit.accountId, 7), "spent before");
        vm.prank(VAULT);
        vm.expectEmit(true, false, false, true, address(verifier));
        emit Events.NonceUsed(permit.accountId, 7, ACTION);
        verifier.consumePermit(permit, signatures);
        assertTrue(verifier.nonceUsed(permit.accountId, 7), "spent");
    }

    function test_consumePermit_RevertWhen_SpentAlready() public {
        bytes memory signatures = _signed();
        vm.startPrank(CLEARING_HOUSE);
        verifier.consumePermit(permit, signatures);
        expectError(abi.encodeWithSelector(Errors.NonceAlreadyUsed.selector, permit.accountId, 7));
        verifier.consumePermit(permit, signatures);
        // Another action under the nonce is refused too: one nonce, one act.
        permit.actionHash = keccak256("another action");
        signatures = _signed();
        expectError(abi.encodeWithSelector(Errors.NonceAlreadyUsed.selector, permit.accountId, 7));
        verifier.consumePermit(permit, signatures);
    }

    function test_consumePermit_OnlyByTheThreeConsumers() public {
        address[3] memory consumers = [CLEARING_HOUSE, VAULT, RESERVATIONS];
        for (uint256 i; i < consumers.length; ++i) {
            permit.nonce = i;
            bytes memory signatures = _signed();
            vm.prank(consumers[i]);
            verifier.consumePermit(permit, signatures);
        }
    }

    function testFuzz_consumePermit_RevertWhen_AnyoneElseCalls(address caller) public {
        vm.assume(caller != CLEARING_HOUSE && caller != VAULT && caller != RESERVATIONS);
        bytes memory signatures = _signed();
        vm.prank(caller);
        expectError(abi.encodeWithSelector(Errors.NotConsumer.selector, caller));
        verifier.consumePermit(permit, signatures);
    }

    /// @notice Nonces are bits of words: spending one touches no other, in the word or beside it, of any account.
    function testFuzz_consumePermit_SpendsNoOtherNonce(uint256 nonce, uint256 other, bytes32 account) public {
        vm.assume(other != nonce);
        permit.nonce = nonce;
        bytes memory signatures = _signed();
        vm.prank(RESERVATIONS);
        verifier.consumePermit(permit, signatures);
        assertTrue(verifier.nonceUsed(permit.accountId, nonce), "the nonce");
        assertFalse(verifier.nonceUsed(permit.accountId, other), "another nonce");
        unchecked {
            assertFalse(verifier.nonceUsed(permit.accountId, nonce + 1), "the next nonce");
            assertFalse(verifier.nonceUsed(permit.accountId, nonce + 256), "the same bit of the next word");
        }
        if (account != permit.accountId) assertFalse(verifier.nonceUsed(account, nonce), "another account's");
    }

    /// @notice And what was spent before stays spent, in whatever word the next nonce lies.
    function testFuzz_consumePermit_KeepsWhatWasSpent(uint8[6] calldata nonces) public {
        bool[256] memory spent;
        vm.startPrank(VAULT);
        for (uint256 i; i < nonces.length; ++i) {
            permit.nonce = nonces[i];
            bytes memory signatures = _signed();
            if (spent[nonces[i]]) {
                expectError(abi.encodeWithSelector(Errors.NonceAlreadyUsed.selector, permit.accountId, nonces[i]));
            }
            verifier.consumePermit(permit, signatures);
            spent[nonces[i]] = true;
            for (uint256 j; j <= i; ++j) {
                assertTrue(verifier.nonceUsed(permit.accountId, nonces[j]), "spent before");
            }
        }
    }

    // --- time ------------------------------------------------------------------------------------------------------

    function test_checkPermit_UpToItsDeadline() public {
        bytes memory signatures = _signed();
        vm.warp(permit.deadline);
        verifier.checkPermit(permit, signatures);
        vm.warp(uint256(permit.deadline) + 1);
        expectError(
            abi.encodeWithSelector(Errors.PermitExpired.selector, permit.deadline, uint256(permit.deadline) + 1)
        );
        verifier.checkPermit(permit, signatures);
    }

    function test_checkPermit_RevertWhen_ValidForTooLong() public {
        permit.deadline = START + MAX_PERMIT_SECONDS;
        verifier.checkPermit(permit, _signed());
        permit.deadline += 1;
        bytes memory signatures = _signed();
        expectError(abi.encodeWithSelector(Errors.PermitTooLong.selector, MAX_PERMIT_SECONDS + 1, MAX_PERMIT_SECONDS));
        verifier.checkPermit(permit, signatures);
    }

    // --- signatures (CM-01) ----------------------------------------------------------------------------------------

    function test_CM01_checkPermit_RevertWhen_OneSignatureShort() public {
        bytes memory signatures = sign(digestOf(permit), pick(attestors, 1, 2));
        expectError(abi.encodeWithSelector(Errors.BelowThreshold.selector, 2, THRESHOLD));
        verifier.checkPermit(permit, signatures);
    }

    function test_checkPermit_RevertWhen_AttestorSetIsAnother() public {
        permit.attestorSetId = SET_ID + 1;
        bytes memory signatures = _signed();
        expectError(abi.encodeWithSelector(Errors.UnknownAttestorSet.selector, SET_ID + 1, SET_ID));
        verifier.checkPermit(permit, signatures);
    }

    /// @notice Whatever is altered, the signatures are no members' over what remains.
    function testFuzz_CM01_checkPermit_RevertWhen_Altered(uint256 field, uint256 change) public {
        bytes memory signatures = _signed();
        change = bound(change, 1, 299);
        field = bound(field, 0, 4);
        if (field == 0) permit.accountId = bytes32(uint256(permit.accountId) ^ change);
        if (field == 1) permit.counterpartyId = bytes32(change);
        if (field == 2) permit.actionHash = bytes32(uint256(ACTION) ^ change);
        if (field == 3) permit.nonce += change;
        if (field == 4) permit.deadline += uint64(change);
        _foreign(signatures);
    }

    function test_CM06_checkPermit_RevertWhen_ForAnotherChain() public {
        bytes memory signatures = _signed();
        onChain(CHAIN_B);
        _foreign(signatures);
    }

    function test_CM06_checkPermit_RevertWhen_ForAnotherContract() public {
        bytes memory signatures = _signed();
        verifier = new MarginVerifier(config());
        _foreign(signatures);
    }

    // --- helpers ---------------------------------------------------------------------------------------------------

    function _signed() private view returns (bytes memory) {
        return quorum(digestOf(permit));
    }

    function _foreign(bytes memory signatures) private {
        bytes32 digest = digestOf(permit);
        expectError(abi.encodeWithSelector(Errors.ForeignDigest.selector, digest, recover(digest, signatures)));
        verifier.checkPermit(permit, signatures);
    }
}
