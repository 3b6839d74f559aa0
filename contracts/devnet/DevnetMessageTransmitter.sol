// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {IMessageHandlerV2, IMessageTransmitterV2} from "../interfaces/ICctp.sol";
import {CctpLib} from "../libraries/CctpLib.sol";

/// @title DevnetMessageTransmitter
/// @notice Stands in for CCTP's MessageTransmitterV2, in its message format: one attester, nothing to administer. For the
/// devnet and tests only.
contract DevnetMessageTransmitter is IMessageTransmitterV2 {
    /// @notice The message goes to the domain it comes from.
    error LocalDomain(uint32 domain);
    /// @notice The message is for no one.
    error NoRecipient();
    /// @notice No message is so short, bytes.
    error MessageTooShort(uint256 length);
    /// @notice The message is not of this format.
    error UnknownVersion(uint32 version);
    /// @notice The attestation is not the attester's signature of the message.
    error NotAttested(address attester);
    /// @notice The message is for another domain.
    error WrongDomain(uint32 destination, uint32 here);
    /// @notice The message names another caller.
    error WrongCaller(address caller, bytes32 destinationCaller);
    /// @notice The message was delivered already.
    error NonceUsed(bytes32 nonce);
    /// @notice The recipient did not take the message.
    error NotHandled(bytes32 recipient);

    uint32 public constant VERSION = 1;

    // Named as CCTP names them.
    // solhint-disable-next-line immutable-vars-naming
    uint32 public immutable localDomain;
    address public immutable ATTESTER;
    /// @inheritdoc IMessageTransmitterV2
    mapping(bytes32 nonce => uint256) public usedNonces;

    /// @param attester Whose one signature of a message's hash is its attestation.
    constructor(uint32 domain, address attester) {
        localDomain = domain;
        ATTESTER = attester;
    }

    /// @inheritdoc IMessageTransmitterV2
    function sendMessage(
        uint32 destinationDomain,
        bytes32 recipient,
        bytes32 destinationCaller,
        uint32 minFinalityThreshold,
        bytes calldata messageBody
    ) external {
        if (destinationDomain == localDomain) revert LocalDomain(destinationDomain);
        if (recipient == 0) revert NoRecipient();
        // The attester fills in the nonce and the finality it attested at.
        emit MessageSent(abi.encodePacked(
                VERSION,
                localDomain,
                destinationDomain,
                bytes32(0),
                CctpLib.toBytes32(msg.sender),
                recipient,
                destinationCaller,
                minFinalityThreshold,
                uint32(0),
                messageBody
            ));
    }

    /// @inheritdoc IMessageTransmitterV2
    function receiveMessage(bytes calldata message, bytes calldata attestation) external returns (bool) {
        (address signer,,) = ECDSA.tryRecover(keccak256(message), attestation);
        if (signer == address(0) || signer != ATTESTER) revert NotAttested(ATTESTER);
        if (message.length < CctpLib.HEADER) revert MessageTooShort(message.length);
        uint32 version = CctpLib.uint32At(message, 0);
        if (version != VERSION) revert UnknownVersion(version);
        uint32 destination = CctpLib.uint32At(message, 8);
        if (destination != localDomain) revert WrongDomain(destination, localDomain);
        bytes32 caller = CctpLib.wordAt(message, 108);
        if (caller != 0 && caller != CctpLib.toBytes32(msg.sender)) revert WrongCaller(msg.sender, caller);
        bytes32 nonce = CctpLib.wordAt(message, 12);
        if (usedNonces[nonce] != 0) revert NonceUsed(nonce);
        usedNonces[nonce] = 1;
        _deliver(message, nonce);
        return true;
    }

    function _deliver(bytes calldata message, bytes32 nonce) private {
        uint32 source = CctpLib.uint32At(message, 4);
        bytes32 sender = CctpLib.wordAt(message, 44);
        bytes32 recipient = CctpLib.wordAt(message, 76);
        uint32 finality = CctpLib.uint32At(message, 144);
        bytes calldata body = message[CctpLib.HEADER:];
        emit MessageReceived(msg.sender, source, nonce, sender, finality, body);
        IMessageHandlerV2 handler = IMessageHandlerV2(address(uint160(uint256(recipient))));
        bool handled = finality < CctpLib.FINALIZED
            ? handler.handleReceiveUnfinalizedMessage(source, sender, finality, body)
            : handler.handleReceiveFinalizedMessage(source, sender, finality, body);
        if (!handled) revert NotHandled(recipient);
    }
}
