// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {DevnetMessageTransmitter} from "../../contracts/devnet/DevnetMessageTransmitter.sol";
import {DevnetToken} from "../../contracts/devnet/DevnetToken.sol";
import {DevnetTokenMessenger} from "../../contracts/devnet/DevnetTokenMessenger.sol";
import {CctpFixture} from "./base/CctpFixture.sol";
import {vm} from "./base/Vm.sol";

/// @notice The devnet's stand-ins for Circle's two contracts refuse what Circle's refuse.
contract DevnetCctpTest is CctpFixture {
    uint256 private constant AMOUNT = 1000e6;

    function test_depositForBurn_RevertWhen_ItMakesNoSense() public {
        bytes32 to = word(ANYBODY);
        address token = address(a.token);
        expectError(abi.encodeWithSelector(DevnetTokenMessenger.UnknownToken.selector, word(address(b.token))));
        a.messenger.depositForBurn(AMOUNT, DOMAIN_B, to, address(b.token), 0, 0, FINAL);
        expectError(abi.encodeWithSelector(DevnetTokenMessenger.NoAmount.selector));
        a.messenger.depositForBurn(0, DOMAIN_B, to, token, 0, 0, FINAL);
        expectError(abi.encodeWithSelector(DevnetTokenMessenger.NoMintRecipient.selector));
        a.messenger.depositForBurn(AMOUNT, DOMAIN_B, 0, token, 0, 0, FINAL);
        expectError(abi.encodeWithSelector(DevnetTokenMessenger.FeeNotBelowAmount.selector, AMOUNT, AMOUNT));
        a.messenger.depositForBurn(AMOUNT, DOMAIN_B, to, token, 0, AMOUNT, FINAL);
        expectError(abi.encodeWithSelector(DevnetTokenMessenger.NoMessenger.selector, uint32(3)));
        a.messenger.depositForBurn(AMOUNT, 3, to, token, 0, 0, FINAL);
    }

    function test_sendMessage_RevertWhen_ItGoesNowhere() public {
        expectError(abi.encodeWithSelector(DevnetMessageTransmitter.LocalDomain.selector, DOMAIN_A));
        a.transmitter.sendMessage(DOMAIN_A, word(ANYBODY), 0, FINAL, hex"");
        expectError(abi.encodeWithSelector(DevnetMessageTransmitter.NoRecipient.selector));
        a.transmitter.sendMessage(DOMAIN_B, 0, 0, FINAL, hex"");
    }

    /// @notice Without a named caller, anybody hands the message in.
    function test_receiveMessage_OfAnybody() public {
        bytes memory message = completed(_burn(ANYBODY, 10e6), NONCE, FINAL, 0);
        assertTrue(b.transmitter.receiveMessage(message, attested(message)), "received");
        assertEq(b.token.balanceOf(ANYBODY), AMOUNT, "minted");
    }

    function test_receiveMessage_RevertWhen_TheFeeIsMoreThanAllowed() public {
        bytes memory message = completed(_burn(ANYBODY, 10e6), NONCE, FINAL, 10e6 + 1);
        _refused(message, abi.encodeWithSelector(DevnetTokenMessenger.FeeAboveMax.selector, 10e6 + 1, 10e6));
        put(message, 148 + 164, abi.encodePacked(AMOUNT));
        _refused(message, abi.encodeWithSelector(DevnetTokenMessenger.FeeNotBelowAmount.selector, AMOUNT, AMOUNT));
    }

    function test_receiveMessage_RevertWhen_Expired() public {
        vm.roll(50);
        bytes memory message = completed(_burn(ANYBODY, 0), NONCE, 1000, 0);
        put(message, 148 + 196, abi.encodePacked(uint256(50)));
        _refused(message, abi.encodeWithSelector(DevnetTokenMessenger.Expired.selector, 50));
        vm.roll(49);
        b.transmitter.receiveMessage(message, attested(message));
    }

    function test_receiveMessage_RevertWhen_TheFormatIsAnother() public {
        bytes memory message = completed(_burn(ANYBODY, 0), NONCE, FINAL, 0);
        put(message, 0, abi.encodePacked(uint32(2)));
        _refused(message, abi.encodeWithSelector(DevnetMessageTransmitter.UnknownVersion.selector, uint32(2)));
        put(message, 0, abi.encodePacked(uint32(1)));
        put(message, 148, abi.encodePacked(uint32(0)));
        _refused(message, abi.encodeWithSelector(DevnetTokenMessenger.UnknownVersion.selector, uint32(0)));
        put(message, 148, abi.encodePacked(uint32(1)));
        put(message, 148 + 4, abi.encodePacked(word(address(b.token))));
        _refused(message, abi.encodeWithSelector(DevnetTokenMessenger.UnknownToken.selector, word(address(b.token))));
        _refused(new bytes(147), abi.encodeWithSelector(DevnetMessageTransmitter.MessageTooShort.selector, 147));
    }

    /// @notice Anybody can send a message to the other messenger: it is its own counterpart's only.
    function test_receiveMessage_RevertWhen_NotTheMessengers() public {
        vm.recordLogs();
        a.transmitter.sendMessage(DOMAIN_B, word(address(b.messenger)), 0, FINAL, new bytes(228));
        bytes memory message = emitted(a);
        put(message, 12, abi.encodePacked(NONCE));
        put(message, 144, abi.encodePacked(FINAL));
        _refused(
            message,
            abi.encodeWithSelector(DevnetTokenMessenger.ForeignMessenger.selector, DOMAIN_A, word(address(this)))
        );
        expectError(abi.encodeWithSelector(DevnetTokenMessenger.NotTransmitter.selector, address(this)));
        b.messenger.handleReceiveFinalizedMessage(DOMAIN_A, word(address(a.messenger)), FINAL, new bytes(228));
    }

    function test_receiveMessage_RevertWhen_TheBodyIsTooShort() public {
        vm.recordLogs();
        vm.prank(address(a.messenger));
        a.transmitter.sendMessage(DOMAIN_B, word(address(b.messenger)), 0, FINAL, new bytes(227));
        bytes memory message = emitted(a);
        put(message, 12, abi.encodePacked(NONCE));
        _refused(message, abi.encodeWithSelector(DevnetTokenMessenger.BodyTooShort.selector, 227));
    }

    function test_receiveMessage_RevertWhen_TheRecipientDoesNotTakeIt() public {
        bytes32 recipient = word(address(new Unwilling()));
        vm.recordLogs();
        a.transmitter.sendMessage(DOMAIN_B, recipient, 0, FINAL, hex"");
        _refused(emitted(a), abi.encodeWithSelector(DevnetMessageTransmitter.NotHandled.selector, recipient));
    }

    function test_constructor_RevertWhen_ListsDiffer() public {
        expectError(abi.encodeWithSelector(DevnetTokenMessenger.LengthMismatch.selector));
        new DevnetTokenMessenger(a.transmitter, a.token, FEES, new uint32[](2), new DevnetTokenMessenger.Remote[](1));
    }

    function test_burn_TakesTheCallersOnly() public {
        DevnetToken token = a.token;
        token.mint(address(this), AMOUNT);
        token.mint(ANYBODY, AMOUNT);
        token.burn(AMOUNT - 1);
        assertEq(token.balanceOf(address(this)), 1, "left");
        assertEq(token.totalSupply(), AMOUNT + 1, "supply");
    }

    function _burn(address to, uint256 maxFee) private returns (bytes memory) {
        a.token.mint(address(this), AMOUNT);
        a.token.approve(address(a.messenger), AMOUNT);
        vm.recordLogs();
        a.messenger.depositForBurn(AMOUNT, DOMAIN_B, word(to), address(a.token), 0, maxFee, FINAL);
        return emitted(a);
    }

    function _refused(bytes memory message, bytes memory refusal) private {
        bytes memory attestation = attested(message);
        expectError(refusal);
        b.transmitter.receiveMessage(message, attestation);
    }
}

/// @notice Refuses what is delivered to it without reverting.
contract Unwilling {
    function handleReceiveUnfinalizedMessage(uint32, bytes32, uint32, bytes calldata) external pure returns (bool) {
        return false;
    }
}
