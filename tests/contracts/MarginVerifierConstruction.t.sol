// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {MarginVerifier} from "../../contracts/MarginVerifier.sol";
import {IBlockHistory} from "../../contracts/interfaces/IBlockHistory.sol";
import {Errors} from "../../contracts/libraries/Errors.sol";
import {HashLib} from "../../contracts/libraries/HashLib.sol";
import {HeldBatch} from "../../contracts/libraries/Types.sol";
import {VerifierFixture} from "./base/VerifierFixture.sol";
import {vm} from "./base/Vm.sol";

/// @notice What a verifier is made with, and what it refuses to be made with (CM-01).
contract MarginVerifierConstructionTest is VerifierFixture {
    function test_constructor_KeepsItsConfiguration() public view {
        assertEq(verifier.EPOCH_SECONDS(), EPOCH_SECONDS, "epochSeconds");
        assertEq(verifier.HEARTBEAT(), HEARTBEAT, "heartbeat");
        assertEq(verifier.MAX_SKEW(), MAX_SKEW, "maxSkew");
        assertEq(verifier.GRACE(), GRACE, "grace");
        assertEq(verifier.MAX_PERMIT_SECONDS(), MAX_PERMIT_SECONDS, "maxPermitSeconds");
        assertEq(verifier.PARAMETERS_HASH(), PARAMETERS_HASH, "parametersHash");
        assertEq(verifier.ATTESTOR_SET_ID(), SET_ID, "attestorSetId");
        assertEq(verifier.THRESHOLD(), THRESHOLD, "threshold");
        assertEq(verifier.CLEARING_HOUSE(), CLEARING_HOUSE, "clearingHouse");
        assertEq(verifier.VAULT(), VAULT, "vault");
        assertEq(verifier.RESERVATIONS(), RESERVATIONS, "reservations");
        assertEq(verifier.HISTORY().blockHash(block.number - 1), hashOf(CHAIN_A, block.number - 1), "history");
        for (uint256 i; i < attestors.length; ++i) {
            assertTrue(verifier.isAttestor(vm.addr(attestors[i])), "a member");
        }
        assertFalse(verifier.isAttestor(address(this)), "a stranger");
        assertFalse(verifier.isAttestor(address(0)), "nobody");
    }

    function test_constructor_HoldsNothing() public view {
        (HeldBatch memory current, HeldBatch memory previous) = verifier.held();
        assertEq(keccak256(abi.encode(current)), keccak256(abi.encode(previous)), "both are zeros");
        assertEq(current.digest, 0, "digest");
    }

    /// @notice Wallets and clients build the domain of batches from this: name, version and salt.
    function test_eip712Domain() public view {
        (bytes1 fields, string memory name, string memory version, uint256 chainId, address target, bytes32 salt,) =
            verifier.eip712Domain();
        assertEq(bytes32(fields), bytes32(bytes1(0x13)), "fields");
        assertEq(name, NAME, "name");
        assertEq(version, VERSION, "version");
        assertEq(chainId, 0, "chainId");
        assertEq(target, address(0), "verifyingContract");
        assertEq(salt, HashLib.deploymentId(NAME, address(this), 0), "salt");
    }

    function test_constructor_RevertWhen_EpochSecondsZero() public {
        MarginVerifier.Config memory c = config();
        c.epochSeconds = 0;
        _refused(c, "epochSeconds");
    }

    function test_constructor_RevertWhen_DeploymentIdZero() public {
        MarginVerifier.Config memory c = config();
        c.deploymentId = 0;
        _refused(c, "deploymentId");
    }

    function test_constructor_RevertWhen_HistoryZero() public {
        MarginVerifier.Config memory c = config();
        c.history = IBlockHistory(address(0));
        _refused(c, "history");
    }

    function test_constructor_RevertWhen_ClearingHouseZero() public {
        MarginVerifier.Config memory c = config();
        c.clearingHouse = address(0);
        _refused(c, "clearingHouse");
    }

    function test_constructor_RevertWhen_VaultZero() public {
        MarginVerifier.Config memory c = config();
        c.vault = address(0);
        _refused(c, "vault");
    }

    function test_constructor_RevertWhen_ReservationsZero() public {
        MarginVerifier.Config memory c = config();
        c.reservations = address(0);
        _refused(c, "reservations");
    }

    /// @notice Half of the set is no quorum: two halves could sign two truths.
    function test_CM01_constructor_RevertWhen_ThresholdIsHalf() public {
        _thresholdRefused(2, 4);
    }

    function test_CM01_constructor_RevertWhen_ThresholdAboveSet() public {
        _thresholdRefused(5, 4);
    }

    function test_CM01_constructor_RevertWhen_ThresholdZero() public {
        _thresholdRefused(0, 4);
        _thresholdRefused(0, 0);
    }

    /// @notice Every threshold of every small set: made exactly where 2t > n ≥ t.
    function test_CM01_constructor_Thresholds() public {
        for (uint256 members = 1; members <= 5; ++members) {
            for (uint256 threshold; threshold <= 6; ++threshold) {
                if (2 * threshold <= members || threshold > members) {
                    _thresholdRefused(threshold, members);
                } else {
                    MarginVerifier.Config memory c = config();
                    c.attestors = addressesOf(keysOf("member", members));
                    c.threshold = threshold;
                    assertEq(new MarginVerifier(c).THRESHOLD(), threshold, "threshold");
                }
            }
        }
    }

    function test_CM01_constructor_RevertWhen_AttestorsUnsorted() public {
        MarginVerifier.Config memory c = config();
        (c.attestors[1], c.attestors[2]) = (c.attestors[2], c.attestors[1]);
        expectError(abi.encodeWithSelector(Errors.AttestorsNotAscending.selector, c.attestors[1], c.attestors[2]));
        new MarginVerifier(c);
    }

    function test_CM01_constructor_RevertWhen_AttestorTwice() public {
        MarginVerifier.Config memory c = config();
        c.attestors[2] = c.attestors[1];
        expectError(abi.encodeWithSelector(Errors.AttestorsNotAscending.selector, c.attestors[1], c.attestors[1]));
        new MarginVerifier(c);
    }

    /// @notice A signature nobody made recovers to zero: zero is no member.
    function test_CM01_constructor_RevertWhen_AttestorZero() public {
        MarginVerifier.Config memory c = config();
        c.attestors[0] = address(0);
        expectError(abi.encodeWithSelector(Errors.AttestorsNotAscending.selector, address(0), address(0)));
        new MarginVerifier(c);
    }

    function _refused(MarginVerifier.Config memory c, string memory field) private {
        expectError(abi.encodeWithSelector(Errors.BadConfiguration.selector, field));
        new MarginVerifier(c);
    }

    function _thresholdRefused(uint256 threshold, uint256 members) private {
        MarginVerifier.Config memory c = config();
        c.attestors = addressesOf(keysOf("member", members));
        c.threshold = threshold;
        expectError(abi.encodeWithSelector(Errors.BadThreshold.selector, threshold, members));
        new MarginVerifier(c);
    }
}
