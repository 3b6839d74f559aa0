// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {CollateralVault} from "../../contracts/CollateralVault.sol";
import {IBridge} from "../../contracts/interfaces/IBridge.sol";
import {AccountLib} from "../../contracts/libraries/AccountLib.sol";
import {Errors} from "../../contracts/libraries/Errors.sol";
import {Events} from "../../contracts/libraries/Events.sol";
import {HashLib} from "../../contracts/libraries/HashLib.sol";
import {SettlementLeaf, Withdraw} from "../../contracts/libraries/Types.sol";
import {LocalBridge} from "./base/LocalBridge.sol";
import {SettlementFixture} from "./base/SettlementFixture.sol";
import {BlockingToken, FeeToken} from "./base/Tokens.sol";
import {Trees} from "./base/Trees.sol";
import {vm} from "./base/Vm.sol";

/// @notice Settlement token between chains and to integrators: what this chain owes others stays, what arrives is
/// measured (CM-20, CM-30), and only the deployment's own contracts may.
contract CollateralVaultShipmentsTest is SettlementFixture {
    uint256 private constant ALICE = 0;
    uint256 private constant BOB = 1;
    uint64[] private none;

    function setUp() public override {
        super.setUp();
        fund(ALICE, 1000);
        fund(BOB, 1000);
    }

    // --- what may leave (CM-21) ------------------------------------------------------------------------------------

    function test_CM30_available_IsLessWhatIsOwedToOthers() public {
        assertEq(vault.available(), 2000e6, "all of it");
        settle(1, idOf(ALICE), -500e18 - 1);
        assertEq(vault.available(), 1500e6 - 1, "less what is owed, rounded up");
        settle(1, idOf(BOB), 700e18);
        assertEq(vault.available(), 2000e6, "a claim on others adds nothing");
        settle(2, AccountLib.FEES, -3000e18);
        assertEq(vault.available(), 0, "more is owed than held");
    }

    /// @notice Tokens of a signed flow are set aside before withdrawals.
    function test_CM21_withdraw_RevertWhen_ItIsOwedToOtherChains() public {
        settle(1, idOf(BOB), -1000e18);
        withdraw(
            ALICE,
            address(usdc),
            1000e6 + 1,
            abi.encodeWithSelector(Errors.InsufficientHeld.selector, 1000e6, 1000e6 + 1)
        );
        withdraw(ALICE, address(usdc), 1000e6);
        settle(1, shipmentTo(CHAIN_B), -1000e18);
        assertEq(bridge.sentTo(CHAIN_B), 1000e6, "the shipment finds its tokens");
        assertSums("after both");
    }

    // --- arrivals --------------------------------------------------------------------------------------------------

    function test_CM20_CM30_receiveShipment_CountsWhatArrived() public {
        settle(1, idOf(ALICE), 300e18);
        vm.expectEmit(true, true, true, true, address(vault));
        emit Events.Arrived(300e6, 299e6);
        bridge.arrive(vault, 300e6, 299e6);
        assertEq(vault.settlementHeld(), 2299e6, "held");
        assertEq(house.claims(), 0, "the claim is met");
        assertEq(house.cashOf(AccountLib.FUND), -1e18, "the bridge's fee is the fund's");
        assertEq(house.totalCash(), 2299e18, "total cash");
        assertSums("after an arrival");
        vm.recordLogs();
        bridge.arrive(vault, 10e6, 10e6);
        assertEq(house.cashOf(AccountLib.FUND), -1e18, "no fee, no loss");
        assertSums("after an arrival in full");
        bridge.arrive(vault, 10e6, 0);
        assertEq(house.cashOf(AccountLib.FUND), -11e18, "all lost");
        assertSums("after an arrival of nothing");
    }

    function test_CM30_receiveShipment_RevertWhen_MoreThanWasSent() public {
        expectError(abi.encodeWithSelector(Errors.ArrivedMoreThanSent.selector, 10e6, 10e6 + 1));
        bridge.arrive(vault, 10e6, 10e6 + 1);
    }

    /// @notice A settlement token that keeps a fee: what is measured counts, not what the bridge says.
    function test_CM20_receiveShipment_MeasuresWhatArrives() public {
        FeeToken token = new FeeToken(100);
        usdc = token;
        bridge = new LocalBridge(token);
        redeploy();
        bridge.arrive(vault, 100e18, 100e18);
        assertEq(vault.settlementHeld(), 99e18, "what came");
        assertEq(house.cashOf(AccountLib.FUND), -1e18, "the fund's loss");
        assertSums("after an arrival short of a fee");
    }

    /// @notice A token that calls back while it arrives, or while it is shipped, finds the vault closed.
    function test_CM20_RevertWhen_TheTokenCallsBack() public {
        BlockingToken token = new BlockingToken();
        usdc = token;
        bridge = new LocalBridge(token);
        redeploy();
        fund(ALICE, 1000);
        bytes memory refusal = abi.encodeWithSignature("ReentrancyGuardReentrantCall()");
        bytes memory deposit_ = abi.encodeCall(vault.deposit, (idOf(ALICE), address(usdc), 1, none));
        SettlementLeaf memory entry = entryOf(1, shipmentTo(CHAIN_B), -400e18);
        postEntry(entry);
        token.onTransfer(address(vault), deposit_);
        applyEntry(entry, refusal);
        // And the clearing house: no entry inside an entry.
        (SettlementLeaf[] memory entries, bytes32[][] memory proofs) = (new SettlementLeaf[](1), new bytes32[][](1));
        (entries[0], proofs[0]) = (entry, Trees.proof(settlementsTree(), HashLib.leaf(entry)));
        token.onTransfer(address(house), abi.encodeCall(house.applySettlement, (entries, proofs)));
        applyEntry(entry, refusal);
        token.onTransfer(address(0), "");
        token.mint(address(bridge), 5e6);
        vm.startPrank(address(bridge));
        token.approve(address(vault), 5e6);
        token.onTransfer(address(vault), deposit_);
        expectError(refusal);
        vault.receiveShipment(5e6, 5e6);
        vm.stopPrank();
        assertSums("after what was refused");
    }

    // --- who may ---------------------------------------------------------------------------------------------------

    function test_RevertWhen_NotTheDeploymentsOwn() public {
        bytes32 alice = idOf(ALICE);
        bytes32 bob = idOf(BOB);
        bytes memory notHouse = abi.encodeWithSelector(Errors.NotClearingHouse.selector, address(this));
        expectError(notHouse);
        vault.transferBalance(alice, bob, address(weth), 1);
        expectError(notHouse);
        vault.ship(CHAIN_B, 1);
        expectError(abi.encodeWithSelector(Errors.NotBridge.selector, address(this)));
        vault.receiveShipment(1, 1);
        expectError(abi.encodeWithSelector(Errors.NotReservations.selector, address(this)));
        vault.payClaim(address(this), 1);
        expectError(abi.encodeWithSelector(Errors.NotVault.selector, address(this)));
        house.received(1, 1);
    }

    /// @notice Limits of their own, whoever asks.
    function test_CM20_RevertWhen_MoreThanThereIs() public {
        bytes32 alice = idOf(ALICE);
        bytes32 bob = idOf(BOB);
        deposit(ALICE, weth, 1e18);
        vm.startPrank(address(house));
        expectError(abi.encodeWithSelector(Errors.InsufficientBalance.selector, alice, address(weth), 1e18, 1e18 + 1));
        vault.transferBalance(alice, bob, address(weth), 1e18 + 1);
        expectError(abi.encodeWithSelector(Errors.InsufficientHeld.selector, 2000e6, 2000e6 + 1));
        vault.ship(CHAIN_B, 2000e6 + 1);
        vm.stopPrank();
        vm.prank(address(reservations));
        expectError(abi.encodeWithSelector(Errors.InsufficientHeld.selector, 2000e6, 2000e6 + 1));
        vault.payClaim(address(this), 2000e6 + 1);
    }

    /// @notice Without a bridge nothing is taken in either: nobody's address is zero.
    function test_constructor_ABridgeIsOptional() public {
        CollateralVault alone = new CollateralVault(
            verifier, house, address(usdc), new address[](0), address(reservations), IBridge(address(0))
        );
        assertEq(address(alone.BRIDGE()), address(0), "no bridge");
        expectError(abi.encodeWithSelector(Errors.NotBridge.selector, address(this)));
        alone.receiveShipment(1, 1);
    }

    // --- which accounts --------------------------------------------------------------------------------------------

    function test_deposit_RevertWhen_ForAClaimsOrAReservedAccount() public {
        bytes32 claims = AccountLib.claims(ownerOf(ALICE));
        expectError(abi.encodeWithSelector(Errors.ClaimsAccount.selector, claims));
        vault.deposit(claims, address(usdc), 1, none);
        bytes32[3] memory nobodys = [AccountLib.CLEARING, AccountLib.claims(address(0)), shipmentTo(CHAIN_B)];
        for (uint256 i; i < nobodys.length; ++i) {
            expectError(abi.encodeWithSelector(Errors.NoOwner.selector, nobodys[i]));
            vault.deposit(nobodys[i], address(usdc), 1, none);
        }
    }

    /// @notice No permit names a claims account: its cash leaves by a payout alone.
    function test_CM15_withdraw_RevertWhen_OfAClaimsAccount() public {
        bytes32 claims = AccountLib.claims(ownerOf(ALICE));
        reserve(BOB, ownerOf(ALICE), 2000e18, 0);
        claim(BOB, ownerOf(ALICE), 2000e18);
        Withdraw memory action = Withdraw(claims, address(usdc), 1, ownerOf(ALICE));
        (bytes32 hash, bytes memory signatures) = (HashLib.hash(action), "");
        vm.prank(ownerOf(ALICE));
        expectError(abi.encodeWithSelector(Errors.ClaimsAccount.selector, claims));
        vault.withdraw(action, permitOf(claims, hash, 0), signatures);
    }

    function test_scaleOf_ToWholeUnits() public view {
        assertEq(vault.scaleOf(address(usdc)), 1e12, "six decimals");
        assertEq(vault.scaleOf(address(weth)), 1, "eighteen");
        assertEq(vault.scaleOf(address(this)), 0, "not taken");
    }
}
