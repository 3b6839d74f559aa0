// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {CctpBridge} from "../../contracts/adapters/CctpBridge.sol";
import {DevnetMessageTransmitter} from "../../contracts/devnet/DevnetMessageTransmitter.sol";
import {DevnetTokenMessenger} from "../../contracts/devnet/DevnetTokenMessenger.sol";
import {ICollateralVault} from "../../contracts/interfaces/ICollateralVault.sol";
import {AccountLib} from "../../contracts/libraries/AccountLib.sol";
import {CctpLib} from "../../contracts/libraries/CctpLib.sol";
import {Errors} from "../../contracts/libraries/Errors.sol";
import {Events} from "../../contracts/libraries/Events.sol";
import {SettlementLeaf} from "../../contracts/libraries/Types.sol";
import {LocalBridge} from "./base/LocalBridge.sol";
import {SettlementFixture} from "./base/SettlementFixture.sol";
import {vm} from "./base/Vm.sol";

/// @notice The adapter between CCTP and the real vault: what a settlement ships is burnt, what arrives is booked. The
/// other chain is its attester.
contract CctpVaultTest is SettlementFixture {
    uint32 private constant HERE = 7;
    uint32 private constant THERE = 9;
    address private constant REMOTE_MESSENGER = address(0x3E55);
    address private constant REMOTE_TOKEN = address(0x70CE);
    address private constant FEES = address(0xFEE5);
    uint256 private constant ALICE = 0;
    uint256 private constant SCALE = 1e12;

    uint256 private immutable ATTESTER = uint256(keccak256("attester"));

    DevnetMessageTransmitter private transmitter;
    DevnetTokenMessenger private messenger;
    CctpBridge private cctp;

    function setUp() public override {
        super.setUp();
        transmitter = new DevnetMessageTransmitter(HERE, vm.addr(ATTESTER));
        uint32[] memory domains = new uint32[](1);
        domains[0] = THERE;
        DevnetTokenMessenger.Remote[] memory remotes = new DevnetTokenMessenger.Remote[](1);
        remotes[0] = DevnetTokenMessenger.Remote(CctpLib.toBytes32(REMOTE_MESSENGER), CctpLib.toBytes32(REMOTE_TOKEN));
        messenger = new DevnetTokenMessenger(transmitter, usdc, FEES, domains, remotes);

        // The adapter is created before the vault that it names: after it come history, verifier and house.
        CctpBridge.Config memory config;
        config.vault = ICollateralVault(vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 4));
        config.token = usdc;
        config.tokenMessenger = messenger;
        config.messageTransmitter = transmitter;
        config.chainIds = new uint64[](1);
        config.chainIds[0] = CHAIN_B;
        config.domains = domains;
        config.remotes = new bytes32[](1);
        config.remotes[0] = _remote();
        config.maxFeeBps = 25;
        config.minFinalityThreshold = 2000;
        cctp = new CctpBridge(config);
        bridge = LocalBridge(address(cctp));
        redeploy();
        assertEq(address(cctp.VAULT()), address(vault), "predicted vault");
        post();
    }

    /// @notice CM-30: tokens become a claim on the other chain, and leave.
    function test_CM30_ship_BurnsWhatTheVaultGivesAway() public {
        fund(ALICE, 1000);
        settle(1, idOf(ALICE), -400e18);
        assertEq(house.claims(), -400e18, "owed");
        SettlementLeaf memory shipment = entryOf(1, shipmentTo(CHAIN_B), -400e18);
        postEntry(shipment);
        vm.expectEmit(true, false, false, true, address(cctp));
        emit Events.BridgeSent(CHAIN_B, 400e6, 1e6);
        applyEntry(shipment, "");
        assertEq(house.claims(), 0, "claims");
        assertEq(vault.settlementHeld(), 600e6, "held");
        assertEq(usdc.totalSupply(), 600e6, "supply");
        assertEq(usdc.balanceOf(address(vault)), 600e6, "in the vault");
        _addsUp();
    }

    /// @notice A shipment waits until the tokens are there, and until there is a way.
    function test_ship_RevertWhen_ThereIsNoWay() public {
        fund(ALICE, 1000);
        bytes memory refusal = abi.encodeWithSelector(Errors.NoRoute.selector, CHAIN_C);
        postEntry(entryOf(1, shipmentTo(CHAIN_C), -400e18));
        applyEntry(entryOf(1, shipmentTo(CHAIN_C), -400e18), refusal);
        assertEq(vault.settlementHeld(), 1000e6, "held");
    }

    /// @notice CM-30: what arrived takes the place of the claim; the fee is the fund's loss.
    function test_CM30_receiveMessage_BooksWhatArrivedAndTheFundPaysTheFee() public {
        fund(ALICE, 1000);
        settle(1, idOf(ALICE), 400e18);
        assertEq(house.claims(), 400e18, "owed by the other chain");
        int256 fundBefore = house.cashOf(AccountLib.FUND);
        bytes memory message = _arriving(400e6, 1e6);
        bytes memory attestation = sign(keccak256(message), ATTESTER);
        vm.expectEmit(false, false, false, true, address(vault));
        emit Events.Arrived(400e6, 399e6);
        cctp.receiveMessage(message, attestation);
        assertEq(house.claims(), 0, "claims");
        assertEq(vault.settlementHeld(), 1399e6, "held");
        assertEq(usdc.balanceOf(address(vault)), 1399e6, "in the vault");
        assertEq(house.cashOf(AccountLib.FUND), fundBefore - 1e18, "fund");
        assertEq(house.cashOf(idOf(ALICE)), 1400e18, "owner");
        _addsUp();
    }

    function testFuzz_CM30_receiveMessage_AddsUp(uint256 amount, uint256 fee) public {
        amount = bound(amount, 1, 1e15);
        fee = bound(fee, 0, amount * 25 / 10_000);
        bytes memory message = _arriving(amount, fee);
        cctp.receiveMessage(message, sign(keccak256(message), ATTESTER));
        assertEq(house.claims(), -int256(amount * SCALE), "claims");
        assertEq(house.cashOf(AccountLib.FUND), -int256(fee * SCALE), "fund");
        _addsUp();
    }

    /// @return A burn on the other chain as its attester completes it.
    function _arriving(uint256 amount, uint256 fee) private view returns (bytes memory) {
        bytes memory body = abi.encodePacked(
            uint32(1), // version
            CctpLib.toBytes32(REMOTE_TOKEN), // burnToken
            CctpLib.toBytes32(address(cctp)), // mintRecipient
            amount,
            _remote(), // messageSender
            amount * 25 / 10_000, // maxFee
            fee,
            uint256(0) // expirationBlock
        );
        return abi.encodePacked(
            uint32(1), // version
            THERE,
            HERE,
            keccak256("nonce"),
            CctpLib.toBytes32(REMOTE_MESSENGER), // sender
            CctpLib.toBytes32(address(messenger)), // recipient
            CctpLib.toBytes32(address(cctp)), // destinationCaller
            uint32(2000), // minFinalityThreshold
            uint32(2000), // finalityThresholdExecuted
            body
        );
    }

    function _remote() private pure returns (bytes32) {
        return CctpLib.toBytes32(address(0xADA97E4));
    }

    function _addsUp() private view {
        int256 held = int256(vault.settlementHeld() * SCALE);
        assertEq(house.totalCash(), held + house.claims(), "CM-30");
        assertEq(usdc.balanceOf(address(cctp)), 0, "left in the adapter");
    }
}
