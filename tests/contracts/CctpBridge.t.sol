// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {CctpBridge} from "../../contracts/adapters/CctpBridge.sol";
import {DevnetMessageTransmitter} from "../../contracts/devnet/DevnetMessageTransmitter.sol";
import {IMessageTransmitterV2, ITokenMessengerV2} from "../../contracts/interfaces/ICctp.sol";
import {ICollateralVault} from "../../contracts/interfaces/ICollateralVault.sol";
import {Errors} from "../../contracts/libraries/Errors.sol";
import {Events} from "../../contracts/libraries/Events.sol";
import {CctpFixture, ShipmentVault} from "./base/CctpFixture.sol";
import {vm} from "./base/Vm.sol";

/// @notice Delivers nothing, and says it did or did not.
contract IdleTransmitter {
    bool private immutable ANSWER;

    constructor(bool answer) {
        ANSWER = answer;
    }

    function receiveMessage(bytes calldata, bytes calldata) external view returns (bool) {
        return ANSWER;
    }
}

/// @notice Takes whatever is delivered to it.
contract Accomplice {
    function handleReceiveFinalizedMessage(uint32, bytes32, uint32, bytes calldata) external pure returns (bool) {
        return true;
    }
}

/// @notice Shipments over CCTP: burnt on one chain, minted to the vault of another, by nobody else and only once.
contract CctpBridgeTest is CctpFixture {
    uint256 private constant AMOUNT = 100_000e6;

    // --- there and back --------------------------------------------------------------------------------------------

    /// @notice Field by field as Circle documents MessageV2 and BurnMessageV2.
    function test_send_EmitsAMessageInCirclesFormat() public {
        bytes memory message = shipped(a, CHAIN_B, AMOUNT);
        bytes memory body = abi.encodePacked(
            uint32(1), // version
            word(address(a.token)), // burnToken
            word(address(b.bridge)), // mintRecipient
            AMOUNT,
            word(address(a.bridge)), // messageSender
            uint256(140e6), // maxFee, 14 basis points
            uint256(0), // feeExecuted
            uint256(0) // expirationBlock
        );
        bytes memory wanted = abi.encodePacked(
            uint32(1), // version
            DOMAIN_A,
            DOMAIN_B,
            bytes32(0), // nonce
            word(address(a.messenger)), // sender
            word(address(b.messenger)), // recipient
            word(address(b.bridge)), // destinationCaller
            FINAL, // minFinalityThreshold
            uint32(0), // finalityThresholdExecuted
            body
        );
        assertEq(keccak256(message), keccak256(wanted), "message");
        assertEq(message.length, 376, "its length");
    }

    function test_send_TellsWhatItSent() public {
        a.token.mint(address(a.vault), AMOUNT);
        vm.expectEmit(true, false, false, true, address(a.bridge));
        emit Events.BridgeSent(CHAIN_B, AMOUNT, 140e6);
        a.vault.ship(CHAIN_B, AMOUNT);
    }

    function test_receiveMessage_BringsWhatWasSent() public {
        bytes memory message = completed(shipped(a, CHAIN_B, AMOUNT), NONCE, FINAL, 0);
        assertEq(a.token.totalSupply(), 0, "burnt on A");
        vm.expectEmit(true, true, false, true, address(b.bridge));
        emit Events.BridgeReceived(CHAIN_A, NONCE, AMOUNT, AMOUNT);
        receiveAt(b, message, attested(message));
        assertEq(b.token.balanceOf(address(b.vault)), AMOUNT, "minted on B");
        assertEq(b.vault.sent(), AMOUNT, "sent");
        assertEq(b.vault.arrived(), AMOUNT, "arrived");
        assertEq(b.transmitter.usedNonces(NONCE), 1, "nonce");
        _holdsNothing();
    }

    function test_receiveMessage_ThereAndBack() public {
        bytes memory message = completed(shipped(a, CHAIN_B, AMOUNT), NONCE, FINAL, 0);
        receiveAt(b, message, attested(message));
        vm.recordLogs();
        b.vault.ship(CHAIN_A, AMOUNT);
        message = completed(emitted(b), keccak256("back"), FINAL, 0);
        receiveAt(a, message, attested(message));
        assertEq(b.token.totalSupply(), 0, "burnt on B");
        assertEq(a.token.balanceOf(address(a.vault)), AMOUNT, "minted on A");
    }

    /// @notice The vault hears of both: what was sent, and what arrived of it. The difference is the fund's.
    function test_receiveMessage_TellsTheVaultOfTheFee() public {
        bytes memory message = completed(shipped(a, CHAIN_B, AMOUNT), NONCE, 1000, 140e6);
        receiveAt(b, message, attested(message));
        assertEq(b.vault.sent(), AMOUNT, "sent");
        assertEq(b.vault.arrived(), AMOUNT - 140e6, "arrived");
        assertEq(b.token.balanceOf(FEES), 140e6, "fee");
        _holdsNothing();
    }

    function testFuzz_receiveMessage_NothingIsLostOrMade(uint256 amount, uint256 fee) public {
        amount = bound(amount, 1, 1e15);
        fee = bound(fee, 0, amount * MAX_FEE_BPS / 10_000);
        bytes memory message = completed(shipped(a, CHAIN_B, amount), NONCE, FINAL, fee);
        receiveAt(b, message, attested(message));
        assertEq(b.vault.sent(), amount, "sent");
        assertEq(b.vault.arrived() + b.token.balanceOf(FEES), amount, "arrived and fee");
        assertEq(a.token.totalSupply() + b.token.totalSupply(), amount, "supply");
        _holdsNothing();
    }

    /// @notice What somebody sent to the adapter belongs to nobody, and is no arrival.
    function test_receiveMessage_LeavesOutWhatLayThere() public {
        b.token.mint(address(b.bridge), 5e6);
        bytes memory message = completed(shipped(a, CHAIN_B, AMOUNT), NONCE, FINAL, 0);
        receiveAt(b, message, attested(message));
        assertEq(b.vault.arrived(), AMOUNT, "arrived");
        assertEq(b.token.balanceOf(address(b.bridge)), 5e6, "left");
    }

    /// @notice A vault that cannot take it now loses nothing: the message is delivered later.
    function test_receiveMessage_WaitsForTheVault() public {
        bytes memory message = completed(shipped(a, CHAIN_B, AMOUNT), NONCE, FINAL, 0);
        b.vault.close(true);
        expectError(abi.encodeWithSelector(ShipmentVault.Closed.selector));
        receiveAt(b, message, attested(message));
        b.vault.close(false);
        receiveAt(b, message, attested(message));
        assertEq(b.vault.arrived(), AMOUNT, "arrived");
    }

    // --- refusals --------------------------------------------------------------------------------------------------

    function test_send_RevertWhen_NotTheVault() public {
        expectError(abi.encodeWithSelector(Errors.NotVault.selector, address(this)));
        a.bridge.send(CHAIN_B, AMOUNT);
    }

    function test_send_RevertWhen_NoCounterpart() public {
        expectError(abi.encodeWithSelector(Errors.NoRoute.selector, CHAIN_A));
        a.vault.ship(CHAIN_A, AMOUNT);
        expectError(abi.encodeWithSelector(Errors.NoRoute.selector, uint64(1)));
        a.vault.ship(1, AMOUNT);
    }

    function test_receiveMessage_RevertWhen_NotAttested() public {
        bytes memory message = completed(shipped(a, CHAIN_B, AMOUNT), NONCE, FINAL, 0);
        bytes memory refusal =
            abi.encodeWithSelector(DevnetMessageTransmitter.NotAttested.selector, vm.addr(attesterKey));
        expectError(refusal);
        receiveAt(b, message, sign(keccak256(message), attesterKey + 1));
        expectError(refusal);
        receiveAt(b, message, hex"");
        bytes memory attestation = attested(message);
        put(message, 148 + 68, abi.encodePacked(AMOUNT + 1));
        expectError(refusal);
        receiveAt(b, message, attestation);
    }

    function test_receiveMessage_RevertWhen_DeliveredAlready() public {
        bytes memory message = completed(shipped(a, CHAIN_B, AMOUNT), NONCE, FINAL, 0);
        receiveAt(b, message, attested(message));
        expectError(abi.encodeWithSelector(DevnetMessageTransmitter.NonceUsed.selector, NONCE));
        receiveAt(b, message, attested(message));
        assertEq(b.vault.shipments(), 1, "shipments");
    }

    /// @notice Past the adapter, tokens would arrive without a receipt.
    function test_receiveMessage_RevertWhen_HandedInPastTheAdapter() public {
        bytes memory message = completed(shipped(a, CHAIN_B, AMOUNT), NONCE, FINAL, 0);
        bytes memory attestation = attested(message);
        expectError(
            abi.encodeWithSelector(
                DevnetMessageTransmitter.WrongCaller.selector, address(this), word(address(b.bridge))
            )
        );
        b.transmitter.receiveMessage(message, attestation);
    }

    function test_receiveMessage_RevertWhen_TheDomainIsNotOurs() public {
        bytes memory message = completed(shipped(a, CHAIN_B, AMOUNT), NONCE, FINAL, 0);
        put(message, 4, abi.encodePacked(uint32(3)));
        bytes memory attestation = attested(message);
        expectError(abi.encodeWithSelector(Errors.UnknownDomain.selector, uint32(3)));
        receiveAt(b, message, attestation);
        // The same for what goes out by this chain and for another.
        message = completed(shipped(a, CHAIN_B, AMOUNT), NONCE, FINAL, 0);
        put(message, 8, abi.encodePacked(uint32(3)));
        attestation = attested(message);
        expectError(abi.encodeWithSelector(DevnetMessageTransmitter.WrongDomain.selector, uint32(3), DOMAIN_B));
        receiveAt(b, message, attestation);
    }

    /// @notice A true burn, by somebody else: no claim of the vault behind it.
    function test_receiveMessage_RevertWhen_TheBurnIsSomebodyElses() public {
        a.token.mint(address(this), AMOUNT);
        a.token.approve(address(a.messenger), AMOUNT);
        bytes32 to = word(address(b.bridge));
        vm.recordLogs();
        a.messenger.depositForBurn(AMOUNT, DOMAIN_B, to, address(a.token), to, 0, FINAL);
        bytes memory message = completed(emitted(a), NONCE, FINAL, 0);
        bytes memory attestation = attested(message);
        expectError(
            abi.encodeWithSelector(Errors.ForeignShipment.selector, word(address(this)), word(address(a.bridge)))
        );
        receiveAt(b, message, attestation);
    }

    /// @notice CCTP carries any body between any two contracts: one that says it is a burn of our adapter's, sent to an
    /// accomplice, would lower the vault's claims for nothing.
    function test_receiveMessage_RevertWhen_TheMessageIsNoBurn() public {
        bytes32 accomplice = word(address(new Accomplice()));
        bytes memory body = abi.encodePacked(
            uint32(1),
            word(address(a.token)),
            word(address(b.bridge)),
            AMOUNT,
            word(address(a.bridge)),
            AMOUNT - 1,
            AMOUNT,
            uint256(0)
        );
        vm.recordLogs();
        a.transmitter.sendMessage(DOMAIN_B, accomplice, word(address(b.bridge)), FINAL, body);
        bytes memory message = emitted(a);
        put(message, 12, abi.encodePacked(NONCE));
        put(message, 144, abi.encodePacked(FINAL));
        bytes memory attestation = attested(message);
        expectError(abi.encodeWithSelector(Errors.NotBurnMessage.selector, accomplice));
        receiveAt(b, message, attestation);
    }

    function test_receiveMessage_RevertWhen_ItMintsToAnother() public {
        bytes memory message = completed(shipped(a, CHAIN_B, AMOUNT), NONCE, FINAL, 0);
        put(message, 148 + 36, abi.encodePacked(word(ANYBODY)));
        bytes memory attestation = attested(message);
        expectError(abi.encodeWithSelector(Errors.ShipmentForAnother.selector, word(ANYBODY)));
        receiveAt(b, message, attestation);
    }

    function test_receiveMessage_RevertWhen_TooShort() public {
        expectError(abi.encodeWithSelector(Errors.MessageTooShort.selector, 375, 376));
        receiveAt(b, new bytes(375), hex"");
    }

    function test_receiveMessage_RevertWhen_LessArrivesThanTheFeeExplains() public {
        CctpBridge.Config memory config = configOf(b, CHAIN_A, DOMAIN_A, address(a.bridge));
        config.messageTransmitter = IMessageTransmitterV2(address(new IdleTransmitter(true)));
        _replaceOnB(config);
        bytes memory message = _shipmentTo(address(b.bridge), 100e6);
        expectError(abi.encodeWithSelector(Errors.ArrivedShort.selector, AMOUNT, 100e6, 0));
        receiveAt(b, message, hex"");
    }

    function test_receiveMessage_RevertWhen_TheTransmitterRefuses() public {
        CctpBridge.Config memory config = configOf(b, CHAIN_A, DOMAIN_A, address(a.bridge));
        config.messageTransmitter = IMessageTransmitterV2(address(new IdleTransmitter(false)));
        _replaceOnB(config);
        bytes memory message = _shipmentTo(address(b.bridge), 0);
        expectError(abi.encodeWithSelector(Errors.MessageRefused.selector, NONCE));
        receiveAt(b, message, hex"");
    }

    // --- construction ----------------------------------------------------------------------------------------------

    function test_constructor_HoldsItsRoutes() public view {
        (uint32 domain, bytes32 remote) = a.bridge.routeOf(CHAIN_B);
        assertEq(domain, DOMAIN_B, "domain");
        assertEq(remote, word(address(b.bridge)), "remote");
        assertEq(a.bridge.chainOf(DOMAIN_B), CHAIN_B, "chain");
        assertEq(a.bridge.chainOf(DOMAIN_A), 0, "own domain");
        assertEq(a.bridge.MAX_FEE_BPS(), MAX_FEE_BPS, "fee");
        assertEq(a.bridge.MIN_FINALITY_THRESHOLD(), FINAL, "finality");
    }

    function test_constructor_RevertWhen_AnythingIsMissing() public {
        vm.chainId(CHAIN_A);
        for (uint256 i; i < 12; ++i) {
            CctpBridge.Config memory config = configOf(a, CHAIN_B, DOMAIN_B, address(b.bridge));
            string memory field;
            if (i == 0) (config.vault, field) = (ICollateralVault(address(0)), "vault");
            if (i == 1) (config.token, field) = (IERC20(address(0)), "token");
            if (i == 2) (config.tokenMessenger, field) = (ITokenMessengerV2(address(0)), "tokenMessenger");
            if (i == 3) (config.messageTransmitter, field) = (IMessageTransmitterV2(address(0)), "messageTransmitter");
            if (i == 4) (config.maxFeeBps, field) = (10_000, "maxFeeBps");
            if (i == 5) (config.minFinalityThreshold, field) = (0, "minFinalityThreshold");
            if (i == 6) (config.chainIds, field) = (new uint64[](0), "domains");
            if (i == 7) (config.domains, field) = (new uint32[](2), "domains");
            if (i == 8) (config.remotes, field) = (new bytes32[](0), "remotes");
            if (i == 9) (config.remotes[0], field) = (0, "remotes");
            if (i == 10) (config.chainIds[0], field) = (0, "chainIds");
            if (i == 11) (config.chainIds[0], field) = (CHAIN_A, "chainIds");
            expectError(abi.encodeWithSelector(Errors.BadConfiguration.selector, field));
            new CctpBridge(config);
        }
    }

    function test_constructor_RevertWhen_AChainOrADomainComesTwice() public {
        vm.chainId(CHAIN_A);
        for (uint256 i; i < 2; ++i) {
            CctpBridge.Config memory config = configOf(a, CHAIN_B, DOMAIN_B, address(b.bridge));
            config.chainIds = new uint64[](2);
            (config.chainIds[0], config.chainIds[1]) = (CHAIN_B, i == 0 ? CHAIN_B : CHAIN_B + 1);
            config.domains = new uint32[](2);
            (config.domains[0], config.domains[1]) = (DOMAIN_B, i == 0 ? DOMAIN_B + 1 : DOMAIN_B);
            config.remotes = new bytes32[](2);
            (config.remotes[0], config.remotes[1]) = (word(address(b.bridge)), word(address(b.bridge)));
            expectError(abi.encodeWithSelector(Errors.BadConfiguration.selector, i == 0 ? "chainIds" : "domains"));
            new CctpBridge(config);
        }
    }

    // --- helpers ---------------------------------------------------------------------------------------------------

    function _replaceOnB(CctpBridge.Config memory config) private {
        vm.chainId(CHAIN_B);
        b.bridge = new CctpBridge(config);
    }

    function _shipmentTo(address adapter, uint256 fee) private returns (bytes memory message) {
        message = completed(shipped(a, CHAIN_B, AMOUNT), NONCE, FINAL, fee);
        put(message, 148 + 36, abi.encodePacked(word(adapter)));
    }

    function _holdsNothing() private view {
        assertEq(a.token.balanceOf(address(a.bridge)), 0, "left in the adapter on A");
        assertEq(b.token.balanceOf(address(b.bridge)), 0, "left in the adapter on B");
        assertEq(b.token.allowance(address(b.bridge), address(b.vault)), 0, "left approved");
    }
}
