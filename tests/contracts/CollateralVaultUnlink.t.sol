// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {CollateralVault} from "../../contracts/CollateralVault.sol";
import {Errors} from "../../contracts/libraries/Errors.sol";
import {Events} from "../../contracts/libraries/Events.sol";
import {HashLib} from "../../contracts/libraries/HashLib.sol";
import {Permit, Unlink, Withdraw} from "../../contracts/libraries/Types.sol";
import {HouseFixture} from "./base/HouseFixture.sol";
import {vm} from "./base/Vm.sol";

/// @notice A chain is taken out of an account by its owner with a permit, once, and by nobody else (CM-09).
contract CollateralVaultUnlinkTest is HouseFixture {
    uint256 private constant ALICE = 0;
    uint256 private constant BOB = 1;

    function setUp() public override {
        super.setUp();
        _link(ALICE);
    }

    function test_CM09_unlink_ByTheOwnerWithAPermit() public {
        (Unlink memory action, Permit memory permit) = _permitted(CHAIN_B);
        bytes memory signatures = signed(permit);
        vm.expectEmit(true, true, false, true, address(vault));
        emit Events.Unlinked(idOf(ALICE), CHAIN_B);
        vm.prank(ownerOf(ALICE));
        vault.unlink(action, permit, signatures);
        assertFalse(vault.isLinked(idOf(ALICE), CHAIN_B), "taken out");
        assertTrue(vault.isLinked(idOf(ALICE), CHAIN_C), "the other stays");
    }

    /// @notice Linking only adds, so it wants no permit; parting again wants another one.
    function test_CM09_unlink_LinkedAgain() public {
        (Unlink memory action, Permit memory permit) = _permitted(CHAIN_B);
        _unlink(action, permit, "");
        _link(ALICE);
        assertTrue(vault.isLinked(idOf(ALICE), CHAIN_B), "linked again");
        _unlink(action, permit, abi.encodeWithSelector(Errors.NonceAlreadyUsed.selector, idOf(ALICE), permit.nonce));
        assertTrue(vault.isLinked(idOf(ALICE), CHAIN_B), "and stays so");
    }

    function test_CM09_unlink_RevertWhen_NotTheOwner() public {
        (Unlink memory action, Permit memory permit) = _permitted(CHAIN_B);
        bytes memory signatures = signed(permit);
        bytes32 account = idOf(ALICE);
        expectError(abi.encodeWithSelector(Errors.NotOwner.selector, address(this), account));
        vault.unlink(action, permit, signatures);
        vm.prank(ownerOf(BOB));
        expectError(abi.encodeWithSelector(Errors.NotOwner.selector, ownerOf(BOB), account));
        vault.unlink(action, permit, signatures);
    }

    function test_CM09_unlink_RevertWhen_NotLinked() public {
        uint64[3] memory chains = [CHAIN_A, 0, 77];
        for (uint256 i; i < chains.length; ++i) {
            (Unlink memory action, Permit memory permit) = _permitted(chains[i]);
            _unlink(action, permit, abi.encodeWithSelector(Errors.NotLinked.selector, idOf(ALICE), chains[i]));
        }
    }

    function test_CM09_unlink_RevertWhen_Replayed() public {
        (Unlink memory action, Permit memory permit) = _permitted(CHAIN_B);
        _unlink(action, permit, "");
        _unlink(action, permit, abi.encodeWithSelector(Errors.NotLinked.selector, idOf(ALICE), CHAIN_B));
    }

    function test_unlink_RevertWhen_ThePermitIsForSomethingElse() public {
        (Unlink memory action, Permit memory permit) = _permitted(CHAIN_B);
        action.chainId = CHAIN_C;
        _unlink(
            action,
            permit,
            abi.encodeWithSelector(Errors.ActionMismatch.selector, HashLib.hash(action), permit.actionHash)
        );
        action.chainId = CHAIN_B;
        permit.counterpartyId = idOf(BOB);
        _unlink(action, permit, abi.encodeWithSelector(Errors.PermitAccountMismatch.selector, idOf(ALICE), idOf(BOB)));
        permit.counterpartyId = 0;
        permit.accountId = idOf(BOB);
        _unlink(action, permit, abi.encodeWithSelector(Errors.PermitAccountMismatch.selector, idOf(BOB), bytes32(0)));
        assertTrue(vault.isLinked(idOf(ALICE), CHAIN_B), "still linked");
    }

    /// @notice A withdrawal's permit parts nothing.
    function test_unlink_RevertWhen_ThePermitIsAWithdrawals() public {
        Unlink memory action = Unlink(idOf(ALICE), CHAIN_B);
        bytes32 withdrawal = HashLib.hash(Withdraw(idOf(ALICE), address(usdc), 1, ownerOf(ALICE)));
        Permit memory permit = permitted(idOf(ALICE), 0, withdrawal);
        _unlink(
            action, permit, abi.encodeWithSelector(Errors.ActionMismatch.selector, HashLib.hash(action), withdrawal)
        );
    }

    /// @notice A vault that the verifier does not name parts nothing with its permits.
    function test_unlink_RevertWhen_AtAnotherVault() public {
        (Unlink memory action, Permit memory permit) = _permitted(CHAIN_B);
        bytes memory signatures = signed(permit);
        address holder = address(reservations);
        CollateralVault other = new CollateralVault(verifier, house, address(usdc), new address[](0), holder, bridge);
        uint64[] memory chains = new uint64[](1);
        chains[0] = CHAIN_B;
        vm.startPrank(ownerOf(ALICE));
        other.link(action.accountId, chains);
        expectError(abi.encodeWithSelector(Errors.NotConsumer.selector, address(other)));
        other.unlink(action, permit, signatures);
        vm.stopPrank();
        assertTrue(other.isLinked(action.accountId, CHAIN_B), "still linked there");
    }

    function test_unlink_RevertWhen_ThePermitHasExpired() public {
        (Unlink memory action, Permit memory permit) = _permitted(CHAIN_B);
        vm.warp(permit.deadline + 1);
        _unlink(
            action, permit, abi.encodeWithSelector(Errors.PermitExpired.selector, permit.deadline, permit.deadline + 1)
        );
        assertTrue(vault.isLinked(idOf(ALICE), CHAIN_B), "still linked");
    }

    // --- helpers ---------------------------------------------------------------------------------------------------

    function _link(uint256 index) private {
        uint64[] memory chains = new uint64[](2);
        (chains[0], chains[1]) = (CHAIN_B, CHAIN_C);
        bytes32 account = idOf(index);
        vm.prank(ownerOf(index));
        vault.link(account, chains);
    }

    function _permitted(uint64 chainId) private returns (Unlink memory action, Permit memory permit) {
        action = Unlink(idOf(ALICE), chainId);
        permit = permitted(idOf(ALICE), 0, HashLib.hash(action));
    }

    /// @dev By the owner; must fail with `refusal` where one is given.
    function _unlink(Unlink memory action, Permit memory permit, bytes memory refusal) private {
        bytes memory signatures = signed(permit);
        vm.prank(ownerOf(ALICE));
        if (refusal.length != 0) expectError(refusal);
        vault.unlink(action, permit, signatures);
    }
}
