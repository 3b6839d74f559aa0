// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

/// @title ITokenMessengerV2
/// @notice What this project calls of the TokenMessengerV2 of Circle's Cross-Chain Transfer Protocol.
interface ITokenMessengerV2 {
    /// @notice Burns `amount` of the caller's `burnToken` and sends a message that mints as much in another domain.
    /// @param destinationDomain Circle's number of the chain it goes to.
    /// @param mintRecipient Whom it is minted to there, less the fee.
    /// @param destinationCaller Who alone may hand in the message there; zero: anyone.
    /// @param maxFee Most that may be kept there, in units of `burnToken`; less than `amount`.
    /// @param minFinalityThreshold From when on the burn is attested: 1000 confirmed, 2000 final.
    function depositForBurn(
        uint256 amount,
        uint32 destinationDomain,
        bytes32 mintRecipient,
        address burnToken,
        bytes32 destinationCaller,
        uint256 maxFee,
        uint32 minFinalityThreshold
    ) external;
}

/// @title IMessageTransmitterV2
/// @notice What this project calls of CCTP's MessageTransmitterV2.
interface IMessageTransmitterV2 {
    /// @notice A message went out, without its nonce and what the attestation fills in.
    event MessageSent(bytes message);
    /// @notice A message was delivered.
    event MessageReceived(
        address indexed caller,
        uint32 sourceDomain,
        bytes32 indexed nonce,
        bytes32 sender,
        uint32 indexed finalityThresholdExecuted,
        bytes messageBody
    );

    /// @notice Sends `messageBody` to `recipient` in another domain.
    function sendMessage(
        uint32 destinationDomain,
        bytes32 recipient,
        bytes32 destinationCaller,
        uint32 minFinalityThreshold,
        bytes calldata messageBody
    ) external;

    /// @notice Checks the attestation and delivers the message to its recipient, once.
    function receiveMessage(bytes calldata message, bytes calldata attestation) external returns (bool success);

    /// @return 1 where the message of that nonce was delivered, else 0.
    function usedNonces(bytes32 nonce) external view returns (uint256);

    /// @return Circle's number of this chain.
    function localDomain() external view returns (uint32);
}

/// @title IMessageHandlerV2
/// @notice The recipient's side: what a MessageTransmitterV2 delivers to.
interface IMessageHandlerV2 {
    /// @notice A message attested when its block was final.
    function handleReceiveFinalizedMessage(
        uint32 sourceDomain,
        bytes32 sender,
        uint32 finalityThresholdExecuted,
        bytes calldata messageBody
    ) external returns (bool);

    /// @notice A message attested earlier.
    function handleReceiveUnfinalizedMessage(
        uint32 sourceDomain,
        bytes32 sender,
        uint32 finalityThresholdExecuted,
        bytes calldata messageBody
    ) external returns (bool);
}
