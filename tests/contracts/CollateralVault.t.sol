// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {CollateralVault} from "../../contracts/CollateralVault.sol";
import {DevnetToken} from "../../contracts/devnet/DevnetToken.sol";
import {IClearingHouse} from "../../contracts/interfaces/IClearingHouse.sol";
import {IMarginVerifier} from "../../contracts/interfaces/IMarginVerifier.sol";
import {AccountLib} from "../../contracts/libraries/AccountLib.sol";
import {Errors} from "../../contracts/libraries/Errors.sol";
import {Events} from "../../contracts/libraries/Events.sol";
import {HashLib} from "../../contracts/libraries/HashLib.sol";
import {Permit, Withdraw} from "../../contracts/libraries/Types.sol";
import {HouseFixture} from "./base/HouseFixture.sol";
import {FeeToken, ReentrantToken, SilentToken} from "./base/Tokens.sol";
import {vm} from "./base/Vm.sol";

/// @notice Tokens in and out, never more out than the vault has for an account (CM-20); links by owners alone (CM-09).
contract CollateralVaultTest is HouseFixture {
    uint256 private constant ALICE = 0;
    uint256 private constant BOB = 1;
    uint64[] private none;

    // --- in --------------------------------------------------------------------------------------------------------

    function test_CM20_CM30_deposit_SettlementTokenIsCash() public {
        deposit(ALICE, usdc, 1_234_567_891);
        assertEq(house.cashOf(idOf(ALICE)), 1234.567891e18, "cash, USD 1e18");
        assertEq(vault.depositedOf(idOf(ALICE)), 1_234_567_891, "deposited, token decimals");
        assertEq(vault.settlementHeld(), 1_234_567_891, "held");
        assertEq(vault.balanceOf(idOf(ALICE), address(usdc)), 0, "no balance besides");
        assertSums("after a deposit of cash");
    }

    function test_CM20_deposit_CollateralIsABalance() public {
        deposit(ALICE, weth, 3e18);
        deposit(ALICE, weth, 1);
        assertEq(vault.balanceOf(idOf(ALICE), address(weth)), 3e18 + 1, "balance");
        assertEq(house.cashOf(idOf(ALICE)), 0, "no cash");
        assertSums("after a deposit of collateral");
    }

    function test_deposit_ForAnotherAndForTheFund() public {
        usdc.mint(address(this), 30e6);
        usdc.approve(address(vault), 30e6);
        vault.deposit(idOf(ALICE), address(usdc), 10e6, none);
        vault.deposit(AccountLib.FUND, address(usdc), 20e6, none);
        assertEq(house.cashOf(idOf(ALICE)), 10e18, "anyone may give");
        assertEq(house.cashOf(AccountLib.FUND), 20e18, "to the fund too");
        expectError(abi.encodeWithSelector(Errors.NoOwner.selector, AccountLib.FEES));
        vault.deposit(AccountLib.FEES, address(usdc), 1, none);
        expectError(abi.encodeWithSelector(Errors.NoOwner.selector, bytes32(0)));
        vault.deposit(bytes32(0), address(usdc), 1, none);
    }

    function test_deposit_RevertWhen_TheTokenIsNotListed() public {
        DevnetToken other = new DevnetToken("Other", "OTH", 18);
        bytes32 account = idOf(ALICE);
        expectError(abi.encodeWithSelector(Errors.TokenNotListed.selector, address(other)));
        vault.deposit(account, address(other), 1, none);
    }

    /// @notice What arrives counts, not what was asked for.
    function test_CM20_deposit_OfATokenThatKeepsAFee() public {
        FeeToken token = new FeeToken(100);
        _vaultOf(address(token));
        deposit(ALICE, token, 100e18);
        assertEq(vault.balanceOf(idOf(ALICE), address(token)), 99e18, "what arrived");
        assertEq(vault.totalOf(address(token)), token.balanceOf(address(vault)), "what the vault has");
    }

    function test_deposit_RevertWhen_NothingArrives() public {
        bytes32 account = idOf(ALICE);
        expectError(abi.encodeWithSelector(Errors.NothingArrived.selector, address(usdc)));
        vault.deposit(account, address(usdc), 0, none);
        FeeToken token = new FeeToken(10_000);
        _vaultOf(address(token));
        token.mint(address(this), 1e18);
        token.approve(address(vault), 1e18);
        expectError(abi.encodeWithSelector(Errors.NothingArrived.selector, address(token)));
        vault.deposit(account, address(token), 1e18, none);
    }

    function test_CM20_deposit_withdraw_OfATokenThatReturnsNothing() public {
        SilentToken token = new SilentToken();
        _vaultOf(address(token));
        token.mint(address(this), 5e8);
        vault.deposit(idOf(ALICE), address(token), 5e8, none);
        withdraw(ALICE, address(token), 2e8);
        assertEq(vault.balanceOf(idOf(ALICE), address(token)), 3e8, "balance");
        assertEq(token.balanceOf(ownerOf(ALICE)), 2e8, "received");
    }

    // --- links (CM-09) ---------------------------------------------------------------------------------------------

    function test_CM09_link_ByTheOwnerOnce() public {
        uint64[] memory chains = new uint64[](2);
        (chains[0], chains[1]) = (CHAIN_B, CHAIN_A);
        bytes32 account = idOf(ALICE);
        vm.expectEmit(true, true, false, true, address(vault));
        emit Events.Linked(account, CHAIN_B);
        vm.prank(ownerOf(ALICE));
        vault.link(account, chains);
        assertTrue(vault.isLinked(account, CHAIN_B), "linked");
        assertFalse(vault.isLinked(account, CHAIN_A), "a chain is not linked to itself");
        assertFalse(vault.isLinked(idOf(BOB), CHAIN_B), "nobody else's");
        vm.recordLogs();
        vm.prank(ownerOf(ALICE));
        vault.link(account, chains);
        assertEq(vm.getRecordedLogs().length, 0, "again changes nothing");
    }

    function test_CM09_link_RevertWhen_NotTheOwner() public {
        uint64[] memory chains = new uint64[](1);
        chains[0] = CHAIN_B;
        bytes32 account = idOf(ALICE);
        vm.startPrank(ownerOf(BOB));
        expectError(abi.encodeWithSelector(Errors.NotOwner.selector, ownerOf(BOB), account));
        vault.link(account, chains);
        expectError(abi.encodeWithSelector(Errors.NotOwner.selector, ownerOf(BOB), account));
        vault.deposit(account, address(usdc), 1, chains);
    }

    function test_CM09_deposit_LinksForTheOwner() public {
        uint64[] memory chains = new uint64[](1);
        chains[0] = CHAIN_C;
        usdc.mint(ownerOf(ALICE), 1e6);
        vm.startPrank(ownerOf(ALICE));
        usdc.approve(address(vault), 1e6);
        vault.deposit(idOf(ALICE), address(usdc), 1e6, chains);
        assertTrue(vault.isLinked(idOf(ALICE), CHAIN_C), "linked");
    }

    function test_CM09_link_RevertWhen_NoneManyOrZero() public {
        bytes32 account = idOf(ALICE);
        uint256 most = vault.MAX_LINKS();
        vm.startPrank(ownerOf(ALICE));
        expectError(abi.encodeWithSelector(Errors.ZeroAmount.selector));
        vault.link(account, none);
        expectError(abi.encodeWithSelector(Errors.TooManyChains.selector, most + 1, most));
        vault.link(account, new uint64[](most + 1));
        expectError(abi.encodeWithSelector(Errors.BadChain.selector, 0));
        vault.link(account, new uint64[](1));
    }

    // --- out -------------------------------------------------------------------------------------------------------

    function test_CM20_CM30_withdraw_CashAndCollateral() public {
        deposit(ALICE, usdc, 100e6);
        deposit(ALICE, weth, 2e18);
        withdraw(ALICE, address(usdc), 40e6);
        withdraw(ALICE, address(weth), 2e18);
        assertEq(usdc.balanceOf(ownerOf(ALICE)), 40e6, "cash received");
        assertEq(weth.balanceOf(ownerOf(ALICE)), 2e18, "collateral received");
        assertEq(house.cashOf(idOf(ALICE)), 60e18, "cash that stays");
        assertEq(vault.balanceOf(idOf(ALICE), address(weth)), 0, "collateral that stays");
        assertSums("after withdrawals");
    }

    /// @notice What one has on other chains may leave on this one: cash here goes below zero, tokens do not.
    function test_CM20_withdraw_CashBelowZeroUpToWhatTheVaultHolds() public {
        deposit(BOB, usdc, 100e6);
        withdraw(ALICE, address(usdc), 100e6);
        assertEq(house.cashOf(idOf(ALICE)), -100e18, "cash here");
        assertSums("after a withdrawal against cash elsewhere");
        withdraw(ALICE, address(usdc), 1, abi.encodeWithSelector(Errors.InsufficientHeld.selector, 0, 1));
    }

    function test_CM20_withdraw_RevertWhen_MoreThanTheBalance() public {
        deposit(ALICE, weth, 1e18);
        deposit(BOB, weth, 5e18);
        withdraw(
            ALICE,
            address(weth),
            1e18 + 1,
            abi.encodeWithSelector(Errors.InsufficientBalance.selector, idOf(ALICE), address(weth), 1e18, 1e18 + 1)
        );
        DevnetToken other = new DevnetToken("Other", "OTH", 18);
        other.mint(address(vault), 5);
        withdraw(
            ALICE,
            address(other),
            5,
            abi.encodeWithSelector(Errors.InsufficientBalance.selector, idOf(ALICE), address(other), 0, 5)
        );
    }

    function test_withdraw_RevertWhen_NotTheOwner() public {
        (Withdraw memory action, Permit memory permit) = _permitted(address(usdc), 1, ownerOf(ALICE));
        bytes memory signatures = signed(permit);
        vm.prank(ownerOf(BOB));
        expectError(abi.encodeWithSelector(Errors.NotOwner.selector, ownerOf(BOB), idOf(ALICE)));
        vault.withdraw(action, permit, signatures);
    }

    function test_withdraw_RevertWhen_ReceiverIsNobodyOrTheVault() public {
        address[2] memory receivers = [address(0), address(vault)];
        for (uint256 i; i < receivers.length; ++i) {
            (Withdraw memory action, Permit memory permit) = _permitted(address(usdc), 1, receivers[i]);
            _refused(action, permit, abi.encodeWithSelector(Errors.BadAddress.selector, receivers[i]));
        }
    }

    function test_withdraw_RevertWhen_NothingOrAltered() public {
        deposit(ALICE, usdc, 100e6);
        (Withdraw memory action, Permit memory permit) = _permitted(address(usdc), 0, ownerOf(ALICE));
        _refused(action, permit, abi.encodeWithSelector(Errors.ZeroAmount.selector));
        (action, permit) = _permitted(address(usdc), 1e6, ownerOf(ALICE));
        action.amount = 2e6;
        _refused(
            action,
            permit,
            abi.encodeWithSelector(Errors.ActionMismatch.selector, HashLib.hash(action), permit.actionHash)
        );
        action.amount = 1e6;
        permit.counterpartyId = idOf(BOB);
        _refused(action, permit, abi.encodeWithSelector(Errors.PermitAccountMismatch.selector, idOf(ALICE), idOf(BOB)));
        permit.counterpartyId = 0;
        permit.accountId = idOf(BOB);
        _refused(action, permit, abi.encodeWithSelector(Errors.PermitAccountMismatch.selector, idOf(BOB), bytes32(0)));
    }

    function test_withdraw_RevertWhen_Replayed() public {
        deposit(ALICE, usdc, 100e6);
        (Withdraw memory action, Permit memory permit) = _permitted(address(usdc), 1e6, ownerOf(ALICE));
        bytes memory signatures = signed(permit);
        vm.prank(ownerOf(ALICE));
        vault.withdraw(action, permit, signatures);
        _refused(action, permit, abi.encodeWithSelector(Errors.NonceAlreadyUsed.selector, idOf(ALICE), permit.nonce));
    }

    /// @notice A token that calls back finds the vault closed, and its transfer fails with it.
    function test_CM20_withdraw_RevertWhen_TheTokenCallsBack() public {
        ReentrantToken token = new ReentrantToken();
        _vaultOf(address(token));
        deposit(ALICE, token, 10e18);
        (Withdraw memory inner, Permit memory innerPermit) = _permitted(address(token), 5e18, ownerOf(ALICE));
        token.arm(vault, inner, innerPermit, signed(innerPermit));
        withdraw(ALICE, address(token), 5e18, abi.encodeWithSignature("ReentrancyGuardReentrantCall()"));
        assertEq(vault.balanceOf(idOf(ALICE), address(token)), 10e18, "nothing left");
    }

    /// @notice Any deposits and withdrawals: tokens cover balances and cash, and nobody takes what is another's.
    function testFuzz_CM20_TokensCoverBalances(uint256[8] calldata amounts) public {
        for (uint256 i; i < amounts.length; ++i) {
            uint256 index = i % 4;
            deposit(index, weth, bound(amounts[i], 1, 1e24));
            deposit(index, usdc, bound(amounts[i], 1, 1e12));
            uint256 asked = bound(amounts[i] >> 128, 1, 1e24);
            uint256 balance = vault.balanceOf(idOf(index), address(weth));
            bytes memory refusal;
            if (asked > balance) {
                refusal = abi.encodeWithSelector(
                    Errors.InsufficientBalance.selector, idOf(index), address(weth), balance, asked
                );
            }
            withdraw(index, address(weth), asked, refusal);
            assertSums("after a deposit and a withdrawal");
        }
    }

    // --- construction ----------------------------------------------------------------------------------------------

    function test_constructor_RevertWhen_Misconfigured() public {
        address holder = address(reservations);
        expectError(abi.encodeWithSelector(Errors.BadConfiguration.selector, "verifier"));
        new CollateralVault(IMarginVerifier(address(0)), house, address(usdc), _list(address(weth)), holder, bridge);
        expectError(abi.encodeWithSelector(Errors.BadConfiguration.selector, "clearingHouse"));
        new CollateralVault(verifier, IClearingHouse(address(0)), address(usdc), _list(address(weth)), holder, bridge);
        expectError(abi.encodeWithSelector(Errors.BadConfiguration.selector, "reservations"));
        new CollateralVault(verifier, house, address(usdc), _list(address(weth)), address(0), bridge);
        expectError(abi.encodeWithSelector(Errors.BadConfiguration.selector, "collateral"));
        new CollateralVault(verifier, house, address(usdc), _list(address(usdc)), holder, bridge);
        expectError(abi.encodeWithSelector(Errors.BadConfiguration.selector, "collateral"));
        new CollateralVault(verifier, house, address(usdc), new address[](17), holder, bridge);
        DevnetToken fine = new DevnetToken("Fine", "FINE", 19);
        expectError(abi.encodeWithSelector(Errors.TooManyDecimals.selector, address(fine), 19));
        new CollateralVault(verifier, house, address(usdc), _list(address(fine)), holder, bridge);
    }

    // --- helpers ---------------------------------------------------------------------------------------------------

    function _list(address token) private pure returns (address[] memory tokens) {
        tokens = new address[](1);
        tokens[0] = token;
    }

    /// @dev The same vault, but taking `token`: a verifier, a house and a vault of their own.
    function _vaultOf(address token) private {
        weth = DevnetToken(token);
        redeploy();
    }

    function _permitted(
        address token,
        uint256 amount,
        address receiver
    ) private returns (Withdraw memory action, Permit memory permit) {
        action = Withdraw(idOf(ALICE), token, amount, receiver);
        permit = permitted(idOf(ALICE), 0, HashLib.hash(action));
    }

    function _refused(Withdraw memory action, Permit memory permit, bytes memory refusal) private {
        bytes memory signatures = signed(permit);
        vm.prank(ownerOf(ALICE));
        expectError(refusal);
        vault.withdraw(action, permit, signatures);
    }
}
