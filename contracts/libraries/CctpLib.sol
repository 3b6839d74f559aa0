// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Errors} from "./Errors.sol";

/// @title CctpLib
/// @notice Reads messages of CCTP version 2: big-endian fields at fixed places, no padding.
/// @dev MessageV2: version 4, sourceDomain 4, destinationDomain 4, nonce 32, sender 32, recipient 32,
/// destinationCaller 32, minFinalityThreshold 4, finalityThresholdExecuted 4, messageBody.
/// BurnMessageV2, the body: version 4, burnToken 32, mintRecipient 32, amount 32, messageSender 32, maxFee 32,
/// feeExecuted 32, expirationBlock 32, hookData. As in Circle's evm-cctp-contracts, src/messages/v2.
library CctpLib {
    /// @dev Bytes of a message before its body.
    uint256 internal constant HEADER = 148;
    /// @dev Bytes of a burn message before its hook data.
    uint256 internal constant BURN = 228;
    /// @dev From here on a message counts as attested when final.
    uint32 internal constant FINALIZED = 2000;

    /// @param recipient Of the message: the token messenger of the chain it goes to.
    struct Burn {
        uint32 sourceDomain;
        bytes32 nonce;
        bytes32 recipient;
        bytes32 mintRecipient;
        uint256 amount;
        bytes32 messageSender;
        uint256 feeExecuted;
    }

    /// @return burn What a message with a burn message as its body says.
    function readBurn(bytes calldata message) internal pure returns (Burn memory burn) {
        if (message.length < HEADER + BURN) revert Errors.MessageTooShort(message.length, HEADER + BURN);
        bytes calldata body = message[HEADER:];
        burn.sourceDomain = uint32At(message, 4);
        burn.nonce = wordAt(message, 12);
        burn.recipient = wordAt(message, 76);
        burn.mintRecipient = wordAt(body, 36);
        burn.amount = uint256(wordAt(body, 68));
        burn.messageSender = wordAt(body, 100);
        burn.feeExecuted = uint256(wordAt(body, 164));
    }

    function uint32At(bytes calldata data, uint256 offset) internal pure returns (uint32) {
        return uint32(bytes4(data[offset:offset + 4]));
    }

    function wordAt(bytes calldata data, uint256 offset) internal pure returns (bytes32) {
        return bytes32(data[offset:offset + 32]);
    }

    /// @return An address as CCTP writes it: in the low 20 bytes.
    function toBytes32(address account) internal pure returns (bytes32) {
        return bytes32(uint256(uint160(account)));
    }
}
